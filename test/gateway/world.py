"""Three printers behind one gateway, all real processes: two with a real Moonraker each, one Klippy without.

``main`` and ``afc`` have a Moonraker, ``led`` has none: the gateway answers in its place. Each is at
``/printers/NAME/…`` and at an origin of its own, and each tells itself apart from the others: by the name that UIs
show, by a macro and by a sensor that no other printer has.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import trio

from test.fleet import Backend, Fleet, fleet, spawn

NAMES = ("main", "afc", "led")
WITH_MOONRAKER = ("main", "afc")
READY_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.1

KLIPPY = """
[temperature_sensor {name}_chamber]
sensor_type: temperature_host
[gcode_macro HELLO_{upper}]
description: Only {name} has this macro
gcode:
  {{action_respond_info("hello from {name}")}}
"""

MOONRAKER = """
[server]
host: 127.0.0.1
port: {port}
klippy_uds_address: {sock}
[machine]
provider: none
validate_service: False
[authorization]
trusted_clients: 127.0.0.1
cors_domains:
"""


def moonraker_is_installed() -> bool:
    return importlib.util.find_spec("moonraker") is not None


def free_port() -> int:
    """One that nothing listens on. Moonraker takes no 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class World:
    """Addresses of what runs."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.port = free_port()
        self.own_ports = {name: free_port() for name in NAMES}
        self._moonrakers: list[subprocess.Popen[bytes]] = []

    @property
    def main_origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def origin(self, name: str) -> str:
        return f"http://127.0.0.1:{self.own_ports[name]}"

    async def start(self, ui: str, release: Path, cameras: Mapping[str, str]) -> None:
        folder = self.fleet.folder
        config = f"[router]\nsock: {self.fleet.router_sock}\n"
        config += f"[gateway]\nlisten: 127.0.0.1:{self.port}\ndata: {folder}/gateway\n{ui}: {release}\n"
        config += "".join(f"[camera {name} nozzle]\nurl: {url}\n" for name, url in cameras.items())
        for name in NAMES:
            await self.fleet.add(name, KLIPPY.format(name=name, upper=name.upper()))
            upstream = self._start_moonraker(name) if name in WITH_MOONRAKER else "none"
            config += f"[klippy {name}]\nsock: {folder / name}.sock\nmoonraker: {upstream}\n"
            config += f"origin: 127.0.0.1:{self.own_ports[name]}\n"
        file = folder / "router.cfg"
        file.write_text(config)
        self.fleet.router = spawn(
            [sys.executable, "-m", "klipper_router", "-v", "-c", str(file)], self.fleet.router_log
        )
        for name in NAMES:
            await self._ready(name)
            await self._name(name)

    def _start_moonraker(self, name: str) -> str:
        data = self.fleet.folder / f"{name}.data"
        (data / "config").mkdir(parents=True)
        port = free_port()
        config = MOONRAKER.format(port=port, sock=self.fleet.folder / f"{name}.sock")
        (data / "config/moonraker.conf").write_text(config)
        command = [sys.executable, "-m", "moonraker", "-d", str(data), "-n"]
        self._moonrakers.append(spawn(command, self.fleet.folder / f"{name}.moonraker.log"))
        return f"http://127.0.0.1:{port}"

    async def _ready(self, name: str) -> None:
        """Wait until the printer's Moonraker, or who stands for it, says through the gateway that Klippy is ready."""
        answer: object = None
        with trio.move_on_after(READY_WITHIN_S):
            while True:
                with contextlib.suppress(URLError, OSError):
                    answer = await self.ask(f"/printers/{name}/server/info")
                    if isinstance(answer, dict) and answer["klippy_state"] == "ready":
                        return
                await trio.sleep(LOOK_AGAIN_S)
        log = self.fleet.router_log.read_text()[-3000:]
        raise AssertionError(f"{name} is not ready: {answer}; the router's log: {log}")

    async def _name(self, name: str) -> None:
        """Give it the name that the UIs show; each keeps it in the printer's own database."""
        for namespace, key in (("mainsail", "general.printername"), ("fluidd", "uiSettings.general.instanceName")):
            value = {"namespace": namespace, "key": key, "value": f"Printer-{name}"}
            await self.ask(f"/printers/{name}/server/database/item", value)
        await self.ask(
            f"/printers/{name}/server/database/item", {"namespace": "mainsail", "key": "initVersion", "value": "9.9.9"}
        )

    async def ask(self, path: str, body: object = None) -> Any:
        """The result of one HTTP request to the main origin. Raises URLError."""
        headers = {"content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.main_origin + path, data, headers)

        def fetch() -> Any:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.loads(response.read())["result"]

        return await trio.to_thread.run_sync(fetch)

    def stop(self) -> None:
        for process in self._moonrakers:
            process.send_signal(signal.SIGTERM)
        for process in self._moonrakers:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.asynccontextmanager
async def world(ui: str, release: Path, cameras: Mapping[str, str] | None = None) -> AsyncIterator[World]:
    """Everything runs, with a release of one UI, and every printer is ready. ``cameras``: printer to stream."""
    async with fleet(Backend()) as klippys:
        made = World(klippys)
        try:
            await made.start(ui, release, cameras or {})
            yield made
        finally:
            if os.environ.get("KEEP_FLEET"):
                print(f"logs are in {klippys.folder}")
            made.stop()
