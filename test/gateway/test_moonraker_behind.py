"""A real Moonraker of a virtual printer, seen through the gateway: REST, WebSockets, files, its own authorization."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, TextMessage

from klipper_router.gateway import watch
from test.fleet import spawn
from test.gateway.rig import Rig, free_port, running
from test.gateway.test_server import Speaker

pytest.importorskip("moonraker", reason="needs a Moonraker: pip install moonraker")

START_WITHIN_S = 60.0
STRANGER = "X-Forwarded-For: 203.0.113.9"  # the tests' own connection counts as a trusted proxy
TRUSTED = "X-Forwarded-For: 10.1.2.3"
UPLOAD_BYTES = 64 * 1024 * 1024

GATEWAY = """
[gateway]
listen: 127.0.0.1:0
trusted_proxies: 127.0.0.1
hosts: printers.example.org
[klippy main]
moonraker: http://127.0.0.1:{port}
origin: 127.0.0.1:0
"""
MOONRAKER = """
[server]
host: 127.0.0.1
port: {port}
klippy_uds_address: {folder}/klippy.sock
max_upload_size: 2048
[authorization]
trusted_clients:
  127.0.0.1
  10.0.0.0/8
[machine]
provider: none
validate_service: false
"""
PRINTER = """
[mcu]
serial: {folder}/mcu
[printer]
kinematics: none
max_velocity: 10
max_accel: 100
[virtual_sdcard]
path: {folder}/gcodes
"""


class Behind:
    """A Moonraker process and its virtual Klippy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("config", "gcodes", "logs"):
            (folder / name).mkdir()
        (folder / "config" / "moonraker.conf").write_text(MOONRAKER.format(port=self.port, folder=folder))
        (folder / "printer.cfg").write_text(PRINTER.format(folder=folder))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_klippy(self) -> None:
        command = [sys.executable, "-m", "klipper_router.virtual", str(self.folder / "printer.cfg")]
        self.processes.append(spawn([*command, "-a", str(self.folder / "klippy.sock")], self.folder / "klippy.out"))

    def start_moonraker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "moonraker", "-d", str(self.folder), "-u", str(self.folder / "m.sock"), "-n"]
        self.processes.append(process := spawn(command, self.folder / "moonraker.out"))
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    async def ready(self, rig: Rig, state: str = "ready") -> None:
        """Wait until Moonraker says through the gateway that its Klippy is in this state."""
        with trio.fail_after(START_WITHIN_S):
            while True:
                with contextlib.suppress(EOFError):
                    status, _, body = await rig.get("/printers/main/server/info")
                    if status == 200 and json.loads(body)["result"]["klippy_state"] == state:
                        return
                await trio.sleep(0.05)


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    with tempfile.TemporaryDirectory(prefix="kr", ignore_cleanup_errors=True) as name:
        made = Behind(Path(name))
        try:
            made.start_klippy()
            made.start_moonraker()
            yield made
        finally:
            made.stop()


@pytest.fixture
async def rig(behind: Behind, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Rig]:
    caplog.set_level(logging.INFO)
    async with running(tmp_path, GATEWAY.format(port=behind.port)) as made:
        await behind.ready(made)
        yield made


async def result(rig: Rig, path: str, *fields: str, **options: Any) -> Any:
    status, _, body = await rig.get(f"/printers/main{path}", *fields, **options)
    assert status in (200, 201), body
    return json.loads(body)["result"]


@contextlib.asynccontextmanager
async def speaking(rig: Rig) -> AsyncIterator[Speaker]:
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        yield Speaker(rig, stream)


async def answer(speaker: Speaker, method: str, **params: Any) -> Any:
    """One call of Moonraker's JSON-RPC; notifications and pings before its answer are passed over."""
    asked = {"jsonrpc": "2.0", "method": method, "params": params, "id": 7}
    await speaker.send(TextMessage(data=json.dumps(asked)))
    text = ""
    while True:
        event = await speaker.next()
        if isinstance(event, Ping):
            await speaker.send(event.response())
        elif isinstance(event, TextMessage):
            text += event.data
            if event.message_finished:
                message = json.loads(text)
                text = ""
                if message.get("id") == 7:
                    return message.get("result", message.get("error"))


