"""What the tests of scripts share: who sends them, and in which order they ran."""

from __future__ import annotations

from typing import Any

import trio

from test.memory.bench import Bench
from test.memory.scripted_klippy import ScriptedKlippy


def run(klippy: ScriptedKlippy, target: str, script: str, **more: Any) -> None:
    klippy.call_remote("router/gcode/script", target=target, script=script, **more)


async def started(nursery: trio.Nursery, *names: str, **more: Any) -> Bench:
    bench = Bench(nursery, *names, **more)
    for klippy in bench:
        klippy.define("MOVE", "DONE", "FAILED")
    await bench.start()
    return bench


def numbers(klippy: ScriptedKlippy) -> list[int]:
    return [int(parameters["N"]) for parameters in klippy.runs_of("MOVE")]
