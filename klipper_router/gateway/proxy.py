"""A printer's Moonraker seen through the gateway: heads rewritten, bodies and WebSockets passed on as bytes.

What the upstream is told is said by `header_rules`, how bytes pass by `relay`. Nothing is timed out here once the
upstream is connected: a G-code may run for an hour. A client that goes away cancels its connection (`server`), and
with it everything here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from klipper_router.gateway import relay
from klipper_router.gateway.access import Client
from klipper_router.gateway.allowed import AllowedFrames, AllowedMethods
from klipper_router.gateway.connection import CONTINUE, Connection
from klipper_router.gateway.header_rules import REFRAMED, UNFILTERED, request_head, response_head
from klipper_router.gateway.heads import RequestHead, ResponseHead
from klipper_router.gateway.http import FrameFilter, HttpError, Rewriter, Rewriters
from klipper_router.gateway.pool import Pool
from klipper_router.gateway.routes import Route
from klipper_router.gateway.transport import RECEIVE_BYTES, Transport
from klipper_router.gateway.values import MoonrakerPaths, Upstream

log = logging.getLogger("klipper_router.gateway")

# Requests that only read: one that met a dead connection may be sent again. (A second DELETE would change nothing
# either, but its answer would say that there was nothing to delete.)
READING_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
# Of Klippy's endpoints, which Moonraker serves by GET as well.
_READING_PATHS = frozenset(
    {
        b"/printer/gcode/help",
        b"/printer/info",
        b"/printer/objects/list",
        b"/printer/objects/query",
        b"/printer/query_endstops/status",
    }
)

MAX_REWRITTEN_BYTES = 1024 * 1024
_FRAMED_ANEW = frozenset({b"content-length", b"expect"})

Respond = Callable[[Transport, bytes], Awaitable[bool]]
"""Passes a response on that begins with the given bytes; whether the upstream's connection can be used again."""


def may_act(rest: bytes) -> bool:
    """Whether a GET of this path may do more than read: Moonraker serves all of Klippy's endpoints by GET, too."""
    return rest.startswith(b"/printer/") and rest not in _READING_PATHS


