"""QUERY_ADC: what the analog pins of thermistors show (klippy/extras/query_adc.py).

Nothing electrical is simulated: a pin shows a number that falls as the temperature rises, as a thermistor's does.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..printer import Printer

KELVIN = 273.15


@runtime_checkable
class Thermometer(Protocol):
    def get_temp(self, eventtime: float) -> tuple[float, float]: ...


class QueryAdc:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self._names: list[str] = []
        printer.lookup(GCode, "gcode").register("QUERY_ADC", self._cmd_query, "Report the last value of an analog pin")

    def add(self, name: str) -> None:
        """The thermistor of the object `name`."""
        self._names.append(name)

    def _cmd_query(self, command: GCodeCommand) -> None:
        name = command.get("NAME", None)
        if name is None or name not in self._names:
            names = ", ".join(f'"{known}"' for known in sorted(self._names))
            command.respond_info(f"Available ADC objects: {names}")
            return
        now = self.printer.reactor.now()
        sensor = self.printer.objects.get(name)
        degrees = sensor.get_temp(now)[0] if isinstance(sensor, Thermometer) else 0.0
        value = 1.0 / (1.0 + max(0.0, degrees + KELVIN) / KELVIN)
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        message = f'ADC object "{name}" has value {value:.6f} (timestamp {toolhead.estimated_print_time(now):.3f})'
        pullup = command.get_float("PULLUP", None, above=0.0)
        if pullup is not None:
            ohms = pullup * value / (1.0 - value)
            message += f"\n resistance {ohms:.3f} (with {pullup:.0f} pullup)"
        command.respond_info(message)


def load(section: Section) -> QueryAdc:
    return QueryAdc(section.printer)
