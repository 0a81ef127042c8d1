"""Pins and fans: SET_PIN, M106, M107 (klippy/extras/output_pin.py, fan.py)."""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..pins import Pins
from ..printer import Status
from .display_template import TemplateRunner, template_runner


class OutputPin:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        kind = section.name.split()[0]
        self._is_pwm = kind != "output_pin" or section.getboolean("pwm", False)
        self.printer.lookup(Pins, "pins").use(section.get("pin"))
        self._scale = 1.0
        if self._is_pwm:
            section.getfloat("cycle_time", 0.1, above=0.0)
            if kind != "pwm_cycle_time":
                section.getboolean("hardware_pwm", False)
            if kind == "pwm_tool":
                section.getfloat(
                    "maximum_mcu_duration", 0.0, minval=0.5 if section.has("maximum_mcu_duration") else None
                )
            self._scale = section.getfloat("scale", 1.0, above=0.0)
        self.value = section.getfloat("value", 0.0, minval=0.0, maxval=self._scale) / self._scale
        shutdown = section.getfloat("shutdown_value", 0.0, minval=0.0, maxval=self._scale) / self._scale
        self._templates: TemplateRunner = template_runner(section)
        self.printer.on("klippy:shutdown", lambda: self._set(shutdown))
        self.printer.lookup(GCode, "gcode").register_mux(
            "SET_PIN", "PIN", section.own_name, self._cmd_set_pin, "Set the value of an output pin"
        )

    def get_status(self, eventtime: float) -> Status:
        return {"value": self.value}

    def _set(self, value: float) -> None:
        self.value = value

    def _set_from_template(self, text: str) -> None:
        try:
            self.value = float(text)
        except ValueError:
            self.printer.log.exception("output_pin template render error")
            self.value = 0.0

    def _cmd_set_pin(self, command: GCodeCommand) -> None:
        value = command.get_float("VALUE", None, minval=0.0, maxval=self._scale)
        template = command.get("TEMPLATE", None)
        if (value is None) == (template is None):
            raise CommandError("SET_PIN command must specify VALUE or TEMPLATE")
        if value is None:
            self._templates.assign(command, self, self._set_from_template)
            return
        scaled = value / self._scale
        if not self._is_pwm and scaled not in (0.0, 1.0):
            raise CommandError("Invalid pin value")
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.run_at(toolhead.get_last_move_time(), lambda: self._set(scaled))


class FanOutput:
    """What every fan has: power limits, a speed and perhaps a tachometer."""

    def __init__(self, section: Section, *, shutdown_speed: float = 0.0) -> None:
        self.printer = section.printer
        self._max_power = section.getfloat("max_power", 1.0, above=0.0, maxval=1.0)
        section.getfloat("kick_start_time", 0.1, minval=0.0)
        self._off_below = section.getfloat("off_below", 0.0, minval=0.0, maxval=1.0)
        section.getfloat("cycle_time", 0.010, above=0.0)
        section.getboolean("hardware_pwm", False)
        at_shutdown = section.getfloat("shutdown_speed", shutdown_speed, minval=0.0, maxval=1.0)
        pins = self.printer.lookup(Pins, "pins")
        pins.use(section.get("pin"))
        for option in ("enable_pin", "tachometer_pin"):
            pin = section.get(option, None)
            if pin is not None:
                pins.use(pin, can_pullup=True)
        self._has_tachometer = section.get("tachometer_pin", None) is not None
        self.speed = 0.0
        self.printer.on("klippy:shutdown", lambda: self.set_speed(at_shutdown))
        self.printer.on("gcode:request_restart", lambda print_time: self.set_speed(0.0))

    def set_speed(self, value: float) -> None:
        if value < self._off_below:
            value = 0.0
        self.speed = max(0.0, min(self._max_power, value * self._max_power))

    def set_speed_from_command(self, value: float) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.run_at(toolhead.get_last_move_time(), lambda: self.set_speed(value))

    def get_status(self, eventtime: float) -> Status:
        return {"speed": self.speed, "rpm": self.speed * FULL_SPEED_RPM if self._has_tachometer else None}


FULL_SPEED_RPM = 5000.0


class PartFan:
    """[fan]"""

    def __init__(self, section: Section) -> None:
        self.fan = FanOutput(section)
        gcode = section.printer.lookup(GCode, "gcode")
        gcode.register("M106", lambda c: self.fan.set_speed_from_command(c.get_float("S", 255.0, minval=0.0) / 255.0))
        gcode.register("M107", lambda c: self.fan.set_speed_from_command(0.0))

    def get_status(self, eventtime: float) -> Status:
        return self.fan.get_status(eventtime)


def load_output_pin(section: Section) -> OutputPin:
    """Also [pwm_tool] and [pwm_cycle_time]: to the one who looks at them they are output pins."""
    return OutputPin(section)


def load_fan(section: Section) -> PartFan:
    return PartFan(section)
