"""A router on scripted Klippys and API clients, all in one process on a clock that jumps.

A test sets the Klippys up, starts the bench, does something, lets it settle (no time passes), and looks.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from klipper_router.api_socket import Client
from klipper_router.config import Config, KlippySection, RouterSection
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router
from test.memory.scripted_klippy import FRAME_END, Json, ScriptedKlippy


async def settle() -> None:
    """Let everything happen that can happen now."""
    assert isinstance(trio.lowlevel.current_clock(), MockClock)
    await wait_all_tasks_blocked()


class ApiClient:
    """A client of the router's API socket. ``received`` holds each frame that it was sent."""

    def __init__(self, router: Router, nursery: trio.Nursery, *, reads: bool = True) -> None:
        self.received: list[Json] = []
        self.ended = False
        self.stream, router_side = memory_stream_pair()
        self.client = Client(router, router_side)
        if reads:
            nursery.start_soon(self._receive)
        else:
            router_side.send_stream.send_all_hook = trio.sleep_forever
        nursery.start_soon(self.client.serve)

    async def _receive(self) -> None:
        pending = b""
        with contextlib.suppress(trio.ClosedResourceError):  # closed by the test
            while data := await self.stream.receive_some():
                *frames, pending = (pending + data).split(FRAME_END)
                self.received += map(json.loads, frames)
        assert not pending
        self.ended = True

    async def send(self, *messages: Json) -> None:
        """Send all in one go, and settle."""
        await self.send_bytes(b"".join(json.dumps(message).encode() + FRAME_END for message in messages))

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(data)
        await settle()

    async def request(self, method: str, /, **params: Any) -> Any:
        """The result of a request that is answered at once, or the error's message."""
        before = len(self.received)
        await self.send({"id": 1, "method": method, "params": params})
        (answer,) = [frame for frame in self.received[before:] if "id" in frame]
        return answer["result"] if "result" in answer else answer["error"]["message"]

    def notices(self, method: str) -> list[Json]:
        """The params of the frames that are no answers and bear this method."""
        return [frame["params"] for frame in self.received if frame.get("method") == method]

    async def close(self) -> None:
        await self.stream.aclose()
        await settle()


class Bench:
    """A router and its printers, by the names given. ``options``: of the section of each, beside its sock."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *names: str,
        default: str | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        **on_connect: str,
    ) -> None:
        self.nursery = nursery
        self.klippys = {name: ScriptedKlippy(name, nursery) for name in names}
        self.default = default
        options = {name: {"on_connect": on_connect.get(name, "")} for name in names} | dict(options or {})
        self.router = Router(self.config(options), dial=self._dial, methods=METHODS)

    def config(self, options: Mapping[str, Mapping[str, Any]]) -> Config:
        """The configuration of these printers, each with its options; each one's sock is its name, if not given."""
        sections = {name: KlippySection(**{"sock": name, **its}) for name, its in options.items()}
        return Config(router=RouterSection(sock="router", default_instance=self.default), klippy=sections)

    def reconfigure(self, **options: Mapping[str, Any]) -> list[str]:
        """Take on a configuration of these printers, live."""
        for name in options:
            self.klippys.setdefault(name, ScriptedKlippy(name, self.nursery))
        return self.router.reconfigure(self.config(options))

    def __iter__(self) -> Iterator[ScriptedKlippy]:
        return iter(self.klippys.values())

    async def _dial(self, sock: str) -> trio.abc.Stream:
        return await self.klippys[sock].accept()

    async def start(self) -> None:
        self.nursery.start_soon(self.router.run)
        await settle()

    def client(self, *, reads: bool = True) -> ApiClient:
        return ApiClient(self.router, self.nursery, reads=reads)

    def state(self, name: str) -> str:
        return self.router.printers[name].state.state

    async def until_state(self, name: str, state: str, within_s: float) -> float:
        """Wait until the router takes the printer to be in this state; returns how long it took."""
        start = trio.current_time()
        while self.state(name) != state and trio.current_time() < start + within_s:
            await settle()
            await trio.sleep(0.01)
        assert self.state(name) == state
        await settle()
        return trio.current_time() - start
