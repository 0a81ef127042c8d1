"""Which path of which origin is whose. A pure function of the path; whether such a printer exists is not known here.

| path | whose | prefix |
| --- | --- | --- |
| ``/printers/NAME/`` + a path of Moonraker's | that printer's Moonraker, or ours in its place | ``/printers/NAME`` |
| ``/printers/NAME/UI/`` + a path of Moonraker's | the same: UIs ask below their own prefix | ``/printers/NAME/UI`` |
| ``/printers/NAME/cameras/…``, ``/printers/NAME/UI/cameras/…`` | cameras | ``/printers/NAME`` |
| ``/printers/NAME/webcam/…``, ``webcam2`` … ``webcam4`` | cameras, as nginx has them for the UIs | ``/printers/NAME`` |
| ``/printers/NAME/UI/…`` | the files of that UI | ``/printers/NAME/UI`` |
| ``/printers/NAME`` | a redirect to its UI | |
| everything else | the router's own page and API | none |

On a printer's own origin what stands behind ``/printers/NAME/`` is at the root, and everything else is its UI.
"""

from __future__ import annotations

import enum
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from klipper_router.gateway.remembered import remembered
from klipper_router.gateway.values import MOONRAKER_PATHS

UIS = (b"mainsail", b"fluidd")
_MOONRAKER = frozenset(name.encode() for name in MOONRAKER_PATHS)
_CAMERAS = frozenset({b"cameras", b"webcam", b"webcam2", b"webcam3", b"webcam4"})

# Anyone may make up paths, of nearly 64 KiB; those that are asked for again and again are short.
MAX_REMEMBERED_BYTES = 256


class Kind(enum.Enum):
    MOONRAKER = enum.auto()
    CAMERAS = enum.auto()
    UI = enum.auto()
    HOME = enum.auto()
    PAGE = enum.auto()


class Route(NamedTuple):
    kind: Kind
    printer: str | None
    """Its name, decoded; None: no printer is meant."""

    prefix: bytes
    """What comes off the path, as it was sent, without a slash at the end."""

    rest: bytes
    """What is left, as it was sent; begins with a slash. ``prefix + rest`` is the path, but for `Kind.HOME`."""

    ui: str | None = None
    """``mainsail`` or ``fluidd`` where the path says so; None on an own origin: its configured one."""


@remembered(1024, up_to=MAX_REMEMBERED_BYTES)
def route(raw_path: bytes, printer: str | None) -> Route:
    """Whose a path is. ``printer``: by whose own origin it came, None: by the main one."""
    if printer is not None:
        return Route(_below_printer(raw_path), printer, b"", raw_path)
    parts = raw_path.split(b"/", 4)  # "", "printers", NAME, first segment, rest
    if len(parts) < 3 or parts[1] != b"printers" or not parts[2]:
        return Route(Kind.PAGE, None, b"", raw_path)
    name = unquote_to_bytes(parts[2]).decode("utf-8", "replace")
    if len(parts) == 3 or (len(parts) == 4 and not parts[3]):
        return Route(Kind.HOME, name, raw_path.rstrip(b"/"), b"/")
    prefix = b"/printers/" + parts[2]
    first = parts[3]
    if first not in UIS:
        rest = raw_path[len(prefix) :]
        kind = _below_printer(rest)
        return Route(kind, name, prefix, rest) if kind is not Kind.UI else Route(Kind.PAGE, name, b"", raw_path)
    below_ui = prefix + b"/" + first
    ui = first.decode()
    rest = raw_path[len(below_ui) :] or b"/"
    kind = _below_printer(rest)
    return Route(kind, name, prefix if kind is Kind.CAMERAS else below_ui, rest, ui)


def _below_printer(path: bytes) -> Kind:
    first = path.split(b"/", 2)[1]
    if first in _MOONRAKER:
        return Kind.MOONRAKER
    return Kind.CAMERAS if first in _CAMERAS else Kind.UI
