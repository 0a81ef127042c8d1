"""The page on a real listener, before a real router and virtual printers; only its cameras are toys."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage

from klipper_router.gateway.access import Access
from klipper_router.gateway.app import make_access
from klipper_router.gateway.dispatch import Gateway, Sites
from klipper_router.gateway.http import HttpRequest, HttpResponse, Site, WebSocket
from klipper_router.gateway.page import extras
from klipper_router.gateway.page.inventory import Inventory, Options
from klipper_router.gateway.page.site import Page
from klipper_router.gateway.server import Listener, Server, bound
from klipper_router.gateway.values import Address
from klipper_router.link import dial_unix
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router
from klipper_router.virtual import VirtualKlippy

ROOT = Path(__file__).parent.parent.parent

KLIPPY = f"""
[include {ROOT}/includes/router_api.cfg]
[mcu]
serial: /tmp/klipper_host_mcu
[printer]
kinematics: none
max_velocity: 300
max_accel: 3000
[force_move]
enable_force_move: True
[respond]
[pause_resume]
[display_status]
[virtual_sdcard]
path: FOLDER
"""

HOTEND = """
[extruder]
step_pin: PB0
dir_pin: PB1
rotation_distance: 33
microsteps: 16
nozzle_diameter: 0.4
filament_diameter: 1.75
heater_pin: PB2
sensor_type: Generic 3950
sensor_pin: PB3
control: pid
pid_Kp: 22
pid_Ki: 1
pid_Kd: 114
min_temp: 0
max_temp: 300
min_extrude_temp: 0
[heater_bed]
heater_pin: PB4
sensor_type: Generic 3950
sensor_pin: PB5
control: watermark
min_temp: 0
max_temp: 130
[heater_generic chamber]
heater_pin: PB6
sensor_type: Generic 3950
sensor_pin: PB7
control: watermark
min_temp: 0
max_temp: 80
[temperature_sensor board]
sensor_type: Generic 3950
sensor_pin: PB8
"""


@dataclass
class Rig:
    """What a test needs of it."""

    folder: Path
    router: Router
    page: Page
    access: Access
    inventory: Inventory
    klippys: dict[str, VirtualKlippy]
    nursery: trio.Nursery
    server: Server
    origin: str = ""

    async def start(self, name: str, config: str = KLIPPY, *, wait: bool = True) -> VirtualKlippy:
        """A virtual Klippy at ``NAME.sock``."""
        file = self.folder / f"{name}.cfg"
        file.write_text(config.replace("FOLDER", str(self.folder)))
        klippy = self.klippys[name] = VirtualKlippy(file, apiserver=self.folder / f"{name}.sock")
        await self.nursery.start(klippy.run)
        if wait:
            await klippy.wait_state("ready")
            await self.announced(name)
        return klippy

    async def announced(self, name: str) -> None:
        """The router has it ready."""
        with trio.fail_after(20):
            while not self.router.printers[name].state.announced:  # noqa: ASYNC110
                await trio.sleep(0.01)


class ToyCameras(Site):
    """A picture that changes with each request, and a stream of a few of them."""

    def __init__(self) -> None:
        self.asked = 0

    async def handle(self, request: HttpRequest) -> HttpResponse:
        if request.path.endswith("/stream"):
            return HttpResponse(200, [("content-type", "multipart/x-mixed-replace; boundary=b")], self._stream())
        self.asked += 1
        return HttpResponse(200, [("content-type", "image/png")], picture(self.asked))

    async def websocket(self, socket: WebSocket) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """There is nothing to do."""

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        for number in range(1000):
            yield b"--b\r\ncontent-type: image/png\r\n\r\n" + picture(number) + b"\r\n"
            await trio.sleep(0.2)


def picture(number: int, width: int = 320, height: int = 180) -> bytes:
    """A PNG: a bed, and a part on it that grows."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            part = 130 < x < 190 and 140 - (20 + number * 3 % 90) < y < 140
            bed = y >= 140 and abs(x - 160) < 60 + y
            wall = bytes((28 + y // 8, 34 + y // 7, 44 + y // 6))
            rows += b"\xe0\x7a\x2c" if part else b"\x50\x58\x60" if bed else wall
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


async def _found(printer: str) -> list[tuple[str, Options, bool]]:
    return [("found", {"url": "http://user:hidden@127.0.0.1:8080/?action=stream"}, False)]


def _camera_names(router: Router, printer: str) -> list[str]:
    return [name for of, _, name in (title.partition(" ") for title in router.config.camera) if of == printer]


@contextlib.asynccontextmanager
async def rig(config: str, printers: Mapping[str, str] = {}, *, port: int = 0) -> AsyncIterator[Rig]:
    """``config``: sections besides [router]; ``FOLDER`` in it is the rig's. ``printers`` are started, and ready."""
    folder = Path(tempfile.mkdtemp(prefix="gp"))
    try:
        (folder / "router.cfg").write_text(
            f"[router]\nsock: router.sock\n[gateway]\ndata: data\n{config}".replace("FOLDER", str(folder))
        )
        inventory = Inventory.read(folder / "router.cfg", folder / "data")
        router = Router(inventory.config, dial=dial_unix, methods=METHODS)
        access = make_access(inventory.config)
        cameras = ToyCameras()
        page = Page(
            router,
            inventory,
            apply=router.reconfigure,
            extras=lambda name: extras.of(router.config, name, _camera_names(router, name)),
            oneshot_token=access.oneshot_token,
            discover=_found,
        )

        gateway = Gateway(access, Sites(page=page, cameras=cameras))
        assert router.config.gateway is not None
        gateway.configure(router.config.gateway, router.config.klippy)
        with bound([(Address("127.0.0.1", port), "test")]) as socks:
            async with trio.open_nursery() as nursery:
                server = Server(gateway.dispatch)
                made = Rig(folder, router, page, access, inventory, {}, nursery, server)
                made.origin = f"http://127.0.0.1:{socks[0].getsockname()[1]}"
                nursery.start_soon(router.run)
                nursery.start_soon(page.run)
                await nursery.start(server.serve, [Listener(sock, None, None) for sock in socks])
                for name, klippy_config in printers.items():
                    await made.start(name, klippy_config)
                try:
                    yield made
                finally:
                    nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def http(
    origin: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request by the standard library; ``body`` is sent as JSON, but bytes as they are."""

    def ask() -> Answer:
        sent = dict(headers or {})
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if body is not None and not isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        connection = HTTPConnection(origin.removeprefix("http://"), timeout=20)
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


class Dashboard:
    """A client of the WebSocket, on wsproto."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._messages: deque[dict[str, Any]] = deque()
        self._text = ""
        self.notifications: list[dict[str, Any]] = []
        self._id = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, headers: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Dashboard]:
        """Raises RejectedByServer when the handshake is refused."""
        parts = urlsplit(url)
        assert parts.hostname
        async with await trio.open_tcp_stream(parts.hostname, parts.port or 80) as stream:
            made = cls(stream)
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            extra = [(name.encode(), value.encode()) for name, value in headers]
            await stream.send_all(made._ws.send(Request(host=parts.netloc, target=target, extra_headers=extra)))
            while not await made._receive():
                pass
            yield made

    async def _receive(self) -> bool:
        """Whether the handshake is done."""
        data = await self._stream.receive_some()
        self._ws.receive_data(data or None)
        accepted = False
        for event in self._ws.events():
            if isinstance(event, RejectConnection):
                raise RejectedByServer(event.status_code)
            accepted = accepted or isinstance(event, AcceptConnection)
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self._messages.append(json.loads(self._text))
                    self._text = ""
            if isinstance(event, CloseConnection):
                raise EOFError(event.code)
        return accepted

    async def message(self) -> dict[str, Any]:
        """The next message."""
        with trio.fail_after(20):
            while not self._messages:
                await self._receive()
        return self._messages.popleft()

    async def send(self, message: object) -> None:
        await self._stream.send_all(self._ws.send(TextMessage(json.dumps(message))))

    async def call(self, method: str, **params: Any) -> Any:
        """The result; what is notified meanwhile is kept in `notifications`. Raises AssertionError with an error."""
        self._id += 1
        await self.send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        while True:
            message = await self.message()
            if message.get("id") == self._id:
                assert "error" not in message, message["error"]["message"]
                return message["result"]
            self.notifications.append(message)

    async def update(self, wanted: Callable[[dict[str, Any]], Any]) -> Any:
        """Wait for an update of which ``wanted`` makes something that is true, and return that."""
        with trio.fail_after(20):
            while True:
                message = self.notifications.pop(0) if self.notifications else await self.message()
                if message.get("method") == "router/dashboard/update" and (found := wanted(message["params"])):
                    return found


class RejectedByServer(Exception):
    """The handshake was refused; args: the status."""
