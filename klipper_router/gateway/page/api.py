"""The routes of the router's own page and API: one table, which serves, and from which `openapi` is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from klipper_router import stats
from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse
from klipper_router.gateway.page import configured, openapi, static
from klipper_router.gateway.page.bodies import MAX_BODY_BYTES, check_json, json_answer, json_headers
from klipper_router.gateway.page.models import (
    Activity,
    Camera,
    Cameras,
    ChangedCamera,
    ChangedPrinter,
    FoundCameras,
    Health,
    NewCamera,
    NewPrinter,
    Printer,
    Printers,
    Token,
)
from klipper_router.gateway.page.routes import Route, Table
from klipper_router.gateway.page.rpc import METHOD_NOT_FOUND, NEED_A_CONNECTION, RpcAnswer, call_once
from klipper_router.gateway.settings import INSTALL

if TYPE_CHECKING:
    from klipper_router.gateway.page.site import Page

API = "/router/api/v1"

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_JSON_ERRORS = (413, 415)


async def json_rpc(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    """A single call that fails has a status that says so, too; a batch is always 200."""
    check_json(request)
    text = await request.body(MAX_BODY_BYTES)
    answer = await call_once(page.router, f"web {request.peer.ip}", page.own_methods, text)
    if answer is None:
        return HttpResponse(204)
    status = 200
    if answer[:1] == b"{" and (error := msgspec.json.decode(answer).get("error")):
        status = 404 if error["code"] == METHOD_NOT_FOUND else 400
    return HttpResponse(status, json_headers(), answer)


async def oneshot_token(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return json_answer(Token(page.oneshot_token(request.peer.ip)))


async def activity(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return json_answer(Activity(page.live.log.since(0)))


async def health(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    states = [printer.state for printer in page.router.printers.values()]
    return json_answer(Health("ok", len(states), sum(state.announced for state in states)))


async def metrics_text(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    try:
        from klipper_router import prometheus  # 2 MB, and only a router that is scraped needs it
    except ImportError:
        raise HttpError(503, f"prometheus_client is missing: {INSTALL}") from None
    return HttpResponse(200, [("content-type", _METRICS_TYPE)], prometheus.text(stats.report(page.router)).encode())


async def openapi_document(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return HttpResponse(200, json_headers(), openapi.document(TABLE, _rpc_methods(page)))


def _rpc_methods(page: Page) -> dict[str, Any]:
    """The parameters of every method that POST /router/jsonrpc takes."""
    from klipper_router.gateway.page.site import EMERGENCY_STOP_METHOD, EmergencyStopParams

    of_router = {name: method.params for name, method in page.router.methods.items() if name not in NEED_A_CONNECTION}
    return {**of_router, EMERGENCY_STOP_METHOD: EmergencyStopParams}


async def dashboard(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return static.serve(request, "index.html")


async def page_file(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    return static.serve(request, names["file"])


async def no_websocket(page: Page, request: HttpRequest, names: Mapping[str, str]) -> HttpResponse:
    raise HttpError(426, "this is a WebSocket", headers=[("upgrade", "websocket"), ("connection", "upgrade")])


TABLE = Table(
    [
        Route("GET", f"{API}/printers", "listPrinters", "Every printer", configured.list_printers, result=Printers),
        Route(
            "POST",
            f"{API}/printers",
            "addPrinter",
            "Add a printer, for good and at once",
            configured.add_printer,
            body=NewPrinter,
            result=Printer,
            status=201,
            errors=(*_JSON_ERRORS, 409, 507),
        ),
        Route(
            "GET",
            f"{API}/printers/{{name}}",
            "readPrinter",
            "One printer",
            configured.read_printer,
            result=Printer,
            errors=(404,),
        ),
        Route(
            "PUT",
            f"{API}/printers/{{name}}",
            "changePrinter",
            "Give a printer other options, for good and at once",
            configured.change_printer,
            body=ChangedPrinter,
            result=Printer,
            errors=(*_JSON_ERRORS, 404, 409, 507),
        ),
        Route(
            "DELETE",
            f"{API}/printers/{{name}}",
            "removePrinter",
            "Remove a printer and its cameras",
            configured.remove_printer,
            status=204,
            media=None,
            errors=(404, 409, 507),
        ),
        Route(
            "GET",
            f"{API}/printers/{{name}}/cameras",
            "listCameras",
            "The configured cameras of a printer",
            configured.list_cameras,
            result=Cameras,
            errors=(404,),
        ),
        Route(
            "POST",
            f"{API}/printers/{{name}}/cameras",
            "addCamera",
            "Add a camera, for good and at once",
            configured.add_camera,
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
            configured.discover_cameras,
            body=dict[str, Any],
            result=FoundCameras,
            errors=(*_JSON_ERRORS, 404, 502, 503, 504),
        ),
        Route(
            "GET",
            f"{API}/printers/{{name}}/cameras/{{camera}}",
            "readCamera",
            "One camera",
            configured.read_camera,
            result=Camera,
            errors=(404,),
        ),
        Route(
            "PUT",
            f"{API}/printers/{{name}}/cameras/{{camera}}",
            "changeCamera",
            "Give a camera other options, for good and at once",
            configured.change_camera,
            body=ChangedCamera,
            result=Camera,
            errors=(*_JSON_ERRORS, 404, 409, 507),
        ),
        Route(
            "DELETE",
            f"{API}/printers/{{name}}/cameras/{{camera}}",
            "removeCamera",
            "Remove a camera",
            configured.remove_camera,
            status=204,
            media=None,
            errors=(404, 409, 507),
        ),
        Route(
            "GET",
            f"{API}/oneshot_token",
            "oneshotToken",
            "A token for one request within 5 s, given as ?token=, where the API key cannot be sent",
            oneshot_token,
            result=Token,
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
            errors=(426,),
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
        Route("GET", "/metrics", "metrics", "Figures for Prometheus", metrics_text, media="text/plain", errors=(503,)),
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
