"""Requests that the gateway answers itself: connections, limits, safety, WebSockets that end here."""

from __future__ import annotations

import contextlib
import json
import logging
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    TextMessage,
)
from wsproto.events import Request as Handshake

from klipper_router.gateway import app
from test.gateway.rig import WITHIN_S, Echo, Rig, Wire, fields_of, running

CONFIG = """
[gateway]
listen: 127.0.0.1:0
hosts: printers.example.org, *.farm.example
cors_domains: http://ui.example, *.lan
trusted_proxies: 127.0.0.1
data: data
[klippy main]
moonraker: none
[klippy only_status]
"""


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def rig(tmp_path: Path, echo: Echo) -> AsyncIterator[Rig]:
    async with running(tmp_path, CONFIG, echo) as made:
        yield made


FROM_AFAR = "X-Forwarded-For: 203.0.113.9"


# -- requests and responses ------------------------------------------------------------------------------------------


async def test_a_site_sees_the_request_as_it_was_meant(rig: Rig) -> None:
    _, _, body = await rig.get("/some%20path/%C3%A4?a=1&b=%20x&b=y&flag")
    assert json.loads(body) == {
        "method": "GET",
        "path": "/some path/ä",
        "prefix": "",
        "printer": None,
        "query": {"a": "1", "b": "y", "flag": ""},
        "ip": "127.0.0.1",
        "trusted": True,
        "authorized": True,
        "origin": f"http://{rig.host}",
    }


async def test_a_connection_is_kept_after_a_body_that_nobody_read(rig: Rig) -> None:
    async with rig.client() as client:
        head = f"PUT /ignore HTTP/1.1\r\nHost: {rig.host}\r\nContent-Type: x/y\r\nContent-Length: 100000\r\n\r\n"
        for _ in range(3):
            await client.send(head.encode() + b"x" * 100_000)
            assert (await client.message())[1] == b'"ignored"'


async def test_a_long_body_that_nobody_read_ends_the_connection(rig: Rig) -> None:
    head = f"PUT /ignore HTTP/1.1\r\nHost: {rig.host}\r\nContent-Type: x/y\r\nContent-Length: 10000000\r\n\r\n"
    async with rig.client() as client:
        await client.send(head.encode() + b"x" * 1000)
        response_head, body = await client.message()
        assert body == b'"ignored"'
        assert b"\r\nConnection: close\r\n" in response_head, "else it would be used for another request"
        await client.stream.send_all(b"x" * 1_000_000)
        assert await client.rest() == b""


@pytest.mark.parametrize("expect", [False, True])
async def test_a_body_is_streamed_to_the_site(rig: Rig, expect: bool) -> None:
    fields = "Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n" + ("Expect: 100-continue\r\n" if expect else "")
    async with rig.client() as client:
        await client.send(f"PUT /count HTTP/1.1\r\nHost: {rig.host}\r\n{fields}\r\n".encode())
        if expect:
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        for _ in range(10):
            await client.send(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")
        await client.send(b"0\r\n\r\n")
        assert (await client.message())[1] == b"655350"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"a": 1}', "application/json", 200),
        (b'{"a": 1}', "application/json; charset=utf-8", 200),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b" " * 2_000_000, "application/json", 413),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b'{"a": 1}', "text/plain", 415),
        (b"x", "multipart/form-data", 415),
    ],
)
async def test_a_command_is_taken_as_json_only(rig: Rig, body: bytes, kind: str, status: int) -> None:
    got, _, content = await rig.get("/json", f"Content-Type: {kind}", method="POST", body=body)
    assert got == status
    assert (json.loads(content) == {"a": 1}) == (status == 200)


async def test_a_generator_is_sent_as_it_comes_to_new_and_old_clients(rig: Rig) -> None:
    _, fields, body = await rig.get("/numbers")
    assert (fields.get("transfer-encoding"), body) == ("chunked", b"0 1 2 ")
    async with rig.client() as client:
        await client.send(f"GET /numbers HTTP/1.0\r\nHost: {rig.host}\r\nConnection: keep-alive\r\n\r\n".encode())
        head, body = await client.message()
        assert (fields_of(head).get("connection"), body) == ("close", b"0 1 2 ")


