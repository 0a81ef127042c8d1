"""[servo]: SET_SERVO (klippy/extras/servo.py)."""

from __future__ import annotations

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..pins import Pins
from ..printer import Status

PERIOD_S = 0.020


class Servo:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._min_s = section.getfloat("minimum_pulse_width", 0.001, above=0.0, below=PERIOD_S)
        self._max_s = section.getfloat("maximum_pulse_width", 0.002, above=self._min_s, below=PERIOD_S)
        self._max_angle = section.getfloat("maximum_servo_angle", 180.0)
        self._value = 0.0  # as in Klipper, the initial position is not in the status
        if section.getfloat("initial_angle", None, minval=0.0, maxval=360.0) is None:
            section.getfloat("initial_pulse_width", 0.0, minval=0.0, maxval=self._max_s)
        self.printer.lookup(Pins, "pins").use(section.get("pin"))
        self.printer.lookup(GCode, "gcode").register_mux(
            "SET_SERVO", "SERVO", section.own_name, self._cmd_set, "Set servo angle"
        )

    def get_status(self, eventtime: float) -> Status:
        return {"value": self._value}

    def _cmd_set(self, command: GCodeCommand) -> None:
        width = command.get_float("WIDTH", None)
        if width is None:
            angle = max(0.0, min(self._max_angle, command.get_float("ANGLE")))
            width = self._min_s + angle * (self._max_s - self._min_s) / self._max_angle
        elif width:
            width = max(self._min_s, min(self._max_s, width))
        value = width / PERIOD_S
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.run_at(toolhead.get_last_move_time(), lambda: self._apply(value))

    def _apply(self, value: float) -> None:
        self._value = value


def load(section: Section) -> Servo:
    return Servo(section)
