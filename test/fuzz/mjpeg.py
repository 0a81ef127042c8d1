"""A camera's stream, cut into pictures.

Invariant: the same pictures however the stream is cut, until ProtocolError; each is a JPEG within the limit; no more
is kept than one picture and one receive; what viewers are sent of a picture holds it whole, and is read as the same
picture.
Input: the first byte is how large the pieces are, the second chooses the boundary that the head named; the rest is
the stream.
"""

from __future__ import annotations

from klipper_router.errors import ProtocolError
from klipper_router.gateway.cameras import mjpeg
from klipper_router.gateway.cameras.mjpeg import Frame, MjpegParser

WORDS = (
    b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n\xff\xd8abc\r\n--frame\r\n",
    b"\xff\xd8\xff\xe0",
    b"\xff\xd9",
    b"--frame",
    b"--frame--\r\n",
    b"frame",
    b"--b",
    b"Content-Length: ",
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
)

BOUNDARIES = ("", "frame", "--frame", "b", "----------boundary")
MAX_FRAME_BYTES = 200
MAX_KEPT_BYTES = 2 * mjpeg.BUFFER_BYTES


def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] if data else 1), data[2:]
    boundary = BOUNDARIES[data[1] % len(BOUNDARIES)] if len(data) > 1 else ""
    pieces = [stream[begin : begin + size] for begin in range(0, len(stream), size)]
    pictures, problem = outcome(boundary, pieces)
    at_once, problem_at_once = outcome(boundary, [stream])
    if problem or problem_at_once:
        # Pictures that come with what ends a stream are lost with it; the search for a delimiter has no exact limit.
        shorter = min(len(pictures), len(at_once))
        assert pictures[:shorter] == at_once[:shorter]
    else:
        assert pictures == at_once
    for jpeg in pictures:
        assert jpeg.startswith(b"\xff\xd8")
        assert len(jpeg) <= MAX_FRAME_BYTES + len(b"\r\n")  # which may or may not be the delimiter's
    sent = mjpeg.FIRST_DELIMITER + b"".join(Frame.of(jpeg).part for jpeg in pictures)
    assert outcome("frame", [sent], MAX_FRAME_BYTES + 2) == (pictures, False)


def outcome(boundary: str, pieces: list[bytes], max_bytes: int = MAX_FRAME_BYTES) -> tuple[list[bytes], bool]:
    """The pictures, and whether the stream is none from there on."""
    parser = MjpegParser(mjpeg.boundary_of(f"multipart/x-mixed-replace;boundary={boundary}") or "", max_bytes)
    pictures: list[bytes] = []
    for piece in pieces:
        try:
            pictures += [frame.jpeg for frame in parser.feed(piece)]
        except ProtocolError:
            return pictures, True
        assert len(parser._buffer) <= MAX_KEPT_BYTES
    return pictures, False