async def test_a_generator_is_closed_when_its_client_goes(rig: Rig, echo: Echo) -> None:
    async with rig.client() as client:
        await client.send(f"GET /endless HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        await client.head()
    with trio.fail_after(3):
        await echo.generator_closed.wait()


async def test_head_is_answered_without_a_body(rig: Rig) -> None:
    async with rig.client() as client:
        for path in ("/x", "/numbers", "/x"):
            await client.send(f"HEAD {path} HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
            assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_bug_in_one_request_is_a_500_and_nothing_else(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async with rig.client() as client:
        await client.send(f"GET /bug HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        head, body = await client.message()
        assert head.startswith(b"HTTP/1.1 500 ")
        assert "RuntimeError" not in body.decode()
        await client.send(f"GET /x HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        assert (await client.message())[0].startswith(b"HTTP/1.1 200 ")
    assert "RuntimeError: a bug" in caplog.text


async def test_a_header_of_ours_cannot_be_split(rig: Rig) -> None:
    status, fields, _ = await rig.get("/split")
    assert (status, fields.get("set-cookie")) == (500, None)


async def test_a_printer_that_is_not_there_is_404_in_moonrakers_words(rig: Rig) -> None:
    status, _, body = await rig.get("/printers/nope/server/info")
    assert (status, json.loads(body)) == (404, {"error": {"code": 404, "message": "there is no printer 'nope'"}})


# -- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:7180", True),
        ("192.168.1.7", True),
        ("[fe80::1]:7180", True),
        ("printers.example.org", True),
        ("printers.example.org.", True),
        ("a.farm.example:80", True),
        ("voron.local", True),
        ("farm.example", False),
        ("printers.example.org.evil.example", False),
        ("evil.example", False),
    ],
)
async def test_only_names_of_this_host_are_answered(rig: Rig, host: str, known: bool) -> None:
    status, _, _ = await rig.ask(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert status == (200 if known else 421)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Origin: http://evil.example"], 403),
        (["Origin: null"], 403),
        (["Origin: http://127.0.0.1:1"], 403),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Origin: http://ui.example"], 200),
        (["Origin: https://ui.example"], 403),
        (["Origin: http://evil.lan"], 200),
        (["Origin: http://evil.example/x.lan"], 403),
        (["Sec-Fetch-Site: same-origin"], 200),
        ([], 200),
    ],
)
async def test_a_foreign_page_changes_nothing(rig: Rig, fields: list[str], status: int) -> None:
    assert (await rig.get("/x", *fields, method="POST", body=b""))[0] == status
    assert (await rig.get("/x", f"Origin: http://{rig.host}", method="POST", body=b""))[0] == 200


async def test_pages_of_cors_domains_may_read_answers_and_others_may_not(rig: Rig) -> None:
    _, fields, _ = await rig.get("/x", "Origin: http://ui.example")
    assert (fields.get("access-control-allow-origin"), fields.get("vary")) == ("http://ui.example", "Origin")
    _, fields, _ = await rig.get("/x", "Origin: http://evil.example")
    assert fields.get("access-control-allow-origin") is None
    status, fields, _ = await rig.get("/x", "Origin: http://ui.example", method="OPTIONS")
    assert (status, "X-Api-Key" in (fields.get("access-control-allow-headers") or "")) == (204, True)
    assert fields.all("access-control-allow-origin") == ["http://ui.example"]  # twice, and a browser refuses it


async def test_a_stranger_needs_the_api_key_or_a_token(rig: Rig) -> None:
    access = rig.gateway.access
    key = access.api_key()
    assert (await rig.get("/x", FROM_AFAR))[0] == 401
    assert (await rig.get("/open", FROM_AFAR))[0] == 200
    assert (await rig.get("/x", FROM_AFAR, f"X-Api-Key: {key}"))[0] == 200
    assert (await rig.get("/x", FROM_AFAR, f"X-Api-Key: {key}x"))[0] == 401
    token = access.oneshot_token("203.0.113.9")
    assert (await rig.get(f"/x?token={token}", FROM_AFAR))[0] == 200
    assert (await rig.get(f"/x?token={token}", FROM_AFAR))[0] == 401
    stolen = access.oneshot_token("203.0.113.8")
    assert (await rig.get(f"/x?token={stolen}", FROM_AFAR))[0] == 401


async def test_wrong_keys_are_counted_and_then_refused(rig: Rig) -> None:
    answers = [(await rig.get("/x", FROM_AFAR, f"X-Api-Key: {number}"))[0] for number in range(11)]
    assert answers == [401] * 10 + [429]
    assert (await rig.get("/x", "X-Forwarded-For: 203.0.113.8", "X-Api-Key: 1"))[0] == 401
    assert (await rig.get("/x"))[0] == 200


async def test_the_key_is_kept_in_a_file_of_the_routers_user_only(rig: Rig, tmp_path: Path, echo: Echo) -> None:
    file = tmp_path / "data" / "api_key"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    key = rig.gateway.access.new_api_key()
    assert file.read_text().strip() == key
    async with running(tmp_path, CONFIG, echo) as again:
        assert again.gateway.access.api_key() == key


async def test_the_access_log_holds_no_secrets(tmp_path: Path, echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    secret = "s3cr3t"
    async with running(tmp_path, CONFIG.replace("data: data", "access_log: true"), echo) as rig:
        for query in ("token", "access_token", "api_key", "a=b&password", "%74oken", "ToKeN", "x=1;token"):
            await rig.get(f"/path?{query}={secret}&z=9", f"X-Api-Key: {secret}", f"Authorization: Bearer {secret}")
    assert caplog.text.count("GET /path?") == 7
    assert "z=9" in caplog.text
    assert secret not in caplog.text


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised"),
    [
        (1024, 524288, 512, 1936),
        (4096, 4096, 512, 4096),
        (1024, 1024, 56, 1024),
        (64, 64, 16, 64),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 512, resource.RLIM_INFINITY),
    ],
)
def test_clients_never_take_the_file_descriptors_of_printers(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    connections: int,
    raised: int,
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, limit: limits.append(limit))
    assert app.affordable(512, printers=5, forwards=1) == connections
    assert limits[-1] == (raised, hard)
    assert ("LimitNOFILE" in caplog.text) == (connections < 512)


async def test_one_connection_too_many_is_closed(tmp_path: Path, echo: Echo) -> None:
    async with (
        running(tmp_path, CONFIG.replace("data: data", "max_connections: 2"), echo) as rig,
        rig.client() as first,
        rig.client() as second,
    ):
        for client in (first, second):
            await client.send(f"GET /x HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
            await client.message()
        async with rig.client() as third:
            assert await third.rest() == b""
        await first.send(f"GET /x HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        assert (await first.message())[0].startswith(b"HTTP/1.1 200 ")


async def test_one_client_may_not_take_all_connections(tmp_path: Path, echo: Echo) -> None:
    text = CONFIG.replace("data: data", "max_connections_per_client: 1")
    async with running(tmp_path, text, echo) as rig, contextlib.AsyncExitStack() as stack:
        answered = []
        for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.1"):
            sock = trio.socket.socket()
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", rig.port))
            wire = Wire(await stack.enter_async_context(trio.SocketStream(sock)))
            with contextlib.suppress(trio.BrokenResourceError, EOFError):
                await wire.send(f"GET /open HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
                await wire.message()
            answered.append(bool(wire.seen))
        assert answered == [True, False, True, True, True]


# -- WebSockets ------------------------------------------------------------------------------------------------------


class Speaker:
    """A client's end of a WebSocket, spoken by wsproto."""

    def __init__(self, rig: Rig, stream: trio.SocketStream) -> None:
        self.rig = rig
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.events: list[Event] = []

    async def open(self, path: str, *fields: tuple[bytes, bytes]) -> Event:
        await self.send(Handshake(host=self.rig.host, target=path, extra_headers=list(fields)))
        return await self.next()

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.protocol.send(event))

    async def next(self) -> Event:
        with trio.fail_after(WITHIN_S):
            while not self.events:
                data = await self.stream.receive_some(65536)
                self.protocol.receive_data(bytes(data) or None)
                self.events += self.protocol.events()
        return self.events.pop(0)


@pytest.fixture
async def speaker(rig: Rig) -> AsyncIterator[Speaker]:
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        yield Speaker(rig, stream)


async def test_messages_go_both_ways_and_pings_are_answered(speaker: Speaker) -> None:
    assert isinstance(await speaker.open("/x"), AcceptConnection)
    await speaker.send(TextMessage(data="hello", message_finished=False))
    await speaker.send(Ping(payload=b"p"))
    await speaker.send(TextMessage(data=" world"))
    assert await speaker.next() == Pong(payload=b"p")
    assert await speaker.next() == TextMessage(data="hello world")
    await speaker.send(BytesMessage(data=b"\x00" * 1_000_000))
    size = 0
    while size < 1_000_000:
        event = await speaker.next()
        assert isinstance(event, BytesMessage)
        size += len(event.data)
    await speaker.send(TextMessage(data="bye"))
    assert await speaker.next() == CloseConnection(code=1000, reason="")


async def test_a_close_is_answered(speaker: Speaker) -> None:
    await speaker.open("/x")
    await speaker.send(CloseConnection(code=1001, reason="leaving"))
    assert await speaker.next() == CloseConnection(code=1001, reason="leaving")


async def test_a_bug_behind_a_websocket_closes_it_with_1011(speaker: Speaker) -> None:
    await speaker.open("/bug")
    event = await speaker.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1011


@pytest.mark.parametrize("data", [b"\xc1\x00", b"\x81\x05hello", b"\x81\xfe\x00\x01\x00\x00\x00\x00\xff"])
async def test_bytes_that_are_no_frames_end_a_websocket(speaker: Speaker, data: bytes) -> None:
    await speaker.open("/x")
    await speaker.stream.send_all(data)
    event = await speaker.next()
    assert isinstance(event, CloseConnection)
    assert event.code in (1002, 1007)


async def test_a_client_that_does_not_read_loses_its_websocket(speaker: Speaker, echo: Echo) -> None:
    await speaker.open("/flood")
    with trio.fail_after(WITHIN_S):
        await echo.flood_ended.wait()


async def test_a_client_that_pings_and_does_not_read_loses_its_websocket(speaker: Speaker) -> None:
    await speaker.open("/")
    pings = speaker.protocol.send(Ping(payload=b"x" * 125)) * 5000
    with trio.fail_after(3 * WITHIN_S):
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await speaker.stream.send_all(pings)


async def test_a_message_in_too_many_pieces_is_refused_and_an_empty_one_costs_nothing(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klipper_router.gateway.websocket.MAX_PIECES", 10)
    await speaker.open("/")
    pieces = [TextMessage(data=text, message_finished=False) for text in ["", "a"] * 10]
    for piece in pieces:
        await speaker.send(piece)
    await speaker.send(TextMessage(data=""))
    assert await speaker.next() == TextMessage(data="a" * 10, frame_finished=True, message_finished=True)
    for piece in [*pieces, pieces[-1]]:
        await speaker.send(piece)
    event = await speaker.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1009


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b"Origin", b"http://evil.example")], 403),
        ([(b"Sec-Fetch-Site", b"cross-site")], 403),
        ([(b"X-Forwarded-For", b"203.0.113.9")], 401),
    ],
)
async def test_a_websocket_is_refused_to_foreign_pages_and_strangers(
    speaker: Speaker, fields: list[tuple[bytes, bytes]], status: int
) -> None:
    event = await speaker.open("/x", *fields)
    assert isinstance(event, RejectConnection)
    assert event.status_code == status


async def test_a_site_may_refuse_a_websocket_before_its_handshake(speaker: Speaker) -> None:
    event = await speaker.open("/refused")
    assert isinstance(event, RejectConnection)
    assert event.status_code == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], 426),
        (["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"], 400),
        (["Sec-WebSocket-Version: 13"], 400),
    ],
)
async def test_a_handshake_that_is_none_is_refused(rig: Rig, fields: list[str], status: int) -> None:
    assert (await rig.get("/x", "Connection: Upgrade", "Upgrade: websocket", *fields))[0] == status