class Proxy:
    """One printer's upstream."""

    def __init__(
        self, printer: str, upstream: Upstream, allow: MoonrakerPaths, rewriters: Rewriters | None = None
    ) -> None:
        self.printer = printer
        self.upstream = upstream
        self.allow = allow
        self._rewriters = rewriters
        self._allowed = frozenset(name.encode() for name in allow)
        self._methods = AllowedMethods(allow)
        self._path = upstream.path.encode()
        tls = ssl.create_default_context() if upstream.tls else None
        self.pool = Pool(upstream.host, upstream.port, tls)

    def close(self) -> None:
        self.pool.close()

    async def serve(self, connection: Connection, head: RequestHead, client: Client, route: Route) -> None:
        """Pass one request on and its response back. Raises HttpError, BadHead, OSError."""
        rest = route.rest
        first = rest.split(b"/", 2)[1]
        if first not in self._allowed:
            where = f"'allow' in [klippy {self.printer}]"
            raise HttpError(403, f"/{first.decode()} of this printer is not open here ({where})")
        target = self._path + rest + (b"?" + head.query if head.query else b"")
        filters = None
        if rest == b"/websocket" and head.upgrade:
            filters = self._filters(head, client, route)
        elif self._rewriters and rest.startswith(b"/server/webcams/"):
            rewriter = self._rewriters.for_webcams(self.printer, _base(head, client, route))
            if rewriter:
                await self._rewrite(connection, head, client, target, rewriter)
                return

        async def respond(transport: Transport, answer: bytes) -> bool:
            return await relay.response(connection, head, transport, answer, make, filters)

        def make(response: ResponseHead) -> bytes:
            return response_head(response, head, connection, route.prefix)

        if head.has_body and _is_jsonrpc(rest) and not self._methods.all_open:
            await self._exchange(connection, head, await self._checked(connection, head, client, target), respond)
            return
        data = request_head(head, target, client, UNFILTERED if filters else frozenset()) + connection.buffered_body()
        if connection.body.done:
            await self._exchange(connection, head, data, respond, acts=may_act(rest))
        else:
            await self._exchange_streaming(connection, data, respond)

    def _filters(self, head: RequestHead, client: Client, route: Route) -> tuple[FrameFilter, FrameFilter] | None:
        """For a WebSocket: of what goes to Moonraker, of what goes to the client."""
        base = _base(head, client, route)
        webcams = self._rewriters.for_websocket(self.printer, base) if self._rewriters else None
        if self._methods.all_open:
            return webcams
        if webcams is None:
            return AllowedFrames(self._methods), _AsItIs()
        return AllowedFrames(self._methods, webcams[0].feed), webcams[1]

    async def _checked(self, connection: Connection, head: RequestHead, client: Client, target: bytes) -> bytes:
        """A request of JSON-RPC as Moonraker may have it. Raises HttpError."""
        try:
            content = self._methods.checked(await _whole_body(connection, head))
        except ValueError as error:
            raise HttpError(400, f"the body is no JSON: {error}") from None
        framing = b"Content-Length: %d\r\n" % len(content)
        return request_head(head, target, client, _FRAMED_ANEW, framing) + content

    async def _rewrite(
        self, connection: Connection, head: RequestHead, client: Client, target: bytes, rewriter: Rewriter
    ) -> None:
        """An exchange whose bodies may change: both are gathered first."""
        content = rewriter.request_body(await _whole_body(connection, head)) if head.has_body else b""
        framing = b"Content-Length: %d\r\n" % len(content) if head.has_body else b""

        async def respond(transport: Transport, answer: bytes) -> bool:
            response, body, kept = await relay.whole_response(head, transport, answer)
            body = rewriter.response_body(body)
            connection.status = response.status
            if head.method == b"HEAD":
                body = b""
            start = response_head(response, head, connection, b"", len(body))
            await connection.send_all(start + body)
            return kept

        data = request_head(head, target, client, REFRAMED, framing) + content
        await self._exchange(connection, head, data, respond)

    async def _exchange(
        self, connection: Connection, head: RequestHead, data: bytes, respond: Respond, *, acts: bool = False
    ) -> None:
        """A request that is all there. ``acts``: it does more than read, whatever its method."""
        repeatable = head.method in READING_METHODS and not head.has_body and not acts
        transport = self.pool.take(checked=not repeatable)
        # A kept one may have been closed by the upstream meanwhile: then nothing comes, and a new one is tried once.
        again = repeatable and transport is not None
        while True:
            if transport is None:
                transport = await self._dial()
            kept = False
            try:
                try:
                    await transport.send_all(data)
                    answer = await transport.receive_some(RECEIVE_BYTES)
                except OSError:
                    answer = b""
                if answer:
                    kept = await self._respond(connection, transport, answer, respond)
                    return
            finally:
                self._put_back(transport, kept=kept)
            if not again:
                raise HttpError(502, f"{self._name} closed the connection without an answer")
            again, transport = False, None

    async def _exchange_streaming(self, connection: Connection, data: bytes, respond: Respond) -> None:
        """A request whose body is still coming; the upstream may answer before it has seen all of it."""
        transport = self.pool.take(checked=True) or await self._dial()

        async def answer() -> bool:
            try:
                data = await transport.receive_some(RECEIVE_BYTES)
            except OSError:
                data = b""
            if not data:
                raise HttpError(502, f"{self._name} closed the connection without an answer")
            return await self._respond(connection, transport, data, respond)

        kept = False
        try:
            kept = await relay.upload(connection, transport, data, answer)
        finally:
            self._put_back(transport, kept=kept)

    def _put_back(self, transport: Transport, *, kept: bool) -> None:
        if kept:
            self.pool.give(transport)
        else:
            transport.close()

    async def _dial(self) -> Transport:
        try:
            return await self.pool.fresh()
        except TimeoutError as error:
            raise HttpError(504, f"{self._name} cannot be reached: {error}") from None
        except OSError as error:
            raise HttpError(502, f"{self._name} cannot be reached: {error.strerror or error}") from None

    @property
    def _name(self) -> str:
        return f"the Moonraker of {self.printer}"

    async def _respond(self, connection: Connection, transport: Transport, answer: bytes, respond: Respond) -> bool:
        try:
            return await respond(transport, answer)
        except relay.BadUpstream as error:
            log.warning("%s: %s", self._name, error)
            if connection.status:
                connection.keep_alive = False  # the client must not take a part for the whole
                return False
            raise HttpError(502, f"{self._name} sent what is no HTTP response: {error}") from None


async def _whole_body(connection: Connection, head: RequestHead) -> bytes:
    if head.expect:
        await connection.send_all(CONTINUE)
    payload: list[bytes] = []
    size_bytes = 0
    while not connection.body.done:
        before = len(payload)
        await connection.receive_body(payload)
        size_bytes += sum(map(len, payload[before:]))
        if size_bytes > MAX_REWRITTEN_BYTES:
            raise HttpError(413, f"the body is larger than {MAX_REWRITTEN_BYTES} bytes")
    return b"".join(payload)


class _AsItIs:
    """A `http.FrameFilter` that changes nothing."""

    def feed(self, data: bytes) -> bytes:
        return data


def _is_jsonrpc(rest: bytes) -> bool:
    return unquote_to_bytes(rest).rstrip(b"/") == b"/server/jsonrpc"


def _base(head: RequestHead, client: Client, route: Route) -> str:
    """By what the client reaches the printer, whichever UI it uses."""
    prefix = route.prefix.decode()
    scheme = client.scheme
    if head.special.get(b"origin") == [b"https://" + head.host]:
        scheme = "https"  # the page itself says so, though a proxy in front of us that we do not trust did TLS for it
    return f"{scheme}://{head.host.decode()}{prefix.removesuffix(f'/{route.ui}') if route.ui else prefix}"
