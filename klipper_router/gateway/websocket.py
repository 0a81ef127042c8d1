"""WebSockets that end here, spoken by wsproto over a client's connection.

Two tasks beside the site's own: one reads (and answers pings) as long as there is room in a small queue of messages,
one writes what was posted. Compression is not offered: on a board beside a print its CPU is dearer than the bytes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from collections import deque
from typing import Any

import trio
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, generate_accept_token

from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import RequestHead
from klipper_router.gateway.http import (
    MAX_MESSAGE_BYTES,
    MAX_STRANGERS_MESSAGE_BYTES,
    HttpError,
    HttpRequest,
    Site,
    WebSocket,
    WebSocketClosed,
)
from klipper_router.gateway.transport import RECEIVE_BYTES

log = logging.getLogger("klipper_router.gateway")

# Each costs its object besides what it carries. The network cuts messages, too: this leaves 512 bytes for a piece.
MAX_PIECES = 20_000
MAX_UNREAD_BYTES = 8 * 1024 * 1024
# A `send` waits while more than this is unsent.
MAX_SENDING_BYTES = 256 * 1024
# No more is read from the client while so much waits for its site.
MAX_WAITING_MESSAGES = 32
MAX_WAITING_BYTES = 1024 * 1024
CLOSE_S = 3.0
# Front proxies cut a connection that is silent for a minute.
PING_S = 25.0
SILENT_S = 80.0

_Data = str | bytes


async def serve(connection: Connection, head: RequestHead, request: HttpRequest, site: Site) -> None:
    """Do the handshake and let the site serve it. Raises HttpError before the handshake, OSError."""
    accept = _accept_token(head)
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    connection.keep_alive = False
    await connection.send_all(response)
    connection.status = 101
    socket = ServedWebSocket(connection, request)
    connection.on_tick = socket.tick
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.read)
            nursery.start_soon(socket.write)
            try:
                await site.websocket(socket)
            except WebSocketClosed:
                pass
            except Exception:
                log.exception("%s: internal error at the WebSocket %s", connection.ip, request.prefix + request.path)
                await socket.close(1011, "internal error")
            await socket.close()
            nursery.cancel_scope.cancel()
    finally:
        connection.on_tick = None


def _accept_token(head: RequestHead) -> bytes:
    """RFC 6455 4.2.1. Raises HttpError."""
    if head.values(b"sec-websocket-version") != [b"13"]:
        raise HttpError(426, "only WebSocket version 13 is spoken here", headers=[("sec-websocket-version", "13")])
    keys = head.values(b"sec-websocket-key")
    try:
        right = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        right = False
    if not right or head.has_body:
        raise HttpError(400, "this is no WebSocket handshake")
    return generate_accept_token(keys[0])


class ServedWebSocket(WebSocket):
    """A WebSocket of a client."""

    def __init__(self, connection: Connection, request: HttpRequest) -> None:
        self.request = request
        self.max_message_bytes = MAX_MESSAGE_BYTES if request.authorized else MAX_STRANGERS_MESSAGE_BYTES
        self._connection = connection
        self._protocol = Protocol(ConnectionType.SERVER)
        self._messages: deque[_Data] = deque()
        self._messages_bytes = 0
        self._parts: list[_Data] = []
        self._parts_bytes = 0
        self._closed: WebSocketClosed | None = None
        self._unreadable = False
        self._outbox = bytearray()  # a client that reads nothing asks for four million pongs before it is closed
        self._outbox_bytes = 0  # with what is being sent
        self._arrived = trio.Event()  # a message, or the end
        self._taken = trio.Event()  # room for a message
        self._to_write = trio.Event()
        self._written = trio.Event()
        self._pinged_at = self._heard_at = trio.current_time()

    # -- WebSocket -------------------------------------------------------------------------------------------------

    async def receive(self) -> _Data:
        while not self._messages:
            if self._closed:
                raise WebSocketClosed(self._closed.code, self._closed.reason)
            self._arrived = trio.Event()
            await self._arrived.wait()
        self._taken.set()
        message = self._messages.popleft()
        self._messages_bytes -= len(message)
        await trio.lowlevel.checkpoint()
        return message

    def post(self, text: str) -> None:
        if self._closed:
            return
        self._send_event(TextMessage(data=text))
        self._check_unread()

    def _check_unread(self) -> None:
        """After what is sent without waiting: messages, and pongs, which a client asks for."""
        if self._outbox_bytes > MAX_UNREAD_BYTES:
            log.warning("%s: its WebSocket is closed, it does not read (%d bytes)", self._name, self._outbox_bytes)
            self._end(1008, "the client does not read")
            self._connection.scope.cancel()

    async def send(self, data: _Data) -> None:
        event = TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data)
        self._check_open()
        self._send_event(event)
        while self._outbox_bytes > MAX_SENDING_BYTES:
            self._written = trio.Event()
            await self._written.wait()
            self._check_open()
        await trio.lowlevel.checkpoint()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        with trio.move_on_after(CLOSE_S):
            if self._protocol.state is ConnectionState.OPEN:
                self._send_event(CloseConnection(code=code, reason=reason[:100]))
                self._end(code, reason)
            while self._outbox_bytes:
                self._written = trio.Event()
                await self._written.wait()
            # The client's answer to the close: without it, closing now could cost it our last message.
            while self._protocol.state is ConnectionState.LOCAL_CLOSING:
                self._arrived = trio.Event()
                await self._arrived.wait()

    # -- the connection --------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self.request.peer.ip

    def tick(self, now: float) -> None:
        """Called about every second: ping, and end a connection from which nothing comes."""
        if self._protocol.state is not ConnectionState.OPEN:
            return
        if now - self._heard_at > SILENT_S:
            self._connection.scope.cancel()
        elif now - self._pinged_at > PING_S:
            self._pinged_at = now
            self._send_event(Ping())

    async def read(self) -> None:
        """Feed what comes to the protocol, until the end."""
        try:
            while self._protocol.state is not ConnectionState.CLOSED:
                while len(self._messages) >= MAX_WAITING_MESSAGES or self._messages_bytes >= MAX_WAITING_BYTES:
                    self._heard_at = trio.current_time()  # the client is not silent, nobody listens
                    self._taken = trio.Event()
                    await self._taken.wait()
                data = await self._connection.receive_some(RECEIVE_BYTES)
                self._heard_at = trio.current_time()
                self._take(data)
                if not data:
                    break
        except OSError:
            pass
        self._end(1006, "the connection broke")

    def _take(self, data: bytes) -> None:
        if self._unreadable and data:
            return  # wsproto would keep it for ever
        with contextlib.suppress(LocalProtocolError):  # data after the close
            self._protocol.receive_data(data or None)
            for event in self._protocol.events():
                self._event(event)

    def _event(self, event: object) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            if event.data:
                self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
            self._parts_bytes += len(event.data)
            if self._parts_bytes > self.max_message_bytes or len(self._parts) > MAX_PIECES:
                self._parts.clear()
                self._fail(1009, f"a message is larger than {self.max_message_bytes} bytes, or in too many pieces")
            elif event.message_finished:
                nothing: Any = b"" if isinstance(event, BytesMessage) else ""
                self._messages.append(nothing.join(self._parts))
                self._messages_bytes += self._parts_bytes
                self._parts = []
                self._parts_bytes = 0
                self._arrived.set()
        elif isinstance(event, Ping):
            if self._protocol.state is ConnectionState.OPEN:
                self._send_event(event.response())
                self._check_unread()
        elif isinstance(event, CloseConnection):
            if self._protocol.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                self._unreadable = True  # wsproto's way to tell of bytes that are no frames
                self._fail(int(event.code), event.reason or "")
                return
            if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                self._send_event(event.response())
            self._end(int(event.code), event.reason or "")
        else:
            assert isinstance(event, Pong), event

    def _fail(self, code: int, reason: str) -> None:
        if self._protocol.state is ConnectionState.OPEN:
            self._send_event(CloseConnection(code=code, reason=reason[:100]))
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        if self._closed is None:
            self._closed = WebSocketClosed(code, reason)
        for event in (self._arrived, self._written):
            event.set()

    def _check_open(self) -> None:
        if self._closed:
            raise WebSocketClosed(self._closed.code, self._closed.reason)

    def _send_event(self, event: TextMessage | BytesMessage | Ping | Pong | CloseConnection) -> None:
        data = self._protocol.send(event)
        self._outbox += data
        self._outbox_bytes += len(data)
        self._to_write.set()

    async def write(self) -> None:
        """Send what was posted, for ever."""
        try:
            while True:
                while self._outbox:
                    data = bytes(self._outbox)
                    self._outbox.clear()
                    await self._connection.send_all(data)
                    self._outbox_bytes -= len(data)
                    if not self._outbox:
                        self._written.set()
                self._to_write = trio.Event()
                await self._to_write.wait()
        except OSError:
            self._outbox_bytes = 0
            self._end(1006, "the connection broke")
