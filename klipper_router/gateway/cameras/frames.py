"""Text messages of a relayed WebSocket that hold a marker, rewritten; all other bytes pass as they came.

A printer sends some hundred messages a second, and one an hour needs a change. So nothing is decoded but the frames'
headers (RFC 6455 §5.2), and a message is looked into only where the marker stands in it. What cannot be rewritten
passes: messages in several frames, compressed ones, and large ones (Moonraker's webcams are a few KiB). At most
`MAX_HELD_BYTES` are held back, of one frame that is not complete yet.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_HELD_BYTES = 256 * 1024

_FIN = 0x80
_TEXT = 0x01
_TEXT_IN_ONE_FRAME = _FIN | _TEXT  # and no RSV bit, so it is not compressed
_MASKED = 0x80

Rewrite = Callable[[bytes], bytes | None]
"""A message in, the one that is to go on out; None: the same."""


class TextRewriter:
    """One direction of a WebSocket. `feed` takes bytes, cut anywhere, and returns those that go on."""

    def __init__(self, rewrite: Rewrite, marker: bytes) -> None:
        self._rewrite = rewrite
        self._marker = marker
        self._held = b""
        self._passing_bytes = 0  # left of a frame that is not looked into

    def feed(self, data: bytes) -> bytes:
        if self._held:
            data = self._held + data
            self._held = b""
        size_bytes = len(data)
        at = min(self._passing_bytes, size_bytes)
        self._passing_bytes -= at
        done = 0  # up to here it is in `out`
        out: list[bytes] = []
        while at < size_bytes:
            begin, end, key = frame_at(data, at)
            seen = data[at] == _TEXT_IN_ONE_FRAME and end - begin <= MAX_HELD_BYTES
            if not begin or (seen and end > size_bytes):
                self._held = data[at:]
                break
            if seen and (made := self._look(data, begin, end, key)) is not None:
                out += (data[done:at], made)
                done = end
            if end > size_bytes:
                self._passing_bytes = end - size_bytes
                end = size_bytes
            at = end
        if not out and not self._held:
            return data
        out.append(data[done:at])
        return b"".join(out)

    def _look(self, data: bytes, begin: int, end: int, key: bytes) -> bytes | None:
        """The frame in place of the one whose content this is; None: the same."""
        if not key and data.find(self._marker, begin, end) < 0:
            return None
        content = masked(data[begin:end], key) if key else data[begin:end]
        if key and self._marker not in content:
            return None
        made = self._rewrite(content)
        return None if made is None else frame(made, key)


def frame(content: bytes, key: bytes = b"", opcode: int = _TEXT) -> bytes:
    """A message in one frame; masked with the ``key`` of four bytes if there is one."""
    size_bytes = len(content)
    first = _FIN | opcode
    mask = _MASKED if key else 0
    if size_bytes < 126:
        head = bytes((first, mask | size_bytes))
    elif size_bytes < 65536:
        head = bytes((first, mask | 126)) + size_bytes.to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + size_bytes.to_bytes(8, "big")
    return head + key + (masked(content, key) if key else content)


def frame_at(data: bytes | bytearray, at: int) -> tuple[int, int, bytes]:
    """Begin and end of the content of the frame at ``at``, and its mask; begin 0: its header is not complete."""
    left_bytes = len(data) - at
    if left_bytes < 2:
        return 0, 0, b""
    size_bytes = data[at + 1] & 0x7F
    begin = at + 2
    if size_bytes >= 126:
        width = 2 if size_bytes == 126 else 8
        if left_bytes < 2 + width:
            return 0, 0, b""
        size_bytes = int.from_bytes(data[begin : begin + width], "big")
        begin += width
    key = b""
    if data[at + 1] & _MASKED:
        key = bytes(data[begin : begin + 4])
        begin += 4
        if len(data) < begin:
            return 0, 0, b""
    return begin, begin + size_bytes, key


def masked(content: bytes, key: bytes) -> bytes:
    """Mask or unmask (it is the same)."""
    size_bytes = len(content)
    stream = (key * (size_bytes // 4 + 1))[:size_bytes]
    return (int.from_bytes(content, "big") ^ int.from_bytes(stream, "big")).to_bytes(size_bytes, "big")
