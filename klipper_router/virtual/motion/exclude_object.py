"""[exclude_object]: objects of a print, and leaving some out (klippy/extras/exclude_object.py)."""

from __future__ import annotations

import json
from typing import Any

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from .gcode_move import GCodeMove, Transform
from .move import Position

# The transform is only put in at the first exclusion; it needs to see some extrusion before it leaves moves out.
FIRST_EXTRUSIONS = 5


class ExcludeObject:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._move = self.printer.require(GCodeMove, section.config, "gcode_move")
        self._gcode = gcode = self.printer.lookup(GCode, "gcode")
        self._next: Transform | None = None
        self._reset_state()
        self.printer.on("virtual_sdcard:reset_file", self._reset_file)
        gcode.register("EXCLUDE_OBJECT_START", self._cmd_start, "Marks the beginning the current object as labeled")
        gcode.register("EXCLUDE_OBJECT_END", self._cmd_end, "Marks the end the current object")
        gcode.register("EXCLUDE_OBJECT", self._cmd_exclude, "Cancel moves inside a specified objects")
        gcode.register("EXCLUDE_OBJECT_DEFINE", self._cmd_define, "Provides a summary of an object")

    def _reset_state(self) -> None:
        self._objects: list[dict[str, Any]] = []
        self._excluded: list[str] = []
        self._current: str | None = None

    def _reset_file(self) -> None:
        self._reset_state()
        if self._next is not None:
            self._move.set_transform(self._next, force=True)
            self._next = None
            self._move.reset_last_position()

    def get_status(self, eventtime: float) -> Status:
        return {"objects": self._objects, "excluded_objects": self._excluded, "current_object": self._current}

    # Transform: moves inside an excluded object are not made; the filament they would have used is taken off.

    def _install(self) -> None:
        if self._next is None:
            self._next = self._move.set_transform(self, force=True)
            self._first_extrusions = FIRST_EXTRUSIONS
            self._offset_e = 0.0
            self._wanted = self._next.get_position()  # where the G-code believes to be

    def get_position(self) -> Position:
        if self._current in self._excluded and self._first_extrusions == 0:
            return list(self._wanted)
        assert self._next is not None
        position = self._next.get_position()
        position[3] += self._offset_e
        return position

    def move(self, position: Position, speed: float) -> None:
        assert self._next is not None
        if self._current in self._excluded and self._first_extrusions == 0:
            self._offset_e += position[3] - self._wanted[3]
            self._wanted = list(position)
            return
        if self._first_extrusions and position[3] != self._wanted[3]:
            self._first_extrusions -= 1
        self._wanted = list(position)
        self._next.move([*position[:3], position[3] - self._offset_e], speed)

    # Commands

    def _cmd_start(self, command: GCodeCommand) -> None:
        name = command.get("NAME").upper()
        if not any(item["name"] == name for item in self._objects):
            self._add({"name": name})
        self._current = name

    def _cmd_end(self, command: GCodeCommand) -> None:
        if self._current is None and self._next is not None:
            command.respond_info("EXCLUDE_OBJECT_END called, but no object is currently active")
            return
        name = command.get("NAME", None)
        if name is not None and name.upper() != self._current:
            command.respond_info(
                f"EXCLUDE_OBJECT_END NAME={name.upper()} does not match the current object NAME={self._current}"
            )
        self._current = None

    def _cmd_exclude(self, command: GCodeCommand) -> None:
        name = command.get("NAME", "").upper()
        if command.get("RESET", None):
            if name:
                command.respond_info(f"Unexcluding object {name}")
                self._excluded = [other for other in self._excluded if other != name]
            else:
                self._excluded = []
        elif name:
            if name not in self._excluded:
                self._exclude(name)
        elif command.get("CURRENT", None):
            if not self._current:
                raise CommandError("There is no current object to cancel")
            self._exclude(self._current)
        else:
            command.respond_info(f"Excluded objects: {' '.join(self._excluded)}")

    def _exclude(self, name: str) -> None:
        self._install()
        self._gcode.respond_info(f"Excluding object {name}")
        if name not in self._excluded:
            self._excluded = sorted([*self._excluded, name])

    def _cmd_define(self, command: GCodeCommand) -> None:
        name = command.get("NAME", "").upper()
        if command.get("RESET", None):
            self._reset_file()
        elif name:
            extra = {key: value for key, value in command.params.items() if key not in ("NAME", "CENTER", "POLYGON")}
            definition: dict[str, Any] = {"name": name, **extra}
            # Broken JSON is not a command error: as in Klipper it stops the printer.
            if "CENTER" in command.params:
                definition["center"] = json.loads(f"[{command.params['CENTER']}]")
            if "POLYGON" in command.params:
                definition["polygon"] = json.loads(command.params["POLYGON"])
            self._add(definition)
        elif command.get("JSON", None) is not None:
            command.respond_info(f"Known objects: {json.dumps(self._objects)}")
        else:
            command.respond_info(f"Known objects: {' '.join(item['name'] for item in self._objects)}")

    def _add(self, definition: dict[str, Any]) -> None:
        self._objects = sorted([*self._objects, definition], key=lambda item: str(item["name"]))


def load(section: Section) -> ExcludeObject:
    return ExcludeObject(section)
