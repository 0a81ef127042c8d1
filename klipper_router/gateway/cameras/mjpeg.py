"""MJPEG over HTTP: a ``multipart/x-mixed-replace`` body cut into frames, and frames as parts of our own stream.

Knows no socket and no HTTP head. Servers disagree about almost everything (RFC 2046 is older than most of them), so:

- the delimiter is learnt from the stream. The ``boundary`` parameter is a hint only: some repeat it with two dashes
  before it, some as it is, some count the dashes into the parameter, some write another one altogether;
- a part with a Content-Length is taken by it, one without ends at the next delimiter;
- what stands between parts is skipped, so a wrong length costs one frame; what is not a JPEG is no frame.

A frame is copied once, from the receive buffer into the part that every viewer is sent.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from klipper_router.errors import ProtocolError

# A 4K webcam's best JPEG has about 5 MB; beyond this it is no camera, or one that a board cannot serve.
MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_PART_HEAD_BYTES = 8 * 1024

# Room for one receive. The pages of it that are never written cost nothing.
BUFFER_BYTES = 256 * 1024
_LEAST_ROOM_BYTES = 64 * 1024

# A delimiter this long does not occur in a JPEG by chance; a shorter one must stand at the begin of a line.
_UNMISTAKABLE_BYTES = 10

_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_EMPTY_LINE = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]*:")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]*)"|([^;\s]*))', re.IGNORECASE)

# What viewers are sent. The delimiter follows its frame at once: a browser shows a part when it sees that it ended.
CONTENT_TYPE = "multipart/x-mixed-replace;boundary=frame"
FIRST_DELIMITER = b"--frame\r\n"
_PART_END = b"\r\n--frame\r\n"


class Frame(NamedTuple):
    """One JPEG as the part of a stream that all viewers share: its header, the picture, the next delimiter."""

    part: bytes
    begin: int

    @classmethod
    def of(cls, jpeg: bytes | memoryview) -> Frame:
        head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
        return cls(b"".join((head, jpeg, _PART_END)), len(head))

    @property
    def jpeg(self) -> bytes:
        return self.part[self.begin : -len(_PART_END)]


def boundary_of(content_type: str) -> str | None:
    """The boundary that a Content-Type names, "" if it names none; None if it is no multipart type."""
    if not content_type.strip().lower().startswith("multipart/"):
        return None
    match = _BOUNDARY.search(content_type)
    return (match[1] if match[1] is not None else match[2]) if match else ""


class MjpegParser:
    """Cuts the body of a multipart response, received in any pieces, into frames.

    Receive into `room` and tell `received` how much it was, or `feed` bytes. Both raise ProtocolError for what is no
    MJPEG stream and for a frame over ``max_frame_bytes``; the parser is of no use after that. It keeps no more than
    the frame that is under way and one receive.
    """

    def __init__(self, boundary: str = "", max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.ended = False
        """The closing delimiter came: what follows is ignored."""
        self.skipped = 0
        """Parts that were no JPEG."""
        self._name = boundary.strip().strip("-").encode("latin-1", "replace")
        self._delimiter = b""  # learnt from the stream
        self._buffer = bytearray(BUFFER_BYTES)
        self._begin = 0  # of what is not taken yet
        self._end = 0  # of what was received
        self._searched = 0  # up to here the delimiter is known to be absent
        self._junk_bytes = 0  # passed over in search of a delimiter
        self._in_head = False
        self._in_body = False
        self._body_bytes: int | None = None

    def room(self) -> memoryview:
        """Where to receive next."""
        if self._begin == self._end:
            self._begin = self._end = self._searched = 0
        needed_bytes = self._begin + (self._body_bytes or 0) + _LEAST_ROOM_BYTES
        if max(needed_bytes, self._end + _LEAST_ROOM_BYTES) > len(self._buffer):
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def received(self, size_bytes: int) -> list[Frame]:
        """Take note of what was written into `room`; the frames that it completes."""
        self._end += size_bytes
        frames: list[Frame] = []
        while self._begin < self._end and not self.ended:
            if self._in_body:
                body_bytes = self._body_size()
                if body_bytes is None:
                    break
                frame = self._take(body_bytes)
                if frame is None:
                    self.skipped += 1
                else:
                    frames.append(frame)
            elif not (self._read_head() if self._in_head else self._read_delimiter()):
                break
        return frames

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next piece of the body; the frames that it completes."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view and not self.ended:
            room = self.room()
            piece, view = view[: len(room)], view[len(room) :]
            room[: len(piece)] = piece
            frames += self.received(len(piece))
        return frames

    def _make_room(self) -> None:
        """Move what is left to the front, into a larger buffer if need be."""
        left = self._buffer[self._begin : self._end]
        needed_bytes = max(len(left), self._body_bytes or 0) + _LEAST_ROOM_BYTES
        if needed_bytes > len(self._buffer):
            self._buffer = bytearray(max(needed_bytes, 2 * len(self._buffer)))
        self._buffer[: len(left)] = left
        self._searched = max(0, self._searched - self._begin)
        self._begin, self._end = 0, len(left)

    def _read_delimiter(self) -> bool:
        """Go behind the next delimiter's line; False when it is not there yet."""
        if not self._delimiter and not self._learn_delimiter():
            return self._in_head
        begin = self._find_delimiter()
        if begin < 0:
            passed = max(self._begin, self._searched)
            self._junk_bytes += passed - self._begin
            self._begin = passed
            if self._junk_bytes > self.max_frame_bytes:
                raise ProtocolError(f"no delimiter within {self._junk_bytes} bytes")
            return False
        line = begin + len(self._delimiter)
        end = self._buffer.find(b"\n", line, self._end)
        if end < 0:
            if self._end - line > MAX_PART_HEAD_BYTES:
                raise ProtocolError("a delimiter whose line does not end", self._text(begin))
            self._begin = self._searched = begin
            return False
        self.ended = self._buffer[line:end].rstrip() == b"--"
        self._begin = self._searched = end + 1
        self._junk_bytes = 0
        self._in_head = True
        return True

    def _learn_delimiter(self) -> bool:
        """The first line that is not empty is the delimiter. False when it is not there yet, or is missing."""
        while True:
            end = self._buffer.find(b"\n", self._begin, self._end)
            if end < 0:
                if self._end - self._begin > MAX_PART_HEAD_BYTES:
                    raise ProtocolError("no multipart stream", self._text(self._begin))
                return False
            line = bytes(self._buffer[self._begin : end]).strip()
            if line:
                break
            self._begin = end + 1
        name = line.lstrip(b"-")
        if self._name and name.rstrip(b"-") == self._name:
            self._delimiter = line[: len(line) - len(name) + len(self._name)]
        elif line.startswith(b"--") and name:
            self._delimiter = line
        elif self._name and _HEADER.match(line):
            # Straight to the first part's header; what will stand between parts can only be hoped for.
            self._delimiter = b"--" + self._name
            self._in_head = True
            return False
        else:
            raise ProtocolError("no multipart stream", line)
        return True

    def _read_head(self) -> bool:
        """Go behind the empty line after a part's header; False when it is not there yet."""
        window = self._buffer, self._begin, min(self._end, self._begin + MAX_PART_HEAD_BYTES)
        match = _HEAD_END.search(*window) if self._buffer[self._begin] not in b"\r\n" else _EMPTY_LINE.match(*window)
        if match is None:
            if self._end - self._begin > MAX_PART_HEAD_BYTES:
                raise ProtocolError("a part's header does not end", self._text(self._begin))
            return False
        end = match.end()
        head = bytes(self._buffer[self._begin : end])
        length = _LENGTH.search(head)
        self._body_bytes = int(length[1]) if length else None
        if self._body_bytes is not None and self._body_bytes > self.max_frame_bytes:
            raise ProtocolError(f"a frame of {self._body_bytes} bytes, over the limit of {self.max_frame_bytes}")
        self._begin = self._searched = end
        self._in_head, self._in_body = False, True
        return True

    def _body_size(self) -> int | None:
        """Of the part under way; None when its end is not there yet."""
        if self._body_bytes is not None:
            return self._body_bytes if self._end - self._begin >= self._body_bytes else None
        end = self._find_delimiter()
        if (self._searched if end < 0 else end) - self._begin > self.max_frame_bytes + len(b"\r\n"):
            raise ProtocolError(f"a frame without end after the limit of {self.max_frame_bytes} bytes")
        return None if end < 0 else end - self._begin

    def _take(self, size_bytes: int) -> Frame | None:
        begin, end = self._begin, self._begin + size_bytes
        if self._body_bytes is None:
            # The line end before a delimiter is part of the delimiter (RFC 2046 §5.1.1).
            if self._buffer.endswith(b"\n", begin, end):
                end -= 1
            if self._buffer.endswith(b"\r", begin, end):
                end -= 1
        self._begin += size_bytes
        self._searched = self._begin
        self._in_body = False
        self._body_bytes = None
        if not self._buffer.startswith(b"\xff\xd8", begin, end):
            return None
        with memoryview(self._buffer) as view, view[begin:end] as jpeg:
            return Frame.of(jpeg)

    def _find_delimiter(self) -> int:
        """Where the delimiter begins, -1 when it is not received yet; remembers how far it looked."""
        line_begin = b"\n" if self._in_body and len(self._delimiter) < _UNMISTAKABLE_BYTES else b""
        wanted = line_begin + self._delimiter
        begin = self._buffer.find(wanted, max(self._begin, self._searched), self._end)
        if begin < 0:
            self._searched = max(self._begin, self._end - len(wanted) + 1)
            return -1
        return begin + len(line_begin)

    def _text(self, begin: int) -> bytes:
        """What stands there, for an error."""
        return bytes(self._buffer[begin : min(begin + 80, self._end)])
