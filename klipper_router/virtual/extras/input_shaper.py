"""[input_shaper]: SET_INPUT_SHAPER keeps its settings; moves are not shaped (klippy/extras/input_shaper.py)."""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand

SHAPERS = ("zv", "mzv", "zvd", "ei", "2hump_ei", "3hump_ei")  # klippy/extras/shaper_defs.py
DEFAULT_DAMPING = 0.1


class AxisShaper:
    def __init__(self, section: Section, axis: str) -> None:
        self._axis = axis
        self._type = section.get(f"shaper_type_{axis}", section.get("shaper_type", "mzv"))
        if self._type not in SHAPERS:
            raise ConfigError(f"Unsupported shaper type: {self._type}")
        self._damping = section.getfloat(f"damping_ratio_{axis}", DEFAULT_DAMPING, minval=0.0)
        self._frequency = section.getfloat(f"shaper_freq_{axis}", 0.0, minval=0.0)

    @property
    def is_enabled(self) -> bool:
        return self._frequency > 0.0

    def update(self, command: GCodeCommand) -> None:
        axis = self._axis.upper()
        own = command.get(f"SHAPER_TYPE_{axis}", self._type)
        kind = command.get("SHAPER_TYPE", own)
        if kind.lower() not in SHAPERS:
            raise CommandError(f"Unsupported shaper type: {kind}")
        self._damping = command.get_float(f"DAMPING_RATIO_{axis}", self._damping, minval=0.0)
        self._frequency = command.get_float(f"SHAPER_FREQ_{axis}", self._frequency, minval=0.0)
        self._type = kind.lower()

    def report(self) -> str:
        return (
            f"shaper_type_{self._axis}:{self._type} shaper_freq_{self._axis}:{self._frequency:.3f}"
            f" damping_ratio_{self._axis}:{self._damping:.6f}"
        )


class InputShaper:
    """Has no status, as in Klipper."""

    def __init__(self, section: Section) -> None:
        self._axes = [AxisShaper(section, axis) for axis in "xyz"]
        section.printer.lookup(GCode, "gcode").register(
            "SET_INPUT_SHAPER", self._cmd_set, "Set cartesian parameters for input shaper"
        )

    def _cmd_set(self, command: GCodeCommand) -> None:
        if command.params:
            for axis in self._axes:
                axis.update(command)
        for number, axis in enumerate(self._axes):
            if number < 2 or axis.is_enabled:
                command.respond_info(axis.report())


def load(section: Section) -> InputShaper:
    return InputShaper(section)
