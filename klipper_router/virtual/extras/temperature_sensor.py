"""[temperature_sensor]: shows the room's temperature until told otherwise (klippy/extras/temperature_sensor.py)."""

from __future__ import annotations

from ..config import Section
from ..printer import Status
from .heaters import KELVIN_TO_CELSIUS, Heaters, read_sensor, stop_if_out_of_range
from .thermal import AMBIENT_C


class TemperatureSensor:
    def __init__(self, section: Section) -> None:
        self.printer, self._name = section.printer, section.name
        heaters = section.printer.require(Heaters, section.config, "heaters")
        read_sensor(section)
        low = section.getfloat("min_temp", KELVIN_TO_CELSIUS, minval=KELVIN_TO_CELSIUS)
        self._range = (low, section.getfloat("max_temp", 99999999.9, above=low))
        heaters.register_sensor(section, self)
        self._lowest = self._highest = self.temperature = AMBIENT_C

    def set_sensor(self, degrees: float) -> None:
        """For VIRTUAL_SENSOR."""
        self.temperature = degrees
        self._lowest, self._highest = min(self._lowest, degrees), max(self._highest, degrees)
        stop_if_out_of_range(self.printer, self._name, degrees, *self._range)

    def get_temp(self, eventtime: float) -> tuple[float, float]:
        return self.temperature, 0.0

    def get_status(self, eventtime: float) -> Status:
        return {
            "temperature": round(self.temperature, 2),
            "measured_min_temp": round(self._lowest, 2),
            "measured_max_temp": round(self._highest, 2),
        }


def load(section: Section) -> TemperatureSensor:
    return TemperatureSensor(section)
