"""Own origins of printers, ports and names, while the configuration changes beside them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from klipper_router.errors import ConfigError
from test.gateway.rig import Rig, Toy, free_port, loaded, running


def request(path: str, host: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class Changing:
    """A gateway with printers main and led, both behind toys, whose sections gain lines."""

    def __init__(self, rig: Rig, folder: Path, main: Toy, led: Toy) -> None:
        self.rig = rig
        self.main = main
        self.led = led
        self._folder = folder

    def change(self, main: str = "", led: str = "") -> list[str]:
        """Raises ConfigError."""
        text = configuration(self.main, self.led, main, led)
        return self.rig.router.reconfigure(loaded(self._folder, text))

    async def answers(self, port: int, toy: Toy) -> bool:
        """Whether that printer's Moonraker answers at the root of a port."""
        seen = toy.received.count(b"GET /server/info ")
        status, _, _ = await self.rig.ask(request("/server/info", f"127.0.0.1:{port}"), port)
        return status == 200 and toy.received.count(b"GET /server/info ") == seen + 1


def configuration(main: Toy, led: Toy, main_line: str = "", led_line: str = "") -> str:
    return f"""
        [gateway]
        listen: 127.0.0.1:0
        [klippy main]
        moonraker: http://127.0.0.1:{main.port}
        {main_line}
        [klippy led]
        moonraker: http://127.0.0.1:{led.port}
        {led_line}
        """


@pytest.fixture
async def changing(tmp_path: Path) -> AsyncIterator[Changing]:
    async with Toy().running() as main, Toy().running() as led, running(tmp_path, configuration(main, led)) as rig:
        yield Changing(rig, tmp_path, main, led)


async def test_a_port_that_comes_is_served_at_once(changing: Changing) -> None:
    port = free_port()
    assert changing.change(main=f"origin: 127.0.0.1:{port}") == ["main: changed"]
    assert await changing.answers(port, changing.main)


async def test_a_port_that_goes_is_free_and_who_came_before_is_served_on(changing: Changing) -> None:
    port = free_port()
    changing.change(main=f"origin: 127.0.0.1:{port}")
    async with changing.rig.client(port) as wire:
        await wire.send(request("/server/info", f"127.0.0.1:{port}"))
        assert (await wire.message())[0].startswith(b"HTTP/1.1 200")
        changing.change()
        with pytest.raises(OSError, match="connect"):
            await changing.rig.ask(request("/", f"127.0.0.1:{port}"), port)
        await wire.send(request("/server/info", f"127.0.0.1:{port}"))
        assert (await wire.message())[0].startswith(b"HTTP/1.1 200")


async def test_a_port_moves_to_another_printer(changing: Changing) -> None:
    port = free_port()
    changing.change(main=f"origin: 127.0.0.1:{port}")
    assert await changing.answers(port, changing.main)
    changing.change(led=f"origin: 127.0.0.1:{port}")
    assert await changing.answers(port, changing.led)


async def test_a_port_is_opened_to_all_addresses_and_closed_to_them_again(changing: Changing) -> None:
    port = free_port()
    changing.change(main=f"origin: 127.0.0.1:{port}")
    changing.change(main=f"origin: *:{port}")
    assert await changing.answers(port, changing.main)
    async with await trio.open_tcp_stream("127.0.0.2", port):
        pass
    changing.change(main=f"origin: 127.0.0.1:{port}")
    assert await changing.answers(port, changing.main)
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.2", port)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


async def test_a_port_that_is_given_up_before_anybody_was_accepted_ends_nothing(changing: Changing) -> None:
    port = free_port()
    for _ in range(10):  # the order of tasks is random
        changing.change(main=f"origin: 127.0.0.1:{port}")
        changing.change(led=f"origin: 127.0.0.1:{port}")
        assert await changing.answers(port, changing.led)
        changing.change()
        changing.change(main=f"origin: 127.0.0.1:{port}")
        changing.change()
        await trio.testing.wait_all_tasks_blocked()
    assert (await changing.rig.ask(request("/server/info", "localhost")))[0] == 404


async def test_a_port_that_is_taken_changes_nothing(changing: Changing) -> None:
    port, taken = free_port(), changing.rig.port
    changing.change(main=f"origin: 127.0.0.1:{port}")
    other = free_port()
    with pytest.raises(ConfigError, match=rf"\[klippy led\] origin 127.0.0.1:{taken}: Address already in use"):
        changing.change(main=f"origin: 127.0.0.1:{other}", led=f"origin: 127.0.0.1:{taken}")
    assert await changing.answers(port, changing.main)
    with pytest.raises(OSError, match="connect"):
        await changing.rig.ask(request("/", f"127.0.0.1:{other}"), other)
    assert changing.rig.router.config.klippy["led"].origin is None
    changing.change(main=f"origin: 127.0.0.1:{other}")
    assert await changing.answers(other, changing.main)


async def test_no_name_server_is_asked_while_everything_runs(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    changing.change(main=f"origin: 127.0.0.1:{port}")
    asked: list[object] = []
    look_up = socket.getaddrinfo

    def noted(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return look_up("127.0.0.1", *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", noted)
        with pytest.raises(ConfigError, match=r"\[klippy main\] origin printers\.example\.org.* give an IP"):
            changing.change(main=f"origin: printers.example.org:{free_port()}")
    assert asked == []
    assert await changing.answers(port, changing.main)
    port = free_port()
    changing.change(main=f"origin: localhost:{port}")
    assert changing.rig.router.config.klippy["main"].origin == (("localhost", port),)


async def test_a_name_that_comes_is_known_at_once_and_unknown_when_it_goes(changing: Changing) -> None:
    asked = request("/server/info", "led.example.org")
    assert (await changing.rig.ask(asked))[0] == 421
    changing.change(led="host: led.example.org")
    assert (await changing.rig.ask(asked))[0] == 200
    assert changing.led.received.count(b"GET /server/info ") == 1
    changing.change()
    assert (await changing.rig.ask(asked))[0] == 421


async def test_all_names_below_one_may_be_a_printers(changing: Changing) -> None:
    changing.change(main="host: *.main.example.org", led="host: led.main.example.org")
    for host, status in (("a.main.example.org", 200), ("a.b.main.example.org:8080", 200), ("main.example.org", 421)):
        assert (await changing.rig.ask(request("/server/info", host)))[0] == status
    assert changing.main.received.count(b"GET /server/info ") == 2
    assert (await changing.rig.ask(request("/server/info", "led.main.example.org")))[0] == 200
    assert changing.led.received.count(b"GET /server/info ") == 1


async def test_another_ui_counts_from_the_next_start_on(tmp_path: Path) -> None:
    text = "[gateway]\nlisten: 127.0.0.1:0\n{ui}: ui\n[klippy main]\nmoonraker: http://127.0.0.1:9\n"
    async with running(tmp_path, text.format(ui="mainsail")) as rig:
        rig.router.reconfigure(loaded(tmp_path, text.format(ui="fluidd")))
        status, fields, _ = await rig.get("/printers/main")
        assert (status, fields.get("location")) == (302, "/printers/main/mainsail/")
