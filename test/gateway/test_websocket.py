"""How much of what a client sends waits for a site that does not take it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType
from wsproto.connection import Connection as Protocol
from wsproto.events import BytesMessage, TextMessage

from klipper_router.gateway.connection import Connection
from klipper_router.gateway.http import MAX_STRANGERS_MESSAGE_BYTES, HttpRequest, WebSocketClosed
from klipper_router.gateway.transport import RECEIVE_BYTES
from klipper_router.gateway.websocket import MAX_WAITING_BYTES, MAX_WAITING_MESSAGES, ServedWebSocket


class Sender(Connection):
    """A client that sends without end; ``left``: what was not taken from it yet."""

    def __init__(self, data: bytes) -> None:
        super().__init__("127.0.0.1", None, tls=False)
        self.left = data

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.left:
            await trio.sleep_forever()
        data, self.left = self.left[:max_bytes], self.left[max_bytes:]
        return data


def frames(*messages: str | bytes) -> bytes:
    client = Protocol(ConnectionType.CLIENT)
    events = [TextMessage(data=each) if isinstance(each, str) else BytesMessage(data=each) for each in messages]
    return b"".join(client.send(event) for event in events)


def a_request(**options: Any) -> HttpRequest:
    return HttpRequest("GET", "/", **options)


@pytest.mark.parametrize(
    ("message", "count", "waiting"),
    [
        ("x" * 1_000_000, 10, MAX_WAITING_BYTES + 1_000_000),
        (b"x" * 5_000_000, 4, 5_000_000),
        ("x", 50_000, MAX_WAITING_MESSAGES),
    ],
)
async def test_what_waits_for_a_slow_site_is_bounded_in_bytes_and_nothing_is_lost(
    autojump_clock: trio.testing.MockClock, message: str | bytes, count: int, waiting: int
) -> None:
    sent = frames(message) * count
    sender = Sender(sent)
    socket = ServedWebSocket(sender, a_request())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.read)
        await trio.testing.wait_all_tasks_blocked()
        assert len(sent) - len(sender.left) <= waiting + 2 * RECEIVE_BYTES
        for _ in range(count):
            assert await socket.receive() == message
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("whole", [True, False])
async def test_a_stranger_may_send_small_messages_only(whole: bool) -> None:
    small, large = "x" * MAX_STRANGERS_MESSAGE_BYTES, "x" * (MAX_STRANGERS_MESSAGE_BYTES + 2)
    data = frames(small, large)
    socket = ServedWebSocket(Sender(data if whole else data[:-1]), a_request(authorized=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.read)
        assert await socket.receive() == small
        with pytest.raises(WebSocketClosed, match="1009"):
            await socket.receive()
        nursery.cancel_scope.cancel()


async def test_the_most_that_a_message_may_be_can_change() -> None:
    message = "x" * (MAX_STRANGERS_MESSAGE_BYTES + 2)
    sender = Sender(b"")
    socket = ServedWebSocket(sender, a_request(authorized=False))
    socket.max_message_bytes = len(message)
    sender.left = frames(message)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.read)
        assert await socket.receive() == message
        nursery.cancel_scope.cancel()
