"""A client's connection: heads and bodies in, responses out, and what the sweeper must know about it.

Knows HTTP/1.1 framing, not who answers: `server` owns connections, `local` and `proxy` serve requests on them. No
request has a nursery, a timer or a cancel scope of its own; those would cost more than the request. Instead each
wait sets ``patience_s``, which `server`'s sweeper counts down, cancelling ``scope`` when it is used up.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus

import trio

from klipper_router.gateway import body, heads
from klipper_router.gateway.body import Framing
from klipper_router.gateway.heads import BadHead, RequestHead
from klipper_router.gateway.http import HttpError, HttpResponse
from klipper_router.gateway.transport import RECEIVE_BULK_BYTES, RECEIVE_BYTES, Transport

# From a client's first byte to the end of its head, and between two requests.
HEAD_S = 20.0
KEEP_ALIVE_S = 75.0
# Between two pieces of a body.
BODY_S = 120.0
# An answered request may leave so much of its body unread and still keep its connection.
DRAIN_BYTES = 256 * 1024
LINGER_S = 2.0
FOR_EVER = float("inf")

# Of a live stream, in the kernel and not on its way yet.
LIVE_UNSENT_BYTES = 64 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_HEAD_OF_RESPONSE = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)*+")


class ClientGone(Exception):
    """The client's connection broke while a site read the body of its request."""


