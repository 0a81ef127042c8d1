"""Extruders: what may be extruded, which one is active, M104/M109 (klippy/kinematics/extruder.py)."""

from __future__ import annotations

import math
from collections.abc import Awaitable

from ..config import Config, Section
from ..errors import CommandError
from ..extras.heaters import Heater, Heaters
from ..extras.thermal import HOTEND
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Printer, Status
from .force_move import ForceMove
from .homing import StepperEnable
from .kinematics import read_stepper
from .move import Move
from .toolhead import Toolhead


class ExtruderStepper:
    """The motor: pressure advance, rotation distance, which extruder it follows."""

    def __init__(self, section: Section, motion_queue: str | None = None) -> None:
        """Klipper names no `motion_queue` for an extruder's own motor until SYNC_EXTRUDER_MOTION was used."""
        self.printer = section.printer
        self.name = section.own_name
        read_stepper(section)
        self.rotation_distance = section.getfloat("rotation_distance", 1.0)
        self.motion_queue = motion_queue
        self._follows = motion_queue or self.name
        self.pressure_advance = section.getfloat("pressure_advance", 0.0, minval=0.0)
        self.smooth_time = section.getfloat("pressure_advance_smooth_time", 0.040, above=0.0, maxval=0.200)
        gcode = self.printer.lookup(GCode, "gcode")
        help_pa = "Set pressure advance parameters"
        if self.name == "extruder":
            gcode.register_mux("SET_PRESSURE_ADVANCE", "EXTRUDER", None, self._cmd_active_pressure, help_pa)
        gcode.register_mux("SET_PRESSURE_ADVANCE", "EXTRUDER", self.name, self.cmd_pressure_advance, help_pa)
        gcode.register_mux(
            "SET_EXTRUDER_ROTATION_DISTANCE",
            "EXTRUDER",
            self.name,
            self._cmd_rotation,
            "Set extruder rotation distance",
        )
        gcode.register_mux(
            "SYNC_EXTRUDER_MOTION", "EXTRUDER", self.name, self._cmd_sync, "Set extruder stepper motion queue"
        )

    def get_status(self, eventtime: float) -> Status:
        return {
            "pressure_advance": self.pressure_advance,
            "smooth_time": self.smooth_time,
            "motion_queue": self.motion_queue,
        }

    def _cmd_active_pressure(self, command: GCodeCommand) -> None:
        active = self.printer.lookup(Toolhead, "toolhead").extruder
        if not isinstance(active, Extruder) or active.stepper is None:
            raise CommandError("Active extruder does not have a stepper")
        if active.stepper._follows != active.name:
            raise CommandError("Unable to infer active extruder stepper")
        active.stepper.cmd_pressure_advance(command)

    def cmd_pressure_advance(self, command: GCodeCommand) -> None:
        advance = command.get_float("ADVANCE", self.pressure_advance, minval=0.0)
        smooth = command.get_float("SMOOTH_TIME", self.smooth_time, minval=0.0, maxval=0.200)
        self.printer.lookup(Toolhead, "toolhead").get_last_move_time()
        self.pressure_advance, self.smooth_time = advance, smooth
        command.respond_info(f"pressure_advance: {advance:.6f}\npressure_advance_smooth_time: {smooth:.6f}", log=False)

    def _cmd_rotation(self, command: GCodeCommand) -> None:
        distance = command.get_float("DISTANCE", None)
        if distance is not None:
            if not distance:
                raise CommandError("Rotation distance can not be zero")
            self.rotation_distance = distance
        command.respond_info(f"Extruder '{self.name}' rotation distance set to {self.rotation_distance:.6f}")

    def _cmd_sync(self, command: GCodeCommand) -> None:
        queue = command.get("MOTION_QUEUE")
        if queue and self.printer.find(Extruder, queue) is None:
            raise CommandError(f"'{queue}' is not a valid extruder.")
        self._follows = queue
        self.motion_queue = queue or None
        command.respond_info(f"Extruder '{self.name}' now syncing with '{queue}'")


