"""HTTP and WebSocket in front of a `PrinterApi`: a `Site` of the gateway, for one printer.

Knows Moonraker's way of passing arguments (application.py) and of wrapping results; no method by name.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import trio

from klipper_router.errors import CallError
from klipper_router.gateway.http import (
    HttpError,
    HttpRequest,
    HttpResponse,
    Site,
    WebSocket,
    WebSocketClosed,
    json_response,
)
from klipper_router.gateway.moonraker import methods, rpc
from klipper_router.gateway.moonraker.api import MAX_SESSIONS, NO_MORE, Call, PrinterApi
from klipper_router.gateway.moonraker.bridge import GOING_AWAY, bridge
from klipper_router.gateway.moonraker.rpc import ApiError, Reply
from klipper_router.gateway.moonraker.session import IDENTIFY_WITHIN_S, MAX_REQUESTS_UNDER_WAY, Session

log = logging.getLogger("klipper_router.gateway.moonraker")

MAX_BODY_BYTES = 4 * 1024 * 1024
WEBSOCKET = "/websocket"
KLIPPYSOCKET = "/klippysocket"
JSONRPC = "/server/jsonrpc"
# Close codes: RFC 6455 7.4.1 and its registry.
NOT_IDENTIFIED = 1008
TRY_LATER = 1013
# Arguments that are for the transport, not for the method (application.py EXCLUDED_ARGS).
_OF_THE_TRANSPORT = frozenset({"_", "token", "access_token", "connection_id"})

_CONVERT: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": lambda text: text.lower() == "true",
    "json": msgspec.json.decode,
}


class MoonrakerSite(Site):
    """The API of one printer. Whether a client is authorized, the server has found out; the request says so."""

    def __init__(self, api: PrinterApi) -> None:
        self._api = api
        self._bridges = 0

    async def run(self) -> None:
        await self._api.run()

    def is_open(self, request: HttpRequest) -> bool:
        """As Moonraker: a WebSocket may say later who it is, and anyone may ask whether a login is needed."""
        return request.path in (WEBSOCKET, "/access/info", JSONRPC)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        with self._api.serving():
            return await self._handle(request)
        raise HttpError(503, NO_MORE)

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        call = self._call(request)
        if request.path == JSONRPC:
            return await self._jsonrpc(request, call)
        try:
            name = methods.name_of(call, request.method, request.path)
            params = await _params(request, of_objects=name.startswith("printer.objects."))
        except ApiError as error:
            raise HttpError(error.status, _reason(error)) from None
        result, failed = await _outcome(rpc.call(partial(methods.lookup, call), name, params))
        if failed is not None:
            raise HttpError(failed.status, _reason(failed))
        return json_response({"result": result})

    async def _jsonrpc(self, request: HttpRequest, call: Call) -> HttpResponse:
        if request.method != "POST":
            raise HttpError(405, "Method Not Allowed")
        if not _is_json(request):
            raise HttpError(415, "send JSON, with Content-Type: application/json")
        reply = Reply()
        message = await request.body(MAX_BODY_BYTES)
        for _ in rpc.serve(message, partial(methods.lookup, call), reply.answer, lambda: reply.answer(None)):
            await trio.lowlevel.checkpoint()
        answer, _ = await _outcome(reply)
        if answer is None:
            return HttpResponse(200)
        assert isinstance(answer, bytes)
        return HttpResponse(200, [("content-type", "application/json; charset=utf-8")], answer)

    # -- WebSockets ----------------------------------------------------------------------------------------------

    def check_websocket(self, request: HttpRequest) -> None:
        if request.path == WEBSOCKET:
            try:
                self._api.check_room(request.peer, authorized=request.authorized)
            except ApiError as error:
                raise HttpError(error.status, error.message) from None
        elif request.path == KLIPPYSOCKET:
            if not request.authorized:
                raise HttpError(401, "Unauthorized")
            try:
                self._api.klippy.router.gate.check_everything(self._api.web, self._api.printer)
            except CallError as error:
                raise HttpError(403, str(error)) from None
            if not self._api.klippy.connected:
                raise HttpError(503, "Klippy Unix Connection Not Available")
            if self._bridges >= MAX_SESSIONS:
                raise HttpError(503, "Maximum Number of Bridge Connections Reached")
        else:
            raise HttpError(404, "Not Found")

    async def websocket(self, socket: WebSocket) -> None:
        with self._api.serving() as scope:
            await self._websocket(socket)
        if scope.cancelled_caught:
            await socket.close(GOING_AWAY, NO_MORE)

    async def _websocket(self, socket: WebSocket) -> None:
        if socket.request.path == WEBSOCKET:
            await self._session(socket)
            return
        self._bridges += 1
        try:
            await bridge(socket, self._api.printer.section.sock)
        finally:
            self._bridges -= 1

    async def _session(self, socket: WebSocket) -> None:
        request = socket.request
        try:  # again: others may have come during the handshake
            self._api.check_room(request.peer, authorized=request.authorized)
        except ApiError as error:
            await socket.close(TRY_LATER, error.message)
            return
        session = Session(
            self._api.klippy, socket, authorized=request.authorized, base=_base(request), peer=request.peer
        )
        self._api.add(session)
        try:
            with session.scope:
                await self._serve(session, socket)
        finally:
            self._api.remove(session)
        if session.scope.cancelled_caught:
            await socket.close(NOT_IDENTIFIED, f"not identified within {IDENTIFY_WITHIN_S:g} s")

    async def _serve(self, session: Session, socket: WebSocket) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_closed, session.write_status, socket.send)
            try:
                while True:
                    for _ in self._take(session, await socket.receive()):
                        await trio.lowlevel.checkpoint()
            except WebSocketClosed as closed:
                log.debug("%s: %s", session.name, closed)
            nursery.cancel_scope.cancel()

    def _take(self, session: Session, message: str | bytes) -> Iterator[None]:
        """Serve one message. What a client has under way is bounded, in a batch, too; beyond that, it is told so."""
        call = Call(self._api, session, session, session.peer, session.base, session.authorized)
        calls = 0

        def lookup(name: str) -> rpc.Serve:
            nonlocal calls
            if session.under_way >= MAX_REQUESTS_UNDER_WAY:
                raise ApiError(503, f"{MAX_REQUESTS_UNDER_WAY} requests of this client are under way already")
            calls += 1
            session.under_way += 1
            return methods.lookup(call, name)

        def none_due() -> None:
            session.under_way -= calls

        def answered(answer: bytes) -> None:
            session.under_way -= calls
            session.send(answer)

        return rpc.serve(message, lookup, answered, none_due)

    def _call(self, request: HttpRequest) -> Call:
        return Call(self._api, None, self._api.web, request.peer, _base(request), request.authorized)


def _base(request: HttpRequest) -> str:
    """By what the client reaches the printer."""
    return request.origin + request.prefix


async def _until_closed(write: Callable[..., Any], send: Callable[..., Any]) -> None:
    """A client that goes while it is written to: its reader says so, too."""
    with contextlib.suppress(WebSocketClosed):
        await write(send)


async def _outcome(reply: Reply) -> tuple[object, ApiError | None]:
    done = trio.Event()
    outcome: list[tuple[object, ApiError | None]] = []

    def finished(result: object, error: ApiError | None) -> None:
        outcome.append((result, error))
        done.set()

    reply.then(finished)
    await done.wait()
    return outcome[0]


async def _params(request: HttpRequest, *, of_objects: bool) -> dict[str, Any]:
    """The arguments: query, and a JSON body over it. Raises ApiError, HttpError."""
    query = {key: text for key, text in request.query.items() if key not in _OF_THE_TRANSPORT}
    params = {"objects": _objects(query)} if of_objects else _converted(query)
    body = await request.body(MAX_BODY_BYTES)
    if not body.strip():
        return params
    if not _is_json(request):
        raise HttpError(415, "send JSON, with Content-Type: application/json")
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise ApiError(400, "the body is no JSON object")
    return params | given


def _objects(query: Mapping[str, str]) -> dict[str, list[str] | None]:
    """``?webhooks&print_stats=state,message``."""
    return {name: fields.split(",") if fields else None for name, fields in query.items()}


def _converted(query: Mapping[str, str]) -> dict[str, Any]:
    """``?count:int=5``: an argument may name its type; one that does not fit stays text, as with Moonraker."""
    params: dict[str, Any] = {}
    for key, text in query.items():
        name, _, hint = key.rpartition(":")
        if not name:
            params[key] = text
            continue
        try:
            params[name] = _CONVERT[hint](text) if hint in _CONVERT else text
        except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
            params[name] = text
    return params


def _is_json(request: HttpRequest) -> bool:
    return (request.headers.get("content-type") or "").partition(";")[0].strip().lower() == "application/json"


def _reason(error: ApiError) -> str:
    return "Not Found" if error.message == "Method not found" else error.message
