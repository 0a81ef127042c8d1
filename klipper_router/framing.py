"""Klippy's framing: each message is one JSON text ended by the byte 0x03 (Klipper docs/API_Server.md).

Knows nothing of JSON. JSON escapes control characters inside texts, so 0x03 never occurs within a frame.
"""

from __future__ import annotations

from typing import NamedTuple

from klipper_router.errors import ProtocolError

FRAME_END = b"\x03"

# Klipper's `configfile` status of a big printer is over 1 MB; no frame known comes near this.
MAX_FRAME_BYTES = 16 * 1024 * 1024

# How much of a frame that is too long is kept, so that an error can name it.
HEAD_BYTES = 256


class TooLong(NamedTuple):
    """Stands in the place of a frame that passed the limit and was skipped."""

    head: bytes
    size_bytes: int

    def error(self, limit_bytes: int) -> ProtocolError:
        return ProtocolError(f"a frame of {self.size_bytes} bytes, over the limit of {limit_bytes}", self.head)


class FrameSplitter:
    """Cuts a byte stream, fed in any pieces, into frames.

    A frame over ``max_frame_bytes`` is skipped without being kept, and reported as `TooLong` at its end: one bad
    frame costs no more than itself. Each byte is searched and copied once, however small the pieces are.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._begun: list[bytes] = []
        self._begun_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """How long the frame begun, but not ended, is so far."""
        return self._begun_bytes

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """Take the next piece of the stream; return the frames that it completes, without their end byte."""
        *ended, rest = data.split(FRAME_END)
        frames: list[bytes | TooLong] = []
        for piece in ended:
            if self._begun_bytes:
                self._keep(piece)
                frames.append(self._take())
            elif len(piece) > self.max_frame_bytes:
                frames.append(TooLong(piece[:HEAD_BYTES], len(piece)))
            else:
                frames.append(piece)
        if rest:
            self._keep(rest)
        return frames

    def _keep(self, piece: bytes) -> None:
        self._begun_bytes += len(piece)
        self._begun.append(piece)
        if self._begun_bytes > self.max_frame_bytes:
            self._begun = [b"".join(self._begun)[:HEAD_BYTES]]

    def _take(self) -> bytes | TooLong:
        kept, size_bytes = b"".join(self._begun), self._begun_bytes
        self._begun, self._begun_bytes = [], 0
        return TooLong(kept, size_bytes) if size_bytes > self.max_frame_bytes else kept
