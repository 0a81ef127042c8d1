"""Switches that no hand can press: filament sensors and buttons, moved by VIRTUAL_SENSOR.

`VIRTUAL_SENSOR SENSOR=name STATE=1` sets a switch ([filament_switch_sensor], [filament_motion_sensor] or
[gcode_button]); named `probe`, it keeps the probe triggered, as one that was left in its dock.
`VIRTUAL_SENSOR SENSOR=name TEMPERATURE=40` sets a [temperature_sensor], [temperature_fan] or heater. The endpoint is
virtual/sensor with the same names in lower case. No real Klipper has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..clock import NEVER
from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..pins import Pins
from ..printer import Printer
from ..reactor import Timer
from ..template import Templates
from ..webhooks import WebHooks, WebRequest


@runtime_checkable
class SettableTemperature(Protocol):
    def set_sensor(self, degrees: float) -> None: ...


class Settable(Protocol):
    def set(self, pressed: bool) -> None: ...


class Switch:
    """One input pin, debounced (klippy/extras/buttons.py: DebounceButton)."""

    def __init__(
        self, section: Section, on_change: Callable[[float, bool], None], *, pin_option: str, debounced: bool = True
    ) -> None:
        self._reactor = section.printer.reactor
        section.printer.lookup(Pins, "pins").use(section.get(pin_option), can_pullup=True)
        self._delay_s = section.getfloat("debounce_delay", 0.0, minval=0.0) if debounced else 0.0
        self._on_change = on_change
        self._physical: bool | None = None
        self._logical: bool | None = None
        self._timer: Timer = self._reactor.register_timer(self._settle)
        virtual_sensors(section.printer).add_switch(section.own_name, self)

    def set(self, pressed: bool) -> None:
        self._physical = pressed
        self._reactor.update_timer(self._timer, self._reactor.now() + self._delay_s)

    def _settle(self, eventtime: float) -> float:
        if self._logical != self._physical:
            self._logical = self._physical
            self._on_change(eventtime, bool(self._logical))
        return NEVER


class VirtualSensors:
    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._switches: dict[str, list[Settable]] = {}
        printer.lookup(GCode, "gcode").register(
            "VIRTUAL_SENSOR", self._cmd, "Set a simulated sensor: SENSOR=name STATE=0|1 or TEMPERATURE=degrees"
        )
        printer.lookup(WebHooks, "webhooks").register("virtual/sensor", self._endpoint)

    def add_switch(self, name: str, switch: Settable) -> None:
        self._switches.setdefault(name, []).append(switch)

    def set(self, name: str, state: bool | None, temperature: float | None) -> None:
        """Raises CommandError for an unknown name or a missing value."""
        if state is not None and name in self._switches:
            for switch in self._switches[name]:
                switch.set(state)
        elif temperature is not None and (sensor := self._thermometer(name)) is not None:
            sensor.set_sensor(temperature)
        else:
            names = sorted([*self._switches, *self._thermometers()])
            raise CommandError(f"VIRTUAL_SENSOR needs SENSOR= with STATE= or TEMPERATURE=. Sensors: {', '.join(names)}")

    def _thermometers(self) -> dict[str, SettableTemperature]:
        return {
            name.split()[-1]: item
            for name, item in self._printer.objects.items()
            if isinstance(item, SettableTemperature)
        }

    def _thermometer(self, name: str) -> SettableTemperature | None:
        return self._thermometers().get(name)

    def _cmd(self, command: GCodeCommand) -> None:
        state = command.get_int("STATE", None)
        self.set(
            command.get("SENSOR", ""), None if state is None else bool(state), command.get_float("TEMPERATURE", None)
        )

    def _endpoint(self, request: WebRequest) -> None:
        state = request.get("state", None, bool, int)
        temperature = request.get("temperature", None, int, float)
        self.set(
            request.get_str("sensor"),
            None if state is None else bool(state),
            None if temperature is None else float(temperature),
        )


def virtual_sensors(printer: Printer) -> VirtualSensors:
    found = printer.find(VirtualSensors, "virtual_sensors")
    if found is None:
        found = VirtualSensors(printer)
        printer.add_object("virtual_sensors", found)
    return found


class GCodeButton:
    """[gcode_button] (klippy/extras/gcode_button.py)"""

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.own_name
        if section.get("analog_range", None) is not None:
            section.getfloatlist("analog_range", count=2)
            section.getfloat("analog_pullup_resistor", 4700.0, above=0.0)
        self._switch = Switch(section, self._on_change, pin_option="pin")
        templates = self.printer.require(Templates, section.config, "gcode_macro")
        self._press = templates.load(section, "press_gcode")
        self._release = templates.load(section, "release_gcode", "")
        self._gcode = self.printer.lookup(GCode, "gcode")
        self._pressed = False
        self._gcode.register_mux(
            "QUERY_BUTTON", "BUTTON", self._name, self._cmd_query, "Report on the state of a button"
        )

    def get_status(self, eventtime: float) -> dict[str, object]:
        return {"state": "PRESSED" if self._pressed else "RELEASED"}

    def _on_change(self, eventtime: float, pressed: bool) -> None:
        self._pressed = pressed
        self.printer.reactor.call_soon(lambda: self._run(pressed))

    async def _run(self, pressed: bool) -> None:
        try:
            script = (self._press if pressed else self._release).render()
            if script.strip():
                await self._gcode.run_script(script)
        except Exception:
            self.printer.log.exception("Script running error")

    def _cmd_query(self, command: GCodeCommand) -> None:
        command.respond_info(f"{self._name}: {self.get_status(0.0)['state']}")


def load_gcode_button(section: Section) -> GCodeButton:
    return GCodeButton(section)
