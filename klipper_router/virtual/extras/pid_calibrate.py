"""PID_CALIBRATE: comes with every heater (klippy/extras/pid_calibrate.py).

The heater gets as warm as it was asked to; the parameters that come out are the ones it has already.
"""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Printer
from .heaters import Heaters

# What comes out for a heater with another kind of control.
KP, KI, KD = 22.2, 1.08, 114.0


class PidCalibrate:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        printer.lookup(GCode, "gcode").register("PID_CALIBRATE", self._cmd_calibrate, "Run PID calibration test")

    async def _cmd_calibrate(self, command: GCodeCommand) -> None:
        name = command.get("HEATER")
        target = command.get_float("TARGET")
        heaters = self.printer.lookup(Heaters, "heaters")
        try:
            heater = heaters.lookup_heater(name)
        except ConfigError as e:
            raise CommandError(str(e)) from None
        await heaters.set_temperature_and_wait(heater, target)
        if self.printer.is_shutdown:
            raise CommandError("pid_calibrate interrupted")
        heater.set_temp(0.0)
        parameters = heater.pid or (KP, KI, KD)
        kp, ki, kd = (f"{value:.3f}" for value in parameters)
        command.respond_info(
            f"PID parameters: pid_Kp={kp} pid_Ki={ki} pid_Kd={kd}\n"
            "The SAVE_CONFIG command will update the printer config file\n"
            "with these parameters and restart the printer."
        )
        for option, value in (("control", "pid"), ("pid_Kp", kp), ("pid_Ki", ki), ("pid_Kd", kd)):
            self.printer.configfile.save(heater.name, option, value)


def load(section: Section) -> PidCalibrate:
    return PidCalibrate(section.printer)
