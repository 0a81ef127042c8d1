"""The whole daemon: a virtual Klippy without Moonraker, a router with a gateway, and real clients over TCP."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Request, TextMessage

from klipper_router import config as configuration
from klipper_router.gateway import app
from klipper_router.link import dial_unix
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router
from klipper_router.virtual import VirtualKlippy
from test.gateway.moonraker.calls import PRINTER_CFG

WITHIN_S = 20.0
DRYER = "heater_generic dryer"


class Daemon(NamedTuple):
    folder: Path
    router: Router
    port: int


@contextlib.asynccontextmanager
async def daemon(folder: Path, *, gateway: str = "") -> AsyncIterator[Daemon]:
    """A printer "led" without Moonraker, ready, behind a gateway."""
    (folder / "printer.cfg").write_text(PRINTER_CFG.format(folder=folder))
    (folder / "router.cfg").write_text(
        f"[router]\nsock: router.sock\n[gateway]\nlisten: 127.0.0.1:0\ndata: {folder}/data\n{gateway}\n"
        f"[klippy led]\nsock: klippy.sock\nmoonraker: none\n"
    )
    config = configuration.load(folder / "router.cfg")
    router = Router(config, dial=dial_unix, methods=METHODS)
    klippy = VirtualKlippy(folder / "printer.cfg", apiserver=folder / "klippy.sock", speed=10)
    with app.prepared(config) as ready:
        port = ready.listeners[0].sock.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(klippy.run)
            nursery.start_soon(router.run)
            await nursery.start(app.serve, router, ready)
            with trio.fail_after(WITHIN_S):
                while not router.printers["led"].state.announced:  # noqa: ASYNC110 - nothing tells a test
                    await trio.sleep(0.01)
                yield Daemon(folder, router, port)
            nursery.cancel_scope.cancel()


async def home_assistant(made: Daemon, *api_key: str) -> dict[str, Any]:
    """What the real client was answered."""
    if importlib.util.find_spec("moonraker_api") is None:
        pytest.skip("the client moonraker-api is not installed")
    program = [sys.executable, str(Path(__file__).parent / "home_assistant.py")]
    command = [*program, "127.0.0.1", str(made.port), "/printers/led", *api_key]
    ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    answers: dict[str, Any] = json.loads(ended.stdout)
    return answers


async def test_home_assistants_client_gets_what_it_asks_for(tmp_path: Path) -> None:
    async with daemon(tmp_path) as made:
        answers = await home_assistant(made)
    assert answers["status"] == "ready"
    assert "heater_generic dryer" in answers["modules"]
    assert answers["query"]["status"]["webhooks"]["state"] == "ready"
    assert answers["query"]["status"]["extruder"] == {}
    assert answers["server.history.totals"]["error"]["code"] == -32601
    assert answers["script"] == "ok"
    assert answers["notified"]["notify_status_update"][0] == {"heater_generic dryer": {"target": 33.0}}


async def test_settings_outlive_the_daemon_in_a_file_of_the_owner(tmp_path: Path) -> None:
    setting = {"namespace": "mainsail", "key": "general.printername", "value": "LEDs"}
    async with daemon(tmp_path) as made:
        assert await http(made, "POST", "/server/database/item", json.dumps(setting).encode()) == (200, setting)
    file = tmp_path / "data/databases/led.sqlite"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    async with daemon(tmp_path) as made:
        _, kept = await http(made, "GET", "/server/database/item?namespace=mainsail&key=general")
        assert kept["value"] == {"printername": "LEDs"}


async def test_a_printer_that_is_taken_away_is_no_longer_served(tmp_path: Path) -> None:
    async with daemon(tmp_path) as made:
        assert (await http(made, "GET", "/printer/info"))[1]["state"] == "ready"
        router_cfg = tmp_path / "router.cfg"
        text = router_cfg.read_text()
        router_cfg.write_text(text.replace("moonraker: none\n", ""))
        made.router.reconfigure(configuration.load(router_cfg))
        assert (await http(made, "GET", "/printer/info"))[0] == 404
        assert not [each for each in made.router.printers["led"].feed.following if each.caller.group == "gateway"]
        router_cfg.write_text(text)
        made.router.reconfigure(configuration.load(router_cfg))
        with trio.fail_after(WITHIN_S):
            while (await http(made, "GET", "/printer/info"))[0] != 200:  # noqa: ASYNC110 - asked over HTTP
                await trio.sleep(0.01)


@pytest.mark.parametrize("path", ["/websocket", "/klippysocket"])
async def test_clients_of_a_printer_that_is_taken_away_are_closed(tmp_path: Path, path: str) -> None:
    async with daemon(tmp_path) as made, websocket(made, path) as client:
        router_cfg = tmp_path / "router.cfg"
        router_cfg.write_text(router_cfg.read_text().replace("moonraker: none\n", ""))
        made.router.reconfigure(configuration.load(router_cfg))
        with trio.fail_after(WITHIN_S):
            while await client.receive() is not None:
                pass
        assert client.close_code == 1001


async def test_a_camera_that_is_added_is_told_to_the_clients(tmp_path: Path) -> None:
    async with daemon(tmp_path) as made, websocket(made, "/websocket") as client:
        await client.send({"jsonrpc": "2.0", "method": "server.webcams.list", "id": 1})
        while "id" not in (answer := await client.receive()):
            pass
        assert answer["result"] == {"webcams": []}
        router_cfg = tmp_path / "router.cfg"
        camera = "[camera led nozzle]\nurl: http://127.0.0.1:9/?action=stream\n"
        router_cfg.write_text(router_cfg.read_text() + camera)
        made.router.reconfigure(configuration.load(router_cfg))
        while (told := await client.receive())["method"] != "notify_webcams_changed":
            pass
        (webcam,) = told["params"][0]["webcams"]
        assert webcam["name"] == "nozzle"
        assert webcam["stream_url"] == "http://127.0.0.1/printers/led/cameras/nozzle/stream"
        assert (await http(made, "GET", "/server/webcams/list"))[1]["webcams"] == [webcam]


async def test_klippysocket_is_a_connection_of_its_own_to_klippy(tmp_path: Path) -> None:
    async with daemon(tmp_path) as made, websocket(made, "/klippysocket") as bridge:
        template = {"method": "mine"}
        await bridge.send({"id": 7, "method": "objects/subscribe", "params": {"objects": {"toolhead": ["position"]}}})
        assert "toolhead" in (await bridge.receive())["result"]["status"]
        await bridge.send({"id": 8, "method": "gcode/subscribe_output", "params": {"response_template": template}})
        assert (await bridge.receive()) == {"id": 8, "result": {}}
        # What the router itself follows goes on.
        await http(made, "POST", "/printer/gcode/script?script=SET_HEATER_TEMPERATURE%20HEATER=dryer%20TARGET=9")
        with trio.fail_after(WITHIN_S):
            while 9.0 not in await targets(made):  # noqa: ASYNC110 - asked over HTTP
                await trio.sleep(0.1)
        await http(made, "POST", "/printer/gcode/script?script=M118%20hello")
        assert await bridge.receive() == {"method": "mine", "params": {"response": "echo: hello"}}
        await bridge.send({"id": 9, "method": "gcode/script", "params": {"script": "FIRMWARE_RESTART"}})
        while await bridge.receive() is not None:
            pass
        assert bridge.close_code == 1001


async def test_a_websocket_hears_from_the_api_at_least_every_second(tmp_path: Path) -> None:
    async with daemon(tmp_path) as made, websocket(made, "/websocket") as client:
        await client.send({"jsonrpc": "2.0", "method": "server.websocket.id", "id": 1})
        assert "websocket_id" in (await client.receive())["result"]
        times: list[float] = []
        while len(times) < 2:
            message = await client.receive()
            assert message["method"] == "notify_proc_stat_update"
            times.append(message["params"][0]["moonraker_stats"]["time"])
        assert all(0.5 < after - before < 2 for before, after in itertools.pairwise(times))


async def targets(made: Daemon) -> list[float]:
    """What the dryer was to reach, sample by sample."""
    _, store = await http(made, "GET", "/server/temperature_store")
    known: list[float] = store.get(DRYER, {}).get("targets", [])
    return known


class Socket:
    """A WebSocket client of messages in JSON."""

    def __init__(self, stream: trio.SocketStream, path: str) -> None:
        self.close_code: int | None = None
        self._stream = stream
        self._path = path
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()

    async def open(self) -> None:
        await self._stream.send_all(self._protocol.send(Request(host="127.0.0.1", target=f"/printers/led{self._path}")))
        assert isinstance(await self._event(), AcceptConnection)

    async def send(self, message: object) -> None:
        await self._stream.send_all(self._protocol.send(TextMessage(data=json.dumps(message))))

    async def receive(self) -> Any:
        """The next message; None at the end."""
        text = ""
        with trio.fail_after(WITHIN_S):
            while True:
                event = await self._event()
                if isinstance(event, CloseConnection):
                    self.close_code = event.code
                    return None
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        return json.loads(text)

    async def _event(self) -> Event:
        while not self._events:
            self._protocol.receive_data(await self._stream.receive_some() or None)
            self._events.extend(self._protocol.events())
        return self._events.popleft()


@contextlib.asynccontextmanager
async def websocket(made: Daemon, path: str) -> AsyncIterator[Socket]:
    async with await trio.open_tcp_stream("127.0.0.1", made.port) as stream:
        socket = Socket(stream, path)
        await socket.open()
        yield socket


async def http(made: Daemon, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """Status and result (None for an error) of a request to the printer's API."""
    head = (
        f"{method} /printers/led{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", made.port) as stream:
        await stream.send_all(head.encode() + body)
        answer = b"".join([part async for part in stream])
    top, _, text = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(text).get("result")
