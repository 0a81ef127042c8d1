"""A whole router without sockets or tasks: every coroutine that is needed here finishes without waiting.

Two Klippys are connected and ready, ``main`` and ``led``; ``off`` is not connected. Nobody but led may run M112 or
SET_… on led. What the router sends to a Klippy
is checked to be a request that Klipper reads, and answered when `Rig.settle` is called; scripts are run by the model
of Klipper. An internal error that the router has fenced off is raised here.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, TypeVar, cast

import msgspec
import trio

from klipper_router import api_socket
from klipper_router.callers import Caller
from klipper_router.config import Config, KlippySection, RouterSection
from klipper_router.link import Link
from klipper_router.printer import Printer
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router
from test.unit.klipper_model import Klipper, Ran

T = TypeVar("T")

COMMANDS = ("ROUTER_ON_READY", "ROUTER_ON_CONNECTED", "ROUTER_ON_DISCONNECTED", "ROUTER_ON_STATE", "CALLBACK", "FOO")
OBJECTS = {"print_stats": {"state": "standby", "info": {"layer": None}}, "toolhead": {"position": [0, 0, 0.5]}}


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    raise AssertionError("it waits")


class Pieces(trio.abc.Stream):
    """A stream that was received in these pieces, and has ended."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter(pieces)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return next(self._pieces, b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError("nobody writes")

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError("nobody writes")

    async def aclose(self) -> None:
        pass


class NoHiddenErrors(logging.Handler):
    """Raises what was fenced off; writes every other record, as a log would."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]
        record.getMessage()


class SyncLink(Link):
    """A link whose Klippy answers at once, or when it is asked to."""

    def __init__(self, klippy: FakeKlippy, on_message: Callable[[Any], None], pieces: Sequence[bytes]) -> None:
        super().__init__(klippy.name, Pieces(pieces), on_message)
        self._klippy = klippy

    async def call(self, method: str, params: Any) -> bytes:
        answers: list[Any] = []
        self.post(method, params, answers.append)
        self._klippy.answer_all()
        (answer,) = answers
        if isinstance(answer, Exception):
            raise answer
        return cast(bytes, answer)

    def sent(self) -> list[bytes]:
        """What the writer would send now."""
        outbox = self._outbox
        frames, outbox._frames = outbox._frames, []
        outbox.size_bytes = 0
        return frames


class FakeKlippy:
    """Klippy's side of one link."""

    def __init__(self, printer: Printer[Caller], pieces: Sequence[bytes], *, old: bool) -> None:
        self.name = printer.name
        self.link = SyncLink(self, printer._on_message, pieces)
        self.ran: list[Ran] = []
        self.called: set[str] = set()
        self.scripts: list[str] = []
        self.answer_to_anything: Any = {}
        self._gcode = Klipper("v0.12" if old else "v0.13")

    def answer_all(self) -> bool:
        """Answer the requests that were sent; whether there were any."""
        requests = [read_request(frame) for frame in self.link.sent()]
        answers = [{"id": each["id"]} | self._answer(each["method"], each.get("params", {})) for each in requests]
        if self.link.lost is None:
            self.receive(b"".join(msgspec.json.encode(answer) + b"\x03" for answer in answers))
        return bool(requests)

    def receive(self, data: bytes) -> None:
        stream, self.link._stream = self.link._stream, Pieces([data])
        finish(self.link._read())
        self.link._stream = stream

    def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.called.add(method)
        match method:
            case "info":
                return {"result": {"state": "ready", "state_message": "Printer is ready", "software_version": "v0"}}
            case "gcode/help":
                return {"result": dict.fromkeys(COMMANDS, "")}
            case "objects/list":
                return {"result": {"objects": [*OBJECTS]}}
            case "objects/query" | "objects/subscribe":
                return {"result": {"eventtime": 1.5, "status": OBJECTS | {"webhooks": {"state": "ready"}}}}
            case "register_remote_method":
                return {"result": {}}
            case "gcode/script":
                return self._run(params.get("script"))
        return cast(dict[str, Any], self.answer_to_anything)

    def _run(self, script: object) -> dict[str, Any]:
        if not isinstance(script, str):
            return {"error": {"error": "WebRequestError", "message": "Missing Argument [script]"}}
        self.scripts.append(script)
        outcome = self._gcode.run(script)
        self.ran += outcome.ran
        if outcome.error is not None:
            return {"error": {"error": "WebRequestError", "message": outcome.error}}
        return {"result": {}}


class Rig:
    """A router with its printers. ``pieces``: what main's Klippy sends of its own accord, in `read_main`."""

    def __init__(self, pieces: Sequence[bytes] = (), *, old: bool = False) -> None:
        names = ("main", "led", "off")
        config = Config(
            router=RouterSection(sock="/router", default_instance="main"),
            klippy={name: _section(name) for name in names},
        )
        self.router = Router(config, dial=_nobody, methods=METHODS)
        self.klippys = {
            name: FakeKlippy(printer, pieces if name == "main" else (), old=old)
            for name, printer in self.router.printers.items()
            if name != "off"
        }
        for name, klippy in self.klippys.items():
            finish(self.router.printers[name]._begin(klippy.link))
        self.settle()
        assert self.router.printers["main"].state.announced
        for klippy in self.klippys.values():
            klippy.ran.clear()
            klippy.scripts.clear()

    def read_main(self) -> None:
        """Main's link reads all that its Klippy sends of its own accord."""
        finish(self.klippys["main"].link._read())

    def settle(self) -> None:
        """Klippys answer until nothing is asked any more."""
        while any(klippy.answer_all() for klippy in self.klippys.values()):
            pass

    def lose(self, name: str) -> None:
        """The connection of a printer ends."""
        link, printer = self.klippys[name].link, self.router.printers[name]
        link.end("end of file")
        assert link.lost is not None
        if printer._link is link:
            printer._lose_link(link.lost, "end of file")

    def client(self, pieces: Sequence[bytes]) -> api_socket.Client:
        return api_socket.Client(self.router, Pieces(pieces))


def _section(name: str) -> KlippySection:
    denied = ["M112", "SET_*"] if name == "led" else []
    return KlippySection(sock=f"/{name}", on_connect="M118 hello", deny_gcode=denied)


async def _nobody(path: str) -> NoReturn:
    raise OSError("nobody listens")


@functools.lru_cache(10_000)  # each rig begins with the same ones
def read_request(frame: bytes) -> dict[str, Any]:
    """A frame as Klipper reads it, with msgspec or without; what would be dropped or harm it is an error."""
    assert frame.endswith(b"\x03")
    assert frame.count(b"\x03") == 1
    request = msgspec.json.decode(frame[:-1], type=dict[str, Any])
    assert json.dumps(json.loads(frame[:-1])) == json.dumps(request), "two readers disagree"
    assert {*request} <= {"id", "method", "params"}
    assert isinstance(request.get("id"), int)
    assert isinstance(request["method"], str)
    params = request.get("params", {})
    assert isinstance(params, dict)
    return request