class Connection:
    """One client. ``ip`` is its address as the socket says, ``printer`` whose own origin it came to (None: main)."""

    __slots__ = (
        "_buffer",
        "body",
        "busy",
        "gone",
        "ip",
        "keep_alive",
        "on_tick",
        "patience_s",
        "printer",
        "scope",
        "send_all",
        "status",
        "tls",
        "transport",
    )

    transport: Transport
    send_all: Callable[[bytes], Awaitable[None]]
    """The transport's own. Raises OSError."""

    def __init__(self, ip: str, printer: str | None, *, tls: bool) -> None:
        self.ip = ip
        self.printer = printer
        self.tls = tls
        self.scope = trio.CancelScope()
        self.patience_s = HEAD_S
        self.busy = False
        """A request is being served, so that nobody may be reading from the client."""
        self.gone = False
        """The last sweep found that the client has closed its side."""
        self.keep_alive = True
        self.status = 0
        """Of the response that was begun; 0: none yet."""
        self.body: Framing = body.NOTHING
        self.on_tick: Callable[[float], None] | None = None
        self._buffer = b""

    def open(self, transport: Transport) -> None:
        self.transport = transport
        self.send_all = transport.send_all

    # -- in --------------------------------------------------------------------------------------------------------

    async def next_head(self) -> RequestHead | None:
        """The next request's head, or None where the client closed before it. Raises BadHead, OSError."""
        self.busy = False
        buffer = self._buffer
        if not buffer:
            if self.status:  # not the first request
                self.patience_s = KEEP_ALIVE_S
            buffer = await self.transport.receive_some(RECEIVE_BYTES)
        end = buffer.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)
        if end < 0:
            self.patience_s = HEAD_S
            buffer, end = await self._rest_of_head(buffer)
            if end < 0:
                return None
        end += 4
        head = heads.request(buffer if end == len(buffer) else buffer[:end])
        self._buffer = buffer[end:]
        self.busy = True
        self.status = 0
        self.patience_s = FOR_EVER
        self.keep_alive = head.keep_alive
        self.body = body.of_request(head)
        return head

    async def _rest_of_head(self, buffer: bytes) -> tuple[bytes, int]:
        """Receive until there is a whole head: what came, and where its empty line begins (-1: the client closed)."""
        while True:
            if not buffer:
                return b"", -1
            _check_unfinished(buffer)
            data = await self.transport.receive_some(RECEIVE_BYTES)
            if not data:
                return b"", -1
            buffer += data
            if (end := buffer.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)) >= 0:
                return buffer, end

    async def receive_some(self, max_bytes: int) -> bytes:
        """What came and was not used yet, else what comes. Raises OSError."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return await self.transport.receive_some(max_bytes)

    async def receive_body(self, payload: list[bytes] | None = None) -> bytes:
        """The next piece of the request's body with its framing; ``payload`` gains what it carries.

        Raises BadHead for a malformed body or one that breaks off, OSError.
        """
        self.patience_s = BODY_S
        data = await self.receive_some(RECEIVE_BULK_BYTES)
        self.patience_s = FOR_EVER
        if not data:
            raise ConnectionResetError("the client closed within the body of its request")
        size_bytes = self.body.take(data, payload)
        if size_bytes < len(data):
            self._buffer = data[size_bytes:]
            return data[:size_bytes]
        return data

    def buffered_body(self) -> bytes:
        """What of the request's body has come with its head, with its framing. Raises BadHead."""
        if not self._buffer or self.body.done:
            return b""
        data = self._buffer
        size_bytes = self.body.take(data)
        self._buffer = data[size_bytes:]
        return data[:size_bytes]

    # -- out -------------------------------------------------------------------------------------------------------

    async def respond(self, head: RequestHead | None, response: HttpResponse) -> None:
        """Send a response of our own. ``head``: None where it could not be read. Raises OSError."""
        self.keep_alive = self.keep_alive and (self.body.done or self._will_be_finished(head))
        content = response.body
        fields = response.headers
        has_length = any(name.lower() == "content-length" for name, _ in fields)
        framing = []
        chunked = False
        if isinstance(content, bytes):
            if not has_length and response.status not in (204, 304):
                framing = [("Content-Length", str(len(content)))]
        elif not has_length:
            chunked = head is not None and head.http11 and not response.live
            self.keep_alive = self.keep_alive and chunked
            framing = [("Transfer-Encoding", "chunked")] if chunked else []
        if not self.keep_alive:
            framing.append(("Connection", "close"))
        elif head is not None and not head.http11:
            framing.append(("Connection", "keep-alive"))
        if response.live:
            # Pieces that the client's network cannot take wait here, where they are replaced, not in the kernel.
            self.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, LIVE_UNSENT_BYTES)
        start = response_head(response.status, [*fields, ("Date", http_date()), *framing])
        self.status = response.status
        is_head = head is not None and head.method == b"HEAD"
        if isinstance(content, bytes):
            await self.send_all(start if is_head else start + content)
        else:
            async with contextlib.aclosing(content):
                await self.send_all(start)
                if not is_head:
                    await self._stream(content, chunked=chunked)

    async def _stream(self, content: AsyncGenerator[bytes, None], *, chunked: bool) -> None:
        try:
            async for data in content:
                if chunked and data:
                    await self.send_all(b"%x\r\n%b\r\n" % (len(data), data))
                elif data:
                    await self.send_all(data)
        except BaseException:
            self.keep_alive = False  # the client must not take a part for the whole
            raise
        if chunked:
            await self.send_all(b"0\r\n\r\n")

    # -- the end of a request --------------------------------------------------------------------------------------

    def _will_be_finished(self, head: RequestHead | None) -> bool:
        """Whether `finish_body` can be relied on. If not, the response says that we close, or the client would send
        its next request by a connection that we are about to end, and not know what became of it."""
        short = isinstance(self.body, body.Length) and self.body.left_bytes <= DRAIN_BYTES
        return short and head is not None and not head.expect

    async def finish_body(self, head: RequestHead) -> None:
        """After a response: read the rest of the body if that is little, else the connection cannot be kept."""
        if self.body.done or not self.keep_alive:
            self.keep_alive = self.keep_alive and self.body.done
            return
        left_bytes = DRAIN_BYTES
        try:
            while not self.body.done and left_bytes > 0 and not head.expect:
                left_bytes -= len(await self.receive_body())
        except BadHead:
            pass
        self.keep_alive = self.body.done

    async def linger(self) -> None:
        """Before closing on a client that may still be sending: else its kernel throws our response away."""
        if self.body.done and not self._buffer:
            return
        self.patience_s = FOR_EVER
        with contextlib.suppress(OSError), trio.move_on_after(LINGER_S):
            await self.transport.end()
            while await self.transport.receive_some(RECEIVE_BYTES):
                pass


def _check_unfinished(buffer: bytes) -> None:
    """Refuse at once what can never become a head. Raises BadHead."""
    if len(buffer) >= heads.MAX_HEAD_BYTES:
        raise BadHead(431, f"the head of the request is larger than {heads.MAX_HEAD_BYTES} bytes")
    if buffer and not buffer[:1].isupper():
        raise BadHead(400, "this is no HTTP request (TLS to a plain port, perhaps)")
    if _BARE_LINE_FEED.search(buffer):
        raise BadHead(400, "a line of the head does not end in CRLF")


def response_head(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of a response's head. Raises HttpError (500) for a field that would be more than a field."""
    each = [f"{name}: {value}\r\n" for name, value in fields]
    lines = "".join(each).encode("latin-1", "replace")
    if not _HEAD_OF_RESPONSE.fullmatch(lines) or lines.count(b"\n") != len(each):
        raise HttpError(500, "a header of the response holds characters that no header may hold")
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _REASONS.get(status, b"Unknown"), lines)


_date = (0, "")


def http_date() -> str:
    """The time now as HTTP writes it."""
    global _date
    now = int(time.time())
    if now != _date[0]:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]
