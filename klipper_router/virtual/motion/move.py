"""One straight move: its length, its limits, its time. Pure.

Speeds are planned with a look-ahead of one move: the speed at a corner comes from the angle between two moves, as in
klippy/toolhead.py (calc_junction), but nothing further ahead is looked at. Durations agree with Klipper's to a few
percent; positions are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import CommandError

Position = list[float]


@dataclass
class Limits:
    max_velocity: float
    max_accel: float
    square_corner_velocity: float
    minimum_cruise_ratio: float

    @property
    def junction_deviation(self) -> float:
        return self.square_corner_velocity**2 * (math.sqrt(2.0) - 1.0) / self.max_accel


class Move:
    def __init__(self, start: Position, end: Position, speed: float, limits: Limits) -> None:
        self.start = tuple(start)
        self.end = list(end)
        self.deltas = [e - s for s, e in zip(start, end, strict=True)]
        self.distance = math.sqrt(sum(d * d for d in self.deltas[:3]))
        self.is_kinematic = self.distance >= 1e-9
        self.accel = limits.max_accel
        self.speed = min(speed, limits.max_velocity)
        self.junction_deviation = limits.junction_deviation
        if not self.is_kinematic:
            # Only the extruder turns; its own limits apply (limit_speed).
            self.end[:3] = start[:3]
            self.deltas[:3] = [0.0, 0.0, 0.0]
            self.distance = max((abs(d) for d in self.deltas[3:]), default=0.0)
            self.accel = 99999999.9
            self.speed = speed
        self.ratios = [d / self.distance for d in self.deltas] if self.distance else [0.0] * len(self.deltas)
        self.start_speed = 0.0

    def limit_speed(self, speed: float, accel: float) -> None:
        self.speed = min(self.speed, speed)
        self.accel = min(self.accel, accel)

    def junction_speed(self, following: Move) -> float:
        """The speed at which this move may pass into the next one."""
        if not (self.is_kinematic and following.is_kinematic):
            return 0.0
        cosine = -sum(a * b for a, b in zip(self.ratios[:3], following.ratios[:3], strict=True))
        half_sine = math.sqrt(max(0.5 * (1.0 - cosine), 0.0))
        half_cosine = math.sqrt(max(0.5 * (1.0 + cosine), 0.0))
        limits = [self.speed**2, following.speed**2, self.start_speed**2 + 2.0 * self.distance * self.accel]
        if half_sine < 1.0 and half_cosine > 0.0:
            radius = half_sine / (1.0 - half_sine)
            for move in (self, following):
                limits.append(radius * move.junction_deviation * move.accel)
                limits.append(0.5 * move.distance * move.accel * half_sine / half_cosine)
        return math.sqrt(min(limits))

    def duration(self, end_speed: float) -> float:
        """Seconds from `start_speed` over `speed` to `end_speed`."""
        top2 = min(self.speed**2, (2.0 * self.accel * self.distance + self.start_speed**2 + end_speed**2) / 2.0)
        top = max(math.sqrt(top2), self.start_speed, end_speed)
        ramps_s = (top - self.start_speed + top - end_speed) / self.accel
        ramps_d = (2.0 * top2 - self.start_speed**2 - end_speed**2) / (2.0 * self.accel)
        return ramps_s + max(0.0, self.distance - ramps_d) / top

    def error(self, message: str = "Move out of range") -> CommandError:
        x, y, z, e = self.end[:4]
        return CommandError(f"{message}: {x:.3f} {y:.3f} {z:.3f} [{e:.3f}]")
