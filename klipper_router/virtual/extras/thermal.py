"""How a heater warms and cools: a first-order model with an ideal controller, in closed form. Pure.

Between two changes of the target the temperature is a known function of time, so nothing has to be stepped and an idle
printer costs nothing. While heating it rises towards what full power would reach at last; at the target it stays, with
just the power that this takes; without a target it falls towards the room's temperature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

AMBIENT_C = 25.0


@dataclass(frozen=True)
class Thermal:
    """`full_power_c`: degrees above the room at full power for ever. `tau_s`: time constant."""

    full_power_c: float
    tau_s: float


HOTEND = Thermal(full_power_c=400.0, tau_s=90.0)
BED = Thermal(full_power_c=150.0, tau_s=250.0)


class ThermalState:
    def __init__(self, model: Thermal, now: float, max_power: float = 1.0) -> None:
        self.model = model
        self.max_power = max_power
        self.target = 0.0
        self._start = now
        self._start_c = AMBIENT_C
        self.power_works = True  # False: the heater is broken (a fault)

    def set_target(self, target: float, now: float) -> None:
        self._rebase(now)
        self.target = target

    def break_power(self, now: float) -> None:
        self._rebase(now)
        self.power_works = False

    def force(self, temperature: float, now: float) -> None:
        """Set the temperature, for tests and faults."""
        self._start, self._start_c = now, temperature

    def _rebase(self, now: float) -> None:
        self._start_c, self._start = self.temperature(now), now

    def temperature(self, now: float) -> float:
        goal = self._goal()
        value = goal + (self._start_c - goal) * math.exp(-(now - self._start) / self.model.tau_s)
        if self._holds():
            # It stops at the target, from below or from above.
            value = min(value, self.target) if self._start_c <= self.target else max(value, self.target)
        return value

    def power(self, now: float) -> float:
        if not self.target:
            return 0.0
        missing = self.target - self.temperature(now)
        if missing > 0.01:
            return self.max_power
        if missing < -0.01:
            return 0.0
        return min(self.max_power, max(0.0, (self.target - AMBIENT_C) / self.model.full_power_c))

    def slope(self, now: float) -> float:
        """Degrees per second."""
        if self.settled(now):
            return 0.0
        return (self._goal() - self.temperature(now)) / self.model.tau_s

    def settled(self, now: float) -> bool:
        return self._holds() and abs(self.temperature(now) - self.target) < 0.01

    def time_to(self, low: float, high: float, now: float) -> float | None:
        """Seconds until the temperature is in low..high, 0 if it is, None if it never will be."""
        current = self.temperature(now)
        if low <= current <= high:
            return 0.0
        edge = low if current < low else high
        goal = self._goal()
        final = self.target if self._holds() else goal
        if not (current < edge <= final or final <= edge < current):
            return None
        if abs(goal - edge) < 1e-6:
            return None
        return max(0.0, self.model.tau_s * math.log((goal - current) / (goal - edge)))

    def _goal(self) -> float:
        """Where the curve would end."""
        if self.target and self.power_works and self._start_c <= self.target:
            return AMBIENT_C + self.model.full_power_c * self.max_power
        return AMBIENT_C

    def _holds(self) -> bool:
        if not self.target or not self.power_works:
            return False
        return self._start_c > self.target >= AMBIENT_C or self._start_c <= self.target <= self._goal()
