"""[homing_override] and [safe_z_home]: what takes the place of G28 (klippy/extras: the modules of these names)."""

from __future__ import annotations

from collections.abc import Awaitable

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode, Handler
from ..gcode_command import GCodeCommand
from ..template import Templates
from .homing import Homing
from .toolhead import Toolhead


def _take_g28(section: Section, handler: Handler) -> Handler:
    section.printer.require(Homing, section.config, "homing")
    gcode = section.printer.lookup(GCode, "gcode")
    previous = gcode.unregister("G28")
    assert previous is not None
    gcode.register("G28", handler)
    return previous


class HomingOverride:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._start = [section.getfloat(f"set_position_{axis}", None) for axis in "xyz"]
        self._axes = section.get("axes", "XYZ").upper()
        self._templates = self.printer.require(Templates, section.config, "gcode_macro")
        self._template = self._templates.load(section, "gcode")
        self._running = False
        self._real = _take_g28(section, self._cmd_g28)

    def _cmd_g28(self, command: GCodeCommand) -> Awaitable[None] | None:
        asked = [axis for axis in "XYZ" if command.get(axis, None) is not None]
        if self._running or (asked and not any(axis in self._axes for axis in asked)):
            return self._real(command)
        return self._override(command)

    async def _override(self, command: GCodeCommand) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        position = toolhead.get_position()
        homing_axes = ""
        for i, value in enumerate(self._start):
            if value is not None:
                position[i] = value
                homing_axes += "xyz"[i]
        toolhead.set_position(position, homing_axes)
        context = {**self._templates.context(), "params": command.params, "rawparams": command.raw_params()}
        self._running = True
        try:
            await self.printer.lookup(GCode, "gcode").run_script_from_command(self._template.render(context))
        finally:
            self._running = False


class SafeZHome:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        x, y = section.getfloatlist("home_xy_position", count=2)
        self._home_xy: list[float | None] = [x, y]
        self._z_hop = section.getfloat("z_hop", 0.0)
        self._z_hop_speed = section.getfloat("z_hop_speed", 15.0, above=0.0)
        self._speed = section.getfloat("speed", 50.0, above=0.0)
        self._move_back = section.getboolean("move_to_previous", False)
        if not section.config.has_section("stepper_z"):
            raise ConfigError("Missing Z endstop config for safe_z_homing")
        _take_g28(section, self._cmd_g28)
        if section.config.has_section("homing_override"):
            raise ConfigError("homing_override and safe_z_homing cannot be used simultaneously")

    async def _cmd_g28(self, command: GCodeCommand) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        homing = self.printer.lookup(Homing, "homing")
        if self._z_hop:
            if "z" not in toolhead.kinematics.get_status()["homed_axes"]:
                position = toolhead.get_position()
                position[2] = 0.0
                toolhead.set_position(position, "z")
                toolhead.manual_move([None, None, self._z_hop], self._z_hop_speed)
                toolhead.kinematics.clear_homing_state("z")
            else:
                self._hop(toolhead)
        asked = [i for i, axis in enumerate("XYZ") if command.get(axis, None) is not None] or [0, 1, 2]
        if asked != [2]:
            await homing.home([i for i in asked if i != 2])
        if 2 not in asked:
            return
        homed = toolhead.kinematics.get_status()["homed_axes"]
        if "x" not in homed or "y" not in homed:
            raise CommandError("Must home X and Y axes first")
        before = toolhead.get_position()
        toolhead.manual_move(self._home_xy, self._speed)
        await homing.home([2])
        if self._z_hop:
            self._hop(toolhead)
        if self._move_back:
            toolhead.manual_move([before[0], before[1]], self._speed)

    def _hop(self, toolhead: Toolhead) -> None:
        if toolhead.position[2] < self._z_hop:
            toolhead.manual_move([None, None, self._z_hop], self._z_hop_speed)


def load_override(section: Section) -> HomingOverride:
    return HomingOverride(section)


def load_safe_z(section: Section) -> SafeZHome:
    return SafeZHome(section)
