"""A router in this process, a virtual Klippy, and the printer's API, spoken to without HTTP."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import trio

from klipper_router.config import Config, KlippySection, RouterSection
from klipper_router.gateway.access import Access
from klipper_router.gateway.http import LOOPBACK, HttpRequest, Peer, WebSocket, WebSocketClosed
from klipper_router.gateway.moonraker.api import PrinterApi, Webcam
from klipper_router.gateway.moonraker.machine import Machine
from klipper_router.gateway.moonraker.site import MoonrakerSite
from klipper_router.link import dial_unix
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router
from klipper_router.virtual import VirtualKlippy
from test.gateway.moonraker.calls import PRINTER_CFG

WITHIN_S = 10.0
# Restarts and heaters of the virtual printer; its objects are still told every 0.25 s of its own time.
SPEED = 10.0
STRANGER = Peer("192.0.2.7", False)
API_KEY = "0123456789abcdef0123456789abcdef"


class ApiRefused(Exception):
    """An error that a client was answered."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]


class Client(WebSocket):
    """A WebSocket whose other end is the test."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.notifications: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._closing = trio.Event()
        self.reads = trio.Event()  # while it is not set, `send` waits
        self.reads.set()
        self._to_api, self._from_test = trio.open_memory_channel[str | bytes](1000)
        self._answers: dict[Any, Any] = {}
        self._arrived = trio.Event()
        self._ids = 0

    # The side of the API

    async def receive(self) -> str | bytes:
        try:
            return await self._from_test.receive()
        except trio.EndOfChannel:
            raise WebSocketClosed(1000) from None

    def post(self, text: str) -> None:
        message = json.loads(text)
        if isinstance(message, dict) and "method" in message:
            self.notifications.append(message)
        else:
            self._answers[message["id"] if isinstance(message, dict) else "batch"] = message
        self._arrived.set()
        self._arrived = trio.Event()

    async def send(self, data: str | bytes) -> None:
        await self.reads.wait()
        self.post(data if isinstance(data, str) else data.decode())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = (code, reason)
        self._closing.set()

    # The side of the test

    async def until_closed(self) -> tuple[int, str]:
        """Wait until the API closes it; code and reason."""
        with trio.fail_after(WITHIN_S):
            await self._closing.wait()
        assert self.closed is not None
        return self.closed

    def hang_up(self) -> None:
        self._to_api.close()

    def say(self, message: object) -> None:
        """Send a message, text as it is."""
        self._to_api.send_nowait(message if isinstance(message, str) else json.dumps(message))

    def request_(self, method: str, **params: Any) -> int:
        """Send a request; its id."""
        self._ids += 1
        self.say({"jsonrpc": "2.0", "method": method, "params": params, "id": self._ids})
        return self._ids

    async def answer(self, id_: object) -> Any:
        """The whole answer to a request."""
        with trio.fail_after(WITHIN_S):
            while id_ not in self._answers:
                await self._arrived.wait()
        return self._answers.pop(id_)

    @property
    def answers_left(self) -> int:
        """How many answers came that nobody has looked at."""
        return len(self._answers)

    async def call(self, method: str, **params: Any) -> Any:
        """The result. Raises ApiRefused."""
        answer = await self.answer(self.request_(method, **params))
        if "error" in answer:
            raise ApiRefused(answer["error"])
        return answer["result"]

    async def notification(self, name: str, since: int = 0) -> list[Any]:
        """Wait for the first notification of that name, after ``since`` others; its params."""
        with trio.move_on_after(WITHIN_S):
            while True:
                for message in self.notifications[since:]:
                    if message["method"] == f"notify_{name}":
                        params: list[Any] = message.get("params", [])
                        return params
                await self._arrived.wait()
        raise AssertionError(f"no notify_{name} came, but {[each['method'] for each in self.notifications]}")


class Overheard(trio.abc.Stream):
    """A connection to Klippy; ``methods`` gets the method of each request that goes out."""

    def __init__(self, stream: trio.abc.Stream, methods: list[str]) -> None:
        self._stream = stream
        self._methods = methods
        self._rest = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        *frames, self._rest = (self._rest + bytes(data)).split(b"\x03")
        self._methods.extend(json.loads(frame)["method"] for frame in frames)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Rig:
    """The parts of one test. ``asked``: the methods of all requests to Klippy."""

    def __init__(self, folder: Path, nursery: trio.Nursery, section: KlippySection, database: Path | None) -> None:
        self.folder = folder
        self.sock = folder / "klippy.sock"
        self.webcams: list[Webcam] = []
        config = Config(router=RouterSection(sock=str(folder / "router.sock")), klippy={"led": section})
        self.asked: list[str] = []
        self.router = Router(config, dial=self._dial, methods=METHODS)
        self.printer = self.router.printers["led"]
        self.api = PrinterApi(
            self.router,
            self.printer,
            machine=Machine(),
            database_path=database,
            access=Access(api_key=API_KEY),
            webcams=lambda base: [{**each, "stream_url": base + each["stream_url"]} for each in self.webcams],
        )
        self.site = MoonrakerSite(self.api)
        self._nursery = nursery
        self._klippy_scope = trio.CancelScope()

    async def _dial(self, path: str) -> trio.abc.Stream:
        return Overheard(await dial_unix(path), self.asked)

    async def start_klippy(self, config: str = PRINTER_CFG) -> VirtualKlippy:
        """Start a Klippy; it is not said to be ready yet."""
        file = self.folder / "printer.cfg"
        file.write_text(config.format(folder=self.folder))
        klippy = VirtualKlippy(file, apiserver=self.sock, speed=SPEED)
        self._klippy_scope = scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await klippy.run(task_status=task_status)

        await self._nursery.start(run)
        return klippy

    def kill_klippy(self) -> None:
        self._klippy_scope.cancel()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what nothing announces."""
        with trio.fail_after(WITHIN_S):
            while not condition():  # noqa: ASYNC110 - see above
                await trio.sleep(0.01)

    async def klippy_state(self, wanted: str) -> None:
        """Wait until the API says so."""
        await self.until(lambda: self.api.klippy.state == wanted)

    async def sensors_known(self) -> None:
        """Wait until the temperature store has begun: the last that is done when a printer has become ready."""
        await self.until(lambda: self.api.sensors.store.sensors)

    def client(self, peer: Peer = LOOPBACK, *, prefix: str = "/printers/led") -> Client:
        """Connect a WebSocket client."""
        request = HttpRequest("GET", "/websocket", prefix=prefix, peer=peer, authorized=peer.trusted)
        self.site.check_websocket(request)
        client = Client(request)
        self._nursery.start_soon(self.site.websocket, client)
        return client


@contextlib.asynccontextmanager
async def rig(*, klippy: bool = True, persistent: bool = False, **options: Any) -> AsyncIterator[Rig]:
    """Everything, running; ``klippy``: with a printer that is ready. ``options`` are those of ``[klippy led]``."""
    folder = Path(tempfile.mkdtemp(prefix="kr"))
    section = KlippySection(sock=str(folder / "klippy.sock"), **options)
    try:
        async with trio.open_nursery() as nursery:
            made = Rig(folder, nursery, section, folder / "data/led.sqlite" if persistent else None)
            if klippy:
                await made.start_klippy()
            nursery.start_soon(made.router.run)
            nursery.start_soon(made.site.run)
            if klippy:
                await made.klippy_state("ready")
                await made.sensors_known()
            yield made
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder)
