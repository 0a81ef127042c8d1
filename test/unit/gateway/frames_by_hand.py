"""WebSocket frames (RFC 6455 §5.2) made and read with nothing of the product's."""

from __future__ import annotations

from collections.abc import Iterator


def frame_of(first: int, content: bytes, key: bytes = b"") -> bytes:
    size = len(content)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    mask = 0x80 if key else 0
    return bytes([first, length[0] | mask]) + length[1:] + key + _masked(content, key)


def messages_of(data: bytes) -> Iterator[bytes]:
    """The contents of the frames that are whole messages."""
    while data:
        first, size, at = data[0], data[1] & 0x7F, 2
        masked = bool(data[1] & 0x80)
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        key = data[at : at + 4] if masked else b""
        at += len(key)
        if first in (0x81, 0x82):
            yield _masked(data[at : at + size], key)
        data = data[at + size :]


def _masked(content: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(content)) if key else content
