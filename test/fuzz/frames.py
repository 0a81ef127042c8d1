"""WebSocket frames for the targets that read them: streams made of an input, and a reader of their own.

Blind changes seldom leave a frame whose length is right. So every other stream is built: of contents apart by 0x03,
each with the first byte of its frame before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from test.unit.gateway.frames_by_hand import frame_of

CONTROL, CLOSE, PING = 0x08, 0x88, 0x89
TEXT, BINARY = 0x01, 0x02
_RAW, _UNMASKED = 1, 2


class Frame(NamedTuple):
    """RFC 6455 5.2, with nothing judged. ``content`` is shorter than ``size`` where the stream ends within it."""

    first: int
    key: bytes
    size: int
    content: bytes
    is_short: bool
    """Its length takes no more bytes than it must."""

    end: int
    """Where the next one begins in the stream."""

    @property
    def is_whole(self) -> bool:
        return len(self.content) == self.size

    @property
    def fin(self) -> bool:
        return bool(self.first & 0x80)

    @property
    def reserved(self) -> int:
        return self.first & 0x70

    @property
    def opcode(self) -> int:
        return self.first & 0x0F


def stream_of(how: int, data: bytes) -> bytes:
    """The bits of ``how``: whether the data is the stream itself; whether the frames that are built have no mask."""
    if how & _RAW:
        return data
    key = b"" if how & _UNMASKED else bytes([how, 0, 0x55, 0xFF])
    return b"".join(frame_of(part[0], part[1:], key) for part in data.split(b"\x03") if part)


def pieces_of(stream: bytes, size: int) -> list[bytes]:
    return [stream[begin : begin + size] for begin in range(0, len(stream), size)]


def frames_in(stream: bytes) -> Iterator[Frame]:
    """All frames whose head is there."""
    at = 0
    while len(stream) >= at + 2:
        first, size, begin = stream[at], stream[at + 1] & 0x7F, at + 2
        width = {126: 2, 127: 8}.get(size, 0)
        is_short = True
        if width:
            size = int.from_bytes(stream[begin : begin + width], "big")
            is_short = size >= (126 if width == 2 else 65536)
        begin += width
        key = stream[begin : begin + 4] if stream[at + 1] & 0x80 else b""
        begin += 4 if stream[at + 1] & 0x80 else 0
        if begin > len(stream):
            return
        content = stream[begin : begin + size]
        if key:
            content = bytes(byte ^ key[place % 4] for place, byte in enumerate(content))
        at = begin + size
        yield Frame(first, key, size, content, is_short, at)
