"""Bytes from one connection to another: responses, uploads, and upgraded connections; each waits for its receiver.

Framing is followed to know where a message ends (`body`), the bytes pass as they came. Nothing is gathered: what was
received is sent before more is received, so a slow receiver slows its sender down and costs no memory.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from klipper_router.gateway import body, heads
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import BadHead, RequestHead, ResponseHead
from klipper_router.gateway.http import FrameFilter
from klipper_router.gateway.transport import RECEIVE_BULK_BYTES, RECEIVE_BYTES, Transport

log = logging.getLogger("klipper_router.gateway")

MAX_WHOLE_BYTES = 4 * 1024 * 1024


class BadUpstream(Exception):
    """The upstream's response cannot be read as one."""


async def response(
    connection: Connection,
    head: RequestHead,
    transport: Transport,
    data: bytes,
    make_head: Callable[[ResponseHead], bytes],
    filters: tuple[FrameFilter, FrameFilter] | None = None,
) -> bool:
    """Pass a response on that begins with ``data``; ``filters`` are for a WebSocket, see `splice`.

    Returns whether the upstream's connection can be used again.

    Raises BadUpstream, OSError of the client.
    """
    while True:
        if (end := data.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)) < 0:
            data, end = await _rest_of_head(transport, data)
        answer = _parsed(data[: end + 4])
        data = data[end + 4 :]
        if answer.status >= 200 or answer.status == 101:
            break
        if head.http11 and (answer.status != 100 or head.expect):
            await connection.send_all(make_interim(answer))
    if answer.status == 101:
        if head.upgrade != b"websocket":
            raise BadUpstream("it changes the protocol, which nobody asked for")
        connection.status = 101
        connection.keep_alive = False
        await connection.send_all(make_head(answer))
        await splice(connection, transport, data, filters)
        return False
    framing = body.of_response(answer, head.method)
    if answer.chunked and not head.http11:
        raise BadUpstream("a chunked response to HTTP/1.0")
    until_close = isinstance(framing, body.UntilClose)
    if until_close or head.upgrade or not connection.body.done:
        connection.keep_alive = False
    size_bytes = _take(framing, data)
    connection.status = answer.status
    await connection.send_all(make_head(answer) + (data if size_bytes == len(data) else data[:size_bytes]))
    clean = size_bytes == len(data)
    while not framing.done:
        data = await _receive(transport, RECEIVE_BULK_BYTES)
        if not data:
            if not until_close:
                raise BadUpstream("its response breaks off")
            return False
        size_bytes = _take(framing, data)
        clean = size_bytes == len(data)
        await connection.send_all(data if clean else data[:size_bytes])
    return clean and answer.keep_alive and head.http11


async def whole_response(head: RequestHead, transport: Transport, data: bytes) -> tuple[ResponseHead, bytes, bool]:
    """A response gathered, and whether the connection can be used again. Raises BadUpstream."""
    while True:
        if (end := data.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)) < 0:
            data, end = await _rest_of_head(transport, data)
        answer = _parsed(data[: end + 4])
        data = data[end + 4 :]
        if answer.status >= 200:
            break
        if answer.status == 101:
            raise BadUpstream("it changes the protocol, which nobody asked for")
    framing = body.of_response(answer, head.method)
    payload: list[bytes] = []
    clean = _take(framing, data, payload) == len(data)
    while not framing.done:
        data = await _receive(transport, RECEIVE_BULK_BYTES)
        if not data and not isinstance(framing, body.UntilClose):
            raise BadUpstream("its response breaks off")
        if not data:
            break
        clean = _take(framing, data, payload) == len(data)
        if sum(map(len, payload)) > MAX_WHOLE_BYTES:
            raise BadUpstream(f"its response is larger than {MAX_WHOLE_BYTES} bytes")
    return answer, b"".join(payload), clean and framing.done and answer.keep_alive and head.http11


