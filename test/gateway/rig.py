"""A gateway on real sockets in the test's own process, and toy upstreams that keep every byte they are sent.

The toys read HTTP by themselves, with nothing of the product's, so that a mistake there cannot hide itself.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from klipper_router.config import Config, load
from klipper_router.gateway import app
from klipper_router.gateway.dispatch import Gateway
from klipper_router.gateway.http import Headers, HttpRequest, HttpResponse, Site, WebSocket, json_response
from klipper_router.link import dial_unix
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router

WITHIN_S = 10.0
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"result":"ok"}'


class Wire:
    """One end of a TCP connection, read as HTTP by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""
        self.seen = b""
        """Every byte that was received."""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        """Whether something came before the end."""
        with trio.fail_after(WITHIN_S):
            data = bytes(await self.stream.receive_some(65536))
        self.seen += data
        self.buffer += data
        return bool(data)

    async def head(self) -> bytes:
        """All up to the empty line; raises EOFError at the end."""
        while b"\r\n\r\n" not in self.buffer:
            if not await self.more():
                raise EOFError
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not await self.more():
                raise EOFError
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def rest(self) -> bytes:
        """All up to the end."""
        with contextlib.suppress(trio.BrokenResourceError):
            while await self.more():
                pass
        data, self.buffer = self.buffer, b""
        return data

    async def message(self, *, of_head: bool = False) -> tuple[bytes, bytes]:
        """A whole request or response: its head, and its body without framing."""
        head = await self.head()
        lengths = re.findall(rb"(?mi)^content-length: *(\d+)\r$", head)
        if of_head or re.match(rb"HTTP/1.1 (1..|204|304) ", head):
            return head, b""
        if lengths:
            return head, await self.exactly(int(lengths[0]))
        if re.search(rb"(?mi)^transfer-encoding: *chunked\r$", head):
            body = b""
            while size := int(await self._line(), 16):
                body += await self.exactly(size)
                await self.exactly(2)
            await self.exactly(2)
            return head, body
        return head, await self.rest() if head.startswith(b"HTTP") else b""

    async def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not await self.more():
                raise EOFError
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line


Behave = Callable[[Wire], Awaitable[None]]


class Toy:
    """An upstream. ``behave`` serves one connection; by default each request is answered with `OK`."""

    def __init__(self, behave: Behave | None = None) -> None:
        self.behave = behave or self.answer_all
        self.wires: list[Wire] = []
        """Every connection so far."""
        self.open = 0
        self.changed = trio.Condition()
        self.port = 0
        self.answer = OK

    @property
    def received(self) -> bytes:
        return b"".join(wire.seen for wire in self.wires)

    async def answer_all(self, wire: Wire) -> None:
        while True:
            await wire.message()
            await wire.send(self.answer)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that a connection's beginning or end can change."""
        with trio.fail_after(WITHIN_S):
            async with self.changed:
                while not condition():
                    await self.changed.wait()

    async def _note(self, change: int) -> None:
        async with self.changed:
            self.open += change
            self.changed.notify_all()

    async def _serve(self, stream: trio.SocketStream) -> None:
        wire = Wire(stream)
        self.wires.append(wire)
        await self._note(1)
        try:
            async with stream:
                with contextlib.suppress(EOFError, trio.BrokenResourceError):
                    await self.behave(wire)
        finally:
            with trio.CancelScope(shield=True):
                await self._note(-1)

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Toy]:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            yield self
            nursery.cancel_scope.cancel()


