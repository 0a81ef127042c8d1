"""Bytes from one connection to another: responses, uploads, and upgraded connections; each waits for its receiver.

Framing is followed to know where a message ends (`body`), the bytes pass as they came. Nothing is gathered: what was
received is sent before more is received, so a slow receiver slows its sender down and costs no memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import trio

from klipper_router.gateway import body, heads
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import BadHead, RequestHead, ResponseHead
from klipper_router.gateway.transport import RECEIVE_BULK_BYTES, RECEIVE_BYTES, Transport


class BadUpstream(Exception):
    """The upstream's response cannot be read as one."""


async def response(
    connection: Connection,
    head: RequestHead,
    transport: Transport,
    data: bytes,
    make_head: Callable[[ResponseHead], bytes],
) -> bool:
    """Pass a response on that begins with ``data``. Returns whether the upstream's connection can be used again.

    Raises BadUpstream, OSError of the client.
    """
    while True:
        end = data.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)
        if end < 0:
            data, end = await _rest_of_head(transport, data)
        try:
            answer = heads.response(data[: end + 4])
        except BadHead as bad:
            raise BadUpstream(str(bad)) from None
        data = data[end + 4 :]
        if answer.status >= 200 or answer.status == 101:
            break
        if head.http11 and (answer.status != 100 or head.expect):
            await connection.send_all(make_interim(answer))
        if not data:
            data = await _receive(transport, RECEIVE_BYTES)
    if answer.status == 101:
        if head.upgrade != b"websocket":
            raise BadUpstream("it changes the protocol, which nobody asked for")
        connection.status = 101
        connection.keep_alive = False
        await connection.send_all(make_head(answer) + data)
        await splice(connection, transport)
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


def make_interim(answer: ResponseHead) -> bytes:
    """1xx: of its fields only those of RFC 8297 mean something."""
    links = [b"%b: %b\r\n" % (name, value) for lower, name, value in answer.fields if lower == b"link"]
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (answer.status, answer.reason, b"".join(links))


def _take(framing: body.Framing, data: bytes) -> int:
    try:
        return framing.take(data)
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


async def splice(connection: Connection, transport: Transport) -> None:
    """Both directions as they come, until either side closes."""
    async with trio.open_nursery() as nursery:

        async def to_upstream() -> None:
            with contextlib.suppress(OSError):
                while data := await connection.receive_some(RECEIVE_BYTES):
                    await transport.send_all(data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(to_upstream)
        with contextlib.suppress(OSError):
            while data := await transport.receive_some(RECEIVE_BYTES):
                await connection.send_all(data)
        nursery.cancel_scope.cancel()
