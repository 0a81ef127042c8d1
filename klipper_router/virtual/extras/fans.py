"""Fans that follow something: [heater_fan], [controller_fan], [fan_generic], [temperature_fan]."""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.homing import StepperEnable
from ..printer import Status
from .display_template import TemplateRunner, template_runner
from .heaters import KELVIN_TO_CELSIUS, Heater, Heaters, read_sensor, stop_if_out_of_range
from .outputs import FanOutput
from .thermal import AMBIENT_C

CHECK_S = 1.0


class HeaterFan:
    """On while a heater has a target or is hot (klippy/extras/heater_fan.py)."""

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._heaters_object = self.printer.require(Heaters, section.config, "heaters")
        self._names = section.getlist("heater", ("extruder",))
        self._hot_c = section.getfloat("heater_temp", 50.0)
        self.fan = FanOutput(section, shutdown_speed=1.0)
        self._speed = section.getfloat("fan_speed", 1.0, minval=0.0, maxval=1.0)
        self._heaters: list[Heater] = []
        self.printer.on("klippy:ready", self._on_ready)

    def _on_ready(self) -> None:
        self._heaters = [self._heaters_object.lookup_heater(name) for name in self._names]

    def get_status(self, eventtime: float) -> Status:
        # Worked out when somebody looks, so that an idle printer needs no timer.
        if not self.printer.is_shutdown:
            hot = any(h.target or h.get_temp(eventtime)[0] > self._hot_c for h in self._heaters)
            self.fan.set_speed(self._speed if hot else 0.0)
        return self.fan.get_status(eventtime)


class ControllerFan:
    """On while a motor or a heater is, and a while longer (klippy/extras/controller_fan.py)."""

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._heaters_object = self.printer.require(Heaters, section.config, "heaters")
        self._enable = self.printer.require(StepperEnable, section.config, "stepper_enable")
        self._steppers = section.getlist("stepper", None)
        self.fan = FanOutput(section)
        self._speed = section.getfloat("fan_speed", 1.0, minval=0.0, maxval=1.0)
        self._idle_speed = section.getfloat("idle_speed", self._speed, minval=0.0, maxval=1.0)
        self._idle_s = section.getint("idle_timeout", 30, minval=0)
        self._names = section.getlist("heater", ("extruder",))
        self._heaters: list[Heater] = []
        self._off_since: float | None = None
        self.printer.on("klippy:connect", self._connect)
        self.printer.on("klippy:ready", lambda: self.printer.reactor.register_timer(self._check, 0.0))

    def _connect(self) -> None:
        self._heaters = [self._heaters_object.lookup_heater(name) for name in self._names]
        known = list(self._enable.get_status(0.0)["steppers"])
        unknown = [name for name in self._steppers or () if name not in known]
        if unknown:
            raise ConfigError(
                f"One or more of these steppers are unknown: {self._steppers} (valid steppers are: {', '.join(known)})"
            )

    def _check(self, eventtime: float) -> float:
        enabled = self._enable.get_status(eventtime)["steppers"]
        active = any(on and (self._steppers is None or name in self._steppers) for name, on in enabled.items())
        if active or any(heater.target for heater in self._heaters):
            self._off_since = eventtime
            self.fan.set_speed(self._speed)
        elif self._off_since is not None and eventtime - self._off_since < self._idle_s:
            self.fan.set_speed(self._idle_speed)
        else:
            self.fan.set_speed(0.0)
        return eventtime + CHECK_S

    def get_status(self, eventtime: float) -> Status:
        return self.fan.get_status(eventtime)


