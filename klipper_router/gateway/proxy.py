"""A printer's Moonraker seen through the gateway: heads rewritten, bodies and WebSockets passed on as bytes.

The header rules are those that keep Moonraker's own checks true (docs/gateway.md, "What Moonraker sees"): one valid
X-Real-IP, Host and Origin as the browser sent them, never a field twice that the gateway sets, nothing that belongs to
one connection only. Nothing is timed out here once the upstream is connected: a G-code may run for an hour. A client
that goes away cancels its connection (`server`), and with it everything here.
"""

from __future__ import annotations

import logging
import ssl

from klipper_router.gateway import relay
from klipper_router.gateway.access import Client
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import HOP_BY_HOP, RequestHead, ResponseHead
from klipper_router.gateway.http import HttpError
from klipper_router.gateway.pool import Pool
from klipper_router.gateway.routes import Route
from klipper_router.gateway.settings import MoonrakerPaths, Upstream
from klipper_router.gateway.transport import RECEIVE_BYTES, Transport

log = logging.getLogger("klipper_router.gateway")

# Repeating them changes nothing (RFC 9110 9.2.2), so a request that met a dead connection may be sent again.
REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

# Whoever sent these, an upstream only hears what we say (or nothing).
_OURS = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-scheme",
    }
)
_DROPPED = HOP_BY_HOP | _OURS
# What a client may not have dropped by naming it in Connection: the upstream would judge another request.
_NEVER_DROPPED = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"origin",
        b"transfer-encoding",
        b"x-api-key",
    }
)


class Proxy:
    """One printer's upstream."""

    def __init__(self, printer: str, upstream: Upstream, allow: MoonrakerPaths) -> None:
        self.printer = printer
        self.upstream = upstream
        self.allow = allow
        self._allowed = frozenset(name.encode() for name in allow)
        self._path = upstream.path.encode()
        tls = ssl.create_default_context() if upstream.tls else None
        self.pool = Pool(upstream.host, upstream.port, tls)

    def close(self) -> None:
        self.pool.close()

    async def serve(self, connection: Connection, head: RequestHead, client: Client, route: Route) -> None:
        """Pass one request on and its response back. Raises HttpError, BadHead, OSError."""
        first = route.rest.split(b"/", 2)[1]
        if first not in self._allowed:
            raise HttpError(
                403, f"/{first.decode()} of this printer is not open here ('allow' in [klippy {self.printer}])"
            )
        target = self._path + route.rest + (b"?" + head.query if head.query else b"")
        data = request_head(head, target, client) + connection.buffered_body()
        if connection.body.done:
            await self._exchange(connection, head, data, route.prefix)
        else:
            await self._exchange_streaming(connection, head, data, route.prefix)

    async def _exchange(self, connection: Connection, head: RequestHead, data: bytes, prefix: bytes) -> None:
        """A request that is all there."""
        repeatable = head.method in REPEATABLE and not head.has_body
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
                    kept = await self._respond(connection, head, transport, answer, prefix)
                    return
            finally:
                self._put_back(transport, kept=kept)
            if not again:
                raise HttpError(502, f"{self._name} closed the connection without an answer")
            again, transport = False, None

    async def _exchange_streaming(self, connection: Connection, head: RequestHead, data: bytes, prefix: bytes) -> None:
        """A request whose body is still coming; the upstream may answer before it has seen all of it."""
        transport = self.pool.take(checked=True) or await self._dial()

        async def respond() -> bool:
            try:
                answer = await transport.receive_some(RECEIVE_BYTES)
            except OSError:
                answer = b""
            if not answer:
                raise HttpError(502, f"{self._name} closed the connection without an answer")
            return await self._respond(connection, head, transport, answer, prefix)

        kept = False
        try:
            kept = await relay.upload(connection, transport, data, respond)
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
            why = error.strerror or error.__cause__ or error
            raise HttpError(502, f"{self._name} cannot be reached: {why}") from None

    @property
    def _name(self) -> str:
        return f"the Moonraker of {self.printer}"

    async def _respond(
        self, connection: Connection, head: RequestHead, transport: Transport, answer: bytes, prefix: bytes
    ) -> bool:
        """Pass the response on. Returns whether the upstream's connection can be used again."""

        def make(response: ResponseHead) -> bytes:
            return response_head(response, head, connection, prefix)

        try:
            return await relay.response(connection, head, transport, answer, make)
        except relay.BadUpstream as error:
            log.warning("%s: %s", self._name, error)
            connection.keep_alive = False
            if connection.status:
                return False
            raise HttpError(502, f"{self._name} sent what is no HTTP response: {error}") from None


def request_head(head: RequestHead, target: bytes, client: Client) -> bytes:
    """The head for the upstream. Raises HttpError (400) for a Connection that names what must arrive."""
    named = head.connection
    if named and not named.isdisjoint(_NEVER_DROPPED):
        raise HttpError(400, "Connection may not name a field that is not of the connection")
    lines = [b"%b %b HTTP/1.%d\r\n" % (head.method, target, head.http11)]
    for lower, name, value in head.fields:
        if lower in _DROPPED or lower in named:
            continue
        if b"_" in lower and lower.replace(b"_", b"-") in _DROPPED:
            continue  # CGI-like upstreams cannot tell the two apart
        lines.append(b"%b: %b\r\n" % (name, value))
    peer = client.peer.ip.encode()
    lines.append(
        b"X-Real-IP: %b\r\nX-Forwarded-For: %b\r\nX-Scheme: %b\r\n"
        % (peer, client.forwarded_for.encode(), client.scheme.encode())
    )
    if head.upgrade == b"websocket":
        lines.append(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    elif head.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n\r\n")
    elif not head.http11:
        lines.append(b"Connection: close\r\n\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def response_head(response: ResponseHead, head: RequestHead, connection: Connection, prefix: bytes) -> bytes:
    """The head for the client; ``connection.keep_alive`` is settled before."""
    named = response.connection
    lines = [b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason)]
    for lower, name, value in response.fields:
        if lower in HOP_BY_HOP or lower in named:
            continue
        if prefix and lower == b"location":
            value = _location(value, head.host, prefix)
        lines.append(b"%b: %b\r\n" % (name, value))
    if response.status == 101:
        lines.append(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        return b"".join(lines)
    if response.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if not connection.keep_alive:
        lines.append(b"Connection: close\r\n\r\n")
    elif not head.http11:
        lines.append(b"Connection: keep-alive\r\n\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def _location(value: bytes, host: bytes, prefix: bytes) -> bytes:
    """Moonraker does not know below which prefix it is seen: its own addresses (uploads have one) gain it."""
    if value.startswith(b"/") and not value.startswith(b"//"):
        return prefix + value
    scheme, mark, rest = value.partition(b"://")
    if mark and rest.startswith(host + b"/"):
        return b"%b://%b%b%b" % (scheme, host, prefix, rest[len(host) :])
    return value
