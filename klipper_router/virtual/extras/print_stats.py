"""The object `print_stats` (klippy/extras/print_stats.py)."""

from __future__ import annotations

from typing import Literal

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.gcode_move import GCodeMove
from ..printer import Status

PrintState = Literal["standby", "printing", "paused", "complete", "error", "cancelled"]
NO_EXTRUSION_MM = 0.0000001


class PrintStats:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._move = self.printer.require(GCodeMove, section.config, "gcode_move")
        self.reset()
        self.printer.lookup(GCode, "gcode").register(
            "SET_PRINT_STATS_INFO", self._cmd_set_info, "Pass slicer info like layer act and total to klipper"
        )
        self.printer.on("extruder:activate_extruder", self._note_extruder_position)

    def reset(self) -> None:
        self.state: PrintState = "standby"
        self.filename = self._message = ""
        self._started: float | None = None
        self._paused: float | None = None
        self._paused_s = 0.0  # in pauses that are over
        self._before_extrusion_s = 0.0
        self._total_s = 0.0
        self._filament_mm = 0.0
        self._last_e = 0.0
        self._total_layer: int | None = None
        self._current_layer: int | None = None

    def set_current_file(self, filename: str) -> None:
        self.reset()
        self.filename = filename

    def note_start(self) -> None:
        now = self.printer.reactor.now()
        if self._started is None:
            self._started = now
        elif self._paused is not None:
            self._paused_s += now - self._paused
            self._paused = None
        self._note_extruder_position()
        self.state, self._message = "printing", ""

    def note_pause(self) -> None:
        if self._paused is None:
            self._paused = self.printer.reactor.now()
            self._count_filament()
        if self.state != "error":
            self.state = "paused"

    def note_complete(self) -> None:
        self._note_finish("complete")

    def note_error(self, message: str) -> None:
        self._note_finish("error", message)

    def note_cancel(self) -> None:
        self._note_finish("cancelled")

    def _note_finish(self, state: PrintState, message: str = "") -> None:
        if self._started is None:
            return
        self.state, self._message = state, message
        self._total_s = self.printer.reactor.now() - self._started
        if self._filament_mm < NO_EXTRUSION_MM:
            self._before_extrusion_s = self._total_s - self._paused_s
        self._started = None

    def _note_extruder_position(self) -> None:
        self._last_e = self._move.last_position[3]

    def _count_filament(self) -> None:
        at = self._move.last_position[3]
        self._filament_mm += (at - self._last_e) / self._move.extrude_factor
        self._last_e = at

    def get_status(self, eventtime: float) -> Status:
        paused_s = self._paused_s
        if self._started is not None:
            if self._paused is not None:
                paused_s += eventtime - self._paused
            else:
                self._count_filament()
            self._total_s = eventtime - self._started
            if self._filament_mm < NO_EXTRUSION_MM:
                self._before_extrusion_s = self._total_s - paused_s
        return {
            "filename": self.filename,
            "total_duration": self._total_s,
            "print_duration": self._total_s - self._before_extrusion_s - paused_s,
            "filament_used": self._filament_mm,
            "state": self.state,
            "message": self._message,
            "info": {"total_layer": self._total_layer, "current_layer": self._current_layer},
        }

    def _cmd_set_info(self, command: GCodeCommand) -> None:
        total = command.get_int("TOTAL_LAYER", self._total_layer, minval=0)
        current = command.get_int("CURRENT_LAYER", self._current_layer, minval=0)
        if total == 0:
            self._total_layer = self._current_layer = None
        elif total != self._total_layer:
            self._total_layer, self._current_layer = total, 0
        if self._total_layer is not None and current is not None and current != self._current_layer:
            self._current_layer = min(current, self._total_layer)


def load(section: Section) -> PrintStats:
    return PrintStats(section)
