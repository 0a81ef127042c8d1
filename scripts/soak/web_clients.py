"""Clients of the gateway: those whose G-code and requests are in the books, and those that follow or watch."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import h11
import trio

from scripts.soak import exchanges
from scripts.soak.books import Books
from scripts.soak.clients import COME_BACK_S, Client
from scripts.soak.jobs import Answer
from scripts.soak.router_process import RouterProcess
from scripts.soak.upstream import content_of, frame
from scripts.soak.wire import GONE, JSON, Http, Refused, WebSocket

DASHBOARD = "dashboard"
ASK_AGAIN_S = 0.5
MESSAGE = {"display_status": ["message"]}


class Web:
    """The gateway as its clients reach it."""

    def __init__(self, router: RouterProcess, books: Books) -> None:
        assert router.gateway
        self.router = router
        self.books = books
        self.port = router.gateway.port

    @contextlib.asynccontextmanager
    async def websocket(self, printer: str, path: str) -> AsyncIterator[WebSocket]:
        """Of a printer, or of the router itself (""). It must last as long as the printer is configured."""
        since = self.router.epoch(printer)
        target = f"/printers/{printer}{path}" if printer else path
        try:
            async with WebSocket.open(self.port, target) as opened:
                try:
                    yield opened
                except GONE as error:
                    self._complain("WebSocket dropped", since, printer, error)
                    raise
        except Refused as refused:
            self._complain("WebSocket refused", since, printer, refused)
            raise

    def _complain(self, what: str, since: tuple[int, int], printer: str, error: BaseException) -> None:
        if self.router.must_hold(since, printer):
            self.books.mishap(what, f"{printer or 'the router'}, {since}, {trio.current_time():.2f}: {error!r}")


def call(id_: int, method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


# -- G-code ------------------------------------------------------------------------------------------------------


class WebSocketClient(Client):
    """Runs scripts by the WebSocket of a printer that has no Moonraker; by that of another after each break."""

    def __init__(self, name: str, web: Web, targets: list[str], books: Books, seed: str) -> None:
        super().__init__(name, web.router, targets, books, seed)
        self._web = web

    def _choose_printer(self) -> str:
        return self._rng.choice(self._targets)

    def _connect(self) -> AbstractAsyncContextManager[Any]:
        return self._web.websocket(self._printer, "/websocket")

    async def _send(self, connection: Any, number: int, method: str, params: dict[str, Any]) -> None:
        await connection.send(call(number, method, **params))

    def _request(self, stream: str) -> tuple[int, str, dict[str, Any]]:
        number = self._books.jobs.script(stream, self._printer, trio.current_time())
        self._books.seen["scripts by WebSocket"] += 1
        return number, "printer.gcode.script", {"script": f"RUN N={number}"}

    def _answered(self, number: int, message: dict[str, Any]) -> None:
        error = message["error"]["message"] if "error" in message else ""
        self._books.jobs.answered(number, meaning(error), trio.current_time())


def meaning(error: str) -> Answer:
    """Of a script's answer in Moonraker's words: not run, unless it may have been under way when that ended."""
    if not error:
        return Answer.DONE
    uncertain = error in ("Klippy Disconnected", "this printer is not served here any more")
    return Answer.UNCERTAIN if uncertain else Answer.REFUSED


class _Asker:
    """Sends one request after another, several by one connection."""

    def __init__(self, name: str, web: Web, targets: list[str], seed: str) -> None:
        self._name = name
        self._web = web
        self._router = web.router
        self._books = web.books
        self._targets = targets
        self._rng = random.Random(f"{seed} {name}")
        self._over = False
        self._since = self._router.epoch()

    def finish(self) -> None:
        """Ask no more; `run` returns when the last is answered."""
        self._over = True

    async def run(self) -> None:
        for life in itertools.count():
            if self._over:
                return
            with contextlib.suppress(*GONE):
                self._since = self._router.epoch()
                async with Http.open(self._web.port) as http:
                    for _ in range(self._rng.randint(1, 50)):
                        if self._over or not http.usable:
                            break
                        await self._ask(http, f"{self._name}.{life}")
                        await trio.sleep(self._rng.uniform(0, 0.2))
            await trio.sleep(COME_BACK_S)

    async def _ask(self, http: Http, stream: str) -> None:
        raise NotImplementedError


class Poster(_Asker):
    """Runs scripts by POST, on printers that have no Moonraker."""

    async def _ask(self, http: Http, stream: str) -> None:
        jobs, printer = self._books.jobs, self._rng.choice(self._targets)
        number = jobs.script(stream, printer, trio.current_time())
        self._books.seen["scripts by POST"] += 1
        body = json.dumps({"script": f"RUN N={number}"}).encode()
        try:
            status, content = await http.ask("POST", f"/printers/{printer}/printer/gcode/script", body, [JSON])
        except GONE as gone:
            jobs.answered(number, Answer.GONE, trio.current_time())
            if self._router.must_hold(self._since):
                self._books.mishap("HTTP client dropped", f"{stream}: {number} to {printer}: {gone!r}")
            raise
        error = "" if status == 200 else json.loads(content)["error"]["message"]
        jobs.answered(number, meaning(error), trio.current_time())


class Exchanger(_Asker):
    """Asks printers' own Moonrakers, what acts and what reads, with little and with much to send and to receive."""

    async def _ask(self, http: Http, stream: str) -> None:
        number, printer = next(self._books.jobs.numbers), self._rng.choice(self._targets)
        method, path, size_bytes = self._rng.choice(
            [
                ("GET", "/server/info?n={}", 0),
                ("GET", "/server/info?n={}", 0),
                ("GET", "/printer/gcode/script?script={}", 0),
                ("POST", "/printer/gcode/script?n={}", 100),
                ("POST", "/server/files/upload?n={}", self._rng.randint(100, 3_000_000)),
                ("GET", "/server/files/gcodes/part.gcode?n={}", 0),
            ]
        )
        acts = method == "POST" or "script" in path
        target = f"/printers/{printer}{path.format(number)}"
        account = self._books.exchanges
        account.sent(number, f"{method} {target}", trio.current_time(), acts=acts)
        body = content_of(number, size_bytes) if size_bytes else b""
        try:
            status, content = await http.ask(method, target, body, [JSON])
        except GONE as gone:
            broken = self._router.must_hold(self._since)
            account.ended(number, exchanges.BROKEN if broken else exchanges.GONE, repr(gone))
            raise
        account.ended(number, status, json.loads(content)["result"] if status == 200 else "")


