"""What a printer's card holds besides its state: where its web interfaces and its cameras are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from klipper_router.config import Config, KlippySection

_LABELS = {"mainsail": "Mainsail", "fluidd": "Fluidd"}
_WILDCARDS = ("0.0.0.0", "::")


def of(config: Config, printer: str, cameras: Iterable[str]) -> dict[str, Any]:
    """Links and cameras of a printer; ``cameras`` are their names, as addresses have them (`CameraSite.names`)."""
    section = config.klippy.get(printer)
    if section is None:
        return {"links": [], "cameras": []}
    return {"links": _links(config, printer, section), "cameras": _cameras(printer, cameras)}


def _links(config: Config, printer: str, section: KlippySection) -> list[dict[str, Any]]:
    """A link is a path below the dashboard, or an own origin: another port, or another name."""
    gateway = config.gateway
    uis = [ui for ui in ("mainsail", "fluidd") if gateway and getattr(gateway, ui)]
    if section.moonraker is None or not uis:
        return []
    links: list[dict[str, Any]] = [
        {"label": _LABELS[ui], "path": f"printers/{quote(printer, safe='')}/{ui}/"} for ui in uis
    ]
    own = section.ui if section.ui in uis else uis[0]
    for host, port in section.origin or ():
        link = {"label": f"{_LABELS[own]} at :{port}", "port": port}
        links.append(link if host in _WILDCARDS else {**link, "host": host})
    links += [{"label": f"{_LABELS[own]} at {host}", "host": host} for host in section.host if not host.startswith("*")]
    return links


def _cameras(printer: str, names: Iterable[str]) -> list[dict[str, str]]:
    cameras = []
    for name in names:
        path = f"printers/{quote(printer, safe='')}/cameras/{quote(name, safe='')}"
        cameras.append({"name": name, "snapshot": f"{path}/snapshot", "stream": f"{path}/stream"})
    return cameras