async def test_moonraker_works_through_the_gateway_and_keeps_its_own_rules(rig: Rig, behind: Behind) -> None:
    """One process for all of these: it takes seconds to start."""
    await rest_and_files(rig, behind)
    await authorization(rig)
    await sockets(rig)
    await origins(rig)
    await a_big_file(rig, behind)
    await a_restart(rig, behind)


async def rest_and_files(rig: Rig, behind: Behind) -> None:
    assert (await result(rig, "/printer/info"))["state"] == "ready"
    assert await result(rig, "/printer/gcode/script?script=M117%20a%26b", method="POST", body=b"") == "ok"
    boundary = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a b.gcode"\r\n\r\nG28\r\n--x--\r\n'
    kind = "Content-Type: multipart/form-data; boundary=x"
    status, fields, _ = await rig.get("/printers/main/server/files/upload", kind, method="POST", body=boundary)
    assert status == 201
    location = fields.get("location") or ""
    assert location == f"http://{rig.host}/printers/main/server/files/gcodes/a%20b.gcode"
    status, _, body = await rig.get(location.removeprefix(f"http://{rig.host}"))
    assert (status, body) == (200, b"G28")
    status, _, body = await rig.get("/printers/main/server/files/config/nope.json")
    assert (status, json.loads(body)["error"]["code"]) == (404, 404)


async def authorization(rig: Rig) -> None:
    assert (await result(rig, "/access/info", TRUSTED))["trusted"] is True
    assert (await result(rig, "/access/info", STRANGER))["trusted"] is False
    for made_up in (STRANGER, "X-Real-IP: unknown", "X-Real-IP: fe80::1%nosuch0", "X-Real-IP: 8.8.8.8:1234"):
        assert (await rig.get("/printers/main/server/info", made_up))[0] == 401
    assert (await rig.get("/printers/main/server/info", "X-Real-IP: ::ffff:10.1.2.3"))[0] == 200
    key = await result(rig, "/access/api_key", TRUSTED)
    assert (await rig.get("/printers/main/server/info", STRANGER, f"X-Api-Key: {key}"))[0] == 200
    token = await result(rig, "/access/oneshot_token", STRANGER, f"X-Api-Key: {key}")
    stolen = "X-Forwarded-For: 203.0.113.8"
    assert (await rig.get(f"/printers/main/server/info?token={token}", stolen))[0] == 401
    token = await result(rig, "/access/oneshot_token", STRANGER, f"X-Api-Key: {key}")
    assert (await rig.get(f"/printers/main/server/info?token={token}", STRANGER))[0] == 200


async def sockets(rig: Rig) -> None:
    for path in ("/printers/main/websocket", "/printers/main/mainsail/websocket"):
        async with speaking(rig) as speaker:
            assert isinstance(await speaker.open(path), AcceptConnection)
            assert (await answer(speaker, "printer.info"))["state"] == "ready"
            status = await answer(speaker, "printer.objects.subscribe", objects={"webhooks": None})
            assert status["status"]["webhooks"]["state"] == "ready"
    async with speaking(rig) as speaker:
        assert isinstance(await speaker.open("/printers/main/websocket", _field(STRANGER)), AcceptConnection)
        assert (await answer(speaker, "printer.info"))["message"] == "Unauthorized"
    async with speaking(rig) as speaker:
        assert isinstance(await speaker.open("/printers/main/klippysocket"), AcceptConnection)
        await speaker.send(TextMessage(data='{"id": 5, "method": "info", "params": {}}'))
        event = await speaker.next()
        assert isinstance(event, TextMessage)
        assert json.loads(event.data)["id"] == 5
    async with speaking(rig) as speaker:
        event = await speaker.open("/printers/main/klippysocket", _field(STRANGER))
        assert isinstance(event, RejectConnection)
        assert event.status_code == 401


