"""``/klippysocket``: frames both ways between a client's WebSocket and a connection to Klippy of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from klipper_router.gateway.http import HttpRequest, WebSocketClosed
from klipper_router.gateway.moonraker.bridge import GOING_AWAY, MAX_FRAME_BYTES, bridge
from test.gateway.moonraker.rig import WITHIN_S, Client


class Bridged:
    """A client on one side, and Klippy's end of the connection on the other."""

    def __init__(self, nursery: trio.Nursery, sock: Path) -> None:
        self.client = Heard(HttpRequest("GET", "/klippysocket"))
        self.sock = sock
        self.over = trio.Event()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await bridge(self.client, str(self.sock))
        self.over.set()

    async def ended(self) -> tuple[int, str] | None:
        """Wait for the bridge's end; what the client was told of it."""
        with trio.fail_after(WITHIN_S):
            await self.over.wait()
        return self.client.closed


class Heard(Client):
    """Keeps what it is sent as it is."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.texts, self.next_text = trio.open_memory_channel[str | bytes](100)
        self.messages, self._next_message = trio.open_memory_channel[str | bytes](100)
        self.gone = False

    async def receive(self) -> str | bytes:
        try:
            return await self._next_message.receive()
        except trio.EndOfChannel:
            raise WebSocketClosed(1000) from None

    def hang_up(self) -> None:
        self.messages.close()

    async def send(self, data: str | bytes) -> None:
        if self.gone:
            raise WebSocketClosed(1006)
        await self.texts.send(data)

    async def heard(self) -> str | bytes:
        with trio.fail_after(WITHIN_S):
            return await self.next_text.receive()


async def klippy(sock: Path) -> trio.SocketListener:
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(sock))
    listening.listen(1)
    return trio.SocketListener(listening)


async def test_a_message_is_a_frame_and_a_frame_is_a_text(tmp_path: Path) -> None:
    async with await klippy(tmp_path / "k") as listener, trio.open_nursery() as nursery:
        it = Bridged(nursery, tmp_path / "k")
        stream = await listener.accept()
        await it.client.messages.send('{"id": 1}')
        assert await stream.receive_some() == b'{"id": 1}\x03'
        await it.client.messages.send(b'{"id": 2}')
        assert await stream.receive_some() == b'{"id": 2}\x03'
        await stream.send_all(b'{"a": 1}\x03{"b": "\xc3')
        assert await it.client.heard() == '{"a": 1}'
        await stream.send_all(b'\xa4"}\x03\xff\x03')
        assert (await it.client.heard(), await it.client.heard()) == ('{"b": "ä"}', "\ufffd")
        it.client.hang_up()
        assert await it.ended() is None
        assert await stream.receive_some() == b""  # the connection to Klippy is not left behind
        await stream.aclose()


async def test_a_klippy_that_ends_is_told_to_the_client(tmp_path: Path) -> None:
    async with await klippy(tmp_path / "k") as listener, trio.open_nursery() as nursery:
        it = Bridged(nursery, tmp_path / "k")
        stream = await listener.accept()
        await stream.aclose()
        assert await it.ended() == (GOING_AWAY, "Klippy Disconnected")


async def test_a_klippy_that_is_away_is_told_to_the_client(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        it = Bridged(nursery, tmp_path / "nobody")
        assert await it.ended() == (GOING_AWAY, "Klippy Disconnected: No such file or directory")


async def test_a_frame_over_the_limit_is_skipped_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with await klippy(tmp_path / "k") as listener, trio.open_nursery() as nursery:
        it = Bridged(nursery, tmp_path / "k")
        stream = await listener.accept()
        await stream.send_all(b"x" * (MAX_FRAME_BYTES + 1) + b"\x03after\x03")
        assert await it.client.heard() == "after"
        assert f"skipped a frame of more than {MAX_FRAME_BYTES} bytes" in caplog.text
        it.client.hang_up()
        await it.ended()
        await stream.aclose()


async def test_a_client_that_is_gone_when_klippy_speaks_ends_the_bridge(tmp_path: Path) -> None:
    async with await klippy(tmp_path / "k") as listener, trio.open_nursery() as nursery:
        it = Bridged(nursery, tmp_path / "k")
        stream = await listener.accept()
        it.client.gone = True
        await stream.send_all(b"{}\x03")
        assert await it.ended() is None
        await stream.aclose()


async def test_a_klippy_that_is_killed_with_a_request_unread_is_told_to_the_client(tmp_path: Path) -> None:
    async with await klippy(tmp_path / "k") as listener, trio.open_nursery() as nursery:
        it = Bridged(nursery, tmp_path / "k")
        stream = await listener.accept()
        await it.client.messages.send("{}")
        await trio.lowlevel.wait_readable(stream.socket)
        await stream.aclose()  # by which the kernel resets it (man 7 unix)
        assert await it.ended() == (GOING_AWAY, "Klippy Disconnected")
