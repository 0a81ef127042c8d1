"""What heads mean, and that everything that might mean two things is refused (the rest is in attacks.yaml)."""

from __future__ import annotations

import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway import heads
from klipper_router.gateway.heads import BadHead


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_request_is_taken_apart() -> None:
    made = heads.request(
        head(
            "POST /a%20b?c=d HTTP/1.1",
            "Host: x:80",
            "Content-Length: 5",
            "X-A:  b \t",
            "x-a: ü",
            "Expect: 100-Continue",
        )
    )
    assert (made.method, made.target, made.raw_path, made.query) == (b"POST", b"/a%20b?c=d", b"/a%20b", b"c=d")
    assert (made.host, made.http11, made.keep_alive, made.upgrade) == (b"x:80", True, True, b"")
    assert (made.content_length, made.chunked, made.has_body, made.expect) == (5, False, True, True)
    assert made.values(b"x-a") == [b"b", "ü".encode("latin-1")]
    assert made.value(b"nothing") is None


def test_a_whole_url_of_the_same_host_is_its_path() -> None:
    assert heads.request(head("GET http://X:80/a?b HTTP/1.1", "Host: x:80")).target == b"/a?b"
    assert heads.request(head("GET http://x HTTP/1.1", "Host: x")).target == b"/"
    assert heads.request(head("GET http://x?a HTTP/1.1", "Host: x")).target == b"/?a"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "X, Close", False),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
    ],
)
def test_whether_a_connection_goes_on(version: str, connection: str | None, kept: bool) -> None:
    lines = [f"Connection: {connection}"] if connection else []
    assert heads.request(head(f"GET / HTTP/{version}", "Host: x", *lines)).keep_alive is kept


def test_an_upgrade_must_be_named_in_connection() -> None:
    lines = ("GET / HTTP/1.1", "Host: x", "Upgrade: WebSocket")
    assert heads.request(head(*lines, "Connection: keep-alive, Upgrade")).upgrade == b"websocket"
    assert heads.request(head(*lines)).upgrade == b""


def test_a_response_is_taken_apart() -> None:
    made = heads.response(head("HTTP/1.1 404 Not Found at all", "Content-Length: 3", "X: y"))
    assert (made.status, made.reason, made.content_length) == (404, b"Not Found at all", 3)
    assert heads.response(head("HTTP/1.1 200")).reason == b""
    assert heads.response(head("HTTP/1.0 200 OK")).keep_alive is False


PIECES = [
    "GET / HTTP/1.1", "POST /a HTTP/1.0", "Host: x", "host:y", "Content-Length: 3", "Content-Length: 03",
    "Content-Length : 3",
    "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding:\tchunked ", "transfer-encoding: x",
    " folded", "X-A: b\rc", "X-A: b\nc", "X-A: \0", "X-A: \x7f", "", "Connection: close", ": x", "X A: b", "\tX: y",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PIECES), max_size=6),
    st.sampled_from(["GET / HTTP/1.1", "POST /x HTTP/1.1", "GET / HTTP/1.0"]),
)
def test_another_kept_parser_sees_the_same_message_in_what_is_accepted(lines: list[str], first: str) -> None:
    data = head(first, *lines)
    try:
        made = heads.request(data)
    except BadHead:
        return
    assert data.count(b"\r\n\r\n") == 1
    other = h11.Connection(h11.SERVER)
    other.receive_data(data)
    event = other.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (made.method, made.target)
    values = dict(event.headers)
    assert int(values.get(b"content-length", b"0")) == (made.content_length or 0)
    assert (b"transfer-encoding" in values) == made.chunked
    assert [value for name, value in event.headers if name == b"host"] == [made.host]


@pytest.mark.parametrize("host", ["[1.2.3.4]", "[1.2.3.4]:80", "[abcd]:80"])
def test_a_host_in_brackets_is_no_address_of_ipv4(host: str) -> None:
    assert heads.request(head("GET / HTTP/1.1", "Host: [::ffff:1.2.3.4]:80")).host == b"[::ffff:1.2.3.4]:80"
    with pytest.raises(BadHead):
        heads.request(head("GET / HTTP/1.1", f"Host: {host}"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    for parse in (heads.request, heads.response):
        with contextlib.suppress(BadHead):
            parse(data)
            assert data.endswith(b"\r\n\r\n")
