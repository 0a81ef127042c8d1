"""[display_status]: M73, M117, SET_DISPLAY_TEXT (klippy/extras/display_status.py)."""

from __future__ import annotations

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status

M73_TIMEOUT_S = 5.0


class DisplayStatus:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._progress: float | None = None
        self._expires = 0.0
        self._message: str | None = None
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register("M73", self._cmd_m73)
        gcode.register("M117", self._cmd_m117)
        gcode.register("SET_DISPLAY_TEXT", self._cmd_set_text, "Set or clear the display message")

    def get_status(self, eventtime: float) -> Status:
        if self._progress is not None and eventtime > self._expires:
            idle = self.printer.status_of("idle_timeout", eventtime) or {}
            if idle.get("state") != "Printing":
                self._progress = None
        progress = self._progress
        if progress is None:
            card = self.printer.status_of("virtual_sdcard", eventtime) or {}
            progress = card.get("progress", 0.0)
        return {"progress": progress, "message": self._message}

    def _cmd_m73(self, command: GCodeCommand) -> None:
        percent = command.get_float("P", None)
        if percent is not None:
            self._progress = min(1.0, max(0.0, percent / 100.0))
            self._expires = self.printer.reactor.now() + M73_TIMEOUT_S

    def _cmd_m117(self, command: GCodeCommand) -> None:
        self._message = command.raw_params() or None

    def _cmd_set_text(self, command: GCodeCommand) -> None:
        self._message = command.get("MSG", None)


def load(section: Section) -> DisplayStatus:
    return DisplayStatus(section)
