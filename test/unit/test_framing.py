"""Frames on the wire: however the stream is cut, the same frames come out, and a frame too long costs only itself."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from klipper_router.framing import FRAME_END, HEAD_BYTES, FrameSplitter, TooLong

LIMIT = 2 * HEAD_BYTES

SHORT_FRAMES = st.binary(max_size=8).map(lambda data: data.replace(FRAME_END, b"\x04"))
LONG_FRAMES = st.builds(
    lambda begin, size: begin + b"x" * size, SHORT_FRAMES, st.sampled_from([LIMIT - 9, LIMIT, LIMIT + 1, 5 * LIMIT])
)
FRAMES = st.lists(SHORT_FRAMES | LONG_FRAMES, max_size=8)


def wire(frames: Sequence[bytes], rest: bytes = b"") -> bytes:
    return b"".join(frame + FRAME_END for frame in frames) + rest


def as_split(frame: bytes) -> bytes | TooLong:
    """What a splitter with the limit makes of a frame."""
    return frame if len(frame) <= LIMIT else TooLong(frame[:HEAD_BYTES], len(frame))


def feed_all(splitter: FrameSplitter, pieces: Sequence[bytes]) -> list[bytes | TooLong]:
    return [frame for piece in pieces for frame in splitter.feed(piece)]


@given(FRAMES, SHORT_FRAMES | LONG_FRAMES, st.data())
def test_any_split_of_the_wire_gives_the_same_frames(frames: list[bytes], rest: bytes, data: st.DataObject) -> None:
    stream = wire(frames, rest)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    splitter = FrameSplitter(LIMIT)
    assert feed_all(splitter, pieces) == [as_split(frame) for frame in frames]
    assert splitter.pending_bytes == len(rest)


@given(FRAMES)
def test_a_stream_fed_byte_by_byte_gives_the_same_frames(frames: list[bytes]) -> None:
    stream = wire(frames)
    splitter = FrameSplitter(LIMIT)
    assert feed_all(splitter, [stream[i : i + 1] for i in range(len(stream))]) == [as_split(frame) for frame in frames]
    assert splitter.pending_bytes == 0


def test_a_frame_begun_is_given_only_when_it_has_ended() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b'{"id"') == []
    assert splitter.pending_bytes == 5
    assert splitter.feed(b"") == []
    assert splitter.feed(b":1}\x03{") == [b'{"id":1}']
    assert splitter.pending_bytes == 1


def test_a_frame_of_just_the_limit_is_kept() -> None:
    assert FrameSplitter(4).feed(b"abcd\x03") == [b"abcd"]
    assert FrameSplitter(4).feed(b"abcde\x03") == [TooLong(b"abcde", 5)]


def test_a_frame_that_is_too_long_is_skipped_without_being_kept_and_the_next_is_read() -> None:
    splitter = FrameSplitter(LIMIT)
    head = bytes(range(4, 256)) + b"head"
    assert splitter.feed(head) == []
    for _ in range(100):
        assert splitter.feed(b"x" * 1000) == []
        kept = sum(map(len, splitter._begun))
        assert kept <= HEAD_BYTES
    assert splitter.pending_bytes == HEAD_BYTES + 100_000
    assert splitter.feed(b"\x03next\x03") == [TooLong(head, HEAD_BYTES + 100_000), b"next"]
    assert splitter.pending_bytes == 0


def test_the_error_about_a_long_frame_says_how_long_it_was_and_how_it_began() -> None:
    error = TooLong(b'{"id": 7, "result"', 500).error(100)
    assert str(error) == 'a frame of 500 bytes, over the limit of 100: \'{"id": 7, "result"\''
    assert error.head == b'{"id": 7, "result"'
