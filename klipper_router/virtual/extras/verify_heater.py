"""[verify_heater]: a heater that does not heat stops the printer (klippy/extras/verify_heater.py).

The timer runs only while a heater has a target; VIRTUAL_FAULT TYPE=heater HEATER=extruder breaks one.
"""

from __future__ import annotations

from ..clock import NEVER
from ..config import Section
from ..printer import MESSAGE_SHUTDOWN
from .heaters import Heater, Heaters

CHECK_S = 1.0
HINT = """
See the 'verify_heater' section in docs/Config_Reference.md
for the parameters that control this check.
"""


class VerifyHeater:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.own_name
        self._hysteresis = section.getfloat("hysteresis", 5.0, minval=0.0)
        self._max_error = section.getfloat("max_error", 120.0, minval=0.0)
        self._gain_c = section.getfloat("heating_gain", 2.0, above=0.0)
        self._gain_s = section.getfloat("check_gain_time", 60.0 if self._name == "heater_bed" else 20.0, minval=1.0)
        self._heater: Heater | None = None
        self._approaching = self._starting = False
        self._last_target = self._goal_c = self._error = 0.0
        self._goal_at = NEVER
        self._timer = self.printer.reactor.register_timer(self._check)
        self.printer.on("klippy:connect", self._connect)
        self.printer.on("klippy:shutdown", lambda: self.printer.reactor.update_timer(self._timer, NEVER))
        self.printer.on("virtual:heater_target", self._on_target)

    def _connect(self) -> None:
        self._heater = self.printer.lookup(Heaters, "heaters").lookup_heater(self._name)

    def _on_target(self, heater: Heater) -> None:
        if heater is self._heater and self._timer.waketime >= NEVER and not self.printer.is_shutdown:
            self.printer.reactor.update_timer(self._timer, self.printer.reactor.now())

    def _check(self, eventtime: float) -> float:
        assert self._heater is not None
        temperature, target = self._heater.get_temp(eventtime)
        if not target:
            self._approaching = self._starting = False
            self._error, self._last_target = 0.0, target
            return NEVER  # nothing to watch
        if temperature >= target - self._hysteresis:
            self._approaching = self._starting = False
            if temperature <= target + self._hysteresis:
                self._error = 0.0
        else:
            self._error += target - self._hysteresis - temperature
            if not self._watch(eventtime, temperature, target):
                message = f"Heater {self._name} not heating at expected rate"
                self.printer.log.error(message)
                self.printer.invoke_shutdown(message + HINT, message + HINT + MESSAGE_SHUTDOWN)
                return NEVER
        self._last_target = target
        return eventtime + CHECK_S

    def _watch(self, eventtime: float, temperature: float, target: float) -> bool:
        """Below the target: False when it has been too cold for too long."""
        if not self._approaching:
            if target != self._last_target:
                self._approaching = self._starting = True
                self._set_goal(eventtime, temperature)
            else:
                return self._error < self._max_error
        elif temperature >= self._goal_c:
            self._starting = False
            self._error = 0.0
            self._set_goal(eventtime, temperature)
        elif eventtime >= self._goal_at:
            self._approaching = False  # from here on the error counts
        elif self._starting:
            self._goal_c = min(self._goal_c, temperature + self._gain_c)
        return True

    def _set_goal(self, eventtime: float, temperature: float) -> None:
        self._goal_c = temperature + self._gain_c
        self._goal_at = eventtime + self._gain_s


def load(section: Section) -> VerifyHeater:
    return VerifyHeater(section)
