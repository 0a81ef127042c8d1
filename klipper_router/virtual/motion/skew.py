"""[skew_correction] (klippy/extras/skew_correction.py)."""

from __future__ import annotations

import math

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from .gcode_move import GCodeMove, Transform
from .move import Position

Factors = tuple[float, float, float]
PLANES = ("XY", "XZ", "YZ")


class SkewCorrection:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.name
        self._factors: Factors = (0.0, 0.0, 0.0)
        self._profile = ""
        self._profiles: dict[str, Factors] = {}
        self._next: Transform | None = None
        for profile in section.config.sections(f"{section.name} "):
            self._profiles[profile.name.split(" ", 1)[1]] = (
                profile.getfloat("xy_skew"),
                profile.getfloat("xz_skew"),
                profile.getfloat("yz_skew"),
            )
        self.printer.on("klippy:connect", self._connect)
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register("GET_CURRENT_SKEW", self._cmd_current, "Report current printer skew")
        gcode.register("CALC_MEASURED_SKEW", self._cmd_calculate, "Calculate skew from measured print")
        gcode.register("SET_SKEW", self._cmd_set, "Set skew based on lengths of measured object")
        gcode.register("SKEW_PROFILE", self._cmd_profile, "Profile management for skew_correction")

    @property
    def _move(self) -> GCodeMove:
        return self.printer.lookup(GCodeMove, "gcode_move")

    def _connect(self) -> None:
        self._next = self._move.set_transform(self, force=True)

    def get_status(self, eventtime: float) -> Status:
        return {"current_profile_name": self._profile}

    # Transform

    def get_position(self) -> Position:
        assert self._next is not None
        x, y, z, *rest = self._next.get_position()
        xy, xz, yz = self._factors
        return [x + y * xy + z * xz, y + z * yz, z, *rest]

    def move(self, position: Position, speed: float) -> None:
        assert self._next is not None
        x, y, z, *rest = position
        xy, xz, yz = self._factors
        self._next.move([x - y * xy - z * (xz - xy * yz), y - z * yz, z, *rest], speed)

    # Commands

    def _update(self, factors: Factors) -> None:
        self._factors = factors
        self._move.reset_last_position()

    def _cmd_current(self, command: GCodeCommand) -> None:
        lines = ["Current Printer Skew:"]
        for plane, factor in zip(PLANES, self._factors, strict=True):
            lines.append(f"{plane} Skew: {factor:.6f} radians, {math.degrees(factor):.2f} degrees")
        command.respond_info("\n".join(lines))

    def _cmd_calculate(self, command: GCodeCommand) -> None:
        factor = _factor(*(command.get_float(name, above=0.0) for name in ("AC", "BD", "AD")))
        command.respond_info(f"Calculated Skew: {factor:.6f} radians, {math.degrees(factor):.2f} degrees")

    def _cmd_set(self, command: GCodeCommand) -> None:
        if command.get_int("CLEAR", 0):
            self._update((0.0, 0.0, 0.0))
            return
        factors = list(self._factors)
        for i, plane in enumerate(PLANES):
            text = command.get(plane, None)
            if text is None:
                continue
            try:
                ac, bd, ad = (float(part) for part in text.strip().split(",", 2))
            except ValueError:
                raise CommandError(
                    f"skew_correction: improperly formatted entry for plane [{plane}]\n{command.line}"
                ) from None
            factors[i] = _factor(ac, bd, ad)
        self._factors = (factors[0], factors[1], factors[2])

    def _cmd_profile(self, command: GCodeCommand) -> None:
        name = command.get("LOAD", None)
        if name is not None:
            self._profile = name
            if name not in self._profiles:
                command.respond_info(f"skew_correction:  Load failed, unknown profile [{name}]")
            else:
                self._update(self._profiles[name])
            return
        name = command.get("SAVE", None)
        if name is not None:
            self._save(command, name)
            return
        name = command.get("REMOVE", None)
        if name is not None:
            self._remove(command, name)

    def _save(self, command: GCodeCommand, name: str) -> None:
        for option, value in zip(("xy_skew", "xz_skew", "yz_skew"), self._factors, strict=True):
            self.printer.configfile.save(f"{self._name} {name}", option, value)
        self._profiles[name] = self._factors
        command.respond_info(
            f"Skew Correction state has been saved to profile [{name}]\n"
            "for the current session.  The SAVE_CONFIG command will\n"
            "update the printer config file and restart the printer."
        )

    def _remove(self, command: GCodeCommand, name: str) -> None:
        if self._profiles.pop(name, None) is None:
            command.respond_info(f"skew_correction: No profile named [{name}] to remove")
            return
        self.printer.configfile.remove_section(f"{self._name} {name}")
        command.respond_info(
            f"Profile [{name}] removed from storage for this session.\n"
            "The SAVE_CONFIG command will update the printer\n"
            "configuration and restart the printer"
        )


def _factor(ac: float, bd: float, ad: float) -> float:
    """The skew of a measured parallelogram: its two diagonals and one side."""
    side = math.sqrt(2.0 * ac * ac + 2.0 * bd * bd - 4.0 * ad * ad) / 2.0
    return math.tan(math.pi / 2.0 - math.acos((ac * ac - side * side - ad * ad) / (2.0 * side * ad)))


def load(section: Section) -> SkewCorrection:
    return SkewCorrection(section)
