"""A client's request at the gateway: its head, where its body ends, and what a printer's Moonraker is sent of it.

Invariant: refused (BadHead, HttpError), or h11, a reader of its own, sees the same: method, target, fields, the
body's bytes and what follows it, however the body is cut. What goes upstream is a head that would be accepted again,
with the same framing, one Host as it was, the client's address once and ours, and nothing that is for one connection.
Input: the first byte is how large the body's pieces are; the rest is the stream.
"""

from __future__ import annotations

from collections import Counter

import h11

from klipper_router.gateway import body, header_rules, heads
from klipper_router.gateway.access import Client
from klipper_router.gateway.heads import BadHead, RequestHead
from klipper_router.gateway.http import HttpError, Peer

WORDS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"Transfer-Encoding",
    b"Content-Length: ",
    b"Connection: ",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Real-IP: ",
    b"X_Real_IP: ",
    b"Forwarded: ",
    b"http://a",
    b"HTTP/1.0",
    b"close, ",
    b"keep-alive",
    b"\r\n",
    b"\r",
    b"\n",
    b"\x00",
    b"%2e%2e/",
    b"/../",
    b" ",
    b"\t",
    b";",
)

CLIENT = Client(Peer("192.0.2.7", trusted=False), "http", "192.0.2.7")
OURS = {b"x-real-ip": b"192.0.2.7", b"x-forwarded-for": b"192.0.2.7", b"x-scheme": b"http"}


def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] if data else 1), data[1:]
    begin, mark, rest = stream.partition(b"\r\n\r\n")
    try:
        head = heads.request(begin + mark)
    except BadHead as refused:
        if refused.status in (400, 405, 417, 431, 501):
            return
        raise
    ours = read_body(head, rest, size)
    check_the_same(head, ours, h11_reads(stream))
    try:
        upstream = header_rules.request_head(head, head.target, CLIENT)
    except HttpError:
        return
    check_upstream(head, upstream)
    again = heads.request(upstream)
    if ours is not None and ours[1]:
        sent = upstream + rest[: len(rest) - len(ours[2])]
        check_the_same(again, (*ours[:2], b""), h11_reads(sent))


def read_body(head: RequestHead, rest: bytes, size: int) -> tuple[bytes, bool, bytes] | None:
    """What it carries, whether it is complete, and what follows; None when it is refused. The same in any pieces."""
    outcomes: list[tuple[bytes, bool, bytes] | None] = []
    for piece_bytes in (size, len(rest) + 1):
        framing, payload, at = body.of_request(head), list[bytes](), 0
        try:
            while at < len(rest) and not framing.done:
                at += framing.take(rest[at : at + piece_bytes], payload)
            outcomes.append((b"".join(payload), framing.done, rest[at:]))
        except BadHead:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
    return outcomes[0]


def h11_reads(stream: bytes) -> tuple[h11.Request, bytes, bool, bytes | None]:
    """The request, what its body carries, whether that is complete and what follows; None when it is refused."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=heads.MAX_HEAD_BYTES)
    reader.receive_data(stream)
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    payload = b""
    try:
        while isinstance(event := reader.next_event(), h11.Data):
            payload += bytes(event.data)
    except h11.RemoteProtocolError:
        return request, payload, False, None
    return request, payload, isinstance(event, h11.EndOfMessage), reader.trailing_data[0]


def check_the_same(
    head: RequestHead, ours: tuple[bytes, bool, bytes] | None, read: tuple[h11.Request, bytes, bool, bytes | None]
) -> None:
    request, *theirs = read
    assert head.method == request.method
    assert [(lower, value.lower()) for lower, _, value in head.fields] == [
        (name, value.lower())
        for name, value in request.headers  # h11 changes the case of Transfer-Encoding
    ]
    assert request.target.endswith(head.target if request.target.startswith(b"/") else head.target.lstrip(b"/"))
    if ours is not None:  # else we are stricter, with trailers for one
        assert [*ours[:2]] == theirs[:2]
        assert not ours[1] or ours[2] == theirs[2]


def check_upstream(head: RequestHead, upstream: bytes) -> None:
    again = heads.request(upstream)
    assert (again.method, again.target, again.host) == (head.method, head.target, head.host)
    assert (again.chunked, again.content_length) == (head.chunked, head.content_length)
    names = Counter(lower.replace(b"_", b"-") for lower, _, _ in again.fields)
    for name, value in OURS.items():
        assert (names[name], again.value(name)) == (1, value)
    assert names[b"forwarded"] == names[b"te"] == names[b"trailer"] == names[b"keep-alive"] == 0
    if again.upgrade:
        assert (again.upgrade, {*again.connection}) == (b"websocket", {b"upgrade"})
        assert head.upgrade == b"websocket"
    else:
        assert again.connection <= {b"close"}
        assert names[b"upgrade"] == 0
