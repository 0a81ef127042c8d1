"""Where a body ends, however it is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway import body, heads
from klipper_router.gateway.body import Chunks, Framing, Length, UntilClose
from klipper_router.gateway.heads import BadHead

AFTER = b"GET / HTTP/1.1\r\n"


def feed(framing: Framing, data: bytes, cuts: list[int]) -> tuple[int, bytes]:
    """How many bytes were the body's, and what it carried."""
    payload: list[bytes] = []
    taken = 0
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        if framing.done:
            break
        taken += framing.take(data[begin:end], payload)
    return taken, b"".join(payload)


cuts = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), cuts)
def test_chunks_end_where_they_end(contents: list[bytes], cut: list[int]) -> None:
    wire = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(each), each) for each in contents) + b"0\r\n\r\n"
    framing = Chunks()
    assert feed(framing, wire + AFTER, cut) == (len(wire), b"".join(contents))
    assert framing.done


@given(st.binary(max_size=100), cuts)
def test_a_length_ends_where_it_ends(content: bytes, cut: list[int]) -> None:
    framing = Length(len(content))
    assert feed(framing, content + AFTER, cut) == (len(content), content)
    assert framing.done


def test_what_ends_with_the_connection_takes_everything() -> None:
    framing = UntilClose()
    assert feed(framing, AFTER, []) == (len(AFTER), AFTER)
    assert not framing.done


BAD = [
    b"5\nhello\r\n",
    b"5\r\nhelloX\r\n",
    b"5\r\nhello\rX",
    b"0\r\nA: b\r\n\r\n",
    b" 5\r\n",
    b"5;\0\r\n",
    b"5 ;a=b\r\nhello\r\n0\r\n\r\n",
    b"-1\r\n",
    b"\r\n",
    b"g\r\n",
]


@pytest.mark.parametrize("wire", BAD)
@given(cut=cuts)
def test_chunks_that_may_be_read_in_two_ways_are_refused(wire: bytes, cut: list[int]) -> None:
    with pytest.raises(BadHead):
        feed(Chunks(), wire, cut)


@pytest.mark.parametrize(
    ("method", "first", "fields", "kind"),
    [
        (b"GET", "HTTP/1.1 200 OK", ["Content-Length: 5"], Length),
        (b"GET", "HTTP/1.1 200 OK", ["Transfer-Encoding: chunked"], Chunks),
        (b"GET", "HTTP/1.1 200 OK", [], UntilClose),
    ],
)
def test_a_response_says_how_it_ends(method: bytes, first: str, fields: list[str], kind: type) -> None:
    head = heads.response("\r\n".join([first, *fields, "", ""]).encode())
    assert isinstance(body.of_response(head, method), kind)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"GET", 103)])
def test_some_responses_have_no_body_whatever_they_say(method: bytes, status: int) -> None:
    head = heads.response(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n".encode())
    assert body.of_response(head, method).done
