"""A connected Unix socket as a trio stream, one that can also send at once, without a task switch.

Does what `trio.SocketStream` does, for the one kind of socket that we have, with less on the way: it waits first and
reads then, where trio tries, fails, waits and reads. Knows nothing of frames.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import trio

RECEIVE_BYTES = 65536


async def connect(path: str) -> UnixStream:
    """Connect to a Unix socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Linux unix_stream_connect: done at once, or refused; with EAGAIN when the listener's backlog is full
        # (Klippy's is 1). Never under way, so there is nothing to wait for.
        sock.connect(path)
        await trio.lowlevel.checkpoint()
    except BaseException:
        sock.close()
        raise
    return UnixStream(sock)


class UnixStream(trio.abc.Stream):
    """Owns ``sock``, which is connected. One task may receive and one may send at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def send_now(self, data: bytes) -> int:
        """Hand to the kernel what it takes now; returns how many bytes that were. Never waits.

        Only while no `send_all` is under way, or bytes get mixed up. A broken connection takes nothing: the next
        `send_all` says why.
        """
        try:
            return self._sock.send(data)
        except OSError:  # BlockingIOError is one
            return 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenResourceError, ClosedResourceError. When it is cancelled, a part of ``data`` may be sent."""
        with memoryview(data) as whole:
            sent = 0
            while True:
                await self._until(trio.lowlevel.wait_writable)
                try:
                    sent += self._sock.send(whole[sent:])
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
                if sent >= len(whole):
                    return

    async def wait_send_all_might_not_block(self) -> None:
        await self._until(trio.lowlevel.wait_writable)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived; empty when the peer sends no more. Raises BrokenResourceError, ClosedResourceError."""
        while True:
            await self._until(trio.lowlevel.wait_readable)
            try:
                return self._sock.recv(max_bytes or RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def _until(self, possible: Callable[[socket.socket], Awaitable[None]]) -> None:
        if self._sock.fileno() < 0:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this socket was already closed")
        await possible(self._sock)

    async def aclose(self) -> None:
        """Whoever waits for the socket gets a ClosedResourceError."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        await trio.lowlevel.checkpoint()
