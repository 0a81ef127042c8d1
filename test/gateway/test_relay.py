"""Responses as odd upstreams send them: in pieces, with interim ones before, broken, too large, of another protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from trio.testing import wait_all_tasks_blocked

from klipper_router.gateway.heads import MAX_HEAD_BYTES
from klipper_router.gateway.relay import MAX_WHOLE_BYTES
from test.gateway.rig import OK, Behave, Rig, Toy, Wire, running
from test.gateway.test_camera_passing import reset

CONFIG = "[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: http://127.0.0.1:{port}"
PASSED = "/printers/main/server/info"
# Its body may change on the way, so it is gathered.
GATHERED = "/printers/main/server/webcams/list"


@pytest.fixture
async def rig(toy: Toy, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path, CONFIG.format(port=toy.port)) as made:
        yield made


def saying(*pieces: bytes, then: Callable[[Wire], None] | None = None) -> Behave:
    """Answer a request, piece by piece; the next only once the one before is likely to have been read."""

    async def behave(wire: Wire) -> None:
        await wire.message()
        for piece in pieces:
            await wire.send(piece)
            await wait_all_tasks_blocked()
        if then is not None:
            then(wire)

    return behave


both = pytest.mark.parametrize("path", [PASSED, GATHERED])


@both
async def test_a_head_that_comes_in_pieces_is_read_whole(rig: Rig, toy: Toy, path: str) -> None:
    toy.behave = saying(OK[:20], OK[20:60], OK[60:])
    status, _, body = await rig.get(path)
    assert (status, body) == (200, b'{"result":"ok"}')


@both
async def test_interim_responses_are_not_taken_for_the_answer(rig: Rig, toy: Toy, path: str) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nSecret: x\r\n\r\n"
    toy.behave = saying(hints + hints[:9], hints[9:], OK)
    async with rig.client() as client:
        await client.send(f"GET {path} HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        heads = [await client.head()]
        while b" 103 " in heads[-1][:16]:
            heads.append(await client.head())
        assert heads[-1].startswith(b"HTTP/1.1 200 ")
        assert heads[:-1] == ([b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"] * 2 if path == PASSED else [])
        assert await client.exactly(15) == b'{"result":"ok"}'


@both
async def test_chunks_and_the_end_of_the_connection_end_a_response(rig: Rig, toy: Toy, path: str) -> None:
    for pieces in (
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a', b'\r\n3\r\n":1\r\n', b"1\r\n}\r\n0\r\n\r\n"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"a', b'":1}'),
    ):
        toy.behave = saying(*pieces)
        status, _, body = await rig.get(path)
        assert (status, json.loads(body)) == (200, {"a": 1})


@both
@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (saying(b"SSH-2.0-OpenSSH\r\n\r\n"), "the head of the response is malformed"),
        (
            saying(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
            "it changes the protocol, which nobody",
        ),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES), "its head is too large"),
        (saying(b"HTTP/1.1 200 OK\r\nX: "), "it closed the connection within its head"),
        (saying(b"HTTP/1.1 200 OK\r\nX: ", then=reset), "it closed the connection within its head"),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n"), "it closed the connection within its head"),
        (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "the size of a chunk is malformed"),
    ],
)
async def test_a_response_that_is_none_is_a_bad_gateway_and_says_why(
    rig: Rig, toy: Toy, path: str, behave: Behave, why: str
) -> None:
    toy.behave = behave
    status, _, body = await rig.get(path)
    assert status == 502
    assert why in json.loads(body)["error"]["message"]
    toy.behave = toy.answer_all
    assert (await rig.get(path))[0] == 200
    assert len(toy.wires) == 2  # what is broken is not used again


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (saying(OK[:-3]), "its response breaks off"),
        (saying(OK[:-3], then=reset), "its response breaks off"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (MAX_WHOLE_BYTES + 1)), "its response is larger than"),
    ],
)
async def test_what_cannot_be_gathered_is_a_bad_gateway(rig: Rig, toy: Toy, behave: Behave, why: str) -> None:
    toy.behave = behave
    status, _, body = await rig.get(GATHERED)
    assert status == 502
    assert why in json.loads(body)["error"]["message"]


async def test_a_client_of_http_1_0_is_not_sent_chunks(rig: Rig, toy: Toy) -> None:
    toy.behave = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    status, _, body = await rig.ask(f"GET {PASSED} HTTP/1.0\r\nHost: {rig.host}\r\n\r\n".encode())
    assert status == 502
    assert b"a chunked response to HTTP/1.0" in body


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_upload_that_cannot_be_read_further_frees_the_upstream(rig: Rig, toy: Toy, leaves: bool) -> None:
    """A chunk without its length is answered with 400; to who has left in the middle nothing can be said."""
    async with rig.client() as client:
        head = f"POST {PASSED} HTTP/1.1\r\nHost: {rig.host}\r\nContent-Type: application/json\r\n"
        await client.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await toy.until(lambda: toy.open == 1)
        if leaves:
            reset(client)
        else:
            await client.send(b"zz\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        await toy.until(lambda: toy.open == 0)


async def test_a_websocket_whose_upstream_is_killed_ends(rig: Rig, toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "klipper_router.gateway")
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    toy.behave = saying(switch, then=reset)
    async with rig.client() as client:
        await client.send(
            f"GET /printers/main/websocket HTTP/1.1\r\nHost: {rig.host}\r\nOrigin: http://{rig.host}\r\n".encode()
            + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.rest() == b""
    assert "a WebSocket ends: " in caplog.text
