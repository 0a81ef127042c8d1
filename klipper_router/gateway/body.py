"""Where a message's body ends: by length, by chunks, or by the end of the connection.

Pure: a `Framing` is told each piece that arrived and says how much of it is still body. The bytes themselves go
through as they are, chunk sizes and all, when a body is relayed.
"""

from __future__ import annotations

import re
from typing import Protocol

from klipper_router.gateway.heads import BadHead, RequestHead, ResponseHead

_MAX_SIZE_LINE_BYTES = 256
# Extensions may stand behind the size; nobody uses them, but they are printable and bounded where they come. A blank
# in front of them (RFC 9112 7.1.1 calls it bad) is a malformed size to some readers.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*|;[\t -~]*)")


class Framing(Protocol):
    done: bool
    """The body is complete."""

    def take(self, data: bytes, payload: list[bytes] | None = None) -> int:
        """How many of these bytes belong to the body. What they carry is appended to ``payload``.

        Raises BadHead (400) for a malformed body.
        """
        ...


class Length:
    """So many bytes."""

    __slots__ = ("done", "left_bytes")

    def __init__(self, length_bytes: int) -> None:
        self.left_bytes = length_bytes
        self.done = length_bytes == 0

    def take(self, data: bytes, payload: list[bytes] | None = None) -> int:
        size_bytes = len(data)
        if size_bytes >= self.left_bytes:
            size_bytes = self.left_bytes
            self.done = True
        self.left_bytes -= size_bytes
        if payload is not None and size_bytes:
            payload.append(data[:size_bytes])
        return size_bytes


NOTHING = Length(0)
"""No body: complete from the start, so that all may share it."""


class UntilClose:
    """All that comes; the end of the connection is the end of the body, so it is never known to be complete."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def take(self, data: bytes, payload: list[bytes] | None = None) -> int:
        if payload is not None:
            payload.append(data)
        return len(data)


class Chunks:
    """Chunked coding, without trailers (a trailer could carry what a head must not)."""

    __slots__ = ("_last", "_left_bytes", "_line", "done")

    def __init__(self) -> None:
        self.done = False
        self._line = b""  # an unfinished size line
        self._left_bytes = 0  # of the chunk under way, with its line end; 0: a size line is next
        self._last = False

    def take(self, data: bytes, payload: list[bytes] | None = None) -> int:
        at = 0
        while at < len(data) and not self.done:
            if self._left_bytes:
                at += self._chunk(data, at, payload)
            else:
                at += self._size_line(data, at)
        return at

    def _chunk(self, data: bytes, at: int, payload: list[bytes] | None) -> int:
        size_bytes = min(self._left_bytes, len(data) - at)
        content_bytes = max(0, min(self._left_bytes - 2, size_bytes))
        line_end = b"\r\n"[max(0, 2 - self._left_bytes) :]
        if not line_end.startswith(data[at + content_bytes : at + size_bytes]):
            problem = "fields after a chunked body are not understood" if self._last else "a chunk has not its length"
            raise BadHead(400, problem)
        if payload is not None and content_bytes:
            payload.append(data[at : at + content_bytes])
        self._left_bytes -= size_bytes
        self.done = self._last and not self._left_bytes
        return size_bytes

    def _size_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        part = data[at : end + 1] if end >= 0 else data[at:]
        line = self._line + part
        if len(line) > _MAX_SIZE_LINE_BYTES:
            raise BadHead(400, "the size of a chunk is too long")
        self._line = line
        if end >= 0:
            self._line = b""
            self._end_of_line(line)
        return len(part)

    def _end_of_line(self, line: bytes) -> None:
        """A whole size line. The last chunk has no content, only the line end."""
        match = _SIZE_LINE.fullmatch(line[:-2]) if line.endswith(b"\r\n") else None
        if match is None:
            raise BadHead(400, "the size of a chunk is malformed")
        size_bytes = int(match[1], 16)
        self._last = size_bytes == 0
        self._left_bytes = size_bytes + 2


def of_request(head: RequestHead) -> Framing:
    if not head.content_length and not head.chunked:
        return NOTHING
    return Chunks() if head.chunked else Length(head.content_length or 0)


def of_response(head: ResponseHead, method: bytes) -> Framing:
    """RFC 9112 6.3: some responses have no body whatever their head says."""
    if method == b"HEAD" or head.status in (204, 304) or head.status < 200:
        return NOTHING
    if head.chunked:
        return Chunks()
    return UntilClose() if head.content_length is None else Length(head.content_length)