class Extruder:
    def __init__(self, section: Section, number: int, toolhead: Toolhead) -> None:
        self.printer = section.printer
        self.name = section.name
        self.last_position = 0.0
        heaters = self.printer.require(Heaters, section.config, "heaters")
        self.heater: Heater = heaters.setup_heater(section, HOTEND, f"T{number}")
        self.nozzle_diameter = section.getfloat("nozzle_diameter", above=0.0)
        filament = section.getfloat("filament_diameter", minval=self.nozzle_diameter)
        self._area = math.pi * (filament * 0.5) ** 2
        default_cross_section = 4.0 * self.nozzle_diameter**2
        cross_section = section.getfloat("max_extrude_cross_section", default_cross_section, above=0.0)
        self._max_ratio = cross_section / self._area
        default_ratio = default_cross_section / self._area
        limits = toolhead.limits
        self._max_velocity = section.getfloat(
            "max_extrude_only_velocity", limits.max_velocity * default_ratio, above=0.0
        )
        self._max_accel = section.getfloat("max_extrude_only_accel", limits.max_accel * default_ratio, above=0.0)
        self._max_distance = section.getfloat("max_extrude_only_distance", 50.0, minval=0.0)
        section.getfloat("instantaneous_corner_velocity", 1.0, minval=0.0)
        self.stepper: ExtruderStepper | None = None
        if any(section.get(option, None) is not None for option in ("step_pin", "dir_pin", "rotation_distance")):
            self.stepper = ExtruderStepper(section)
        gcode = self.printer.lookup(GCode, "gcode")
        if self.name == "extruder":
            toolhead.set_extruder(self, 0.0)
            gcode.register("M104", lambda command: self._set_temperature(command, wait=False))
            gcode.register("M109", lambda command: self._set_temperature(command, wait=True))
        gcode.register_mux("ACTIVATE_EXTRUDER", "EXTRUDER", self.name, self._cmd_activate, "Change the active extruder")

    def get_status(self, eventtime: float) -> Status:
        status = self.heater.get_status(eventtime)
        status["can_extrude"] = self.heater.can_extrude
        if self.stepper is not None:
            status.update(self.stepper.get_status(eventtime))
        return status

    def get_temp(self, eventtime: float) -> tuple[float, float]:
        return self.heater.get_temp(eventtime)

    def set_sensor(self, degrees: float) -> None:
        """For VIRTUAL_SENSOR."""
        self.heater.set_sensor(degrees)

    def check_move(self, move: Move) -> None:
        if not self.heater.can_extrude:
            raise CommandError("Extrude below minimum temp\nSee the 'min_extrude_temp' config option for details")
        ratio, distance = move.ratios[3], move.deltas[3]
        if (not move.deltas[0] and not move.deltas[1]) or ratio < 0.0:
            if abs(distance) > self._max_distance:
                raise CommandError(
                    f"Extrude only move too long ({distance:.3f}mm vs {self._max_distance:.3f}mm)\n"
                    "See the 'max_extrude_only_distance' config option for details"
                )
            move.limit_speed(self._max_velocity / abs(ratio), self._max_accel / abs(ratio))
        elif ratio > self._max_ratio and distance > self.nozzle_diameter * self._max_ratio:
            raise CommandError(
                f"Move exceeds maximum extrusion ({ratio * self._area:.3f}mm^2 vs"
                f" {self._max_ratio * self._area:.3f}mm^2)\n"
                "See the 'max_extrude_cross_section' config option for details"
            )
        self.last_position = move.end[3]

    def _set_temperature(self, command: GCodeCommand, *, wait: bool) -> Awaitable[None] | None:
        degrees = command.get_float("S", 0.0)
        index = command.get_int("T", None, minval=0)
        extruder: object = self.printer.lookup(Toolhead, "toolhead").extruder
        if index is not None:
            extruder = self.printer.find(Extruder, f"extruder{index}" if index else "extruder")
            if extruder is None and degrees <= 0.0:
                return None
        if not isinstance(extruder, Extruder):
            raise CommandError("Extruder not configured")
        heaters = self.printer.lookup(Heaters, "heaters")
        if wait:
            return heaters.set_temperature_and_wait(extruder.heater, degrees)
        heaters.set_temperature(extruder.heater, degrees)
        return None

    def _cmd_activate(self, command: GCodeCommand) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        if toolhead.extruder is self:
            command.respond_info(f"Extruder {self.name} already active")
            return
        command.respond_info(f"Activating extruder {self.name}")
        toolhead.set_extruder(self, self.last_position)
        self.printer.send_event("extruder:activate_extruder")


def load_stepper(section: Section) -> ExtruderStepper:
    """[extruder_stepper my_stepper]: a motor that follows an extruder."""
    for name in ("stepper_enable", "force_move"):
        section.printer.load_object(section.config, name)
    section.printer.lookup(StepperEnable, "stepper_enable").add_stepper(section.name)
    section.printer.lookup(ForceMove, "force_move").add_stepper(section.name)
    return ExtruderStepper(section, section.get("extruder"))


def load_extruders(config: Config, toolhead: Toolhead) -> None:
    printer: Printer = config.printer
    for number in range(99):
        name = f"extruder{number}" if number else "extruder"
        if not config.has_section(name):
            return
        printer.add_object(name, Extruder(config.section(name), number, toolhead))
