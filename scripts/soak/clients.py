"""Clients of the router's API socket: those whose every request is in the books, one that follows, and bad ones."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from scripts.soak.books import Books
from scripts.soak.jobs import Answer
from scripts.soak.router_process import RouterProcess
from test.fleet import Connection

UNDER_WAY = 10
COME_BACK_S = 0.1
# At the end all printers are well, so every script is answered soon.
ANSWERS_WITHIN_S = 60.0
GONE = (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError)


async def send_request(connection: Connection, id_: int, method: str, params: dict[str, Any]) -> None:
    """Raises what the stream raises."""
    await connection.stream.send_all(json.dumps({"id": id_, "method": method, "params": params}).encode() + b"\x03")


class Client:
    """Has up to ten requests under way, and comes back when the router went away."""

    def __init__(self, name: str, router: RouterProcess, targets: list[str], books: Books, seed: str) -> None:
        self._name = name
        self._router = router
        self._targets = targets
        self._books = books
        self._rng = random.Random(f"{seed} {name}")
        self._over = trio.Event()
        self._printer = ""

    def finish(self) -> None:
        """Send no more; `run` returns when everything is answered, or was for too long not."""
        self._over.set()

    async def run(self) -> None:
        for life in itertools.count():
            if self._over.is_set():
                return
            self._printer = self._choose_printer()
            since = self._router.epoch(self._printer)
            waiting: set[int] = set()
            with contextlib.suppress(*GONE):
                async with self._connect() as connection:
                    if await self._converse(connection, f"{self._name}.{life}", waiting):
                        return
                    if self._router.must_hold(since, self._printer):
                        self._books.mishap("client dropped", f"{self._name}.{life} {self._printer}, router {since}")
            for number in waiting:
                self._books.jobs.answered(number, Answer.GONE, trio.current_time())
            await trio.sleep(COME_BACK_S)

    def _choose_printer(self) -> str:
        """Which one its connection is to; none of them."""
        return ""

    def _connect(self) -> AbstractAsyncContextManager[Any]:
        return Connection.open(self._router.sock)

    async def _send(self, connection: Any, number: int, method: str, params: dict[str, Any]) -> None:
        await send_request(connection, number, method, params)

    async def _converse(self, connection: Any, stream: str, waiting: set[int]) -> bool:
        """Until the connection is lost (False), or, at the end, all is answered (True)."""
        room = trio.Semaphore(UNDER_WAY)
        over = False
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with contextlib.suppress(*GONE):
                    while True:
                        message = await connection.receive()
                        if message.get("id") in waiting:
                            waiting.discard(message["id"])
                            self._answered(message["id"], message)
                            room.release()
                        elif "method" not in message:
                            self._books.mishap("answer to nothing", f"{stream}: {message}")
                nursery.cancel_scope.cancel()

            nursery.start_soon(read)
            over = await self._work(connection, stream, waiting, room)
            nursery.cancel_scope.cancel()
        return over

    async def _work(self, connection: Any, stream: str, waiting: set[int], room: trio.Semaphore) -> bool:
        """Send requests; whether that came to its end."""
        try:
            while not self._over.is_set():
                await room.acquire()
                number, method, params = self._request(stream)
                waiting.add(number)  # before it is sent: the answer may be there first
                await self._send(connection, number, method, params)
                await trio.sleep(self._rng.uniform(0, 0.1))
        except GONE:
            return False
        with trio.move_on_after(ANSWERS_WITHIN_S):
            while waiting:  # noqa: ASYNC110 - the reader empties it
                await trio.sleep(0.05)
        return True

    def _request(self, stream: str) -> tuple[int, str, dict[str, Any]]:
        jobs, target, now = self._books.jobs, self._rng.choice(self._targets), trio.current_time()
        if self._rng.random() < 0.25:
            number = jobs.event(stream, f"soak/{target}", now)
            return number, "router/event/trigger", {"event": f"soak/{target}", "context": {"n": number}}
        wait_s = self._rng.choice([0, 0, 1, 5])
        number = jobs.script(f"{stream} waits" if wait_s else stream, target, now, waits=wait_s > 0)
        return number, "router/gcode/script", {"target": target, "script": f"RUN N={number}", "wait": wait_s}

    def _answered(self, number: int, message: dict[str, Any]) -> None:
        now = trio.current_time()
        if "result" in message:
            self._books.jobs.answered(number, Answer.DONE, now, message["result"].get("handlers"))
        else:
            # By the router's word it was not run, unless its connection was lost.
            uncertain = "connection to" in message["error"]["message"]
            self._books.jobs.answered(number, Answer.UNCERTAIN if uncertain else Answer.REFUSED, now)


async def follow(name: str, router: RouterProcess, targets: list[str], books: Books) -> None:
    """For ever: an API client that follows the text of every printer, and subscribes again when one is ready."""
    while True:
        asked: dict[int, str] = {}
        with contextlib.suppress(*GONE):
            async with Connection.open(router.sock) as connection:
                await send_request(connection, 0, "router/event/subscribe", {"event": "router/ready"})
                for target in targets:
                    await _subscribe(connection, name, target, asked, books)
                while True:
                    message = await connection.receive()
                    if message.get("method") == "router/event":
                        target = message["params"]["context"]["printer"]
                        await _subscribe(connection, name, target, asked, books)
                    elif message.get("method") == "router/objects/update":
                        _told(name, message["params"]["target"], message["params"], books)
                    elif message.get("id") in asked and "result" in message:
                        target = asked.pop(message["id"])
                        books.statuses.subscribed(name, target)  # only now: updates of the old one came before
                        _told(name, target, message["result"], books)
        await trio.sleep(COME_BACK_S)


async def _subscribe(connection: Connection, name: str, target: str, asked: dict[int, str], books: Books) -> None:
    id_ = next(books.jobs.numbers)
    asked[id_] = target
    params = {"target": target, "objects": {"display_status": ["message"]}}
    await send_request(connection, id_, "router/objects/subscribe", params)


def _told(name: str, target: str, params: dict[str, Any], books: Books) -> None:
    status = params["status"].get("display_status", {})
    if "message" in status:
        books.statuses.told(name, target, str(status["message"]), trio.current_time())


async def misbehave(router: RouterProcess, books: Books, seed: str) -> None:
    """For ever: one bad client after another."""
    rng = random.Random(seed)
    flood = json.dumps({"id": 1, "method": "router/printers/list"}).encode() + b"\x03"

    async def garbage(stream: trio.SocketStream) -> None:
        await stream.send_all(
            rng.choice([rng.randbytes(2000), b"\x03" * 100, b"[" * 5000 + b"\x03", b"\x03{}\x03 1\x03"])
        )

    async def half_open(stream: trio.SocketStream) -> None:
        await stream.send_all(b'{"id": 1, "method": "router/gcode/script", "par')
        await trio.sleep(rng.uniform(0, 10))

    async def never_reads(stream: trio.SocketStream) -> None:
        with trio.move_on_after(10):
            while True:
                await stream.send_all(flood * 100)

    async def too_long(stream: trio.SocketStream) -> None:
        with trio.move_on_after(5):
            for _ in range(6):
                await stream.send_all(b"x" * 1_000_000)
            await stream.send_all(b"\x03")

    async def asks_and_goes(stream: trio.SocketStream) -> None:
        await stream.send_all(flood * 50)

    async def says_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep(rng.uniform(0, 10))

    kinds: list[Misdeed] = [garbage, garbage, half_open, never_reads, too_long, asks_and_goes, says_nothing]
    await one_after_another(partial(trio.open_unix_socket, str(router.sock)), kinds, "client", books, rng)


Misdeed = Callable[[trio.SocketStream], Awaitable[None]]


async def one_after_another(
    connect: Callable[[], Awaitable[trio.SocketStream]],
    kinds: Sequence[Misdeed],
    label: str,
    books: Books,
    rng: random.Random,
) -> None:
    """For ever: a connection, and something bad that is done with it."""
    while True:
        kind = rng.choice(kinds)
        books.faults[f"{label}: {kind.__name__}"] += 1
        with contextlib.suppress(*GONE):
            async with await connect() as stream:
                await kind(stream)
        await trio.sleep(rng.uniform(0, 2))
