"""A client's WebSocket that ends at the gateway, in any pieces; what serves it sends each message back.

Invariant: nothing escapes and nothing waits; the messages that arrive are those that a strict reader of our own finds
before the first violation of RFC 6455, each with its type; the client is sent whole frames that wsproto reads: these
messages and its pings' pongs, in order, and one close at most, at the end. No more is kept than one message, one piece
and one head.
Input: the first byte is how large the pieces are, the second how the rest becomes a stream (see `frames`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NoReturn, cast
from unittest.mock import patch

import trio
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Pong, TextMessage

from klipper_router.gateway import heads, websocket
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.http import HttpRequest, HttpResponse, Site, WebSocket, WebSocketClosed
from klipper_router.gateway.websocket import ServedWebSocket
from test.fuzz.frames import BINARY, CLOSE, CONTROL, PING, TEXT, frames_in, pieces_of, stream_of

WORDS = (
    b"\x81hello\x03",
    b"\x82\x00\xff\x03",
    b"\x01h\xc3\x03",
    b"\x80\xa9\x03",
    b"\x00",
    b"\x89ping\x03",
    b"\x8apong\x03",
    b"\x88\x03\xe8bye\x03",
    b"\x88\x03\xed",
    b"\x81\x85\x00\x00\x00\x00",
    b"\x81\xfe\x00",
    b"\x81\xff\x00\x00\x00\x00\x00\x00",
    b"\xc1",
    b"\x83",
    b"\xed\xa0\x80",
)

MAX_MESSAGE_BYTES = 200  # a small one, so that inputs reach it
HEAD_BYTES = 14
MAX_CONTROL_BYTES = 125
HEAD = heads.request(
    b"GET /websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclasses.dataclass
class Client:
    """Its connection, as far as a WebSocket uses it."""

    pieces: Iterator[bytes]
    size: int
    scope: trio.CancelScope = dataclasses.field(default_factory=trio.CancelScope)
    socket: ServedWebSocket | None = None
    sent: bytes = b""
    ip: str = "192.0.2.7"
    keep_alive: bool = True
    status: int = 0
    on_tick: object = None

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.socket is not None:
            check_bounds(self.socket, self.size)
        return next(self.pieces, b"")

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data


class Echo:
    """Sends each message back."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.arrived: list[str | bytes] = []

    async def websocket(self, socket: WebSocket) -> None:
        assert isinstance(socket, ServedWebSocket)
        self.client.socket = socket
        while True:
            self.arrived.append(await socket.receive())
            with contextlib.suppress(WebSocketClosed):  # what came before the close can still be received
                await socket.send(self.arrived[-1])

    async def handle(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError

    def is_open(self, request: HttpRequest) -> NoReturn:
        raise AssertionError

    def check_websocket(self, request: HttpRequest) -> NoReturn:
        raise AssertionError


def check_bounds(socket: ServedWebSocket, piece_bytes: int) -> None:
    assert sum(map(len, socket._parts)) <= MAX_MESSAGE_BYTES
    assert len(socket._messages) <= websocket.MAX_WAITING_MESSAGES + piece_bytes
    kept = socket._protocol._proto._frame_decoder.buffer
    assert len(kept) <= HEAD_BYTES + MAX_CONTROL_BYTES + piece_bytes


async def one_input(data: bytes) -> None:
    size, how = max(1, (*data[:2], 1)[0]), (*data[:2], 0, 0)[1]
    stream = stream_of(how, data[2:])
    client = Client(iter(pieces_of(stream, size)), size)
    site = Echo(client)
    with trio.fail_after(5), patch.object(websocket, "MAX_MESSAGE_BYTES", MAX_MESSAGE_BYTES):
        await websocket.serve(cast(Connection, client), HEAD, HttpRequest("GET", "/"), cast(Site, site))
    messages, pings = strictly_read(stream)
    assert site.arrived == messages
    check_sent(client.sent, messages, pings)


def strictly_read(stream: bytes) -> tuple[list[str | bytes], list[bytes]]:
    """The messages and what pings carry, up to the first violation or close."""
    messages: list[str | bytes] = []
    pings: list[bytes] = []
    kind, content = 0, b""
    for frame in frames_in(stream):
        if frame.reserved or not frame.key or not frame.is_short or frame.size >> 63:
            break
        if frame.opcode & CONTROL:
            if not frame.is_whole or not frame.fin or frame.size > MAX_CONTROL_BYTES or frame.first not in CONTROLS:
                break
            if frame.first == CLOSE:
                break
            if frame.first == PING:
                pings.append(frame.content)
            continue
        if frame.opcode > BINARY or bool(frame.opcode) == bool(kind):
            break
        kind, content = kind or frame.opcode, content + frame.content
        if not frame.is_whole:
            break
        try:
            message: Any = content.decode() if kind == TEXT and frame.fin else content
        except UnicodeDecodeError:
            break
        if len(message) > MAX_MESSAGE_BYTES and frame.fin:
            break
        if frame.fin:
            messages.append(message)
            kind, content = 0, b""
    return messages, pings


CONTROLS = (CLOSE, PING, 0x8A)


def check_sent(sent: bytes, messages: list[str | bytes], pings: list[bytes]) -> None:
    head, _, stream = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    frames = [*frames_in(stream)]
    assert sum(frame.is_whole for frame in frames) == len(frames)
    assert (frames[-1].end if frames else 0) == len(stream)
    assert all(frame.first != CLOSE for frame in frames[:-1])
    reader = Protocol(ConnectionType.CLIENT)
    reader.receive_data(stream)
    echoed: list[str | bytes] = []
    pongs: list[bytes] = []
    for event in reader.events():
        if isinstance(event, TextMessage | BytesMessage):
            assert event.message_finished
            echoed.append(event.data if isinstance(event.data, str) else bytes(event.data))
        elif isinstance(event, Pong):
            pongs.append(bytes(event.payload))
        else:
            assert isinstance(event, CloseConnection)
    # What was to be sent when the close came is not.
    assert echoed == messages[: len(echoed)]
    assert pongs == pings[: len(pongs)]
