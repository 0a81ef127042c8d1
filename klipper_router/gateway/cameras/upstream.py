"""HTTP to a camera: a stream pulled for ever, or one answer read whole.

One request per connection, no redirects (they could lead anywhere). A stream has no time limit but for silence; all
that is kept of a whole answer is bounded. Every failure is a CameraError.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from klipper_router.errors import ProtocolError
from klipper_router.gateway import body, heads
from klipper_router.gateway.cameras.address import CameraUrl
from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.mjpeg import Frame, MjpegParser, boundary_of
from klipper_router.gateway.heads import BadHead, ResponseHead
from klipper_router.gateway.transport import RECEIVE_BYTES, SocketTransport, Transport, dial

ANSWER_S = 10.0
# µStreamer, told to leave out frames that are the same, still sends one a second; nothing known is silent this long.
SILENT_S = 30.0

MAX_PICTURE_BYTES = 16 * 1024 * 1024


class Answer:
    """The beginning of a camera's response, and the connection that it comes from."""

    def __init__(self, url: CameraUrl, head: ResponseHead, transport: Transport, rest: bytes) -> None:
        self.url = url
        self.head = head
        self.transport = transport
        self.rest = rest
        """What of the body came with the head, framing included."""
        self.framing = body.of_response(head, b"GET")

    @property
    def content_type(self) -> str:
        return self.field("content-type")

    def field(self, name: str) -> str:
        """A header field's first value, "" where there is none."""
        wanted = name.encode()
        return next((value.decode("latin-1") for lower, _, value in self.head.fields if lower == wanted), "")

    def check(self) -> None:
        """Raises CameraError for any status but 200."""
        status = self.head.status
        if status in (401, 403):
            raise CameraError(f"{self.url} wants a login ({status}): write http://user:password@…")
        if 300 <= status < 400:
            raise CameraError(f"{self.url} redirects to {self.field('location')}: use that address")
        if status != 200:
            raise CameraError(f"{self.url} answers with {status} {self.head.reason.decode('latin-1')}".rstrip())

    def take(self, data: bytes) -> list[bytes]:
        """What received bytes carry of the body. Raises CameraError."""
        payload: list[bytes] = []
        try:
            self.framing.take(data, payload)
        except BadHead as bad:
            raise CameraError(f"{self.url}: {bad}") from None
        return payload

    async def whole(self, max_bytes: int) -> bytes:
        """The body. Raises CameraError, also for a larger one."""
        parts = self.take(self.rest)
        size_bytes = sum(map(len, parts))
        while not self.framing.done and size_bytes <= max_bytes:
            data = await _receive(self.url, self.transport)
            if not data:
                if isinstance(self.framing, body.UntilClose):
                    break
                raise CameraError(f"{self.url} closed within its answer")
            more = self.take(data)
            size_bytes += sum(map(len, more))
            parts += more
        if size_bytes > max_bytes:
            raise CameraError(f"{self.url} answers with more than {max_bytes} bytes")
        return b"".join(parts)


@asynccontextmanager
async def get(url: CameraUrl, accept: str = "*/*", extra: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Answer]:
    """Send a GET and read the answer's head; the connection is closed at the end of the block. Raises CameraError."""
    try:
        transport = await dial(url.host, url.port, _tls() if url.tls else None)
    except OSError as error:
        why = error.strerror or error.__cause__ or error
        raise CameraError(f"{url} cannot be reached: {why}") from None
    try:
        fields = [("Host", url.authority), ("Accept", accept), ("User-Agent", "klipper-router"), *extra]
        if url.authorization:
            fields.append(("Authorization", url.authorization))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        request = f"GET {url.target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
        try:
            with trio.fail_after(ANSWER_S):
                await transport.send_all(request.encode())
                head, rest = await _read_head(url, transport)
        except trio.TooSlowError:
            raise CameraError(f"{url} does not answer") from None
        except OSError as error:
            raise CameraError(f"{url} closed the connection: {error}") from None
        yield Answer(url, head, transport, rest)
    finally:
        transport.close()


