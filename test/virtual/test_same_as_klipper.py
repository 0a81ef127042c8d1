"""The virtual Klippy against a real one: the same requests, the same answers.

KLIPPER_DIR names the tree of a real Klipper (v0.13) with out/klipper.elf, its Linux micro-controller; without it these
tests are skipped. KLIPPER_PYTHON and KLIPPER_MCU say where its Python and the micro-controller are, if elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from test.virtual.klipper_lines import LINES
from test.virtual.rig import BASE, CARTESIAN, PATIENCE_S, Api, virtual_klippy

KLIPPER_DIR = Path(os.environ.get("KLIPPER_DIR", "").split(":")[0])
PYTHON = os.environ.get("KLIPPER_PYTHON", str(KLIPPER_DIR.parent / "klippy-env/bin/python"))
MCU = os.environ.get("KLIPPER_MCU", str(KLIPPER_DIR / "out/klipper.elf"))

pytestmark = pytest.mark.skipif("KLIPPER_DIR" not in os.environ, reason="KLIPPER_DIR is not set")

CONFIG = """
[mcu]
serial: {folder}/mcu
restart_method: command

[printer]
kinematics: none
max_velocity: 300
max_accel: 3000

[force_move]
[respond]
[pause_resume]
[display_status]
[virtual_sdcard]
path: {folder}/gcodes
[save_variables]
filename: {folder}/vars
[gcode_arcs]
[exclude_object]
[firmware_retraction]
retract_length: 1
[skew_correction]
[gcode_macro CALL_REMOTE]
description: call it
gcode:
  {action_call_remote_method("remote_test", value=params.VALUE|default("x"))}
[gcode_macro V]
variable_a: 1
variable_b: {"x": [1,2]}
gcode:
  M118 {a} {b.x[1]} {params} {rawparams}
[gcode_macro NEST]
gcode:
  NEST
[gcode_macro FAIL]
gcode:
  {action_raise_error("no way")}
[gcode_macro UNDEF]
gcode:
  {params.X.y.z}
[delayed_gcode d]
gcode:
  M118 delayed
[gcode_macro PAUSE]
rename_existing: BASE_PAUSE
gcode:
  M118 pausing
  BASE_PAUSE
