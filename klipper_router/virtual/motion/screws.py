"""[screws_tilt_adjust]: SCREWS_TILT_CALCULATE (klippy/extras/screws_tilt_adjust.py)."""

from __future__ import annotations

import math
from collections.abc import Awaitable

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from .probe_points import Measured, Point, ProbePoints

# mm that the bed moves in one turn
PITCH = {"M3": 0.5, "M4": 0.7, "M5": 0.8, "M6": 1.0}
THREADS = {f"{turn}-{size}": (turn, pitch) for size, pitch in PITCH.items() for turn in ("CW", "CCW")}
LEVEL_MM = 0.001


class ScrewsTiltAdjust:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._screws: list[tuple[str, Point]] = []
        for number in range(1, 100):
            option = f"screw{number}"
            if not section.has(option):
                break
            x, y = section.getfloatlist(option, count=2)
            self._screws.append((section.get(f"{option}_name", f"screw at {x:.3f},{y:.3f}"), (x, y)))
        if len(self._screws) < 3:
            raise ConfigError("screws_tilt_adjust: Must have at least three screws")
        thread = section.getchoice("screw_thread", list(THREADS), "CW-M3")
        self._clockwise, self._pitch = THREADS[thread][0] == "CW", THREADS[thread][1]
        self._points = ProbePoints(section, self._measured, [point for _, point in self._screws])
        self._points.need(3)
        self._max_difference: float | None = None
        self._direction: str | None = None
        self._failed = False
        self._results: dict[str, Status] = {}
        self._gcode = self.printer.lookup(GCode, "gcode")
        self._gcode.register(
            "SCREWS_TILT_CALCULATE",
            self._cmd_calculate,
            "Tool to help adjust bed leveling screws by calculating the number of turns to level it.",
        )

    def get_status(self, eventtime: float) -> Status:
        return {"error": self._failed, "max_deviation": self._max_difference, "results": self._results}

    def _cmd_calculate(self, command: GCodeCommand) -> Awaitable[None] | None:
        self._max_difference = command.get_float("MAX_DEVIATION", None)
        direction = command.get("DIRECTION", None)
        self._direction = None if direction is None else direction.upper()
        if self._direction not in (None, "CW", "CCW"):
            raise CommandError(f"Error on '{command.line}': DIRECTION must be either CW or CCW")
        return self._points.start(command)

    def _measured(self, measured: list[Measured]) -> bool:
        heights = [z for _, _, z in measured]
        base = 0
        if self._direction is not None:
            highest = self._clockwise == (self._direction == "CW")
            base = heights.index(max(heights) if highest else min(heights))
        self._failed = False
        self._gcode.respond_info("01:20 means 1 full turn and 20 minutes, CW=clockwise, CCW=counter-clockwise")
        self._results = {
            f"screw{i + 1}": self._result(i, z, heights[base], is_base=i == base) for i, z in enumerate(heights)
        }
        furthest = max(abs(heights[base] - z) for z in heights)
        if self._max_difference and furthest > self._max_difference:
            self._failed = True
            raise CommandError(
                f"bed level exceeds configured limits ({self._max_difference}mm)! Adjust screws and restart print."
            )
        return True

    def _result(self, index: int, z: float, base_z: float, *, is_base: bool) -> Status:
        """Tells the user, and returns what the status shows."""
        name, (x, y) = self._screws[index]
        if is_base:
            self._gcode.respond_info(f"{name} (base) : x={x:.1f}, y={y:.1f}, z={z:.5f}")
            return {"z": z, "sign": "CW" if self._clockwise else "CCW", "adjust": "00:00", "is_base": True}
        turns = (base_z - z) / self._pitch if abs(base_z - z) >= LEVEL_MM else 0.0
        sign = "CW" if self._clockwise == (turns >= 0) else "CCW"
        whole = math.trunc(abs(turns))
        adjust = f"{whole:02d}:{round((abs(turns) - whole) * 60):02d}"
        self._gcode.respond_info(f"{name} : x={x:.1f}, y={y:.1f}, z={z:.5f} : adjust {sign} {adjust}")
        return {"z": z, "sign": sign, "adjust": adjust, "is_base": False}


def load(section: Section) -> ScrewsTiltAdjust:
    return ScrewsTiltAdjust(section)
