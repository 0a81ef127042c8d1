"""G0, G1 and the coordinate systems between a G-code file and the toolhead (klippy/extras/gcode_move.py)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from ..config import Section
from ..coord import Coord
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Printer, Status
from .move import Position
from .saved_state import SavedState
from .toolhead import Toolhead

AXES = {"X": 0, "Y": 1, "Z": 2, "E": 3}


class Transform(Protocol):
    """Bends moves on their way to the toolhead (bed_mesh, skew_correction, exclude_object)."""

    def get_position(self) -> Position: ...
    def move(self, position: Position, speed: float) -> None: ...


class GCodeMove:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self.absolute_coord = True
        self.absolute_extrude = True
        self.base_position: Position = [0.0, 0.0, 0.0, 0.0]
        self.last_position: Position = [0.0, 0.0, 0.0, 0.0]
        self.homing_position: Position = [0.0, 0.0, 0.0, 0.0]
        self.speed = 25.0  # mm/s, as the toolhead gets it
        self.speed_factor = 1.0 / 60.0  # from the F of a G1 (mm/min) to mm/s, with M220 in it
        self.extrude_factor = 1.0
        self._ready = False
        self._transform: Transform | None = None
        self._saved: dict[str, SavedState] = {}
        gcode = printer.lookup(GCode, "gcode")
        for name, handler in (
            ("G0", self._cmd_g1),
            ("G1", self._cmd_g1),
            ("G20", self._cmd_g20),
            ("G21", lambda command: None),
            ("M82", lambda command: self._set(absolute_extrude=True)),
            ("M83", lambda command: self._set(absolute_extrude=False)),
            ("G90", lambda command: self._set(absolute_coord=True)),
            ("G91", lambda command: self._set(absolute_coord=False)),
            ("G92", self._cmd_g92),
            ("M220", self._cmd_m220),
            ("M221", self._cmd_m221),
        ):
            gcode.register(name, handler)
        gcode.register("SET_GCODE_OFFSET", self._cmd_set_gcode_offset, "Set a virtual offset to g-code positions")
        gcode.register("SAVE_GCODE_STATE", self._cmd_save_state, "Save G-Code coordinate state")
        gcode.register("RESTORE_GCODE_STATE", self._cmd_restore_state, "Restore a previously saved G-Code state")
        gcode.register("M114", self._cmd_m114, always=True)
        gcode.register(
            "GET_POSITION",
            self._cmd_get_position,
            "Return information on the current location of the toolhead",
            always=True,
        )
        printer.on("klippy:ready", self._on_ready)
        printer.on("klippy:shutdown", self._on_shutdown)
        for event in ("toolhead:set_position", "toolhead:manual_move", "gcode:command_error"):
            printer.on(event, self.reset_last_position)
        printer.on("extruder:activate_extruder", self._on_activate_extruder)
        printer.on("homing:home_rails_end", self._on_homed)

    # Transforms

    def set_transform(self, transform: Transform, *, force: bool = False) -> Transform:
        """Put `transform` before what there is, which is returned (the toolhead if nothing else)."""
        if self._transform is not None and not force:
            raise ConfigError("G-Code move transform already specified")
        previous = self._target()
        self._transform = transform
        return previous

    def _target(self) -> Transform:
        return self._transform or self.printer.lookup(Toolhead, "toolhead")

    def reset_last_position(self) -> None:
        if self._ready:
            self.last_position = self._target().get_position()

    def _on_ready(self) -> None:
        self._ready = True
        self.reset_last_position()

    def _on_shutdown(self) -> None:
        self._ready = False

    def _on_activate_extruder(self) -> None:
        self.reset_last_position()
        self.extrude_factor = 1.0
        self.base_position[3] = self.last_position[3]

    def _on_homed(self, axes: list[int]) -> None:
        self.reset_last_position()
        for axis in axes:
            self.base_position[axis] = self.homing_position[axis]

    # Positions

    def _set(self, *, absolute_coord: bool | None = None, absolute_extrude: bool | None = None) -> None:
        if absolute_coord is not None:
            self.absolute_coord = absolute_coord
        if absolute_extrude is not None:
            self.absolute_extrude = absolute_extrude

    def gcode_position(self) -> Position:
        position = [last - base for last, base in zip(self.last_position, self.base_position, strict=True)]
        position[3] /= self.extrude_factor
        return position

    def gcode_speed(self) -> float:
        """In mm/min, as an F word."""
        return self.speed / self.speed_factor

    def get_status(self, eventtime: float) -> Status:
        return {
            "speed_factor": self.speed_factor * 60.0,
            "speed": self.gcode_speed(),
            "extrude_factor": self.extrude_factor,
            "absolute_coordinates": self.absolute_coord,
            "absolute_extrude": self.absolute_extrude,
            "homing_origin": Coord(self.homing_position),
            "position": Coord(self.last_position),
            "gcode_position": Coord(self.gcode_position()),
            "axis_map": AXES,
        }

    def move_to_last_position(self, speed: float) -> Awaitable[None] | None:
        """Send the toolhead to `last_position`. Waits only when much is queued already."""
        self._target().move(list(self.last_position), speed)
        return self.printer.lookup(Toolhead, "toolhead").check_pause()

    def _cmd_g1(self, command: GCodeCommand) -> Awaitable[None] | None:
        return self.linear_move(command.params, command.line)

    def linear_move(self, params: dict[str, str], line: str) -> Awaitable[None] | None:
        position = list(self.last_position)
        speed = self.speed
        try:
            for axis, index in AXES.items():
                if axis not in params:
                    continue
                value = float(params[axis])
                absolute = self.absolute_coord
                if axis == "E":
                    value *= self.extrude_factor
                    absolute = absolute and self.absolute_extrude
                position[index] = value + (self.base_position if absolute else self.last_position)[index]
            if "F" in params:
                speed = float(params["F"]) * self.speed_factor
                if speed <= 0.0:
                    raise CommandError(f"Invalid speed in '{line}'")
        except ValueError:
            raise CommandError(f"Unable to parse move '{line}'") from None
        # A move that fails leaves the position as it was: Klipper resets it on gcode:command_error.
        self.last_position, self.speed = position, speed
        return self.move_to_last_position(self.speed)

    # Commands

    def _cmd_g20(self, command: GCodeCommand) -> None:
        raise CommandError("Machine does not support G20 (inches) command")

    def _cmd_g92(self, command: GCodeCommand) -> None:
        offsets = [command.get_float(axis, None) for axis in "XYZE"]
        for i, offset in enumerate(offsets):
            if offset is not None:
                scale = self.extrude_factor if i == 3 else 1.0
                self.base_position[i] = self.last_position[i] - offset * scale
        if offsets == [None] * 4:
            self.base_position = list(self.last_position)

    def _cmd_m114(self, command: GCodeCommand) -> None:
        x, y, z, e = self.gcode_position()[:4]
        command.respond_raw(f"X:{x:.3f} Y:{y:.3f} Z:{z:.3f} E:{e:.3f}")

    def _cmd_m220(self, command: GCodeCommand) -> None:
        factor = command.get_float("S", 100.0, above=0.0) / (60.0 * 100.0)
        self.speed = self.gcode_speed() * factor
        self.speed_factor = factor

    def _cmd_m221(self, command: GCodeCommand) -> None:
        factor = command.get_float("S", 100.0, above=0.0) / 100.0
        extruded = (self.last_position[3] - self.base_position[3]) / self.extrude_factor
        self.base_position[3] = self.last_position[3] - extruded * factor
        self.extrude_factor = factor

    def _cmd_set_gcode_offset(self, command: GCodeCommand) -> Awaitable[None] | None:
        moved = [0.0, 0.0, 0.0, 0.0]
        for i, axis in enumerate("XYZE"):
            offset = command.get_float(axis, None)
            if offset is None:
                adjust = command.get_float(f"{axis}_ADJUST", None)
                if adjust is None:
                    continue
                offset = adjust + self.homing_position[i]
            moved[i] = offset - self.homing_position[i]
            self.base_position[i] += moved[i]
            self.homing_position[i] = offset
        if not command.get_int("MOVE", 0):
            return None
        speed = command.get_float("MOVE_SPEED", self.speed, above=0.0)
        self.last_position = [last + delta for last, delta in zip(self.last_position, moved, strict=True)]
        return self.move_to_last_position(speed)

    def _cmd_save_state(self, command: GCodeCommand) -> None:
        self._saved[command.get("NAME", "default")] = SavedState.take(self)

    def _cmd_restore_state(self, command: GCodeCommand) -> Awaitable[None] | None:
        name = command.get("NAME", "default")
        state = self._saved.get(name)
        if state is None:
            raise CommandError(f"Unknown g-code state: {name}")
        state.restore(self)
        if not command.get_int("MOVE", 0):
            return None
        speed = command.get_float("MOVE_SPEED", self.speed, above=0.0)
        self.last_position[:3] = state.last_position[:3]
        return self.move_to_last_position(speed)

    def _cmd_get_position(self, command: GCodeCommand) -> None:
        toolhead = self.printer.find(Toolhead, "toolhead")
        if toolhead is None:
            raise CommandError("Printer not ready")
        at = toolhead.get_position()
        rails = toolhead.kinematics.rails
        steppers = [(name, at[i]) for i, rail in enumerate(rails) for name in rail.steppers]
        command.respond_info(
            f"mcu: {' '.join(f'{name}:{round(value * 80)}' for name, value in steppers)}\n"
            f"stepper: {_named([name for name, _ in steppers], [value for _, value in steppers])}\n"
            f"kinematic: {_named('XYZ', at if rails else [0.0, 0.0, 0.0])}\n"
            f"toolhead: {_named('XYZE', at)}\n"
            f"gcode: {_named('XYZE', self.last_position)}\n"
            f"gcode base: {_named('XYZE', self.base_position)}\n"
            f"gcode homing: {_named('XYZ', self.homing_position)}"
        )


def _named(names: str | list[str], values: list[float]) -> str:
    return " ".join(f"{name}:{value:.6f}" for name, value in zip(names, values, strict=False))


def load(section: Section) -> GCodeMove:
    return GCodeMove(section.printer)
