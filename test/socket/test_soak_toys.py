"""The toys of the chaos run, without a router between: what they say of an exchange is what its client sees."""

from __future__ import annotations

import pytest
import trio

pytest.importorskip("wsproto")

from scripts.soak import upstream
from scripts.soak.books import Books
from scripts.soak.exchanges import BROKEN
from scripts.soak.upstream import FRAME_BYTES, ToyCamera, ToyMoonraker, content_of, frame
from scripts.soak.wire import GONE, Http, WebSocket

WITHIN_S = 10.0
# What a client gets to see without a gateway that makes an error of it; the others answer as they should.
BAD = ("hangs_up", "resets", "breaks_off")
SLOW = ("slowly", "stalls")


@pytest.mark.parametrize("how", [how for how in upstream.ANSWERS if how not in ("garbage", *SLOW)])
async def test_an_answer_is_in_the_account(how: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "ANSWERS", {how: 1})
    books = Books()
    toy = ToyMoonraker("seed", books)
    await nursery.start(trio.serve_tcp, toy.serve_one, toy.port)
    books.exchanges.sent(7, how, 0.0, acts=True)
    with trio.fail_after(WITHIN_S):
        async with Http.open(toy.port) as http:
            try:
                status, content = await http.ask("POST", "/printer/gcode/script?n=7", content_of(7, 50))
                books.exchanges.ended(7, status, "7" if b'"7"' in content else "")
            except GONE:
                books.exchanges.ended(7, BROKEN)
    figures = books.exchanges.figures()
    assert (figures["requests answered well"], figures["requests broken off"]) == ((0, 1) if how in BAD else (1, 0))
    wrong = {name for name, count in books.balance().items() if count}
    assert wrong == ({"broken off by the gateway"} if how in ("hangs_up", "resets") else set())


async def test_a_websocket_echoes(nursery: trio.Nursery) -> None:
    toy = ToyMoonraker("seed", Books())
    await nursery.start(trio.serve_tcp, toy.serve_one, toy.port)
    with trio.fail_after(WITHIN_S):
        async with WebSocket.open(toy.port, "/websocket") as socket:
            await socket.send([1, "two"])
            assert await socket.receive() == [1, "two"]


async def test_a_camera_sends_whole_frames(nursery: trio.Nursery) -> None:
    toy = ToyCamera("seed")
    await nursery.start(trio.serve_tcp, toy.serve_one, toy.port)
    with trio.fail_after(WITHIN_S):
        async with Http.open(toy.port) as http:
            await http.stream.send_all(http.request("GET", "/"))
            data = b""
            while len(data) < 2 * FRAME_BYTES:
                data += await http.stream.receive_some()
    assert frame(1) in data