class Echo(Site):
    """A site that says what it was asked, and a few things more by path."""

    def __init__(self) -> None:
        self.open_paths = {"/open"}
        self.generator_closed = trio.Event()
        self.flood_ended = trio.Event()

    def is_open(self, request: HttpRequest) -> bool:
        return request.path in self.open_paths

    async def handle(self, request: HttpRequest) -> HttpResponse:
        match request.path:
            case "/bug":
                raise RuntimeError("a bug")
            case "/endless":
                return HttpResponse(200, [("content-type", "text/plain")], self._endless())
            case "/numbers":
                return HttpResponse(200, [("content-type", "text/plain")], self._numbers())
            case "/split":
                return HttpResponse(200, [("x-evil", "a\r\nset-cookie: b")], b"")
            case "/count":
                count = 0
                async for chunk in request.chunks():
                    count += len(chunk)
                return json_response(count)
            case "/json":
                return json_response(await request.json())
            case "/ignore":
                return json_response("ignored")
        return json_response(
            {
                "method": request.method,
                "path": request.path,
                "prefix": request.prefix,
                "printer": request.printer,
                "query": dict(request.query),
                "ip": request.peer.ip,
                "trusted": request.peer.trusted,
                "authorized": request.authorized,
                "origin": request.origin,
            }
        )

    async def _numbers(self) -> AsyncGenerator[bytes, None]:
        for number in range(3):
            yield b"%d " % number

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await trio.sleep_forever()
        finally:
            self.generator_closed.set()

    def check_websocket(self, request: HttpRequest) -> None:
        if request.path == "/refused":
            super().check_websocket(request)

    async def websocket(self, socket: WebSocket) -> None:
        if socket.request.path == "/bug":
            raise RuntimeError("a bug")
        if socket.request.path == "/flood":
            try:
                while True:
                    socket.post("x" * 100_000)
                    await trio.lowlevel.checkpoint()
            finally:
                self.flood_ended.set()
        while True:
            message = await socket.receive()
            if message == "bye":
                return
            await socket.send(message)


class Rig:
    """A running gateway."""

    def __init__(self, ready: app.Prepared, gateway: Gateway, router: Router) -> None:
        self.ready = ready
        self.gateway = gateway
        self.router = router
        self.port = ready.listeners[0].sock.getsockname()[1] if ready.listeners else 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def origin_port(self, printer: str) -> int:
        port = next(sock.getsockname()[1] for origin, sock in self.ready.origins if origin.printer == printer)
        assert isinstance(port, int)
        return port

    @contextlib.asynccontextmanager
    async def client(self, port: int | None = None) -> AsyncIterator[Wire]:
        async with await trio.open_tcp_stream("127.0.0.1", port or self.port) as stream:
            yield Wire(stream)

    async def ask(self, request: bytes, port: int | None = None) -> tuple[int, bytes, bytes]:
        """Send bytes as they are on a connection of their own: status, head and body of the first answer."""
        async with self.client(port) as wire:
            with trio.fail_after(WITHIN_S):
                await wire.send(request)
                head, body = await wire.message(of_head=request.startswith(b"HEAD"))
        return int(head[9:12]), head, body

    async def get(
        self, path: str, *fields: str, method: str = "GET", body: bytes | None = None
    ) -> tuple[int, Headers, bytes]:
        """An ordinary request on a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        status, head, content = await self.ask("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return status, fields_of(head), content


def fields_of(head: bytes) -> Headers:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return Headers([(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])


@contextlib.asynccontextmanager
async def running(folder: Path, text: str, echo: Site | None = None, *, with_watch: bool = False) -> AsyncIterator[Rig]:
    """The gateway of a configuration, as `loaded` reads it."""
    configured = loaded(folder, text)
    router = Router(configured, dial=dial_unix, methods=METHODS)
    with app.prepared(configured) as ready:
        async with trio.open_nursery() as nursery:
            gateway: Any = await nursery.start(partial(app.serve, router, ready, with_watch=with_watch))
            if echo is not None:
                gateway.sites.page = echo
            yield Rig(ready, gateway, router)
            nursery.cancel_scope.cancel()


def loaded(folder: Path, text: str) -> Config:
    """A configuration; each ``[klippy]`` section gains a socket on which nobody listens."""
    lines = []
    for line in text.splitlines():
        lines.append(line.strip())
        if match := re.fullmatch(r"\[klippy (.*)\]", line.strip()):
            lines.append(f"sock: {folder / match[1]}.sock")
    file = folder / "router.cfg"
    file.write_text("\n".join(lines))
    return load(file)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert isinstance(port, int)
    return port
