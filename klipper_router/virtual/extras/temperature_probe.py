"""[temperature_probe]: the thermometer of an eddy current probe (klippy/extras/temperature_probe.py).

Eddy current probes are not simulated, so there is never a drift to calibrate.
"""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from .temperature_sensor import TemperatureSensor


class TemperatureProbe(TemperatureSensor):
    def __init__(self, section: Section) -> None:
        super().__init__(section)
        section.getfloat("speed", None, above=0.0)
        section.getfloat("horizontal_move_z", 2.0, above=0.0)
        section.getfloat("resting_z", 0.4, above=0.0)
        section.getfloatlist("calibration_position", None, count=3)
        section.getfloat("calibration_bed_temp", None, above=50.0)
        section.getfloat("calibration_extruder_temp", None, above=50.0)
        section.getfloat("extruder_heating_z", 50.0, above=0.0)
        section.getfloat("smooth_time", 2.0, above=0.0)
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register_mux(
            "TEMPERATURE_PROBE_CALIBRATE",
            "PROBE",
            section.own_name,
            self._cmd_calibrate,
            "Calibrate probe temperature drift compensation",
        )
        gcode.register_mux(
            "TEMPERATURE_PROBE_ENABLE",
            "PROBE",
            section.own_name,
            lambda command: None,
            "Set adjustment factor applied to drift correction",
        )

    def _cmd_calibrate(self, command: GCodeCommand) -> None:
        raise CommandError(f"No calibration helper registered for [{self._name}]")

    def get_status(self, eventtime: float) -> Status:
        return {
            **super().get_status(eventtime),
            "in_calibration": False,
            "estimated_expansion": 0.0,
            "compensation_enabled": False,
        }


def load(section: Section) -> TemperatureProbe:
    return TemperatureProbe(section)
