"""[neopixel], [dotstar], [led], [pca9533], [pca9632]: SET_LED (klippy/extras/led.py, neopixel.py, dotstar.py)."""

from __future__ import annotations

from collections.abc import Callable

from ..config import Section
from ..errors import ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..pins import Pins
from ..printer import Status
from .display_template import template_runner

Color = tuple[float, float, float, float]
MAX_CHAIN_BYTES = 500


class Leds:
    def __init__(self, section: Section, count: int) -> None:
        self.printer = section.printer
        self._count = count
        red, green, blue, white = (
            section.getfloat(f"initial_{name}", 0.0, minval=0.0, maxval=1.0)
            for name in ("RED", "GREEN", "BLUE", "WHITE")
        )
        self._colors: list[Color] = [(red, green, blue, white)] * count
        self._templates = template_runner(section)
        gcode = self.printer.lookup(GCode, "gcode")
        name = section.own_name
        gcode.register_mux("SET_LED", "LED", name, self._cmd_set, "Set the color of an LED")
        gcode.register_mux(
            "SET_LED_TEMPLATE", "LED", name, self._cmd_set_template, "Assign a display_template to an LED"
        )

    def get_status(self, eventtime: float) -> Status:
        return {"color_data": self._colors}

    def _set(self, index: int | None, color: Color) -> None:
        colors = list(self._colors)  # a new list, so that a subscription sees the change
        for i in range(self._count) if index is None else (index - 1,):
            colors[i] = color
        self._colors = colors

    def _cmd_set(self, command: GCodeCommand) -> None:
        red, green, blue, white = (
            command.get_float(name, 0.0, minval=0.0, maxval=1.0) for name in ("RED", "GREEN", "BLUE", "WHITE")
        )
        index = command.get_int("INDEX", None, minval=1, maxval=self._count)
        command.get_int("TRANSMIT", 1)  # color_data shows a color that is not transmitted yet, too
        if command.get_int("SYNC", 1):
            self.printer.lookup(Toolhead, "toolhead").get_last_move_time()
        self._set(index, (red, green, blue, white))

    def _cmd_set_template(self, command: GCodeCommand) -> None:
        index = command.get_int("INDEX", None, minval=1, maxval=self._count)
        for i in range(1, self._count + 1) if index is None else (index,):
            self._templates.assign(command, (self, i), self._setter(i))

    def _setter(self, index: int) -> Callable[[str], None]:
        def set_text(text: str) -> None:
            try:
                values = [max(0.0, min(1.0, float(part))) for part in text.split(",", 4)]
            except ValueError:
                self.printer.log.exception("led template render error")
                values = []
            red, green, blue, white = (values + [0.0] * 4)[:4]
            self._set(index, (red, green, blue, white))

        return set_text


def load_neopixel(section: Section) -> Leds:
    section.printer.lookup(Pins, "pins").use(section.get("pin"), can_invert=False)
    count = section.getint("chain_count", 1, minval=1)
    orders = section.getlist("color_order", ("GRB",))
    if len(orders) == 1:
        orders = orders * count
    if len(orders) != count:
        raise ConfigError("color_order does not match chain_count")
    for order in orders:
        if sorted(order) not in (sorted("RGB"), sorted("RGBW")):
            raise ConfigError(f"Invalid color_order '{order}'")
    if sum(len(order) for order in orders) > MAX_CHAIN_BYTES:
        raise ConfigError("neopixel chain too long")
    return Leds(section, count)


def load_dotstar(section: Section) -> Leds:
    pins = section.printer.lookup(Pins, "pins")
    pins.use(section.get("data_pin"), can_invert=False)
    pins.use(section.get("clock_pin"), can_invert=False)
    return Leds(section, section.getint("chain_count", 1, minval=1))


def load_led(section: Section) -> Leds:
    pins = section.printer.lookup(Pins, "pins")
    section.getfloat("cycle_time", 0.010, above=0.0)
    section.getboolean("hardware_pwm", False)
    found = [section.get(f"{name}_pin", None) for name in ("red", "green", "blue", "white")]
    for pin in found:
        if pin is not None:
            pins.use(pin)
    if not any(found):
        raise ConfigError(f"No LED pin definitions found in '{section.name}'")
    return Leds(section, 1)


def load_i2c_led(section: Section) -> Leds:
    return Leds(section, 1)
