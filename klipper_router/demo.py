"""`klipper-router demo`: the print_stats scenario on virtual printers, told as a timeline to a newcomer."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from pathlib import Path

from klipper_router import shipped
from klipper_router.scenario import command, plan, run, schema
from klipper_router.scenario.plan import Plan, PlannedStep
from klipper_router.scenario.run import Result
from klipper_router.scenario.show import Quiet, failure
from klipper_router.scenario.watch import ConsoleLine

INTRO = """\
Klipper Router demo: three printers, each with a Klipper of its own, and one router between them. main prints a
file; afc is a filament changer; led is a status light. They are virtual, but run the very macros that real ones would.
None of them knows the others' sockets: led has asked the router to follow main's print, main asks afc for
filament by an event, and afc answers by another.
"""

OUTRO = """\
That was real: real macros, real sockets, a real router; only the printers were simulated.

What to try next:
  see the macros                 {folder}  (led.cfg is the whole status light)
  see every line and route       {program} test --consoles -v {folder}
  on a real Klipper              {program} test --klipper ~/klipper {folder}
  with your own printers         write router.cfg ({program} --help shows one), add
                                 [include {includes}/router_api.cfg]
                                 to each printer, then {program} -c router.cfg
"""


def main(*, verbose: bool, speed: float = 1.0) -> int:
    """Run the demo; about 10 s in real time, as a timeline is to be watched. Returns 0 when all came, else 1."""
    folder = shipped.folder("scenarios/print_stats")
    print(INTRO, flush=True)
    results = command.run_plans([plan.load(folder)], run.Options(speed=speed), _Timeline(verbose))
    if not results:
        return command.INTERRUPTED
    if results[0].passed:
        includes = shipped.folder("includes").resolve()
        print("\n" + OUTRO.format(program=_program(), folder=_short(folder), includes=includes))
    return 0 if results[0].passed else 1


def _program() -> str:
    """This program as the reader would type it: demo.sh installs it where no shell looks for it."""
    script = Path(sys.executable).with_name("klipper-router")
    if not script.exists():
        return f"{_short(Path(sys.executable))} -m klipper_router"
    return script.name if shutil.which(script.name) == str(script) else _short(script)


def _short(path: Path) -> str:
    """As the reader would type it from where they are."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here)) if path.is_relative_to(here) else str(path))


class _Timeline(Quiet):
    """What happens, and on which printer."""

    def __init__(self, verbose: bool) -> None:
        self._level = logging.DEBUG if verbose else logging.WARNING
        self._at_s = 0.0

    def _say(self, at_s: float, who: str, what: str) -> None:
        self._at_s = at_s
        print(f"  {at_s:4.1f} s  {who:6}  {what}", flush=True)

    def begins(self, plan: Plan, directory: Path) -> None:
        self._say(0.0, "demo", f"starts the printers {', '.join(plan.printers)} and a router")

    def state(self, at_s: float, printer: str, state: str) -> None:
        if state == "ready":
            self._say(at_s, printer, "is ready")

    def console(self, line: ConsoleLine) -> None:
        # What macros say is "// …"; the rest is Klipper's own talk.
        if line.text.startswith("// ") and "Klipper state" not in line.text:
            self._say(line.at_s, line.printer, line.text.removeprefix("// "))

    def router_log(self, at_s: float, record: logging.LogRecord) -> None:
        if record.levelno >= self._level:
            self._say(at_s, "router", record.getMessage())

    def step_begins(self, at_s: float, step: PlannedStep) -> None:
        if isinstance(step.body, schema.Gcode):
            self._say(at_s, "you", f"type on {step.body.printer}: {step.body.script.strip()}")

    def ended(self, result: Result) -> None:
        if result.passed:
            self._say(self._at_s, "demo", "all of it came as it should")
        else:
            print(failure(result), flush=True)