def _parsed(data: bytes) -> ResponseHead:
    try:
        return heads.response(data)
    except BadHead as bad:
        raise BadUpstream(str(bad)) from None


def make_interim(answer: ResponseHead) -> bytes:
    """1xx: of its fields only those of RFC 8297 mean something."""
    links = [b"%b: %b\r\n" % (name, value) for lower, name, value in answer.fields if lower == b"link"]
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (answer.status, answer.reason, b"".join(links))


def _take(framing: body.Framing, data: bytes, payload: list[bytes] | None = None) -> int:
    try:
        return framing.take(data, payload)
    except BadHead as bad:
        raise BadUpstream(str(bad)) from None


async def _receive(transport: Transport, max_bytes: int) -> bytes:
    """Nothing also where the upstream's connection broke."""
    try:
        return await transport.receive_some(max_bytes)
    except OSError:
        return b""


async def _rest_of_head(transport: Transport, data: bytes) -> tuple[bytes, int]:
    """Receive until there is a whole head, and where its empty line begins. Raises BadUpstream."""
    while True:
        if len(data) >= heads.MAX_HEAD_BYTES:
            raise BadUpstream("its head is too large")
        more = await _receive(transport, RECEIVE_BYTES)
        if not more:
            raise BadUpstream("it closed the connection within its head")
        data += more
        if (end := data.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)) >= 0:
            return data, end


async def upload(
    connection: Connection, transport: Transport, data: bytes, respond: Callable[[], Awaitable[bool]]
) -> bool:
    """Send a request, ``data`` and then what still comes of its body, while ``respond`` passes the response on.

    Returns whether both came to their end and ``respond`` says that the upstream's connection can be used again. A
    response that is complete ends the sending. Where the upstream takes no more, the response is still waited for: it
    may say why, such as 413. Raises what ``respond`` raises, and BadHead or OSError for a body that cannot be read.
    """
    complete = kept = False
    error: Exception | None = None

    async def pump(scope: trio.CancelScope) -> None:
        nonlocal complete, error
        try:
            taken = await _send(transport, data)
            while taken and not connection.body.done:
                taken = await _send(transport, await connection.receive_body())
            complete = taken
        except (BadHead, OSError) as failure:
            error = failure
            scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, nursery.cancel_scope)
        try:
            kept = await respond()
        except Exception as failure:  # carried around the nursery, which would wrap it
            error = error or failure
        nursery.cancel_scope.cancel()
    if error:
        raise error
    return kept and complete


async def _send(transport: Transport, data: bytes) -> bool:
    """Whether the upstream took it."""
    try:
        await transport.send_all(data)
    except OSError:
        return False
    return True


async def splice(
    connection: Connection,
    transport: Transport,
    data: bytes = b"",
    filters: tuple[FrameFilter, FrameFilter] | None = None,
) -> None:
    """Both directions as they come, until either side closes; ``data`` has come from the upstream already.

    ``filters`` change what goes to the upstream and what goes to the client.
    """
    to_upstream, to_client = (filters[0].feed, filters[1].feed) if filters else (None, None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pump, connection, transport.send_all, b"", to_upstream, nursery.cancel_scope)
        await _pump(transport, connection.send_all, data, to_client, nursery.cancel_scope)


class _Source(Protocol):
    def receive_some(self, max_bytes: int, /) -> Awaitable[bytes]: ...


async def _pump(
    source: _Source,
    send_all: Callable[[bytes], Awaitable[None]],
    data: bytes,
    feed: Callable[[bytes], bytes] | None,
    scope: trio.CancelScope,
) -> None:
    try:
        data = data or await source.receive_some(RECEIVE_BYTES)
        while data:
            if feed is not None:
                data = feed(data)
            await send_all(data)
            data = await source.receive_some(RECEIVE_BYTES)
    except (OSError, ValueError) as error:
        log.debug("a WebSocket ends: %s", error)
    scope.cancel()
