"""What passes between clients and a printer's Moonraker: pooling, bodies, upgrades, and who is told what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from klipper_router import config
from klipper_router.gateway import watch
from test.gateway.rig import OK, WITHIN_S, Rig, Toy, Wire, fields_of, free_port, running

CONFIG = """
[gateway]
listen: 127.0.0.1:0
[klippy main]
moonraker: http://127.0.0.1:{port}
origin: 127.0.0.1:0
host: main.example.org
allow: server, printer, websocket, klippysocket
[klippy led]
moonraker: http://127.0.0.1:{port}/prefix/
"""
BIG = b"0123456789abcdef" * 65536  # 1 MiB
UPGRADE = (
    "GET /printers/main/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Origin: http://{host}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


@pytest.fixture
async def rig(toy: Toy, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path, CONFIG.format(port=toy.port)) as made:
        yield made


def request(rig: Rig, target: str = "/printers/main/server/info", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {rig.host}", *fields, "", ""]).encode()


# -- paths and fields ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/printers/main/server/info", "/server/info"),
        ("/printers/main/server/files/gcodes/a%20b%2Fc.gcode?x=%20&y", "/server/files/gcodes/a%20b%2Fc.gcode?x=%20&y"),
        ("/printers/main/mainsail/printer/objects/list", "/printer/objects/list"),
        ("/printers/main/fluidd/server/info?", "/server/info"),
        ("/printers/led/server/info", "/prefix/server/info"),
        ("/printers/m%61in/server/info", "/server/info"),
    ],
)
async def test_the_prefix_comes_off_and_the_rest_is_untouched(rig: Rig, toy: Toy, target: str, seen: str) -> None:
    assert (await rig.ask(request(rig, target)))[0] == 200
    assert toy.received.startswith(f"GET {seen} HTTP/1.1\r\n".encode())


async def test_an_own_origin_is_the_printer_at_its_root(rig: Rig, toy: Toy) -> None:
    port = rig.origin_port("main")
    asked = f"GET /server/info HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    assert (await rig.ask(asked, port))[0] == 200
    by_name = b"GET /server/info HTTP/1.1\r\nHost: Main.example.org:80\r\n\r\n"
    assert (await rig.ask(by_name))[0] == 200
    assert toy.received.count(b"GET /server/info HTTP/1.1\r\n") == 2


async def test_an_upstream_is_told_the_client_the_host_and_the_origin_as_they_are(rig: Rig, toy: Toy) -> None:
    fields = (
        "Origin: http://127.0.0.1",
        "X-Api-Key: k",
        "Cookie: a=b",
        "X-Forwarded-Host: evil",
        "Accept: a",
        "Accept: b",
    )
    await rig.ask(request(rig, "/printers/main/server/info", *fields))
    seen = fields_of(toy.received)
    assert seen.all("host") == [rig.host]
    assert seen.all("origin") == ["http://127.0.0.1"]
    assert seen.all("x-real-ip") == ["127.0.0.1"]
    assert seen.all("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all("x-scheme") == ["http"]
    assert seen.all("accept") == ["a", "b"]
    assert (seen.get("x-api-key"), seen.get("cookie"), seen.get("x-forwarded-host")) == ("k", "a=b", None)


async def test_a_location_of_moonrakers_gains_the_prefix(rig: Rig, toy: Toy) -> None:
    for told, seen in [
        ("/server/files/x", "/printers/main/server/files/x"),
        (f"http://{rig.host}/server/x", f"http://{rig.host}/printers/main/server/x"),
        ("http://elsewhere.example/x", "http://elsewhere.example/x"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
    ]:
        toy.answer = f"HTTP/1.1 201 Created\r\nLocation: {told}\r\nContent-Length: 0\r\n\r\n".encode()
        status, head, _ = await rig.ask(request(rig))
        assert (status, fields_of(head).all("location")) == (201, [seen])


async def test_paths_that_are_not_allowed_stay_closed(rig: Rig, toy: Toy) -> None:
    status, _, body = await rig.ask(request(rig, "/printers/main/machine/reboot", method="POST"))
    assert (status, b"'allow' in [klippy main]" in body) == (403, True)
    assert (await rig.ask(request(rig, "/printers/led/machine/system_info")))[0] == 200
    assert b"reboot" not in toy.received


async def test_methods_below_paths_that_are_not_allowed_stay_closed_for_jsonrpc_too(rig: Rig, toy: Toy) -> None:
    def post(content: str) -> bytes:
        fields = ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return request(rig, "/printers/main/server/jsonrpc", *fields, method="POST") + content.encode()

    status, _, _ = await rig.ask(post('{"jsonrpc": "2.0", "method": "machine.reboot", "id": 1}'))
    assert status == 200  # Moonraker's word: it has no such method
    assert b"closed.by_klipper_router" in toy.received
    assert b"machine.reboot" not in toy.received
    assert (await rig.ask(post("no JSON")))[0] == 400
    opened = '{"jsonrpc": "2.0", "method": "printer.info", "id": 1}'
    assert (await rig.ask(post(opened)))[0] == 200
    assert toy.received.endswith(opened.encode())


async def test_a_page_on_another_port_of_the_same_host_may_ask(rig: Rig) -> None:
    assert (await rig.ask(request(rig, "/printers/main/server/info", "Origin: http://127.0.0.1:8080")))[0] == 200


async def test_a_browser_reads_without_saying_for_which_page_and_acts_from_pages_of_this_host(rig: Rig) -> None:
    browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"
    reading, acting = "/printers/main/printer/objects/query?webhooks", "/printers/main/printer/gcode/script?script=M117"
    assert (await rig.ask(request(rig, reading, browser)))[0] == 200
    assert (await rig.ask(request(rig, acting)))[0] == 200
    assert (await rig.ask(request(rig, acting, browser)))[0] == 403
    assert (await rig.ask(request(rig, acting, browser, f"Referer: http://{rig.host}/printers/main/fluidd/")))[0] == 200


# -- the pool --------------------------------------------------------------------------------------------------------


async def test_a_connection_serves_one_request_after_the_other_on_both_sides(rig: Rig, toy: Toy) -> None:
    async with rig.client() as client:
        for _ in range(3):
            await client.send(request(rig))
            assert (await client.message())[1] == b'{"result":"ok"}'
    assert (await rig.ask(request(rig)))[0] == 200
    assert len(toy.wires) == 1


async def test_requests_sent_at_once_are_answered_in_order(rig: Rig, toy: Toy) -> None:
    async def echo(wire: Wire) -> None:
        while True:
            head, _ = await wire.message()
            target = head.split()[1]
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    toy.behave = echo
    async with rig.client() as client:
        await client.send(b"".join(request(rig, f"/printers/main/server/{number}") for number in range(5)))
        assert [(await client.message())[1] for _ in range(5)] == [b"/server/%d" % number for number in range(5)]


async def serve_once(wire: Wire) -> None:
    """Answers, promises to stay, and goes."""
    await wire.message()
    await wire.send(OK)


async def close_at_once_later(toy: Toy, wire: Wire) -> None:
    """The first connection is closed without an answer when its second request comes."""
    await wire.message()
    await wire.send(OK)
    if wire is toy.wires[0]:
        await wire.message()
    else:
        await toy.answer_all(wire)


async def test_a_kept_connection_that_is_dead_is_replaced_once(rig: Rig, toy: Toy) -> None:
    toy.behave = lambda wire: close_at_once_later(toy, wire)
    assert (await rig.ask(request(rig)))[0] == 200
    assert (await rig.ask(request(rig)))[0] == 200
    assert len(toy.wires) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/printer/print/start"),
        ("GET", "/printer/gcode/script?script=G28"),
        ("GET", "/printer/print/%73tart"),
        ("DELETE", "/server/files/gcodes/a.gcode"),
    ],
)
async def test_what_may_not_be_repeated_is_sent_once(rig: Rig, toy: Toy, method: str, path: str) -> None:
    toy.behave = lambda wire: close_at_once_later(toy, wire)
    assert (await rig.ask(request(rig)))[0] == 200
    status, _, body = await rig.ask(request(rig, f"/printers/main{path}", method=method))
    assert (status, b"closed the connection without an answer" in body) == (502, True)
    assert toy.received.count(f"{method} {path} ".encode()) == 1


async def test_a_connection_known_to_be_dead_is_not_used_for_what_may_not_be_repeated(rig: Rig, toy: Toy) -> None:
    toy.behave = serve_once
    assert (await rig.ask(request(rig)))[0] == 200
    await toy.until(lambda: toy.open == 0)
    assert (await rig.ask(request(rig, method="POST")))[0] == 200
    assert len(toy.wires) == 2


async def test_an_upstream_that_comes_back_is_used_again(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, CONFIG.format(port=port)) as rig:
        status, _, body = await rig.ask(request(rig))
        assert (status, b"the Moonraker of main cannot be reached" in body) == (502, True)
        for _ in range(2):
            async with Toy().running(port) as toy:
                assert (await rig.ask(request(rig)))[0] == 200
                assert len(toy.wires) == 1


# -- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_body_arrives_as_it_was_sent(rig: Rig, toy: Toy) -> None:
    got: list[tuple[bytes, bytes]] = []

    async def keep(wire: Wire) -> None:
        while True:
            got.append(await wire.message())
            await wire.send(OK)

    toy.behave = keep
    async with rig.client() as client:
        await client.send(request(rig, "/printers/main/server/x", f"Content-Length: {len(BIG)}", method="POST") + BIG)
        await client.message()
        pieces = b"".join(b"%x\r\n%b\r\n" % (size, BIG[:size]) for size in (1, 65537, 3)) + b"0\r\n\r\n"
        await client.send(request(rig, "/printers/main/server/x", "Transfer-Encoding: chunked", method="POST") + pieces)
        await client.message()
    assert got[0][1] == BIG
    assert got[1][1] == BIG[:1] + BIG[:65537] + BIG[:3]
    assert len(toy.wires) == 1


@pytest.mark.parametrize("closing", [False, True])
async def test_a_response_arrives_as_it_was_sent(rig: Rig, toy: Toy, closing: bool) -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (size, BIG[:size]) for size in (5, 70000)) + b"0\r\n\r\n"
    if closing:
        toy.behave = lambda wire: _answer_and_close(wire, b"HTTP/1.1 200 OK\r\n\r\n" + BIG)
        expected = BIG
    else:
        toy.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
        expected = BIG[:5] + BIG[:70000]
    async with rig.client() as client:
        for _ in range(1 if closing else 2):
            await client.send(request(rig))
            head, body = await client.message()
            assert body == expected
            assert fields_of(head).get("connection") == ("close" if closing else None)


async def _answer_and_close(wire: Wire, answer: bytes) -> None:
    await wire.message()
    await wire.send(answer)


@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified", "204 No Content"])
async def test_a_response_without_a_body_is_not_waited_for(rig: Rig, toy: Toy, status: str) -> None:
    length = "" if status.startswith("204") else "Content-Length: 1000\r\n"
    toy.answer = f"HTTP/1.1 {status}\r\n{length}\r\n".encode()
    method = "HEAD" if status.startswith("200") else "GET"
    async with rig.client() as client:
        for _ in range(2):
            await client.send(request(rig, method=method))
            assert (await client.head()).startswith(f"HTTP/1.1 {status}\r\n".encode())
    assert len(toy.wires) == 1


async def test_a_client_of_http_1_0_gets_a_response_it_can_read(rig: Rig, toy: Toy) -> None:
    asked = f"GET /printers/main/server/info HTTP/1.0\r\nHost: {rig.host}\r\n\r\n".encode()
    async with rig.client() as client:
        await client.send(asked)
        head, body = await client.message()
        assert (fields_of(head).get("connection"), body) == ("close", b'{"result":"ok"}')
        assert await client.rest() == b""
    assert toy.received.startswith(b"GET /server/info HTTP/1.0\r\n")


async def test_a_response_that_breaks_off_is_not_made_to_look_whole(rig: Rig, toy: Toy) -> None:
    toy.behave = lambda wire: _answer_and_close(wire, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    async with rig.client() as client:
        await client.send(request(rig))
        await client.head()
        assert await client.rest() == b"half"  # and then the end, not another response


async def test_expect_100_continue_is_asked_of_the_upstream(rig: Rig, toy: Toy) -> None:
    async def hesitant(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await wire.exactly(5) == b"hello"
        await wire.send(OK)

    toy.behave = hesitant
    async with rig.client() as client:
        await client.send(
            request(rig, "/printers/main/server/x", "Expect: 100-continue", "Content-Length: 5", method="POST")
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.message())[1] == b'{"result":"ok"}'


@pytest.mark.parametrize("expect", [False, True])
async def test_an_answer_that_comes_before_the_body_is_passed_on(rig: Rig, toy: Toy, expect: bool) -> None:
    async def refuse(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate")
        await wire.rest()

    toy.behave = refuse
    fields = ["Content-Length: 1000000000", *(["Expect: 100-continue"] if expect else [])]
    async with rig.client() as client:
        await client.send(request(rig, "/printers/main/server/x", *fields, method="POST") + (b"" if expect else BIG))
        head, body = await client.message()
        assert (int(head[9:12]), body, fields_of(head).get("connection")) == (413, b"late", "close")
        assert await client.rest() == b""
    await toy.until(lambda: toy.open == 0)


async def test_an_upstream_that_closes_within_a_body_is_an_error_of_the_gateway(rig: Rig, toy: Toy) -> None:
    async def leave(wire: Wire) -> None:
        await wire.head()

    toy.behave = leave
    async with rig.client() as client:
        await client.send(request(rig, "/printers/main/server/x", "Content-Length: 100000000", method="POST") + BIG)
        assert (await client.message())[0].startswith(b"HTTP/1.1 502 ")


async def test_a_client_that_reads_nothing_stops_the_upstream(rig: Rig, toy: Toy) -> None:
    sent = 0
    stuck = trio.Event()

    async def flood(wire: Wire) -> None:
        nonlocal sent
        await wire.head()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with trio.move_on_after(0.5) as scope:
            while True:
                await wire.send(BIG)
                sent += len(BIG)
                scope.deadline = trio.current_time() + 0.5
        stuck.set()

    toy.behave = flood
    async with rig.client() as client:
        await client.send(request(rig))
        with trio.fail_after(WITHIN_S):
            await stuck.wait()
    assert sent < 40 * len(BIG)  # what the kernel's buffers of two connections hold


# -- upgrades --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["websocket", "klippysocket", "mainsail/websocket"])
async def test_an_upgraded_connection_passes_bytes_both_ways(rig: Rig, toy: Toy, path: str) -> None:
    async def switch(wire: Wire) -> None:
        await wire.head()
        await wire.send(SWITCH + b"\x81\x07at once")
        while await wire.more():
            await wire.send(b"\x82" + bytes([len(wire.buffer)]) + wire.buffer)
            wire.buffer = b""

    toy.behave = switch
    async with rig.client() as client:
        await client.send(UPGRADE.format(host=rig.host, path=path).encode())
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert fields_of(head).all("connection") == ["Upgrade"]
        assert fields_of(head).get("sec-websocket-accept") == "x"
        assert await client.exactly(9) == b"\x81\x07at once"
        ping = b"\x89\x80mask"
        await client.send(ping)
        assert await client.exactly(8) == b"\x82\x06" + ping
    await toy.until(lambda: toy.open == 0)
    seen = fields_of(toy.received)
    assert (seen.all("upgrade"), seen.all("connection")) == (["websocket"], ["Upgrade"])
    # Moonraker's own messages are looked into for webcams, so they are not to be compressed.
    assert seen.get("sec-websocket-extensions") == ("permessage-deflate" if path == "klippysocket" else None)


async def test_an_upgrade_that_is_refused_is_an_ordinary_answer(rig: Rig, toy: Toy) -> None:
    toy.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    status, _, body = await rig.ask(UPGRADE.format(host=rig.host, path="websocket").encode())
    assert (status, body) == (403, b"no")


async def test_the_end_of_the_upstream_ends_an_upgraded_connection(rig: Rig, toy: Toy) -> None:
    async def leave(wire: Wire) -> None:
        await wire.head()
        await wire.send(SWITCH + b"\x81\x03bye")

    toy.behave = leave
    async with rig.client() as client:
        await client.send(UPGRADE.format(host=rig.host, path="websocket").encode())
        await client.head()
        assert await client.rest() == b"\x81\x03bye"


# -- clients that go -------------------------------------------------------------------------------------------------


async def never_answer(wire: Wire) -> None:
    await wire.message()
    await wire.rest()


async def test_a_client_that_vanishes_frees_its_upstream_within_3_seconds(rig: Rig, toy: Toy) -> None:
    toy.behave = never_answer
    async with rig.client() as client:
        await client.send(request(rig, "/printers/main/printer/gcode/script?script=G4", method="POST"))
        await toy.until(lambda: toy.open == 1)
    with trio.fail_after(3):
        await toy.until(lambda: toy.open == 0)


async def test_a_client_that_waits_is_left_waiting(rig: Rig, toy: Toy) -> None:
    async def slow(wire: Wire) -> None:
        await wire.message()
        await trio.sleep(3.5)  # more than three sweeps
        await wire.send(OK)

    toy.behave = slow
    assert (await rig.ask(request(rig)))[0] == 200


# -- configuration, live ---------------------------------------------------------------------------------------------


async def test_another_upstream_is_used_without_a_restart(rig: Rig, toy: Toy, tmp_path: Path) -> None:
    assert (await rig.ask(request(rig)))[0] == 200
    async with Toy().running() as other:
        file = tmp_path / "router.cfg"
        file.write_text(file.read_text().replace(f":{toy.port}\n", f":{other.port}\n"))
        rig.router.reconfigure(config.load(file))
        assert (await rig.ask(request(rig)))[0] == 200
        assert (len(toy.wires), len(other.wires)) == (1, 1)
        await toy.until(lambda: toy.open == 0)  # and what was kept for the old one is closed


async def test_an_upstream_whose_host_is_no_name_is_an_error_of_its_printer_only(tmp_path: Path) -> None:
    text = "[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: http://prin..ter:7125\n"
    async with running(tmp_path, text) as rig:
        status, _, body = await rig.ask(request(rig))
        assert (status, b"'prin..ter' is no host name" in body) == (502, True)
        with pytest.raises(watch.Unanswered):
            await watch.trusts_strangers(rig.gateway.proxies["main"])