async def origins(rig: Rig) -> None:
    for origin, accepted in ((f"http://{rig.host}", True), ("http://evil.example", False)):
        async with speaking(rig) as speaker:
            event = await speaker.open("/printers/main/websocket", _field(f"Origin: {origin}"))
            assert isinstance(event, AcceptConnection) is accepted
    port = rig.origin_port("main")
    status, _, _ = await rig.ask(f"GET /server/info HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode(), port)
    assert status == 200


def _field(line: str) -> tuple[bytes, bytes]:
    name, _, value = line.encode().partition(b": ")
    return name, value


async def a_big_file(rig: Rig, behind: Behind) -> None:
    """Both ways in pieces: what this process needs does not grow with the file."""
    before = _resident_bytes()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.gcode"\r\n\r\n'
    tail = b"\r\n--x--\r\n"
    piece = b"; a line of G-code \n" * 3276
    pieces = UPLOAD_BYTES // len(piece)
    length = len(head) + len(tail) + pieces * len(piece)
    async with rig.client() as client:
        await client.send(
            f"POST /printers/main/server/files/upload HTTP/1.1\r\nHost: {rig.host}\r\nExpect: 100-continue\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        assert (await client.head()).startswith(b"HTTP/1.1 100 ")
        await client.send(head)
        for _ in range(pieces):
            await client.send(piece)
        await client.send(tail)
        with trio.fail_after(START_WITHIN_S):
            answered, body = await client.message()
        assert answered.startswith(b"HTTP/1.1 201 "), body
    size_bytes = pieces * len(piece)
    assert (behind.folder / "gcodes" / "big.gcode").stat().st_size == size_bytes
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        asked = f"GET /printers/main/server/files/gcodes/big.gcode HTTP/1.1\r\nHost: {rig.host}\r\n"
        await stream.send_all(f"{asked}Connection: close\r\n\r\n".encode())
        received = 0
        while data := await stream.receive_some(1 << 20):
            received += len(data)
    assert 0 < received - size_bytes < 2000  # and a head
    assert _resident_bytes() - before < 20 * 1024 * 1024


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def a_restart(rig: Rig, behind: Behind) -> None:
    old = behind.processes[-1]
    async with speaking(rig) as speaker:
        await speaker.open("/printers/main/websocket")
        old.terminate()
        await trio.to_thread.run_sync(old.wait)
        while not isinstance(await speaker.next(), CloseConnection):
            pass
    status, _, body = await rig.get("/printers/main/server/info")
    assert (status, json.loads(body)["error"]["code"]) == (502, 502)
    behind.start_moonraker()
    await behind.ready(rig)


async def test_a_moonraker_that_trusts_everybody_is_told_of(
    behind: Behind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = behind.folder / "config" / "moonraker.conf"
    file.write_text(file.read_text().replace("10.0.0.0/8", "0.0.0.0/0"))
    behind.processes[-1].kill()
    behind.processes[-1].wait()
    behind.start_moonraker()
    async with running(tmp_path, GATEWAY.format(port=behind.port)) as rig:
        await behind.ready(rig)
        assert await watch.trusts_strangers(rig.gateway.proxies["main"]) is True


async def test_allow_holds_for_the_websocket_too(behind: Behind, tmp_path: Path) -> None:
    text = GATEWAY.replace("origin:", "allow: printer, server, websocket\norigin:")
    async with running(tmp_path, text.format(port=behind.port)) as rig:
        await behind.ready(rig)
        async with speaking(rig) as speaker:
            assert isinstance(await speaker.open("/printers/main/websocket"), AcceptConnection)
            assert (await answer(speaker, "server.info"))["klippy_state"] == "ready"
            assert (await answer(speaker, "machine.system_info"))["code"] == -32601
            assert (await answer(speaker, "machine.reboot"))["message"] == "Method not found"
