"""The API server's socket and its clients (klippy/webhooks.py: ServerSocket, ClientConnection).

Sockets are used directly and without blocking, as Klippy does: a message is on the wire when `send` returns, so a
remote call made by a macro is ahead of the answer to its script. Only a client that does not read gets a task that
waits.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

from . import wire
from .printer import Printer

READ_BYTES = 4096
BACKLOG = 1
REQUESTS_KEPT = 20
# Klippy gives a blocked client 5 turns of a 1 s timer to take *everything*; 5.6 s were measured.
SLOW_CLIENT_S = 5.6
# However fast the simulated time runs, a real process on the other side needs some real time.
SLOW_CLIENT_MIN_REAL_S = 1.0

# What is left of a frame when Klippy dies while it is sent.
HALF_A_FRAME = b'{"id": 1, "result": {"eventtime": 42.'

OnFrame = Callable[["Client", bytes], None]


class Client:
    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.printer = server.printer
        self.requests: deque[tuple[float, bytes]] = deque(maxlen=REQUESTS_KEPT)
        self.closed = False
        self._sock = sock
        self._partial = b""
        self._unsent = b""
        self._writable: trio.Event | None = None  # set while the client does not take what we send

    async def read(self) -> None:
        """Until the end of the connection: hand each frame on."""
        while self._sock.fileno() >= 0:  # closed, perhaps, before the first step or while frames are handed on
            try:
                await trio.lowlevel.wait_readable(self._sock)
                await self.printer.reactor.going()
                if self._writable is not None:
                    await self._writable.wait()  # Klippy does not read from a client that does not read
                if self.closed:
                    return
                data = self._sock.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                data = b""
            if not data:
                self.close()
                return
            first, *rest = data.split(wire.END)
            frames = [self._partial + first, *rest]
            self._partial = frames.pop()
            for frame in frames:
                self.requests.append((self.printer.reactor.now(), frame))
                self.server.on_frame(self, frame)

    def send(self, message: object) -> None:
        """A value that cannot be encoded shuts the printer down."""
        try:
            frame = wire.encode(message) + wire.END
        except wire.EncodeError as e:
            self.printer.log.error("json encoding error: %s", e)
            self.printer.invoke_shutdown(f"json encoding error: {e}")
            return
        self._unsent += frame
        if self._writable is None and not self.closed:
            self._flush()
            if self._unsent and not self.closed:
                self._writable = trio.Event()
                self.printer.reactor.nursery.start_soon(self._drain, self._writable)

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.printer.log.info("webhooks: socket write error %d", id(self))
            self.close()
            return
        self._unsent = self._unsent[sent:]

    async def _drain(self, drained: trio.Event) -> None:
        limit_s = max(SLOW_CLIENT_S / self.printer.reactor.clock.speed, SLOW_CLIENT_MIN_REAL_S)
        with trio.move_on_after(limit_s) as patience:
            while self._unsent and not self.closed:
                try:
                    await trio.lowlevel.wait_writable(self._sock)
                except (OSError, trio.ClosedResourceError):
                    break
                await self.printer.reactor.going()
                if not self.closed:
                    self._flush()
        if patience.cancelled_caught:
            self.printer.log.info("Closing unresponsive client %s", id(self))
            self.close()
        self._writable = None
        drained.set()

    def cut(self) -> None:
        """Close in the middle of a frame."""
        if not self.closed and not self._unsent:  # else that is where it is already
            self._unsent = HALF_A_FRAME
            self._flush()
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self.server.clients.discard(self)
        self.printer.log.info("webhooks client %s: Disconnected", id(self))


class Server:
    def __init__(self, printer: Printer, path: Path | None, on_frame: OnFrame) -> None:
        self.printer = printer
        self.on_frame = on_frame
        self.clients: set[Client] = set()
        self._path = path
        self._sock: socket.socket | None = None
        self._refusing = False
        printer.on("klippy:disconnect", self.close)

    def listen(self) -> None:
        """Take the address, over a file that an earlier Klippy left behind. Raises OSError."""
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(str(self._path))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, error.strerror or str(error), str(self._path)) from None  # bind names no file
        self._sock = sock
        self.printer.reactor.nursery.start_soon(self._accept, sock)

    async def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(listener)
                await self.printer.reactor.going()
                sock, _ = listener.accept()
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return
            sock.setblocking(False)
            client = Client(self, sock)
            self.clients.add(client)
            self.printer.log.info("webhooks client %s: New connection", id(client))
            self.printer.reactor.nursery.start_soon(client.read)

    def refuse(self, refusing: bool) -> None:
        """Refuse new connections, as while Klippy restarts: the file stays, nobody listens."""
        if refusing and not self._refusing:
            self._close_listener()
        elif self._refusing and not refusing:
            self.listen()
        self._refusing = refusing

    def drop_clients(self) -> None:
        for client in list(self.clients):
            client.close()

    def cut_clients(self) -> None:
        for client in list(self.clients):
            client.cut()

    def close(self) -> None:
        """Close everything; the socket's file stays, as with Klipper."""
        self.drop_clients()
        self._close_listener()

    def _close_listener(self) -> None:
        if self._sock is not None:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
            self._sock = None