async def converse(web: Web, printers: Sequence[str], seed: str) -> None:
    """For ever: WebSockets through the proxy, which tell what they are told."""
    rng = random.Random(seed)
    while True:
        printer = rng.choice(printers)
        with contextlib.suppress(*GONE):
            # Not `Web.websocket`: the upstream, too, ends it as it likes.
            async with WebSocket.open(web.port, f"/printers/{printer}/websocket") as socket:
                for number in range(rng.randint(1, 100)):
                    for part in range(10):
                        await socket.send([number, part, "x" * rng.randrange(1000)])
                    for part in range(10):
                        heard = await socket.receive()
                        if heard[:2] != [number, part]:
                            web.books.mishap("WebSocket altered", f"{printer}: {heard}, not {number}, {part}")
                        web.books.seen["messages echoed"] += 1
                    await trio.sleep(rng.uniform(0, 0.5))
        await trio.sleep(rng.uniform(0, 1))


# -- who follows -------------------------------------------------------------------------------------------------


async def follow(name: str, web: Web, printer: str) -> None:
    """For ever: the text of a printer by Moonraker's subscription, made again whenever it is ready."""
    books = web.books
    books.statuses.expected(name, printer)
    subscribe = call(1, "printer.objects.subscribe", objects=MESSAGE)
    while True:
        with contextlib.suppress(*GONE):
            async with web.websocket(printer, "/websocket") as socket:
                await socket.send(subscribe)
                while True:
                    match await socket.receive():
                        case {"id": 1, "result": {"status": status}}:
                            books.statuses.subscribed(name, printer)  # only now: updates of the old one came before
                            _told(name, printer, status, books)
                        case {"id": 1, "error": _}:
                            await trio.sleep(ASK_AGAIN_S)
                            await socket.send(subscribe)
                        case {"method": "notify_klippy_ready"}:
                            await socket.send(subscribe)
                        case {"method": "notify_status_update", "params": [status, _]}:
                            _told(name, printer, status, books)
        await trio.sleep(COME_BACK_S)