class GenericFan:
    """SET_FAN_SPEED (klippy/extras/fan_generic.py)."""

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self.fan = FanOutput(section)
        self._templates: TemplateRunner = template_runner(section)
        self.printer.lookup(GCode, "gcode").register_mux(
            "SET_FAN_SPEED", "FAN", section.own_name, self._cmd_set, "Sets the speed of a fan"
        )

    def get_status(self, eventtime: float) -> Status:
        return self.fan.get_status(eventtime)

    def _set_from_template(self, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        self.fan.set_speed(value)

    def _cmd_set(self, command: GCodeCommand) -> None:
        speed = command.get_float("SPEED", None)
        template = command.get("TEMPLATE", None)
        if (speed is None) == (template is None):
            raise CommandError("SET_FAN_SPEED must specify SPEED or TEMPLATE")
        if speed is None:
            self._templates.assign(command, self, self._set_from_template)
        else:
            self.fan.set_speed_from_command(speed)


class TemperatureFan:
    """Its sensor shows the room's temperature, so the fan rests (klippy/extras/temperature_fan.py)."""

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.name
        self.fan = FanOutput(section, shutdown_speed=1.0)
        self._min_c = section.getfloat("min_temp", minval=KELVIN_TO_CELSIUS)
        self._max_c = section.getfloat("max_temp", above=self._min_c)
        read_sensor(section)
        self.printer.require(Heaters, section.config, "heaters").register_sensor(section, self)
        self._max_speed = section.getfloat("max_speed", 1.0, above=0.0, maxval=1.0)
        self._min_speed = section.getfloat("min_speed", 0.3, minval=0.0, maxval=1.0)
        self._default_target = section.getfloat(
            "target_temp", min(40.0, self._max_c), minval=self._min_c, maxval=self._max_c
        )
        self.target = self._default_target
        self.temperature = AMBIENT_C
        if section.getchoice("control", ("watermark", "pid")) == "watermark":
            section.getfloat("max_delta", 2.0, above=0.0)
        else:
            for option in ("pid_Kp", "pid_Ki", "pid_Kd"):
                section.getfloat(option)
            section.getfloat("pid_deriv_time", 2.0, above=0.0)
        self.printer.lookup(GCode, "gcode").register_mux(
            "SET_TEMPERATURE_FAN_TARGET",
            "TEMPERATURE_FAN",
            section.own_name,
            self._cmd_set,
            "Sets a temperature fan target and fan speed limits",
        )

    def get_temp(self, eventtime: float) -> tuple[float, float]:
        return self.temperature, self.target

    def set_sensor(self, degrees: float) -> None:
        """For VIRTUAL_SENSOR."""
        self.temperature = degrees
        stop_if_out_of_range(self.printer, self._name, degrees, self._min_c, self._max_c)

    def get_status(self, eventtime: float) -> Status:
        if not self.printer.is_shutdown:
            hot = bool(self.target) and self.temperature > self.target
            self.fan.set_speed(max(self._min_speed, self._max_speed) if hot else 0.0)
        return {**self.fan.get_status(eventtime), "temperature": round(self.temperature, 2), "target": self.target}

    def _cmd_set(self, command: GCodeCommand) -> None:
        target = command.get_float("TARGET", self._default_target)
        if target and not self._min_c <= target <= self._max_c:
            raise CommandError(
                f"Requested temperature ({target:.1f}) out of range ({self._min_c:.1f}:{self._max_c:.1f})"
            )
        self.target = target
        low = command.get_float("MIN_SPEED", self._min_speed)
        high = command.get_float("MAX_SPEED", self._max_speed)
        if low > high:
            raise CommandError(f"Requested min speed ({low:.1f}) is greater than max speed ({high:.1f})")
        for name, value in (("min", low), ("max", high)):
            if not 0.0 <= value <= 1.0:
                raise CommandError(f"Requested {name} speed ({value:.1f}) out of range (0.0 : 1.0)")
        self._min_speed, self._max_speed = low, high


def load_heater_fan(section: Section) -> HeaterFan:
    return HeaterFan(section)


def load_controller_fan(section: Section) -> ControllerFan:
    return ControllerFan(section)


def load_generic(section: Section) -> GenericFan:
    return GenericFan(section)


def load_temperature_fan(section: Section) -> TemperatureFan:
    return TemperatureFan(section)
