"""MJPEG streams of every dialect met, cut anywhere, give the same frames; what is no stream is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.errors import ProtocolError
from klipper_router.gateway.cameras import mjpeg
from klipper_router.gateway.cameras.mjpeg import Frame, MjpegParser, boundary_of


def jpeg(content: bytes) -> bytes:
    return b"\xff\xd8\xff\xe0" + content + b"\xff\xd9"


PICTURES = [jpeg(b"one"), jpeg(b"\r\n--no\r\n\r\n" * 3), jpeg(bytes(range(256)) * 40), jpeg(b"")]


def with_length(picture: bytes, line_end: bytes = b"\r\n") -> bytes:
    return line_end.join([b"Content-Type: image/jpeg", b"Content-Length: %d" % len(picture), b"", b""]) + picture


def without_length(picture: bytes) -> bytes:
    return b"Content-Type: image/jpeg\r\n\r\n" + picture


# What servers send: the boundary parameter, and the body, whose last delimiter is there as at a stream under way.
DIALECTS = {
    "ustreamer": (
        "boundarydonotcross",
        b"--boundarydonotcross\r\n"
        + b"".join(
            b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Timestamp: 1.5\r\nX-UStreamer-Online: true\r\n\r\n%s"
            b"\r\n--boundarydonotcross\r\n" % (len(picture), picture)
            for picture in PICTURES
        ),
    ),
    "ustreamer with advance_headers": (
        "boundarydonotcross",
        b"--boundarydonotcross\r\nContent-Type: image/jpeg\r\nX-Timestamp: 0.0\r\n\r\n"
        + b"\r\n--boundarydonotcross\r\nContent-Type: image/jpeg\r\nX-Timestamp: 0.0\r\n\r\n".join([*PICTURES, b""]),
    ),
    "mjpg-streamer": (
        "boundarydonotcross",
        b"--boundarydonotcross \r\n"
        + b"".join(with_length(picture) + b"\r\n--boundarydonotcross \r\n" for picture in PICTURES),
    ),
    "spyglass": (
        "FRAME",
        b"".join(b"--FRAME\r\n" + with_length(picture) + b"\r\n" for picture in PICTURES),
    ),
    "esp32, line end first": (
        "123456789000000000000987654321",
        b"".join(b"\r\n--123456789000000000000987654321\r\n" + with_length(picture) for picture in PICTURES),
    ),
    "a tutorial's, without length": (
        "frame",
        b"".join(b"--frame\r\n" + without_length(picture) + b"\r\n" for picture in PICTURES) + b"--frame\r\n",
    ),
    "dashes counted into the parameter": (
        "--myboundary",
        b"".join(b"--myboundary\r\n" + without_length(picture) + b"\r\n" for picture in PICTURES) + b"--myboundary\r\n",
    ),
    "dashes in the parameter and two more": (
        "--myboundary",
        b"".join(b"----myboundary\r\n" + with_length(picture) + b"\r\n" for picture in PICTURES)
        + b"----myboundary\r\n",
    ),
    "no dashes at all": (
        "myboundary",
        b"".join(b"myboundary\r\n" + with_length(picture) + b"\r\n" for picture in PICTURES) + b"myboundary\r\n",
    ),
    "another boundary than said": (
        "boundary",
        b"".join(b"--ipcamera\r\n" + without_length(picture) + b"\r\n" for picture in PICTURES) + b"--ipcamera\r\n",
    ),
    "no boundary said": ("", b"".join(b"--x\r\n" + with_length(picture) + b"\r\n" for picture in PICTURES)),
    "no first delimiter": ("frame", b"\r\n--frame\r\n".join(with_length(picture) for picture in PICTURES)),
    "line feeds only": (
        "b",
        b"".join(b"--b\n" + with_length(picture, b"\n") + b"\n" for picture in PICTURES) + b"--b\n",
    ),
    "parts without a header": (
        "BoundaryString",
        b"".join(b"--BoundaryString\r\n\r\n" + picture + b"\r\n" for picture in PICTURES) + b"--BoundaryString\r\n",
    ),
    "no line end before a delimiter": (
        "BoundaryString",
        b"".join(b"--BoundaryString\r\n" + without_length(picture) for picture in PICTURES) + b"--BoundaryString\r\n",
    ),
    "lengths that are too small": (
        "boundarydonotcross",
        b"".join(
            b"--boundarydonotcross\r\nCONTENT-LENGTH : %d\r\n\r\n%s\r\n" % (len(picture), picture + b"trailer")
            for picture in PICTURES
        ),
    ),
    "padded length": (
        "BoundaryString",
        b"".join(
            b"--BoundaryString\r\nContent-type: image/jpeg\r\nContent-Length:   %9d\r\n\r\n%s\r\n"
            % (len(picture), picture)
            for picture in PICTURES
        ),
    ),
    "closed": (
        "frame",
        b"".join(b"--frame\r\n" + without_length(picture) + b"\r\n" for picture in PICTURES) + b"--frame--\r\nbye\r\n",
    ),
}


def pictures(parser: MjpegParser, *pieces: bytes) -> list[bytes]:
    return [frame.jpeg for piece in pieces for frame in parser.feed(piece)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_cut_into_its_frames(dialect: str) -> None:
    boundary, body = DIALECTS[dialect]
    parser = MjpegParser(boundary)
    assert pictures(parser, body) == PICTURES
    assert parser.skipped == 0
    assert parser.ended == (dialect == "closed")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_split_at_each_byte_changes_nothing(dialect: str) -> None:
    boundary, body = DIALECTS[dialect]
    assert pictures(MjpegParser(boundary), *(body[at : at + 1] for at in range(len(body)))) == PICTURES


@given(data=st.data(), dialect=st.sampled_from(sorted(DIALECTS)))
def test_any_split_gives_the_same_frames(data: st.DataObject, dialect: str) -> None:
    boundary, body = DIALECTS[dialect]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert pictures(MjpegParser(boundary), *pieces) == PICTURES


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(1, 400)))
def test_whatever_a_picture_holds_it_comes_out_as_it_was(contents: list[bytes], sizes: list[int]) -> None:
    wanted = [jpeg(content) for content in contents]
    body = b"--boundarydonotcross\r\n" + b"".join(
        with_length(picture) + b"\r\n--boundarydonotcross\r\n" for picture in wanted
    )
    pieces = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    assert pictures(MjpegParser("boundarydonotcross"), *pieces, body) == wanted


@given(st.lists(st.binary(max_size=200)))
def test_noise_gives_frames_or_a_protocol_error_and_nothing_else(pieces: list[bytes]) -> None:
    parser = MjpegParser("frame", max_frame_bytes=1000)
    with contextlib.suppress(ProtocolError):
        for piece in [b"--frame\r\n", *pieces]:
            for frame in parser.feed(piece):
                assert frame.jpeg.startswith(b"\xff\xd8")


def test_a_frame_is_complete_with_its_last_byte_where_its_length_is_known() -> None:
    boundary, body = DIALECTS["ustreamer"]
    first = body.index(PICTURES[0]) + len(PICTURES[0])
    parser = MjpegParser(boundary)
    assert pictures(parser, body[: first - 1]) == []
    assert pictures(parser, body[first - 1 : first]) == [PICTURES[0]]


def test_a_part_that_is_no_jpeg_is_skipped() -> None:
    text = b"--frame\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello\r\n"
    empty = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n\r\n"
    parser = MjpegParser("frame")
    assert pictures(parser, text + empty + b"--frame\r\n" + with_length(PICTURES[0])) == [PICTURES[0]]
    assert parser.skipped == 2


def test_a_wrong_length_costs_one_frame() -> None:
    body = b"--frame\r\nContent-Length: 90\r\n\r\n%s\r\n--frame\r\n" % PICTURES[0] + b"x" * 90
    body += b"\r\n--frame\r\n" + with_length(PICTURES[2])
    assert pictures(MjpegParser("frame"), body)[-1] == PICTURES[2]


def test_a_huge_frame_is_refused_by_its_length() -> None:
    parser = MjpegParser("frame", max_frame_bytes=1000)
    with pytest.raises(ProtocolError, match="1001 bytes, over the limit of 1000"):
        parser.feed(b"--frame\r\nContent-Length: 1001\r\n\r\n")


def test_a_huge_frame_without_length_is_refused_before_it_is_kept() -> None:
    parser = MjpegParser("frame", max_frame_bytes=300_000)
    parser.feed(b"--frame\r\n\r\n\xff\xd8")
    for _ in range(29):
        parser.feed(bytes(10_000))
    with pytest.raises(ProtocolError, match="without end after the limit of 300000"):
        parser.feed(bytes(10_020))


def test_a_frame_of_just_the_limit_passes() -> None:
    picture = jpeg(b"x" * 994)
    assert len(picture) == 1000
    assert pictures(MjpegParser("frame", 1000), b"--frame\r\n" + with_length(picture)) == [picture]
    assert pictures(MjpegParser("frame", 1000), b"--frame\r\n\r\n" + picture + b"\r\n--frame") == [picture]


def test_large_frames_fit_however_they_arrive() -> None:
    wanted = [jpeg(bytes([number]) * 700_000) for number in range(4)]
    body = b"--frame\r\n" + b"\r\n--frame\r\n".join(with_length(picture) for picture in wanted)
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    assert pictures(MjpegParser("frame"), *pieces) == wanted


@pytest.mark.parametrize(
    "body",
    [
        b"<html>\r\n<body>It works!</body></html>\r\n",
        b"x" * 9000,
        b"--frame" + b"x" * 9000,
        b"--frame\r\n" + b"X-Header: 1\r\n" * 900,
    ],
)
def test_what_is_no_stream_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        MjpegParser("frame").feed(body)


def test_junk_without_a_delimiter_ends_some_time() -> None:
    parser = MjpegParser("frame", max_frame_bytes=100_000)
    parser.feed(b"--frame\r\nContent-Length: 2\r\n\r\n\xff\xd8")
    for _ in range(10):
        parser.feed(b"x" * 10_000)
    with pytest.raises(ProtocolError, match="no delimiter within"):
        parser.feed(b"x" * 100)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace;boundary=boundarydonotcross", "boundarydonotcross"),
        ("multipart/x-mixed-replace; boundary=--myboundary", "--myboundary"),
        ('Multipart/X-Mixed-Replace; charset=x; BOUNDARY = "a b;c"', "a b;c"),
        ("multipart/x-mixed-replace", ""),
        ("image/jpeg", None),
        ("text/html; boundary=x", None),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type: str, boundary: str | None) -> None:
    assert boundary_of(content_type) == boundary


def test_frames_make_a_stream_that_a_strict_reader_takes() -> None:
    boundary = boundary_of(mjpeg.CONTENT_TYPE)
    assert boundary is not None
    body = mjpeg.FIRST_DELIMITER + b"".join(Frame.of(picture).part for picture in PICTURES)
    delimiter = b"--" + boundary.encode() + b"\r\n"
    assert body.startswith(delimiter)
    assert body.endswith(b"\r\n" + delimiter)
    assert pictures(MjpegParser(boundary), body) == PICTURES
