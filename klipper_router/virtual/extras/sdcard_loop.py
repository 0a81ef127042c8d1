"""[sdcard_loop]: parts of a file printed again and again (klippy/extras/sdcard_loop.py)."""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from .virtual_sdcard import VirtualSdCard


class SdCardLoop:
    def __init__(self, section: Section) -> None:
        self._sdcard = section.printer.require(VirtualSdCard, section.config, "virtual_sdcard")
        self._loops: list[tuple[int, int]] = []  # rounds that are left (0: for ever), where the loop begins
        gcode = section.printer.lookup(GCode, "gcode")
        gcode.register("SDCARD_LOOP_BEGIN", self._cmd_begin, "Begins a looped section in the SD file.")
        gcode.register("SDCARD_LOOP_END", self._cmd_end, "Ends a looped section in the SD file.")
        gcode.register("SDCARD_LOOP_DESIST", self._cmd_desist, "Stops iterating the current loop stack.")

    def _cmd_begin(self, command: GCodeCommand) -> None:
        count = command.get_int("COUNT", minval=0)
        self._only_in_a_file()
        self._loops.append((count, self._sdcard.next_position))

    def _cmd_end(self, command: GCodeCommand) -> None:
        self._only_in_a_file()
        if not self._loops:
            return
        left, begin = self._loops.pop()
        if left != 1:
            self._sdcard.next_position = begin
            self._loops.append((max(0, left - 1), begin))

    def _cmd_desist(self, command: GCodeCommand) -> None:
        if self._sdcard.is_cmd_from_sd():
            raise CommandError("Only permitted outside of a SD file.")
        self._loops = []

    def _only_in_a_file(self) -> None:
        if not self._sdcard.is_cmd_from_sd():
            raise CommandError("Only permitted in SD file.")


def load(section: Section) -> SdCardLoop:
    return SdCardLoop(section)
