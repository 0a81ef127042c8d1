"""Printers and cameras of the configuration: listing, adding, changing and removing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from klipper_router.errors import ConfigError, RouterError
from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse
from klipper_router.gateway.page.bodies import json_answer, json_body
from klipper_router.gateway.page.inventory import Listed, Options
from klipper_router.gateway.page.masking import masked, unmasked
from klipper_router.gateway.page.models import (
    Camera,
    Cameras,
    ChangedCamera,
    ChangedPrinter,
    FoundCamera,
    FoundCameras,
    NewCamera,
    NewPrinter,
    Printer,
    Printers,
    PrinterState,
)
from klipper_router.gateway.values import UNSAFE_IN_PATHS

if TYPE_CHECKING:
    from klipper_router.gateway.page.site import Page

MAX_NAME_CHARS = 100

# -- reading -----------------------------------------------------------------------------------------------------


def _printer(page: Page, name: str, listed: Listed) -> Printer:
    return Printer(name, _source(listed), _shown(listed.options), _state(page, name), _cameras(page, name))


def _state(page: Page, name: str) -> PrinterState | None:
    running = page.router.printers.get(name)
    if running is None:
        return None
    return PrinterState(
        connected=running.state.connected,
        ready=running.state.announced,
        state=running.state.state,
        state_message=running.state.message,
        queue=len(running.scripts),
        subscriptions=len(running.feed.following),
    )


def _cameras(page: Page, printer: str) -> list[Camera]:
    found = []
    for title, listed in page.inventory.of_kind("camera").items():
        of, _, name = title.partition(" ")
        if of == printer:
            found.append(Camera(name, of, _source(listed), _shown(listed.options)))
    return found


def _source(listed: Listed) -> Literal["configuration", "dashboard"]:
    return "dashboard" if listed.kept else "configuration"


def _shown(options: Options) -> Options:
    return {key: masked(value) for key, value in options.items()}


def _known_printer(page: Page, name: str) -> Listed:
    listed = page.inventory.of_kind("klippy").get(name)
    if listed is None:
        raise HttpError(404, f"there is no printer '{name}'")
    return listed


def _known_camera(page: Page, printer: str, name: str) -> Listed:
    _known_printer(page, printer)
    listed = page.inventory.of_kind("camera").get(f"{printer} {name}")
    if listed is None:
        raise HttpError(404, f"there is no camera '{name}' of printer '{printer}' in the configuration")
    return listed


async def list_printers(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    listed = page.inventory.of_kind("klippy")
    return json_answer(Printers([_printer(page, name, each) for name, each in listed.items()]))


async def read_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return json_answer(_printer(page, names["name"], _known_printer(page, names["name"])))


async def list_cameras(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    _known_printer(page, names["name"])
    return json_answer(Cameras(_cameras(page, names["name"])))


async def read_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    _known_camera(page, names["name"], names["camera"])
    return json_answer(_one_camera(page, names["name"], names["camera"]))


def _one_camera(page: Page, printer: str, name: str) -> Camera:
    return next(camera for camera in _cameras(page, printer) if camera.name == name)


# -- changing ----------------------------------------------------------------------------------------------------


async def add_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    new = await json_body(request, NewPrinter)
    _check_name(new.name)
    if new.name in page.inventory.of_kind("klippy"):
        raise HttpError(409, f"there is a printer '{new.name}' already")
    await _change(page, {f"klippy {new.name}": _unmasked(new.options, {})})
    return json_answer(_printer(page, new.name, _known_printer(page, new.name)), 201)


async def change_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    name = names["name"]
    options = (await json_body(request, ChangedPrinter)).options
    await _change(page, {f"klippy {name}": _unmasked(options, _known_printer(page, name).options)})
    return json_answer(_printer(page, name, _known_printer(page, name)))


async def remove_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    """Its cameras go with it."""
    name = names["name"]
    _known_printer(page, name)
    cameras = {f"camera {name} {camera.name}": None for camera in _cameras(page, name)}
    await _change(page, {f"klippy {name}": None, **cameras}, refused=409)
    return HttpResponse(204)


async def add_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    printer = names["name"]
    new = await json_body(request, NewCamera)
    _check_name(new.name)
    _known_printer(page, printer)
    if f"{printer} {new.name}" in page.inventory.of_kind("camera"):
        raise HttpError(409, f"there is a camera '{new.name}' of printer '{printer}' already")
    await _change(page, {f"camera {printer} {new.name}": _unmasked(new.options, {})})
    return json_answer(_one_camera(page, printer, new.name), 201)


async def change_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    printer, name = names["name"], names["camera"]
    options = (await json_body(request, ChangedCamera)).options
    await _change(page, {f"camera {printer} {name}": _unmasked(options, _known_camera(page, printer, name).options)})
    return json_answer(_one_camera(page, printer, name))


async def remove_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    printer, name = names["name"], names["camera"]
    _known_camera(page, printer, name)
    await _change(page, {f"camera {printer} {name}": None}, refused=409)
    return HttpResponse(204)


async def discover_cameras(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    await json_body(request, dict[str, Any])  # JSON even if it is empty: no foreign page can send that
    _known_printer(page, names["name"])
    if page.discover is None:
        raise HttpError(503, "this router looks for no cameras")
    found = [FoundCamera(name, _shown(options), shown) for name, options, shown in await page.discover(names["name"])]
    return json_answer(FoundCameras(found))


def _check_name(name: str) -> None:
    """What else is wrong with a name, the check of the configuration says."""
    if not name:
        raise HttpError(400, "give it a name")
    if len(name) > MAX_NAME_CHARS:
        raise HttpError(400, f"a name has at most {MAX_NAME_CHARS} characters")
    if bad := UNSAFE_IN_PATHS.search(name):
        raise HttpError(400, f"a name may not hold {bad[0]!r}: it is a part of addresses")
    if not name.isprintable() or " ".join(name.split()) != name:
        raise HttpError(400, "a name holds printable characters and single spaces")


def _unmasked(options: Options, kept: Options) -> Options:
    try:
        return {key: unmasked(value, kept.get(key, "")) for key, value in options.items()}
    except ValueError as error:
        raise HttpError(400, str(error)) from None


async def _change(page: Page, changes: dict[str, Options | None], refused: int = 400) -> None:
    """``refused``: the status where the configuration would be wrong: of a removal, the request itself never is."""
    try:
        await page.inventory.change(changes, page.apply)
    except ConfigError as error:
        place = f"{page.inventory.path}: "
        raise HttpError(refused, "\n".join(line.removeprefix(place) for line in str(error).split("\n"))) from None
    except RouterError as error:
        raise HttpError(409, str(error)) from None
    except OSError as error:
        raise HttpError(507, f"the change cannot be kept: {error.strerror or error}") from None