async def watch_dashboard(web: Web, printers: Sequence[str]) -> None:
    """For ever: a dashboard, with the text of every printer."""
    statuses = web.books.statuses
    for printer in printers:
        statuses.expected(DASHBOARD, printer)
    while True:
        with contextlib.suppress(*GONE):
            async with web.websocket("", "/router/websocket") as socket:
                await socket.send(call(1, "router/dashboard/subscribe"))
                while True:
                    message = await socket.receive()
                    news = message["result"] if "result" in message else message["params"]
                    for printer, card in news.get("printers", {}).items():
                        status = card.get("status", {})
                        if status is None or "result" in message:  # a new life of it, or of ours
                            statuses.subscribed(DASHBOARD, printer)
                        _told(DASHBOARD, printer, status or {}, web.books)
        await trio.sleep(COME_BACK_S)


def _told(follower: str, printer: str, status: dict[str, Any], books: Books) -> None:
    display_status = status.get("display_status", {})
    if "message" in display_status:
        books.statuses.told(follower, printer, str(display_status["message"]), trio.current_time())


# -- who watches -------------------------------------------------------------------------------------------------

_PART = re.compile(rb"\A\s*--[^\r\n]*\r\n(?:[^\r\n]+\r\n)*?Content-Length: ([0-9]+)\r\n(?:[^\r\n]+\r\n)*\r\n")


async def view(web: Web, printers: Sequence[str], seed: str) -> None:
    """For ever: cameras, by snapshots and by streams that are read fast and slowly, each for a while."""
    rng = random.Random(seed)
    while True:
        address = f"/printers/{rng.choice(printers)}/cameras/toy"
        with contextlib.suppress(*GONE), trio.move_on_after(rng.uniform(0.5, 20)):
            async with Http.open(web.port) as http:
                if rng.random() < 0.3:
                    status, picture = await http.ask("GET", f"{address}/snapshot")
                    if status == 200:
                        _look(picture, 0, web.books)
                else:
                    await _watch(http, f"{address}/stream", rng.choice([0, 0, 0.3, 5]), web.books)
        await trio.sleep(rng.uniform(0, 1))


async def _watch(http: Http, target: str, pause_s: float, books: Books) -> None:
    await http.stream.send_all(http.request("GET", target))
    response = await http.event()
    if not isinstance(response, h11.Response) or response.status_code != 200:
        return
    data, newest = b"", 0
    while isinstance(event := await http.event(), h11.Data):
        data += event.data
        while (part := _PART.match(data)) and len(data) >= part.end() + int(part[1]):
            end = part.end() + int(part[1])
            newest = _look(data[part.end() : end], newest, books)
            data = data[end:]
            await trio.sleep(pause_s)


def _look(picture: bytes, newest: int, books: Books) -> int:
    """A frame must be whole, and newer than the last; its number."""
    number = int(picture[2:14]) if picture[2:14].isdigit() else -1
    if picture != frame(number):
        books.mishap("frame torn", f"{len(picture)} bytes: {picture[:40]!r} … {picture[-40:]!r}")
    elif number <= newest:
        books.mishap("frame out of order", f"{number} after {newest}")
    books.seen["frames seen"] += 1
    return number