[idle_timeout]
timeout: 1000
"""

FILES = {
    "gcodes/a.gcode": "M118 line1\nG4 P100\nM118 line2\nM117 5/5: done; ok\n",
    "gcodes/bad.gcode": "M118 x\nFAIL\nM118 y\n",
}

# What differs between any two runs, or names the program itself.
VOLATILE = {"eventtime", "printing_time", "total_duration", "print_duration", "print_time", "estimated_print_time",
            "stalls", "cputime", "sysload", "memavail", "last_stats", "id"}  # fmt: skip

QUERIES = ["webhooks", "print_stats", "toolhead", "idle_timeout", "pause_resume", "virtual_sdcard", "display_status",
           "gcode_move", "save_variables", "gcode_macro V", "exclude_object", "firmware_retraction",
           "skew_correction", "configfile", "manual_probe", "nope"]  # fmt: skip

# All but what only describes the printer that the real machine lacks: these fail before it is looked for.
WRONG_CONFIGS = {
    "no mcu": "",
    "kinematics": BASE.replace("none", "foo"),
    "velocity": BASE.replace("300", "0"),
    "not a number": BASE.replace("300", "fast"),
    "section": BASE + "[foo bar]\nx: 1\n",
    "option": BASE + "[idle_timeout]\nFoo: 1\n",
    "no gcode": BASE + "[gcode_macro X]\n",
    "twice": BASE + "[gcode_macro X]\ngcode:\n[gcode_macro x]\ngcode:\n",
    "jinja": BASE + "[gcode_macro X]\ngcode:\n  {% if x %}\n  M118\n",
    "no value": BASE + "[idle_timeout]\nfoo\n",
    "include": BASE + "[include none.cfg]\n",
    "taken": BASE + "[gcode_macro M118]\ngcode:\n",
    "step pin": CARTESIAN.replace("step_pin: PA0\n", ""),
    "endstop": CARTESIAN.replace("position_endstop: 0\n", "position_endstop: 500\n", 1),
    "pin twice": CARTESIAN + "[fan]\npin: PA0\n",
    "chip": CARTESIAN + "[fan]\npin: foo:PA0\n",
    "pin": CARTESIAN + "[fan]\npin: P A0\n",
    "sensor": CARTESIAN.replace("Generic 3950", "foo", 1),
    "control": CARTESIAN.replace("control: pid", "control: x"),
    "range": CARTESIAN.replace("max_temp: 250", "max_temp: -1"),
    "filament": CARTESIAN.replace("filament_diameter: 1.75\n", ""),
    "fan": CARTESIAN + "[fan_generic f]\nshutdown_speed: 2\npin: PD1\n",
    "probe": CARTESIAN + "[probe]\npin: PD1\n",
    "mesh": CARTESIAN + "[bed_mesh]\nmesh_min: 1,1\nmesh_max: 100,100\nprobe_count: 2\n",
    "sensor id": CARTESIAN + "[temperature_sensor t]\n",
    "virtual endstop": CARTESIAN.replace("endstop_pin: PA8", "endstop_pin: probe:z_virtual_endstop"),
}


def comparable(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item, folder) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [comparable(item, folder) for item in value]
    if isinstance(value, str):
        return re.sub("0x[0-9a-f]+", "0x", value.replace(str(folder), "FOLDER"))
    return value


@asynccontextmanager
async def real_klippy(config: str, files: dict[str, str] | None = None) -> AsyncIterator[tuple[Api, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="rk"))
    try:
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "printer.cfg").write_text(config.replace("{folder}", str(folder)))
        klippy = [PYTHON, str(KLIPPER_DIR / "klippy/klippy.py"), str(folder / "printer.cfg")]
        klippy += ["-a", str(folder / "s"), "-l", str(folder / "log"), "-I", str(folder / "tty")]
        async with trio.open_nursery() as nursery:
            run = partial(nursery.start, partial(trio.run_process, check=False, capture_stdout=True))
            await run([MCU, "-I", str(folder / "mcu")])
            await until(lambda: (folder / "mcu").exists())
            await run(klippy)
            async with await _connect(folder / "s") as stream:
                yield Api(stream), folder
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder)


async def _connect(address: Path) -> trio.SocketStream:
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return await trio.open_unix_socket(str(address))
            except OSError:
                await trio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    """Another process has to do something: there is no event to wait for."""
    with trio.fail_after(PATIENCE_S):
        while True:
            if condition():
                return
            await trio.sleep(0.02)


async def leave(api: Api, state: str) -> dict[str, Any]:
    """The info when the state is no longer this one."""
    with trio.fail_after(PATIENCE_S):
        while True:
            info: dict[str, Any] = await api.call("info")
            if info["state"] != state:
                return info
            await trio.sleep(0.02)


async def record(api: Api, folder: Path) -> list[Any]:
    """Every answer with the console's words before it."""
    assert (await leave(api, "startup"))["state"] == "ready"
    await api.call("gcode/subscribe_output", {"response_template": {"method": "out"}})
    template = {"method": "remote", "params": {"template": "wins"}}
    await api.call("register_remote_method", {"remote_method": "remote_test", "response_template": template})
    requests: list[tuple[str, dict[str, Any]]] = [("gcode/script", {"script": line}) for line in LINES]
    requests += [("objects/query", {"objects": {name: None}}) for name in QUERIES]
    requests += [(name, {}) for name in ("pause_resume/pause", "pause_resume/resume", "pause_resume/cancel")]
    requests += [("gcode/script", {"script": "SDCARD_PRINT_FILE FILENAME=bad.gcode"}), ("emergency_stop", {})]
    requests += [("gcode/script", {"script": line}) for line in ("M118 still", "G1 X1", "STATUS", "M105", "", "M21")]
    seen: list[Any] = []
    for method, params in requests:
        begin = len(api.notes)
        answer = await api.answer(await api.send(method, params))
        if params.get("script", "").startswith("SDCARD_PRINT_FILE FILENAME=bad"):
            while not any("!!" in str(note) for note in api.notes[begin:]):
                await api.note(len(api.notes) + 1)
        seen.append(comparable([method, params, answer, api.notes[begin:]], folder))
    return seen


async def test_every_request_gets_klippers_answer() -> None:
    async with real_klippy(CONFIG, FILES) as (api, folder):
        real = await record(api, folder)
    async with virtual_klippy(CONFIG, files=FILES, speed=1.0) as rig:
        virtual = await record(rig.api, rig.folder)
    for expected, found in zip(real, virtual, strict=True):
        assert found == expected


@pytest.mark.parametrize("config", WRONG_CONFIGS.values(), ids=WRONG_CONFIGS.keys())
async def test_a_wrong_configuration_gets_klippers_message(config: str) -> None:
    messages = []
    async with real_klippy(config) as (api, folder):
        info = await leave(api, "startup")
        messages.append(comparable(info["state_message"], folder))
    async with virtual_klippy(config, ready=False) as rig:
        await rig.wait_state("error")
        messages.append(comparable((await rig.api.call("info"))["state_message"], rig.folder))
    assert messages[1] == messages[0]
