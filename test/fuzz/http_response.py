"""What a printer's Moonraker (or a camera) answers: its head, where its body ends, and the head that a client is sent.

Invariant: refused (BadHead), or h11 sees the same status, fields, body and end, however the body is cut; the head for
the client is one that h11 reads, with the same framing and nothing that is for one connection.
Input: the first byte is how large the body's pieces are, and its lowest bit whether HEAD was asked; the rest is the
stream.
"""

from __future__ import annotations

import h11

from klipper_router.gateway import body, header_rules, heads
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import HOP_BY_HOP, BadHead, ResponseHead

WORDS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 ",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"Location: http://a/x\r\n",
    b"Connection: close\r\n",
    b"Content-Length: ",
    b"304",
    b"100",
    b"\r\n",
    b"\n",
    b"\t",
    b"\x80",
)

GET = heads.request(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
HEAD = heads.request(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")


def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] if data else 1), data[1:]
    asked = HEAD if size & 1 else GET
    begin, mark, rest = stream.partition(b"\r\n\r\n")
    try:
        head = heads.response(begin + mark)
    except BadHead as refused:
        if refused.status == 502:
            return
        raise
    if head.status < 200:
        return  # interim, or another protocol: `relay` builds or judges those by themselves
    ours = read_body(head, asked.method, rest, size)
    response, *theirs = h11_reads(stream, asked.method)
    assert head.status == response.status_code
    assert [(lower, value.lower()) for lower, _, value in head.fields] == [
        (name, value.lower())
        for name, value in response.headers  # h11 changes the case of Transfer-Encoding
    ]
    if ours is None:
        return  # we are stricter, with trailers for one
    assert ours == theirs
    connection = Connection("192.0.2.7", None, tls=False)
    for connection.keep_alive in (True, False):
        told = header_rules.response_head(head, asked, connection, b"/printers/main")
        check_told(heads.response(told), head, keep_alive=connection.keep_alive)
        if ours[1]:
            assert h11_reads(told + rest, asked.method)[1:3] == (ours[0], True)


def read_body(head: ResponseHead, method: bytes, rest: bytes, size: int) -> list[object] | None:
    """What it carries, and whether it is complete; None when it is refused. The same in any pieces."""
    outcomes: list[list[object] | None] = []
    for piece_bytes in (size, len(rest) + 1):
        framing, payload, at = body.of_response(head, method), list[bytes](), 0
        try:
            while at < len(rest) and not framing.done:
                at += framing.take(rest[at : at + piece_bytes], payload)
            outcomes.append([b"".join(payload), framing.done])
        except BadHead:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
    return outcomes[0]


def h11_reads(stream: bytes, method: bytes) -> tuple[h11.Response, bytes, bool]:
    """The response, what its body carries and whether it is known to be complete."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=heads.MAX_HEAD_BYTES)
    reader.send(h11.Request(method=method, target="/x", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(stream)
    response = reader.next_event()
    assert isinstance(response, h11.Response)
    payload = b""
    try:
        while isinstance(event := reader.next_event(), h11.Data):
            payload += bytes(event.data)
    except h11.RemoteProtocolError:
        return response, payload, False
    return response, payload, isinstance(event, h11.EndOfMessage)


def check_told(told: ResponseHead, head: ResponseHead, *, keep_alive: bool) -> None:
    assert (told.status, told.chunked, told.content_length) == (head.status, head.chunked, head.content_length)
    assert told.keep_alive == keep_alive
    names = {lower for lower, _, _ in told.fields}
    assert names.isdisjoint(HOP_BY_HOP - {b"transfer-encoding", b"connection"})
