"""The routes of the router's own page and API: one table, which serves, and from which `openapi` is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from klipper_router.errors import ConfigError, RouterError
from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse, json_response
from klipper_router.gateway.page import metrics, openapi, static
from klipper_router.gateway.page.activity import Entry
from klipper_router.gateway.page.inventory import Listed, Options
from klipper_router.gateway.page.masking import masked, unmasked
from klipper_router.gateway.page.routes import Route, Table
from klipper_router.gateway.page.rpc import RpcAnswer, call_once

if TYPE_CHECKING:
    from klipper_router.gateway.page.site import Page

T = TypeVar("T")

MAX_BODY_BYTES = 1024 * 1024
API = "/router/api/v1"

_JSON_ERRORS = (400, 413, 415)
_UNSAFE_IN_PATHS = re.compile(r"[/\\?#%]|^\.{1,2}$")

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\s/\\?#%]+$")]
"""A printer's or camera's; what else is wrong with one, the check of the configuration says."""


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


class FoundCameras(Struct):
    found: list[FoundCamera]


class Activity(Struct):
    """The last routes and events, oldest first."""

    log: list[Entry]


class Health(Struct):
    """That this answers means that the router runs, whatever its printers do."""

    status: Literal["ok"]
    printers: int
    ready: int


# -- reading -----------------------------------------------------------------------------------------------------


def _printer(page: Page, name: str, listed: Listed) -> Printer:
    running = page.router.printers.get(name)
    state = running and PrinterState(
        connected=running.state.connected,
        ready=running.state.announced,
        state=running.state.state,
        state_message=running.state.message,
        queue=len(running.scripts),
        subscriptions=len(running.feed.following),
    )
    return Printer(name, _source(listed), _shown(listed.options), state, _cameras(page, name))


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
    return _json(Printers([_printer(page, name, each) for name, each in listed.items()]))


async def read_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return _json(_printer(page, names["name"], _known_printer(page, names["name"])))


async def list_cameras(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    _known_printer(page, names["name"])
    return _json(Cameras(_cameras(page, names["name"])))


async def read_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    _known_camera(page, names["name"], names["camera"])
    return _json(_one_camera(page, names["name"], names["camera"]))


def _one_camera(page: Page, printer: str, name: str) -> Camera:
    return next(camera for camera in _cameras(page, printer) if camera.name == name)


# -- changing ----------------------------------------------------------------------------------------------------


async def add_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    new = await _body(request, NewPrinter)
    _check_name(new.name)
    if new.name in page.inventory.of_kind("klippy"):
        raise HttpError(409, f"there is a printer '{new.name}' already")
    await _change(page, {f"klippy {new.name}": new.options})
    return _json(_printer(page, new.name, _known_printer(page, new.name)), 201)


async def change_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    name = names["name"]
    options = (await _body(request, ChangedPrinter)).options
    await _change(page, {f"klippy {name}": _unmasked(options, _known_printer(page, name).options)})
    return _json(_printer(page, name, _known_printer(page, name)))


async def remove_printer(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    """Its cameras go with it."""
    name = names["name"]
    _known_printer(page, name)
    cameras = {f"camera {name} {camera.name}": None for camera in _cameras(page, name)}
    await _change(page, {f"klippy {name}": None, **cameras})
    return HttpResponse(204)


async def add_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    printer = names["name"]
    new = await _body(request, NewCamera)
    _check_name(new.name)
    _known_printer(page, printer)
    if f"{printer} {new.name}" in page.inventory.of_kind("camera"):
        raise HttpError(409, f"there is a camera '{new.name}' of printer '{printer}' already")
    await _change(page, {f"camera {printer} {new.name}": new.options})
    return _json(_one_camera(page, printer, new.name), 201)


async def change_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    printer, name = names["name"], names["camera"]
    options = (await _body(request, ChangedCamera)).options
    await _change(page, {f"camera {printer} {name}": _unmasked(options, _known_camera(page, printer, name).options)})
    return _json(_one_camera(page, printer, name))


async def remove_camera(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    printer, name = names["name"], names["camera"]
    _known_camera(page, printer, name)
    await _change(page, {f"camera {printer} {name}": None})
    return HttpResponse(204)


async def discover_cameras(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    await _body(request, dict[str, Any])  # JSON even if it is empty: no foreign page can send that
    _known_printer(page, names["name"])
    if page.discover is None:
        raise HttpError(503, "this router looks for no cameras")
    found = [FoundCamera(name, _shown(options)) for name, options in await page.discover(names["name"])]
    return _json(FoundCameras(found))


def _check_name(name: str) -> None:
    if bad := _UNSAFE_IN_PATHS.search(name):
        raise HttpError(400, f"a name may not hold {bad[0]!r}: it is a part of addresses")


def _unmasked(options: Options, kept: Options) -> Options:
    try:
        return {key: unmasked(value, kept.get(key, "")) for key, value in options.items()}
    except ValueError as error:
        raise HttpError(400, str(error)) from None


async def _change(page: Page, changes: dict[str, Options | None]) -> None:
    try:
        await page.inventory.change(changes, page.apply)
    except ConfigError as error:
        place = f"{page.inventory.file}: "
        raise HttpError(400, "\n".join(line.removeprefix(place) for line in str(error).split("\n"))) from None
    except RouterError as error:
        raise HttpError(409, str(error)) from None
    except OSError as error:
        raise HttpError(507, f"the change cannot be kept: {error.strerror or error}") from None


# -- JSON-RPC, the page, and the rest ------------------------------------------------------------------------------


async def json_rpc(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    """A single call that fails has a status that says so, too; a batch is always 200."""
    _check_json(request)
    answer = await call_once(page.router, f"web {request.peer.ip}", await request.body(MAX_BODY_BYTES))
    if answer is None:
        return HttpResponse(204)
    status = 200
    if answer[:1] == b"{" and (error := msgspec.json.decode(answer).get("error")):
        status = 404 if error["code"] == -32601 else 400
    return HttpResponse(status, _json_headers(), answer)


async def activity(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return _json(Activity(page.live.log.since(0)))


async def health(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    states = [printer.state for printer in page.router.printers.values()]
    return _json(Health("ok", len(states), sum(state.announced for state in states)))


async def metrics_text(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return HttpResponse(200, [("content-type", metrics.CONTENT_TYPE)], metrics.text(page.router))


async def openapi_document(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return HttpResponse(200, _json_headers(), openapi.document(TABLE, page.router.methods))


async def dashboard(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return static.serve(request, "index.html")


async def page_file(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return static.serve(request, names["file"])


async def no_websocket(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    raise HttpError(426, "this is a WebSocket", headers=[("upgrade", "websocket"), ("connection", "upgrade")])


# -- bodies ------------------------------------------------------------------------------------------------------


def _json_headers() -> list[tuple[str, str]]:
    return [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]


def _json(value: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, _json_headers(), json_response(value).body)


def _check_json(request: HttpRequest) -> None:
    """A page of another origin cannot send this type without being asked about first (CORS preflight)."""
    if (request.headers.get("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, "send JSON, with Content-Type: application/json")


async def _body(request: HttpRequest, kind: type[T]) -> T:
    value = await request.json(MAX_BODY_BYTES)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise HttpError(400, f"the body: {error}") from None


TABLE = Table(
    [
        Route("GET", f"{API}/printers", "listPrinters", "Every printer", list_printers, result=Printers),
        Route(
            "POST",
            f"{API}/printers",
            "addPrinter",
            "Add a printer, for good and at once",
            add_printer,
            body=NewPrinter,
            result=Printer,
            status=201,
            errors=(*_JSON_ERRORS, 409, 507),
        ),
        Route(
            "GET", f"{API}/printers/{{name}}", "readPrinter", "One printer", read_printer, result=Printer, errors=(404,)
        ),
        Route(
            "PUT",
            f"{API}/printers/{{name}}",
            "changePrinter",
            "Give a printer other options, for good and at once",
            change_printer,
            body=ChangedPrinter,
            result=Printer,
            errors=(*_JSON_ERRORS, 404, 409, 507),
        ),
        Route(
            "DELETE",
            f"{API}/printers/{{name}}",
            "removePrinter",
            "Remove a printer and its cameras",
            remove_printer,
            status=204,
            media=None,
            errors=(400, 404, 409, 507),
        ),
        Route(
            "GET",
            f"{API}/printers/{{name}}/cameras",
            "listCameras",
            "The configured cameras of a printer",
            list_cameras,
            result=Cameras,
            errors=(404,),
        ),
        Route(
            "POST",
            f"{API}/printers/{{name}}/cameras",
            "addCamera",
            "Add a camera, for good and at once",
            add_camera,
            body=NewCamera,
            result=Camera,
            status=201,
            errors=(*_JSON_ERRORS, 404, 409, 507),
        ),
        Route(
            "POST",
            f"{API}/printers/{{name}}/camera-discovery",
            "discoverCameras",
            "Look for the cameras of a printer",
            discover_cameras,
            body=dict[str, Any],
            result=FoundCameras,
            errors=(*_JSON_ERRORS, 404, 502, 503, 504),
        ),
        Route(
            "GET",
            f"{API}/printers/{{name}}/cameras/{{camera}}",
            "readCamera",
            "One camera",
            read_camera,
            result=Camera,
            errors=(404,),
        ),
        Route(
            "PUT",
            f"{API}/printers/{{name}}/cameras/{{camera}}",
            "changeCamera",
            "Give a camera other options, for good and at once",
            change_camera,
            body=ChangedCamera,
            result=Camera,
            errors=(*_JSON_ERRORS, 404, 409, 507),
        ),
        Route(
            "DELETE",
            f"{API}/printers/{{name}}/cameras/{{camera}}",
            "removeCamera",
            "Remove a camera",
            remove_camera,
            status=204,
            media=None,
            errors=(400, 404, 409, 507),
        ),
        Route("GET", f"{API}/activity", "readActivity", "The last routes and events", activity, result=Activity),
        Route(
            "POST",
            "/router/jsonrpc",
            "callMethod",
            "Call methods of the router, one or a batch (JSON-RPC 2.0)",
            json_rpc,
            body="JsonRpcRequest",
            result=RpcAnswer,
            errors=(413, 415),
        ),
        Route(
            "GET",
            "/router/websocket",
            "openWebSocket",
            "JSON-RPC 2.0 over a WebSocket, with notifications; router/dashboard/subscribe follows everything",
            no_websocket,
            status=101,
            media=None,
            errors=(400, 426),
        ),
        Route(
            "GET",
            "/router/openapi.json",
            "readOpenApi",
            "This document",
            openapi_document,
            result=dict[str, Any],
            open=True,
        ),
        Route("GET", "/healthz", "health", "Whether the router runs", health, result=Health, open=True),
        Route("GET", "/metrics", "metrics", "Figures for Prometheus", metrics_text, media="text/plain"),
        Route("GET", "/", "dashboard", "The dashboard", dashboard, media="text/html", open=True),
        Route(
            "GET",
            "/router/page/{file}",
            "pageFile",
            "A file of the dashboard",
            page_file,
            media="*/*",
            errors=(404,),
            open=True,
        ),
    ]
)
