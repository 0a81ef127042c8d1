"""[firmware_retraction]: G10 and G11 (klippy/extras/firmware_retraction.py)."""

from __future__ import annotations

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status


class FirmwareRetraction:
    def __init__(self, section: Section) -> None:
        self._length = section.getfloat("retract_length", 0.0, minval=0.0)
        self._speed = section.getfloat("retract_speed", 20.0, minval=1.0)
        self._extra = section.getfloat("unretract_extra_length", 0.0, minval=0.0)
        self._unretract_speed = section.getfloat("unretract_speed", 10.0, minval=1.0)
        self._retracted = False
        self._gcode = section.printer.lookup(GCode, "gcode")
        self._gcode.register("SET_RETRACTION", self._cmd_set, "Set firmware retraction parameters")
        self._gcode.register("GET_RETRACTION", self._cmd_get, "Report firmware retraction parameters")
        self._gcode.register("G10", self._cmd_g10)
        self._gcode.register("G11", self._cmd_g11)

    def get_status(self, eventtime: float) -> Status:
        return {
            "retract_length": self._length,
            "retract_speed": self._speed,
            "unretract_extra_length": self._extra,
            "unretract_speed": self._unretract_speed,
        }

    def _cmd_set(self, command: GCodeCommand) -> None:
        self._length = command.get_float("RETRACT_LENGTH", self._length, minval=0.0)
        self._speed = command.get_float("RETRACT_SPEED", self._speed, minval=1.0)
        self._extra = command.get_float("UNRETRACT_EXTRA_LENGTH", self._extra, minval=0.0)
        self._unretract_speed = command.get_float("UNRETRACT_SPEED", self._unretract_speed, minval=1.0)
        self._retracted = False

    def _cmd_get(self, command: GCodeCommand) -> None:
        command.respond_info(
            f"RETRACT_LENGTH={self._length:.5f} RETRACT_SPEED={self._speed:.5f}"
            f" UNRETRACT_EXTRA_LENGTH={self._extra:.5f} UNRETRACT_SPEED={self._unretract_speed:.5f}"
        )

    async def _cmd_g10(self, command: GCodeCommand) -> None:
        if not self._retracted:
            await self._extrude(-self._length, self._speed)
            self._retracted = True

    async def _cmd_g11(self, command: GCodeCommand) -> None:
        if self._retracted:
            await self._extrude(self._length + self._extra, self._unretract_speed)
            self._retracted = False

    async def _extrude(self, length: float, speed: float) -> None:
        await self._gcode.run_script_from_command(
            "SAVE_GCODE_STATE NAME=_retract_state\n"
            "G91\n"
            f"G1 E{length:.5f} F{int(speed * 60)}\n"
            "RESTORE_GCODE_STATE NAME=_retract_state"
        )


def load(section: Section) -> FirmwareRetraction:
    return FirmwareRetraction(section)
