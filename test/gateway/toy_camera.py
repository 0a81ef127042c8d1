"""Toy camera servers: a stream in any dialect, single pictures, and a page with signalling beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import trio

from test.gateway.rig import Toy, Wire


def jpeg(content: object, size_bytes: int = 0) -> bytes:
    text = str(content).encode()
    return b"\xff\xd8" + text + b" " * (size_bytes - len(text) - 4) + b"\xff\xd9"


class Dialect(NamedTuple):
    """How a camera writes its stream."""

    head: bytes
    part: Callable[[bytes], bytes]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _esp32(picture: bytes) -> bytes:
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Timestamp: 1.000001\r\n\r\n" % len(picture)
    return _chunk(b"\r\n--12345\r\n") + _chunk(head) + _chunk(picture[:3]) + _chunk(picture[3:])


USTREAMER = Dialect(
    b"HTTP/1.0 200 OK\r\nAccess-Control-Allow-Origin: *\r\nCache-Control: no-store\r\nSet-Cookie: stream_client=1\r\n"
    b"Content-Type: multipart/x-mixed-replace;boundary=boundarydonotcross\r\n\r\n--boundarydonotcross\r\n",
    lambda picture: (
        b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Timestamp: 1.5\r\nX-UStreamer-Online: true\r\n\r\n%b"
        b"\r\n--boundarydonotcross\r\n" % (len(picture), picture)
    ),
)
DIALECTS = {
    "ustreamer": USTREAMER,
    "mjpg-streamer": Dialect(
        b"HTTP/1.0 200 OK\r\nConnection: close\r\nServer: MJPG-Streamer/0.2\r\n"
        b"Content-Type: multipart/x-mixed-replace;boundary=boundarydonotcross\r\n\r\n--boundarydonotcross \r\n",
        lambda picture: (
            b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Timestamp: 0.000000\r\n\r\n%b"
            b"\r\n--boundarydonotcross \r\n" % (len(picture), picture)
        ),
    ),
    "spyglass": Dialect(
        b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\nAge: 0\r\n"
        b"Content-Type: multipart/x-mixed-replace; boundary=FRAME\r\n\r\n",
        lambda picture: (
            b"--FRAME\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(picture), picture)
        ),
    ),
    "esp32, chunked": Dialect(
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=12345\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        _esp32,
    ),
    "without lengths": Dialect(
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--myboundary\r\n\r\n--myboundary\r\n",
        lambda picture: b"Content-Type: image/jpeg\r\n\r\n%b\r\n--myboundary\r\n" % picture,
    ),
}


class ToyCamera(Toy):
    """Streams what it is `give`n to all who watch; answers requests for anything else from ``pages``."""

    def __init__(self, dialect: Dialect = USTREAMER) -> None:
        super().__init__(self._answer)
        self.dialect = dialect
        self.pages: dict[bytes, bytes] = {}
        """Whole responses by path."""
        self.asked: list[bytes] = []
        """Request targets so far."""
        self._watching: list[Wire] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def streams(self) -> int:
        """How many watch."""
        return len(self._watching)

    async def give(self, picture: bytes, *, patient: bool = False) -> None:
        """Send a picture to all who watch; there is at least one soon, unless ``patient``."""
        if not patient:
            await self.until(lambda: bool(self._watching))
        for wire in list(self._watching):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await wire.send(self.dialect.part(picture))

    async def hang_up(self) -> None:
        """Close every stream."""
        for wire in self._watching:
            await wire.stream.aclose()
        await self.until(lambda: not self._watching)

    async def _answer(self, wire: Wire) -> None:
        head, body = await wire.message()
        target = head.split(b" ")[1]
        self.asked.append(target)
        page = self.pages.get(target.partition(b"?")[0])
        if page is not None:
            await wire.send(page.replace(b"BODY", body))
            return
        await wire.send(self.dialect.head)
        self._watching.append(wire)
        try:
            await self._note(0)
            await wire.more()
        except trio.ClosedResourceError:
            pass
        finally:
            self._watching.remove(wire)


def page(body: bytes, content_type: bytes = b"text/html", status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status,
        content_type,
        more,
        len(body),
        body,
    )
