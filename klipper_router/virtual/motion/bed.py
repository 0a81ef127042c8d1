"""The simulated bed: slightly uneven, the same for every printer and every run."""

from __future__ import annotations

import math

WAVE_MM = 150.0
HEIGHT_MM = 0.05


def bed_height(x: float, y: float) -> float:
    """Where the nozzle would touch at x, y; within ±0.1 mm."""
    return HEIGHT_MM * (math.sin(x / WAVE_MM * math.pi) + math.cos(y / WAVE_MM * math.pi))
