"""The object `manual_probe` and MANUAL_PROBE with TESTZ, ACCEPT, ABORT (klippy/extras/manual_probe.py)."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from .gcode_move import GCodeMove
from .toolhead import Toolhead

BOB_MINIMUM_MM = 0.500
BISECT_MAX_MM = 0.200
OnDone = Callable[[float | None], None]


class ManualProbe:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._gcode = gcode = self.printer.lookup(GCode, "gcode")
        self._on_done: OnDone | None = None
        self._tried: list[float] = []
        self._speed = 5.0
        self._start: list[float] = []
        self._z_endstop: float | None = None
        if section.config.has_section("stepper_z"):
            self._z_endstop = section.config.section("stepper_z").getfloat("position_endstop", None, note=False)
        gcode.register("MANUAL_PROBE", self._cmd_manual_probe, "Start manual probe helper script")
        if self._z_endstop is not None:
            gcode.register("Z_ENDSTOP_CALIBRATE", self._cmd_calibrate, "Calibrate a Z endstop")
            gcode.register("Z_OFFSET_APPLY_ENDSTOP", self._cmd_apply, "Adjust the z endstop_position")

    def get_status(self, eventtime: float) -> Status:
        if self._on_done is None:
            return {"is_active": False, "z_position": None, "z_position_lower": None, "z_position_upper": None}
        z = self._z()
        return {
            "is_active": True,
            "z_position": z,
            "z_position_lower": max((t for t in self._tried if t < z), default=None),
            "z_position_upper": min((t for t in self._tried if t > z), default=None),
        }

    def _z(self) -> float:
        return self.printer.lookup(Toolhead, "toolhead").position[2]

    def check_idle(self) -> None:
        if self._on_done is not None:
            raise CommandError("Already in a manual Z probe. Use ABORT to abort it.")

    def start(self, command: GCodeCommand, on_done: OnDone) -> None:
        """Let the user find the height; `on_done` gets it, or None. Raises CommandError when one is active."""
        self.check_idle()
        self._speed = command.get_float("SPEED", 5.0)
        self._on_done, self._tried = on_done, []
        self._start = self.printer.lookup(Toolhead, "toolhead").get_position()
        self._gcode.register("ACCEPT", self._cmd_accept, "Accept the current Z position")
        self._gcode.register("NEXT", self._cmd_accept)
        self._gcode.register("ABORT", lambda c: self._finish(None), "Abort manual Z probing tool")
        self._gcode.register("TESTZ", self._cmd_testz, "Move to new Z height")
        command.respond_info(
            "Starting manual Z probe. Use TESTZ to adjust position.\nFinish with ACCEPT or ABORT command."
        )
        self._report()

    def _report(self) -> None:
        z = self._z()
        below = max((t for t in self._tried if t < z), default=None)
        above = min((t for t in self._tried if t > z), default=None)
        low = "??????" if below is None else f"{below:.3f}"
        high = "??????" if above is None else f"{above:.3f}"
        self._gcode.respond_info(f"Z position: {low} --> {z:.3f} <-- {high}")

    def _finish(self, z: float | None) -> None:
        for name in ("ACCEPT", "NEXT", "ABORT", "TESTZ"):
            self._gcode.unregister(name)
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(z)

    def _cmd_accept(self, command: GCodeCommand) -> None:
        at = self.printer.lookup(Toolhead, "toolhead").get_position()
        if at[:2] != self._start[:2] or at[2] >= self._start[2]:
            command.respond_info(
                "Manual probe failed! Use TESTZ commands to position the\nnozzle prior to running ACCEPT."
            )
            self._finish(None)
            return
        self._finish(at[2])

    async def _cmd_testz(self, command: GCodeCommand) -> None:
        text = command.get("Z")
        z = self._z()
        if z not in self._tried:
            self._tried.append(z)
        next_z = self._bisect(z, text) if text in ("+", "++", "-", "--") else z + command.get_float("Z")
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        try:
            if z < next_z + BOB_MINIMUM_MM:
                toolhead.manual_move([None, None, next_z + BOB_MINIMUM_MM], self._speed)
            toolhead.manual_move([None, None, next_z], self._speed)
        except CommandError:
            self._finish(None)
            raise
        await toolhead.check_pause()
        self._report()

    def _bisect(self, z: float, way: str) -> float:
        """Half the way to the next height that was tried (with two signs all of it), but not far."""
        up = way[0] == "+"
        edge = (
            min((t for t in self._tried if t > z), default=math.inf)
            if up
            else max((t for t in self._tried if t < z), default=-math.inf)
        )
        if len(way) == 1:
            edge = (edge + z) / 2.0
        return min(edge, z + BISECT_MAX_MM) if up else max(edge, z - BISECT_MAX_MM)

    def _cmd_manual_probe(self, command: GCodeCommand) -> None:
        self.start(command, self._show)

    def _show(self, z: float | None) -> None:
        if z is not None:
            self._gcode.respond_info(f"Z position is {z:.3f}")

    def _cmd_calibrate(self, command: GCodeCommand) -> None:
        self.start(command, self._save_endstop)

    def _save_endstop(self, z: float | None) -> None:
        if z is not None:
            self._save((self._z_endstop or 0.0) - z)

    def _cmd_apply(self, command: GCodeCommand) -> None:
        offset = self.printer.lookup(GCodeMove, "gcode_move").homing_position[2]
        if offset == 0:
            command.respond_info("Nothing to do: Z Offset is 0")
        else:
            self._save((self._z_endstop or 0.0) - offset)

    def _save(self, endstop: float) -> None:
        self._gcode.respond_info(
            f"stepper_z: position_endstop: {endstop:.3f}\n"
            "The SAVE_CONFIG command will update the printer config file\n"
            "with the above and restart the printer."
        )
        self.printer.configfile.save("stepper_z", "position_endstop", f"{endstop:.3f}")


def load(section: Section) -> ManualProbe:
    return ManualProbe(section)
