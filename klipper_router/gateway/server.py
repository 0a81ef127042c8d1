"""Listeners, connections and their limits. Who answers a request is the ``dispatch`` that is handed in.

A task per connection and one sweeper for all of them. The sweeper looks once a second for heads that take too long,
idle connections, and clients that are gone while they wait for an answer: TCP tells of that only who reads, and
while an upstream works for an hour nobody reads from the client. The kernel is asked with one ``poll`` for all.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import select
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

import trio

from klipper_router.errors import ConfigError
from klipper_router.gateway import transport
from klipper_router.gateway.access import canonical_ip
from klipper_router.gateway.access_log import log_request
from klipper_router.gateway.connection import ClientGone, Connection
from klipper_router.gateway.heads import METHODS, BadHead, RequestHead
from klipper_router.gateway.http import HttpError, error_response
from klipper_router.gateway.values import Address

log = logging.getLogger("klipper_router.gateway")

BACKLOG = 256
SWEEP_S = 1.0
# Not in every platform's select module; Linux has it since 2.6.17.
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR

Dispatch = Callable[[Connection, RequestHead], Awaitable[None]]
"""Answers one request on its connection. Raises HttpError (if nothing of a response was sent), BadHead, OSError."""


class Listener(NamedTuple):
    """A bound socket, and the printer whose own origin it is (None: the main origin)."""

    sock: socket.socket
    printer: str | None
    tls: ssl.SSLContext | None


class Server:
    """All connections of the gateway."""

    def __init__(
        self,
        dispatch: Dispatch,
        *,
        max_connections: int = 512,
        max_connections_per_client: int = 128,
        access_log: bool = False,
        speaks_for_many: Callable[[str], bool] = lambda ip: False,
    ) -> None:
        """``speaks_for_many``: addresses of proxies, which are no single client."""
        self._dispatch = dispatch
        self._speaks_for_many = speaks_for_many
        self._max_connections = max_connections
        self._max_connections_per_client = max_connections_per_client
        self._access_log = access_log
        self.connections: set[Connection] = set()
        self._per_client: collections.Counter[str] = collections.Counter()
        self.requests = 0
        """Requests so far, for the metrics."""
        self._nursery: trio.Nursery
        self.on_sweep: list[Callable[[], None]] = []
        """Called about every second."""

    async def serve(
        self, listeners: Iterable[Listener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve all clients of these listeners, and of those that come later by `listen`, for ever."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._sweep)
            for listener in listeners:
                self.listen(listener)
            task_status.started()

    def listen(self, listener: Listener) -> trio.CancelScope:
        """Accept the clients of a listener until the scope is cancelled; those who came before are served on."""
        scope = trio.CancelScope()
        self._nursery.start_soon(self._accept, listener, scope)
        return scope

    async def _accept(self, listener: Listener, scope: trio.CancelScope) -> None:
        with scope:
            async for sock, address in transport.accepted(listener.sock):
                self._nursery.start_soon(self._serve_one, listener, sock, address)

    async def _serve_one(self, listener: Listener, sock: socket.socket, address: str) -> None:
        with sock:
            connection = Connection(canonical_ip(address) or address, listener.printer, tls=listener.tls is not None)
            try:
                if not self._admit(connection):
                    return
                with connection.scope:
                    transport.prepare(sock)
                    transport.drop_if_unread(sock)
                    if listener.tls:
                        connection.open(await transport.server_tls(sock, listener.tls))
                    else:
                        connection.open(transport.SocketTransport(sock))
                    await self._requests(connection)
            except (OSError, ClientGone) as error:
                log.debug("%s: %s", connection.ip, error)
            except Exception:
                # One of the fences: a mistake in one request must not end the others, nor the printers' connections.
                log.exception("%s: internal error", connection.ip)
            finally:
                self._forget(connection)

    def _admit(self, connection: Connection) -> bool:
        if len(self.connections) >= self._max_connections:
            log.warning("%s: refused, there are %d connections already", connection.ip, len(self.connections))
            return False
        ip = connection.ip
        one_client = ip not in ("127.0.0.1", "::1") and not self._speaks_for_many(ip)
        if one_client and self._per_client[ip] >= self._max_connections_per_client:
            log.warning("%s: refused, it has %d connections", ip, self._per_client[ip])
            return False
        self.connections.add(connection)
        self._per_client[connection.ip] += 1
        return True

    def _forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self._per_client[connection.ip] -= 1
            if not self._per_client[connection.ip]:
                del self._per_client[connection.ip]

    async def _requests(self, connection: Connection) -> None:
        """Serve requests until the connection ends."""
        dispatch = self._dispatch
        while True:
            try:
                head = await connection.next_head()
            except BadHead as bad:
                await self._refuse(connection, bad)
                return
            if head is None:
                return
            self.requests += 1
            began = time.perf_counter() if self._access_log else 0.0
            try:
                await dispatch(connection, head)
            except HttpError as error:
                await self._give_up(connection, head, error)
            except BadHead as bad:
                if not connection.status:
                    await self._refuse(connection, bad)
                return
            finally:
                if self._access_log:
                    log_request(connection, head, time.perf_counter() - began)
            if not connection.body.done:
                await connection.finish_body(head)
            if not connection.keep_alive:
                await connection.linger()
                return

    async def _give_up(self, connection: Connection, head: RequestHead, error: HttpError) -> None:
        if connection.status:
            connection.keep_alive = False  # a response was begun and cannot be taken back
        else:
            await connection.respond(head, error_response(error))

    async def _refuse(self, connection: Connection, bad: BadHead) -> None:
        log.debug("%s: %d %s", connection.ip, bad.status, bad)
        connection.keep_alive = False
        allowed = [("allow", ", ".join(sorted(method.decode() for method in METHODS)))] if bad.status == 405 else []
        await connection.respond(None, error_response(HttpError(bad.status, str(bad), headers=allowed)))
        connection.body = _Unread()
        await connection.linger()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_S)
            self._sweep_once()
            for each in self.on_sweep:
                each()

    def _sweep_once(self) -> None:
        now = trio.current_time()
        poll = select.poll()
        busy: dict[int, Connection] = {}
        for connection in self.connections:
            connection.patience_s -= SWEEP_S
            if connection.patience_s < 0:
                connection.scope.cancel()
            elif connection.busy:
                fd = connection.transport.sock.fileno()
                if fd >= 0:
                    busy[fd] = connection
                    poll.register(fd, _GONE & ~(select.POLLHUP | select.POLLERR))
                if connection.on_tick:
                    connection.on_tick(now)
        gone = {fd for fd, events in poll.poll(0) if events & _GONE} if busy else set()
        for fd, connection in busy.items():
            # Twice in a row: what it sent last (a WebSocket's close, the end of an upload) has the time to arrive.
            if fd in gone and connection.gone:
                connection.scope.cancel()
            connection.gone = fd in gone


class _Unread:
    """The body of a request that could not be read: there may be more of it."""

    done = False

    def take(self, data: bytes, payload: list[bytes] | None = None) -> int:
        return len(data)


@contextlib.contextmanager
def bound(addresses: Iterable[tuple[Address, str]]) -> Iterator[list[socket.socket]]:
    """Listening sockets at addresses, each with the place in the configuration that asks for it.

    Raises ConfigError, with none left open.
    """
    with contextlib.ExitStack() as stack:
        sockets = []
        for address, place in addresses:
            sockets.append(stack.enter_context(listening(address, place)))
        yield sockets


def listening(address: Address, place: str, beside: Iterable[socket.socket] = ()) -> socket.socket:
    """A listening socket, for the place in the configuration that asks for it. Raises ConfigError.

    ``beside``: listening sockets of ours that are to be closed for it, and may overlap with it until then.
    """
    given_up = list(beside)
    try:
        for sock in given_up:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return _listening(address, beside=bool(given_up))
    except OSError as error:
        missing = error.errno == errno.EADDRNOTAVAIL
        why = "this machine has no such address" if missing else error.strerror or error
        raise ConfigError(f"{place} {address}: {why}") from None
    finally:
        for sock in given_up:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _listening(address: Address, *, beside: bool) -> socket.socket:
    """Raises OSError."""
    # Of a name with several addresses (localhost), the first one.
    family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `[::]:7180` beside `*:7180` are two listeners; alone, it takes IPv4 clients as mapped addresses.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
