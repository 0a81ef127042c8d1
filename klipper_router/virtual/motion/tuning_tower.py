"""TUNING_TOWER: changes a parameter with the height of the print (klippy/extras/tuning_tower.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand, is_traditional
from .gcode_move import GCodeMove, Transform
from .move import Position

# Extruding this much lower than before means that a new print has begun.
CANCEL_Z_MM = 2.0


@dataclass(frozen=True)
class Test:
    prefix: str  # what comes before the value
    start: float
    factor: float
    band: float
    step_delta: float
    step_height: float
    skip: float

    def value(self, z: float) -> float:
        z = max(0.0, z - self.skip) if self.skip else z
        if self.step_height:
            return self.start + self.step_delta * math.floor(z / self.step_height)
        if self.band:
            z = (math.floor(z / self.band) + 0.5) * self.band
        return self.start + z * self.factor


class TuningTower:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._move = self.printer.require(GCodeMove, section.config, "gcode_move")
        self._gcode = self.printer.lookup(GCode, "gcode")
        self._next: Transform | None = None
        self._test: Test | None = None
        self._last: Position = [0.0, 0.0, 0.0, 0.0]
        self._last_z = 0.0
        self._last_value: float | None = None
        self._gcode.register("TUNING_TOWER", self._cmd, "Tool to adjust a parameter at each Z height")

    def _cmd(self, command: GCodeCommand) -> None:
        if self._next is not None:
            self._end()
        name, parameter = command.get("COMMAND"), command.get("PARAMETER")
        test = Test(
            prefix=f"{name} {parameter}" if is_traditional(name) else f"{name} {parameter}=",
            start=command.get_float("START", 0.0),
            factor=command.get_float("FACTOR", 0.0),
            band=command.get_float("BAND", 0.0, minval=0.0),
            step_delta=command.get_float("STEP_DELTA", 0.0),
            step_height=command.get_float("STEP_HEIGHT", 0.0, minval=0.0),
            skip=command.get_float("SKIP", 0.0, minval=0.0),
        )
        if test.factor and (test.step_height or test.step_delta):
            raise CommandError("Cannot specify both FACTOR and STEP_DELTA/STEP_HEIGHT")
        if bool(test.step_delta) != bool(test.step_height):
            raise CommandError("Must specify both STEP_DELTA and STEP_HEIGHT")
        self._test = test
        self._next = self._move.set_transform(self, force=True)
        self._last_z, self._last_value = -99999999.9, None
        self.get_position()
        words = [f"start={test.start:.6f}"]
        if test.factor:
            words.append(f"factor={test.factor:.6f}")
            words += [f"band={test.band:.6f}"] if test.band else []
        else:
            words += [f"step_delta={test.step_delta:.6f}", f"step_height={test.step_height:.6f}"]
        words += [f"skip={test.skip:.6f}"] if test.skip else []
        command.respond_info(f"Starting tuning test ({' '.join(words)})")

    def _end(self) -> None:
        assert self._next is not None
        self._gcode.respond_info("Ending tuning test mode")
        self._move.set_transform(self._next, force=True)
        self._next = self._test = None

    def get_position(self) -> Position:
        assert self._next is not None
        self._last = self._next.get_position()
        return list(self._last)

    def move(self, position: Position, speed: float) -> None:
        target = self._next
        assert target is not None
        assert self._test is not None
        if position[3] > self._last[3] and position[2] != self._last_z and position[:3] != self._last[:3]:
            if position[2] < self._last_z - CANCEL_Z_MM:
                self._end()
            else:
                self._last_z = position[2]
                self._apply(self._test.value(self._move.gcode_position()[2]), self._test)
        self._last = list(position)
        target.move(position, speed)

    def _apply(self, value: float, test: Test) -> None:
        if value != self._last_value:
            self._last_value = value
            self.printer.reactor.call_soon(lambda: self._run(f"{test.prefix}{value:.9f}"))

    async def _run(self, script: str) -> None:
        # Klipper runs it before this very move; here it comes right behind it.
        try:
            await self._gcode.run_script_from_command(script)
        except Exception:
            self.printer.log.exception("tuning_tower")


def load(section: Section) -> TuningTower:
    return TuningTower(section)
