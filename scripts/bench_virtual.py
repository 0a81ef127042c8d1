#!/usr/bin/env python3
"""Measure many virtual printers in one process, all printing, each with a client that follows its status.

    scripts/bench_virtual.py [--printers 20] [--seconds 30] [--json]

A limit that is not kept is exit code 1. The clients run in a process of their own: only the printers are measured.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from klipper_router.virtual import VirtualKlippy

RSS_LIMIT_MB = 150.0
CPU_LIMIT_PERCENT = 15.0
WARM_UP_S = 5.0
FOLLOWED = [
    "extruder",
    "heater_bed",
    "fan",
    "toolhead",
    "gcode_move",
    "motion_report",
    "virtual_sdcard",
    "print_stats",
    "idle_timeout",
    "webhooks",
]

CONFIG = """
[mcu]
serial: /dev/virtual
[printer]
kinematics: cartesian
max_velocity: 300
max_accel: 3000
[virtual_sdcard]
path: {folder}
[pause_resume]
[display_status]
[exclude_object]
[respond]
[fan]
pin: PD0
[gcode_macro PRINT_START]
gcode:
    SET_KINEMATIC_POSITION X=0 Y=0 Z=0
    M104 S200
    M140 S60
    G90
    M83
[force_move]
enable_force_move: True
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
min_extrude_temp: 0
[heater_bed]
heater_pin: PB4
sensor_type: Generic 3950
sensor_pin: PB5
control: watermark
min_temp: 0
max_temp: 130
"""
STEPPER = """
[stepper_{axis}]
step_pin: PA{axis}0
dir_pin: PA{axis}1
rotation_distance: 40
microsteps: 16
endstop_pin: PA{axis}2
position_endstop: 0
position_max: 200
"""


@dataclass(frozen=True)
class Measured:
    printers: int
    seconds: float
    moves_per_second: float
    updates_per_second: float
    rss_mb: float
    cpu_percent: float

    @property
    def within_limits(self) -> bool:
        return self.rss_mb < RSS_LIMIT_MB and self.cpu_percent < CPU_LIMIT_PERCENT


def gcode(minutes: float) -> str:
    """Circles of 1 mm moves at 40 mm/s, which is what a slicer makes of curves: 40 moves a second."""
    lines = ["PRINT_START", "M106 S128", "G1 X100 Y100 Z0.2 F3000"]
    around = 180
    for i in range(int(minutes * 60 * 40)):
        angle = 2 * math.pi * i / around
        radius = around / (2 * math.pi)
        x, y = 100 + radius * math.cos(angle), 100 + radius * math.sin(angle)
        lines.append(f"G1 X{x:.3f} Y{y:.3f} E0.03 F2400")
        if i % around == 0:
            lines.append(f"M73 P{i % 100}")
    return "\n".join(lines) + "\n"


def follow(folders: list[Path], ready: Connection) -> None:
    """The clients' process: subscribe at every printer, start its print, and count the updates."""
    trio.run(_follow_all, folders, ready)


async def _follow_all(folders: list[Path], ready: Connection) -> None:
    updates = [0]
    async with trio.open_nursery() as nursery:
        for folder in folders:
            await nursery.start(_follow, folder, updates)
        ready.send("printing")
        while await trio.to_thread.run_sync(ready.recv, abandon_on_cancel=True) == "count":
            ready.send(updates[0])
        nursery.cancel_scope.cancel()


async def _follow(folder: Path, updates: list[int], *, task_status: trio.TaskStatus[None]) -> None:
    stream = await trio.open_unix_socket(str(folder / "s"))
    subscribe = {"objects": dict.fromkeys(FOLLOWED), "response_template": {"method": "update"}}
    start = {"script": "SDCARD_PRINT_FILE FILENAME=bench.gcode"}
    for number, (method, params) in enumerate((("objects/subscribe", subscribe), ("gcode/script", start))):
        request = {"id": number, "method": method, "params": params}
        await stream.send_all(json.dumps(request).encode() + b"\x03")
    task_status.started()
    while data := await stream.receive_some(65536):
        updates[0] += data.count(b'"update"')


async def measure(printers: int, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="vb") as name:
        folders = [Path(name) / str(i) for i in range(printers)]
        text = gcode((WARM_UP_S + seconds + 60.0) / 60.0)
        async with trio.open_nursery() as nursery:
            klippies = []
            for folder in folders:
                folder.mkdir()
                (folder / "bench.gcode").write_text(text)
                config = CONFIG + "".join(STEPPER.format(axis=axis) for axis in "xyz")
                (folder / "printer.cfg").write_text(config.replace("{folder}", str(folder)))
                klippy = VirtualKlippy(folder / "printer.cfg", apiserver=folder / "s")
                await nursery.start(klippy.run)
                klippies.append(klippy)
            del text
            for klippy in klippies:
                await klippy.wait_state("ready")
            result = await _measure_while_followed(klippies, folders, seconds)
            nursery.cancel_scope.cancel()
    return result


async def _measure_while_followed(klippies: list[VirtualKlippy], folders: list[Path], seconds: float) -> Measured:
    ours, theirs = multiprocessing.Pipe()
    clients = multiprocessing.get_context("spawn").Process(target=follow, args=(folders, theirs), daemon=True)
    clients.start()

    async def ask(question: str | None) -> object:
        if question is not None:
            ours.send(question)
        return await trio.to_thread.run_sync(ours.recv)

    await ask(None)
    await trio.sleep(WARM_UP_S)
    before, updates_before, cpu_before = time.monotonic(), await ask("count"), _cpu_s()
    moves_before = sum(_moved(klippy) for klippy in klippies)
    await trio.sleep(seconds)
    cpu, updates = _cpu_s() - cpu_before, await ask("count")
    elapsed = time.monotonic() - before
    ours.send("end")
    assert isinstance(updates, int)
    assert isinstance(updates_before, int)
    return Measured(
        printers=len(klippies),
        seconds=round(elapsed, 1),
        moves_per_second=round((sum(_moved(klippy) for klippy in klippies) - moves_before) / elapsed, 1),
        updates_per_second=round((updates - updates_before) / elapsed, 1),
        rss_mb=round(_rss_mb(), 1),
        cpu_percent=round(100.0 * cpu / elapsed, 1),
    )


def _moved(klippy: VirtualKlippy) -> float:
    """Moves printed so far, from the bytes of the file that were read."""
    card = klippy.printer.status_of("virtual_sdcard", 0.0)
    assert card is not None
    assert card["is_active"], klippy.console
    return float(card["file_position"]) / len("G1 X100.000 Y100.000 E0.03 F2400\n")


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--printers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()
    measured = trio.run(measure, args.printers, args.seconds)
    if args.json:
        print(json.dumps({**asdict(measured), "within_limits": measured.within_limits}))
    else:
        for name, value in asdict(measured).items():
            print(f"{name.replace('_', ' '):<20}{value:>10}")
        print(f"limits: RSS {RSS_LIMIT_MB:.0f} MB, CPU {CPU_LIMIT_PERCENT:.0f} % of one core:", end=" ")
        print("kept" if measured.within_limits else "NOT kept")
    return 0 if measured.within_limits else 1


if __name__ == "__main__":
    sys.exit(main())
