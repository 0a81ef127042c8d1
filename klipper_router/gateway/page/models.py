"""The JSON of the API, as structs: what is sent, what is answered. `openapi` describes exactly these."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from klipper_router.gateway.page.activity import Entry
from klipper_router.gateway.page.inventory import Options

# Looked at by `configured`, whose messages are for people; here it is only described.
Name = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 100, "pattern": r"^[^\s/\\?#%]+$"})]


class ErrorBody(Struct):
    code: int
    message: str


class ErrorAnswer(Struct):
    """What every error of HTTP looks like, as with Moonraker."""

    error: ErrorBody


class PrinterState(Struct):
    """What `router/printers/list` says of it; None where a printer is configured but not running yet."""

    connected: bool
    ready: bool
    state: str
    state_message: str
    queue: int
    subscriptions: int


class Camera(Struct):
    """A section ``[camera PRINTER NAME]``. Secrets in its options are shown as ``***``."""

    name: str
    printer: str
    source: Literal["configuration", "dashboard"]
    options: Options


class Printer(Struct):
    """A section ``[klippy NAME]``, its state and its cameras. Secrets in its options are shown as ``***``."""

    name: str
    source: Literal["configuration", "dashboard"]
    options: Options
    state: PrinterState | None
    cameras: list[Camera]


class Printers(Struct):
    printers: list[Printer]


class Cameras(Struct):
    cameras: list[Camera]


class NewPrinter(Struct, forbid_unknown_fields=True):
    """``options`` are those of ``[klippy NAME]``, as text, as in the configuration."""

    name: Name
    options: Options


class NewCamera(Struct, forbid_unknown_fields=True):
    """``options`` are those of ``[camera PRINTER NAME]``, as text, as in the configuration."""

    name: Name
    options: Options


class ChangedPrinter(Struct, forbid_unknown_fields=True):
    """All options that the printer is to have; a value shown as ``***`` may be sent back as it was shown."""

    options: Options


class ChangedCamera(Struct, forbid_unknown_fields=True):
    """All options that the camera is to have; a value shown as ``***`` may be sent back as it was shown."""

    options: Options


class FoundCamera(Struct):
    """A camera that answers, with the options to add it by."""

    name: str
    options: Options
    shown: bool
    """It is among the printer's cameras already, as Moonraker or the configuration names it."""


class FoundCameras(Struct):
    found: list[FoundCamera]


class Activity(Struct):
    """The last routes and events, oldest first."""

    log: list[Entry]


class Token(Struct):
    """A oneshot token."""

    token: str


class Health(Struct):
    """That this answers means that the router runs, whatever its printers do."""

    status: Literal["ok"]
    printers: int
    ready: int
