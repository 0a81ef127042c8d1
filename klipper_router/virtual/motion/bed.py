"""The simulated bed: slightly uneven, the same for every printer and every run, and level once it was levelled."""

from __future__ import annotations

import math
from collections.abc import Callable

WAVE_MM = 150.0
HEIGHT_MM = 0.05

Surface = Callable[[float, float], float]


class Bed:
    def __init__(self) -> None:
        self._adjustments: list[Surface] = []

    def height(self, x: float, y: float) -> float:
        """Where the nozzle would touch at x, y; within ±0.1 mm."""
        wave = HEIGHT_MM * (math.sin(x / WAVE_MM * math.pi) + math.cos(y / WAVE_MM * math.pi))
        return wave - sum(surface(x, y) for surface in self._adjustments)

    def level(self, surface: Surface) -> None:
        """The Z motors (or the user's screwdriver) took `surface` out of it."""
        self._adjustments.append(surface)