async def pull(url: CameraUrl, on_frame: Callable[[Frame], None]) -> None:
    """Receive a stream and call back with every frame, until the connection is over. Raises CameraError."""
    async with get(url, "multipart/x-mixed-replace, image/jpeg") as answer:
        answer.check()
        boundary = boundary_of(answer.content_type)
        if boundary is None:
            raise CameraError(f"{url} answers with '{answer.content_type}', which is no MJPEG stream")
        parser = MjpegParser(boundary)
        try:
            await _pull(answer, parser, on_frame)
        except ProtocolError as error:
            raise CameraError(f"{url}: {error}") from None


async def _pull(answer: Answer, parser: MjpegParser, on_frame: Callable[[Frame], None]) -> None:
    """Raises CameraError, ProtocolError."""
    for part in answer.take(answer.rest):
        for frame in parser.feed(part):
            on_frame(frame)
    # A length that is declared for a stream is made up: it goes on until it is closed.
    plain = answer.transport if isinstance(answer.transport, SocketTransport) and not answer.head.chunked else None
    silence = trio.CancelScope(deadline=trio.current_time() + SILENT_S)
    with silence:
        while not (parser.ended or (answer.head.chunked and answer.framing.done)):
            if plain:
                size_bytes = await _receive_into(answer.url, plain, parser.room())
                if not size_bytes:
                    return
                frames = parser.received(size_bytes)
            else:
                data = await _receive(answer.url, answer.transport)
                if not data:
                    return
                parts = answer.take(data) if answer.head.chunked else [data]
                frames = [frame for part in parts for frame in parser.feed(part)]
            for frame in frames:
                on_frame(frame)
            # Moving a deadline has its price, and nobody cares for the last seconds of it.
            if silence.deadline - trio.current_time() < SILENT_S - 2:
                silence.deadline = trio.current_time() + SILENT_S
    if silence.cancelled_caught:
        raise CameraError(f"{answer.url} sent nothing for {SILENT_S:g} s")


async def picture(url: CameraUrl) -> Frame:
    """A single picture, also the first one of a stream. Raises CameraError."""
    try:
        with trio.fail_after(ANSWER_S):
            async with get(url, "image/jpeg, multipart/x-mixed-replace") as answer:
                answer.check()
                boundary = boundary_of(answer.content_type)
                if boundary is not None:
                    return await _first_frame(answer, MjpegParser(boundary))
                jpeg = await answer.whole(MAX_PICTURE_BYTES)
    except trio.TooSlowError:
        raise CameraError(f"{url} gives no picture within {ANSWER_S:g} s") from None
    except ProtocolError as error:
        raise CameraError(f"{url}: {error}") from None
    if not jpeg.startswith(b"\xff\xd8"):
        raise CameraError(f"{url} answers with '{answer.content_type}', which is no JPEG")
    return Frame.of(jpeg)


async def _first_frame(answer: Answer, parser: MjpegParser) -> Frame:
    """Raises CameraError, ProtocolError."""
    data = answer.rest
    while True:
        for part in answer.take(data):
            if frames := parser.feed(part):
                return frames[-1]
        data = await _receive(answer.url, answer.transport)
        if not data:
            raise CameraError(f"{answer.url} ended its stream before the first picture")


async def _receive(url: CameraUrl, transport: Transport) -> bytes:
    """Raises CameraError."""
    try:
        return await transport.receive_some(RECEIVE_BYTES)
    except OSError as error:
        raise CameraError(f"{url} closed the connection: {error}") from None


async def _receive_into(url: CameraUrl, transport: SocketTransport, room: memoryview) -> int:
    """How many bytes were received, 0 at the end. Raises CameraError."""
    try:
        return await transport.receive_into(room)
    except OSError as error:
        raise CameraError(f"{url} closed the connection: {error}") from None


async def _read_head(url: CameraUrl, transport: Transport) -> tuple[ResponseHead, bytes]:
    """Raises CameraError, OSError."""
    data = b""
    while (end := data.find(b"\r\n\r\n", 0, heads.MAX_HEAD_BYTES)) < 0:
        more = await transport.receive_some(RECEIVE_BYTES)
        if not more or len(data) > heads.MAX_HEAD_BYTES:
            raise CameraError(f"{url} answers with what is no HTTP response")
        data += more
    try:
        return heads.response(data[: end + 4]), data[end + 4 :]
    except BadHead as bad:
        raise CameraError(f"{url}: {bad}") from None


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
