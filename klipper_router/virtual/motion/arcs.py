"""[gcode_arcs]: G2 and G3 as many short straight moves (klippy/extras/gcode_arcs.py)."""

from __future__ import annotations

import math

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from .gcode_move import GCodeMove

# G17, G18, G19: the two axes of the plane, the axis across it, and the words of the center.
PLANES = {"G17": ((0, 1, 2), "IJ"), "G18": ((0, 2, 1), "IK"), "G19": ((1, 2, 0), "JK")}


class Arcs:
    def __init__(self, section: Section) -> None:
        self._segment_mm = section.getfloat("resolution", 1.0, above=0.0)
        self._move = section.printer.require(GCodeMove, section.config, "gcode_move")
        self._plane = "G17"
        gcode = section.printer.lookup(GCode, "gcode")
        gcode.register("G2", lambda command: self._arc(command, clockwise=True))
        gcode.register("G3", lambda command: self._arc(command, clockwise=False))
        for plane in PLANES:
            gcode.register(plane, self._cmd_plane)

    def _cmd_plane(self, command: GCodeCommand) -> None:
        self._plane = command.name

    async def _arc(self, command: GCodeCommand, *, clockwise: bool) -> None:
        if not self._move.absolute_coord:
            raise CommandError("G2/G3 does not support relative move mode")
        start = self._move.gcode_position()
        target = [command.get_float(axis, start[i]) for i, axis in enumerate("XYZ")]
        if command.get_float("R", None) is not None:
            raise CommandError("G2/G3 does not support R moves")
        (first, second, across), words = PLANES[self._plane]
        offset = [command.get_float(word, 0.0) for word in words]
        if not any(offset):
            raise CommandError("G2/G3 requires IJ, IK or JK parameters")
        center = (start[first] + offset[0], start[second] + offset[1])
        radius = math.hypot(*offset)
        begin = math.atan2(start[second] - center[1], start[first] - center[0])
        angle = (math.atan2(target[second] - center[1], target[first] - center[0]) - begin) % (2.0 * math.pi)
        if clockwise:
            angle -= 2.0 * math.pi
        if angle == 0.0 and target[first] == start[first] and target[second] == start[second]:
            angle = 2.0 * math.pi
        rise = target[across] - start[across]
        count = max(1, math.floor(math.hypot(radius * angle, rise) / self._segment_mm))
        extrude, feed = command.get_float("E", None), command.get_float("F", None)
        absolute_e = self._move.absolute_extrude
        e_base = start[3] if absolute_e else 0.0
        for i in range(1, count + 1):
            at = [0.0, 0.0, 0.0]
            at[first] = center[0] + radius * math.cos(begin + angle * i / count)
            at[second] = center[1] + radius * math.sin(begin + angle * i / count)
            at[across] = start[across] + rise * i / count
            if i == count:
                at = target
            params = {axis: repr(value) for axis, value in zip("XYZ", at, strict=True)}
            if extrude is not None and extrude != e_base:
                step = (extrude - e_base) / count
                params["E"] = repr(e_base + step * i if absolute_e else step)
            if feed is not None:
                params["F"] = repr(feed)
            waiting = self._move.linear_move(params, command.line)
            if waiting is not None:
                await waiting


def load(section: Section) -> Arcs:
    return Arcs(section)
