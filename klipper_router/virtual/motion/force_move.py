"""[force_move]: SET_KINEMATIC_POSITION, FORCE_MOVE, STEPPER_BUZZ (klippy/extras/force_move.py)."""

from __future__ import annotations

import math

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Printer
from .homing import StepperEnable
from .toolhead import Toolhead

# STEPPER_BUZZ: ten times 1 mm there and back, with pauses
BUZZ_S = 10 * (0.25 + 0.05 + 0.25 + 0.45)


def move_s(distance: float, speed: float, accel: float) -> float:
    """How long one motor takes for a distance, from a stop to a stop. No acceleration: at full speed at once."""
    if not distance or not accel:
        return distance / speed
    top = min(speed, math.sqrt(distance * accel))
    return distance / top + top / accel


class ForceMove:
    """Every printer with motors has it; `enable_force_move` adds the dangerous commands."""

    def __init__(self, section: Section) -> None:
        self.printer: Printer = section.printer
        self._enabled = section.getboolean("enable_force_move", False)
        if self._enabled:
            self.printer.lookup(GCode, "gcode").register(
                "SET_KINEMATIC_POSITION", self._cmd_set_position, "Force a low-level kinematic position"
            )

    def add_stepper(self, name: str) -> None:
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register_mux("STEPPER_BUZZ", "STEPPER", name, self._cmd_buzz, "Oscillate a given stepper to help id it")
        if self._enabled:
            gcode.register_mux(
                "FORCE_MOVE", "STEPPER", name, self._cmd_force, "Manually move a stepper; invalidates kinematics"
            )

    async def _turn(self, command: GCodeCommand, seconds: float) -> None:
        self.printer.lookup(StepperEnable, "stepper_enable").enable((command.get("STEPPER"),))
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.dwell(seconds)
        await toolhead.check_pause()

    async def _cmd_buzz(self, command: GCodeCommand) -> None:
        await self._turn(command, BUZZ_S)

    async def _cmd_force(self, command: GCodeCommand) -> None:
        distance = abs(command.get_float("DISTANCE"))
        speed = command.get_float("VELOCITY", above=0.0)
        accel = command.get_float("ACCEL", 0.0, minval=0.0)
        await self._turn(command, move_s(distance, speed, accel))

    def _cmd_set_position(self, command: GCodeCommand) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.get_last_move_time()
        position = toolhead.get_position()
        for i, axis in enumerate("XYZ"):
            position[i] = command.get_float(axis, position[i])
        homed = command.get("SET_HOMED", "xyz").lower()
        cleared = command.get("CLEAR_HOMED", None)
        if cleared is None:
            cleared = command.get("CLEAR", "")
        toolhead.set_position(position, "".join(axis for axis in "xyz" if axis in homed))
        toolhead.kinematics.clear_homing_state("".join(axis for axis in "xyz" if axis in cleared.lower()))


def load(section: Section) -> ForceMove:
    return ForceMove(section)
