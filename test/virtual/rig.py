"""A running virtual Klippy and a small API client of its own (sharing no code with the router or the server)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from klipper_router.virtual import Dialect, VirtualKlippy

# A test that waits longer than this has failed.
PATIENCE_S = 10.0

BASE = """
[mcu]
serial: /dev/virtual

[printer]
kinematics: none
max_velocity: 300
max_accel: 3000

[respond]
"""

CARTESIAN = """
[mcu]
serial: /dev/virtual

[printer]
kinematics: cartesian
max_velocity: 300
max_accel: 3000

[respond]

[stepper_x]
step_pin: PA0
dir_pin: PA1
rotation_distance: 40
microsteps: 16
endstop_pin: ^PA2
position_endstop: 0
position_max: 200
homing_speed: 50

[stepper_y]
step_pin: PA3
dir_pin: PA4
rotation_distance: 40
microsteps: 16
endstop_pin: PA5
position_endstop: 0
position_max: 200
homing_speed: 50

[stepper_z]
step_pin: PA6
dir_pin: PA7
rotation_distance: 8
microsteps: 16
endstop_pin: PA8
position_endstop: 0.5
position_min: -2
position_max: 200

[extruder]
step_pin: PB0
dir_pin: PB1
rotation_distance: 33
microsteps: 16
nozzle_diameter: 0.4
filament_diameter: 1.75
heater_pin: PB2
sensor_type: Generic 3950
sensor_pin: PB3
control: pid
pid_Kp: 22
pid_Ki: 1
pid_Kd: 114
min_temp: 0
max_temp: 250

[heater_bed]
heater_pin: PB4
sensor_type: Generic 3950
sensor_pin: PB5
control: watermark
min_temp: 0
max_temp: 130
"""


class Api:
    """One connection. Messages without an id of ours are kept in `notes`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.notes: list[dict[str, Any]] = []
        self.answers: dict[int, dict[str, Any]] = {}
        self.order: list[int] = []
        self.at_end = False
        self._last_id = 0
        self._partial = b""

    async def send(self, method: str, params: dict[str, Any] | None = None) -> int:
        self._last_id += 1
        frame = {"id": self._last_id, "method": method, "params": params or {}}
        await self.stream.send_all(json.dumps(frame).encode() + b"\x03")
        return self._last_id

    async def receive(self) -> None:
        """Read once and sort what came."""
        data = await self.stream.receive_some(65536)
        if not data:
            self.at_end = True
        *frames, self._partial = (self._partial + data).split(b"\x03")
        for frame in frames:
            message = json.loads(frame)
            if "id" in message:
                self.answers[message["id"]] = message
                self.order.append(message["id"])
            else:
                self.notes.append(message)

    async def answer(self, request: int) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_S):
            while request not in self.answers:
                if self.at_end:
                    raise EOFError
                await self.receive()
        return self.answers[request]

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result. Fails the test on an error."""
        answer = await self.answer(await self.send(method, params))
        assert "result" in answer, answer
        return answer["result"]

    async def error(self, method: str, params: dict[str, Any] | None = None) -> str:
        """The message of the error that the request must get."""
        answer = await self.answer(await self.send(method, params))
        assert answer["error"]["error"] == "WebRequestError"
        message: str = answer["error"]["message"]
        return message

    async def script(self, script: str) -> Any:
        return await self.call("gcode/script", {"script": script})

    async def query(self, name: str, *fields: str) -> dict[str, Any]:
        answer = await self.call("objects/query", {"objects": {name: list(fields) or None}})
        status: dict[str, Any] = answer["status"][name]
        return status

    async def note(self, count: int = 1) -> dict[str, Any]:
        """The note number `count`, waited for."""
        with trio.fail_after(PATIENCE_S):
            while len(self.notes) < count:
                assert not self.at_end
                await self.receive()
        return self.notes[count - 1]

    async def end(self) -> None:
        """Wait for the end of the connection."""
        with trio.fail_after(PATIENCE_S):
            while not self.at_end:
                await self.receive()

    async def end_or_break(self) -> None:
        """The end of a connection in the middle of a message."""
        with trio.fail_after(PATIENCE_S):
            try:
                while await self.stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                pass


class Rig:
    """A virtual Klippy in a folder of its own."""

    def __init__(self, klippy: VirtualKlippy, folder: Path, nursery: trio.Nursery) -> None:
        self.klippy = klippy
        self.folder = folder
        self.nursery = nursery
        self.api: Api

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def config(self) -> Path:
        return self.folder / "printer.cfg"

    async def connect(self) -> Api:
        stream = await trio.open_unix_socket(str(self.socket))
        self.nursery.start_soon(_close_at_end, stream)
        return Api(stream)

    async def wait_state(self, state: Any) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.klippy.wait_state(state)

    async def wait_console(self, wanted: str, since: int = 0) -> str:
        with trio.fail_after(PATIENCE_S):
            return await self.klippy.wait_console(wanted, since=since)


async def _close_at_end(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


@asynccontextmanager
async def virtual_klippy(
    config: str = BASE,
    *,
    speed: float = 50.0,
    dialect: Dialect = "v0.13",
    ready: bool = True,
    files: dict[str, str] | None = None,
    log: bool = False,
    tty: bool = False,
) -> AsyncIterator[Rig]:
    """Runs one, with `{folder}` replaced in the configuration; connected, and ready unless told otherwise."""
    folder = Path(tempfile.mkdtemp(prefix="vk"))  # pytest's own are too long for the path of a socket
    try:
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "printer.cfg").write_text(config.replace("{folder}", str(folder)))
        klippy = VirtualKlippy(
            folder / "printer.cfg",
            apiserver=folder / "s",
            log_file=folder / "log" if log else None,
            input_tty=folder / "tty" if tty else None,
            speed=speed,
            gcode_dialect=dialect,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(klippy.run)
            rig = Rig(klippy, folder, nursery)
            rig.api = await rig.connect()
            if ready:
                await rig.wait_state("ready")
            yield rig
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder)
