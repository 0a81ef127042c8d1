"""[tmc2130] and its relatives: currents and status; registers are not simulated (klippy/extras/tmc.py)."""

from __future__ import annotations

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..printer import Status

# tmc2130.py: MAX_CURRENT; the others allow more.
MAX_CURRENT_A = {"tmc2240": 3.0, "tmc5160": 10.0, "tmc2660": 2.4}
DEFAULT_MAX_CURRENT_A = 2.0


class TmcDriver:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._max = MAX_CURRENT_A.get(section.name.split()[0], DEFAULT_MAX_CURRENT_A)
        self._run = section.getfloat("run_current", above=0.0, maxval=self._max)
        self._hold = section.getfloat("hold_current", self._max, above=0.0, maxval=self._max)
        gcode, name = self.printer.lookup(GCode, "gcode"), section.own_name
        gcode.register_mux("SET_TMC_CURRENT", "STEPPER", name, self._cmd_current, "Set the current of a TMC driver")
        gcode.register_mux("INIT_TMC", "STEPPER", name, self._cmd_init, "Initialize TMC stepper driver registers")
        gcode.register_mux("SET_TMC_FIELD", "STEPPER", name, self._cmd_field, "Set a register field of a TMC driver")

    def get_status(self, eventtime: float) -> Status:
        return {
            "mcu_phase_offset": None,
            "phase_offset_position": None,
            "run_current": self._run,
            "hold_current": min(self._hold, self._run),
            "drv_status": None,
            "temperature": None,
        }

    def _wake_toolhead(self) -> None:
        self.printer.lookup(Toolhead, "toolhead").get_last_move_time()

    def _cmd_current(self, command: GCodeCommand) -> None:
        run = command.get_float("CURRENT", None, minval=0.0, maxval=self._max)
        hold = command.get_float("HOLDCURRENT", None, minval=0.0, maxval=self._max)
        if run is not None or hold is not None:
            self._wake_toolhead()
        self._run = self._run if run is None else run
        self._hold = self._hold if hold is None else hold
        command.respond_info(f"Run Current: {self._run:.2f}A Hold Current: {min(self._hold, self._run):.2f}A")

    def _cmd_init(self, command: GCodeCommand) -> None:
        self._wake_toolhead()

    def _cmd_field(self, command: GCodeCommand) -> None:
        command.get("FIELD")
        command.get_int("VALUE", None)
        command.get_float("VELOCITY", None, minval=0.0)
        self._wake_toolhead()


def load(section: Section) -> TmcDriver:
    return TmcDriver(section)
