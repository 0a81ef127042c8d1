"""``/klippysocket``: a raw connection to Klippy over a WebSocket, as Moonraker's BridgeSocket.

Each bridge has a connection to Klippy of its own, so what is subscribed on it takes nothing from the router's. A
message, text or binary, is one request without the 0x03 that ends it on the socket; what Klippy says comes back as
text.
"""

from __future__ import annotations

import logging

import trio

from klipper_router.framing import FRAME_END, FrameSplitter, TooLong
from klipper_router.gateway.http import WebSocket, WebSocketClosed
from klipper_router.link import dial_unix
from klipper_router.unix_stream import RECEIVE_BYTES

log = logging.getLogger("klipper_router.gateway.moonraker")

GOING_AWAY = 1001
# As Moonraker's limit of its stream from Klippy.
MAX_FRAME_BYTES = 20 * 1024 * 1024


async def bridge(socket: WebSocket, klippy_sock: str) -> None:
    """Pass frames both ways until one side ends; a client that does not read holds Klippy up, which then ends it."""
    try:
        stream = await dial_unix(klippy_sock)
    except OSError as error:
        await socket.close(GOING_AWAY, f"Klippy Disconnected: {error.strerror}")
        return
    async with stream, trio.open_nursery() as nursery:

        async def to_klippy() -> None:
            try:
                while True:
                    message = await socket.receive()
                    await stream.send_all((message.encode() if isinstance(message, str) else message) + FRAME_END)
            except (WebSocketClosed, trio.BrokenResourceError):
                nursery.cancel_scope.cancel()

        nursery.start_soon(to_klippy)
        try:
            await _from_klippy(stream, socket)
            await socket.close(GOING_AWAY, "Klippy Disconnected")
        except WebSocketClosed as closed:
            log.debug("klippysocket: %s", closed)
        nursery.cancel_scope.cancel()


async def _from_klippy(stream: trio.abc.Stream, socket: WebSocket) -> None:
    splitter = FrameSplitter(MAX_FRAME_BYTES)
    try:
        while data := await stream.receive_some(RECEIVE_BYTES):
            for frame in splitter.feed(bytes(data)):
                if isinstance(frame, TooLong):
                    log.warning("klippysocket: skipped a frame of more than %d bytes", MAX_FRAME_BYTES)
                    continue
                await socket.send(frame.decode("utf-8", "replace"))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
