"""[manual_stepper]: MANUAL_STEPPER (klippy/extras/manual_stepper.py), without GCODE_AXIS.

Its endstop triggers where a move towards it ends.
"""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..pins import Pins
from .force_move import ForceMove, move_s
from .homing import StepperEnable
from .kinematics import read_stepper
from .toolhead import Toolhead


class ManualStepper:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.name
        read_stepper(section)
        endstop = section.get("endstop_pin", None)
        if endstop is not None and "virtual_endstop" not in endstop:
            self.printer.lookup(Pins, "pins").use(endstop, can_pullup=True, shared=True)
        self._can_home = endstop is not None
        self._velocity = section.getfloat("velocity", 5.0, above=0.0)
        self._accel = section.getfloat("accel", 0.0, minval=0.0)
        self._min = section.getfloat("position_min", None)
        self._max = section.getfloat("position_max", None)
        self.position = 0.0
        self._next_time = 0.0
        for name in ("stepper_enable", "force_move"):
            self.printer.load_object(section.config, name)
        self.printer.lookup(StepperEnable, "stepper_enable").add_stepper(section.name)
        self.printer.lookup(ForceMove, "force_move").add_stepper(section.name)
        self.printer.lookup(GCode, "gcode").register_mux(
            "MANUAL_STEPPER", "STEPPER", section.own_name, self._cmd, "Command a manually configured stepper"
        )

    def _sync(self, toolhead: Toolhead) -> None:
        """Make the toolhead wait for this motor."""
        print_time = toolhead.get_last_move_time()
        if self._next_time > print_time:
            toolhead.dwell(self._next_time - print_time)
        else:
            self._next_time = print_time

    async def _cmd(self, command: GCodeCommand) -> None:
        if command.get("GCODE_AXIS", None) is not None:
            raise CommandError("GCODE_AXIS is not simulated by the virtual Klippy")
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        enable = self.printer.lookup(StepperEnable, "stepper_enable")
        if command.get("ENABLE", None) is not None:
            enable.set_enabled(self._name, bool(command.get_int("ENABLE")))
        self.position = command.get_float("SET_POSITION", self.position)
        speed = command.get_float("SPEED", self._velocity, above=0.0)
        accel = command.get_float("ACCEL", self._accel, minval=0.0)
        stop = command.get("STOP_ON_ENDSTOP", None)
        target = command.get_float("MOVE", None)
        if stop is not None:
            self._check_stop(stop)
            command.get_float("MOVE")  # must be there
        if target is None:
            if command.get_int("SYNC", 0):
                self._sync(toolhead)
        else:
            if (self._min is not None and target < self._min) or (self._max is not None and target > self._max):
                raise CommandError("Move out of range")
            if stop is not None and not self._can_home:
                raise CommandError("No endstop for this manual stepper")
            enable.set_enabled(self._name, True)
            self._sync(toolhead)
            self._next_time += move_s(abs(target - self.position), speed, accel)
            self.position = target
            wait = command.get_int("SYNC", 1)
            if stop is not None or wait:
                self._sync(toolhead)
        await toolhead.check_pause()

    def _check_stop(self, stop: str) -> None:
        kind = {"-2": "home", "-1": "home", "1": "home", "2": "home"}.get(stop, stop)
        if kind.removeprefix("try_").removeprefix("inverted_") not in ("probe", "home"):
            raise CommandError("Unknown STOP_ON_ENDSTOP request")


def load(section: Section) -> ManualStepper:
    return ManualStepper(section)
