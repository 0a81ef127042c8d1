"""One TCP connection as the gateway uses it: bytes in, bytes out, every failure an OSError.

trio's sockets are used directly, without `trio.SocketStream`: what that adds (conflict detection, memoryviews) is a
tenth of a small request. TLS is trio's SSLStream with its errors translated here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol

import trio

log = logging.getLogger("klipper_router.gateway")

CONNECT_S = 3.0
TLS_HANDSHAKE_S = 10.0
RECEIVE_BYTES = 64 * 1024
# Larger pieces save system calls where a lot comes; smaller ones keep the memory of many connections low.
RECEIVE_BULK_BYTES = 256 * 1024

# A peer that lost its power is noticed after a minute, though nothing is read from it or it reads nothing.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
# A client that reads nothing for so long is given up (man 7 tcp, TCP_USER_TIMEOUT); an upstream may take its time.
UNREAD_MS = 60_000


# After running out of file descriptors or memory.
ACCEPT_AGAIN_S = 0.2
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Transport(Protocol):
    sock: socket.socket
    half_close: bool
    """Whether one side can end its sending and still receive. TLS 1.3 can, Python's ssl cannot."""

    def receive_some(self, max_bytes: int, /) -> Awaitable[bytes]:
        """At least one byte, or nothing at the end. Raises OSError."""
        ...

    async def send_all(self, data: bytes, /) -> None:
        """Raises OSError. Cancelled, it may have sent a part: the connection is of no use then."""
        ...

    async def end(self) -> None:
        """Tell the peer that nothing more will be sent. Raises OSError.

        Without `half_close` nobody may be receiving meanwhile.
        """
        ...

    def close(self) -> None:
        """At once; may be called again."""
        ...


class SocketTransport:
    """Plain TCP over a non-blocking socket.

    Waits until there is something to read before it reads (mostly there is nothing yet), and tries to send before it
    waits (mostly there is room). trio's own sockets do both the other way with a checkpoint each, which is a sixth of
    a small request. Receiving is the checkpoint of every loop here.
    """

    __slots__ = ("_recv", "_send", "half_close", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.half_close = True
        self._recv = sock.recv
        self._send = sock.send

    async def receive_some(self, max_bytes: int) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                return self._recv(max_bytes)
            except BlockingIOError:
                pass

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """As `receive_some`, into a buffer that is used again and again; how many bytes."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            with contextlib.suppress(BlockingIOError):
                return self.sock.recv_into(buffer)

    async def send_all(self, data: bytes) -> None:
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, data: memoryview) -> None:
        while data:
            await trio.lowlevel.wait_writable(self.sock)
            with contextlib.suppress(BlockingIOError):
                data = data[self._send(data) :]

    async def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        close(self.sock)


class TlsTransport:
    """TLS over TCP. Made only once its handshake is done: `server_tls` and `dial`."""

    __slots__ = ("_ended", "_stream", "half_close", "sock")

    def __init__(self, sock: socket.socket, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.sock = sock
        self.half_close = False
        self._stream = stream
        self._ended = False

    async def receive_some(self, max_bytes: int) -> bytes:
        try:
            if self._ended:  # what still comes can be read by nobody, but the connection ends in order
                return await SocketTransport(self.sock).receive_some(max_bytes)
            return bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(f"TLS connection broken: {error.__cause__ or error}") from None

    async def send_all(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(f"TLS connection broken: {error.__cause__ or error}") from None

    async def end(self) -> None:
        self._ended = True
        with contextlib.suppress(trio.BrokenResourceError):
            await self._stream.unwrap()
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        close(self.sock)


def close(sock: socket.socket) -> None:
    """Close a socket on which a task may still be waiting, which is woken."""
    if sock.fileno() >= 0:
        trio.lowlevel.notify_closing(sock)
        sock.close()


def prepare(sock: socket.socket) -> None:
    """Set what every connection of ours has. Raises OSError."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    # trio keeps 16 KiB unsent at most on sockets that it dials, which cuts an upload into small pieces.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)


def drop_if_unread(sock: socket.socket) -> None:
    """Have the kernel end the connection when its peer takes nothing for `UNREAD_MS`. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)


async def accepted(listener: socket.socket) -> AsyncGenerator[tuple[socket.socket, str], None]:
    """Every connection that comes to a listening socket, and the address it comes from, for ever."""
    while True:
        # Who is cancelled may find the listener closed, or another task waiting on it, before the wait notices.
        await trio.lowlevel.checkpoint_if_cancelled()
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                log.error("cannot accept a client: %s", error.strerror)
                await trio.sleep(ACCEPT_AGAIN_S)
            continue  # else nobody is there (any more): man 2 accept
        yield sock, str(address[0])


async def server_tls(sock: socket.socket, context: ssl.SSLContext) -> TlsTransport:
    """Do the handshake with a client. Raises OSError, also where it takes too long."""
    return await _handshake(sock, context, server_side=True)


async def dial(host: str, port: int, tls: ssl.SSLContext | None = None) -> Transport:
    """Connect. Raises OSError, also where it takes longer than `CONNECT_S`."""
    try:
        with trio.fail_after(CONNECT_S):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise TimeoutError(f"{host} port {port} did not answer within {CONNECT_S:g} s") from None
    except OSError as error:
        raise _plain(error) from None
    except UnicodeError:  # by Python's IDNA codec: no OSError, and who dials expects nothing else
        raise OSError(errno.EINVAL, f"'{host}' is no host name") from None
    sock = socket.socket(fileno=stream.socket.detach())
    try:
        prepare(sock)
        if tls is None:
            return SocketTransport(sock)
        return await _handshake(sock, tls, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def _plain(error: OSError) -> OSError:
    """trio wraps what each address of a name gave, in words of its own: the first one tells enough."""
    cause: BaseException | None = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    plain = cause if isinstance(cause, OSError) else error
    if plain.errno is None or isinstance(plain, socket.gaierror):
        return plain
    return OSError(plain.errno, os.strerror(plain.errno))


async def _handshake(
    sock: socket.socket, context: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None
) -> TlsTransport:
    stream = trio.SSLStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(sock)),
        context,
        server_side=server_side,
        server_hostname=server_hostname,
        # HTTP has its own ends of messages, so a peer that closes without TLS's own goodbye has cut off nothing.
        https_compatible=True,
    )
    try:
        with trio.fail_after(TLS_HANDSHAKE_S):
            await stream.do_handshake()
    except trio.BrokenResourceError as error:
        raise ConnectionResetError(f"TLS handshake failed: {error.__cause__ or error}") from None
    except trio.TooSlowError:
        raise TimeoutError("TLS handshake takes too long") from None
    return TlsTransport(sock, stream)
