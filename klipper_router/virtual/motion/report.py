"""The object `motion_report`: where the toolhead is right now (klippy/extras/motion_report.py)."""

from __future__ import annotations

import re

from ..config import Section
from ..coord import Coord
from ..printer import Printer, Status
from .homing import StepperEnable
from .toolhead import Segment, Toolhead

# What has a queue of moves of its own.
_HAS_TRAPQ = re.compile(r"toolhead|extruder\d*|manual_stepper .*")


class MotionReport:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer

    def get_status(self, eventtime: float) -> Status:
        toolhead = self.printer.find(Toolhead, "toolhead")
        position: list[float] = [0.0, 0.0, 0.0, 0.0]
        velocity = extruder_velocity = 0.0
        if toolhead is not None:
            print_time = toolhead.estimated_print_time(eventtime)
            segment = _segment_at(toolhead, print_time)
            if segment is None:
                position = toolhead.planned_position()
            elif print_time >= segment.end_s:
                position = list(segment.end)
            elif print_time <= segment.start_s:
                position = list(segment.start)
            else:
                position, velocity, extruder_velocity = _interpolate(segment, print_time)
        return {
            "live_position": Coord(position),
            "live_velocity": velocity,
            "live_extruder_velocity": extruder_velocity,
            "steppers": sorted(self._steppers()),
            "trapq": sorted(name for name in self.printer.objects if _HAS_TRAPQ.fullmatch(name)),
        }

    def _steppers(self) -> list[str]:
        enable = self.printer.find(StepperEnable, "stepper_enable")
        return list(enable.get_status(0.0)["steppers"]) if enable is not None else []


def _segment_at(toolhead: Toolhead, print_time: float) -> Segment | None:
    """The move that is being made; else the last one that was, unless the position was set since; else none."""
    latest = None
    for segment in reversed(toolhead.segments):
        latest = segment
        if segment.start_s <= print_time:
            break
    return latest


def _interpolate(segment: Segment, print_time: float) -> tuple[list[float], float, float]:
    duration = segment.end_s - segment.start_s
    part = (print_time - segment.start_s) / duration
    deltas = [end - start for start, end in zip(segment.start, segment.end, strict=True)]
    position = [start + delta * part for start, delta in zip(segment.start, deltas, strict=True)]
    distance = sum(d * d for d in deltas[:3]) ** 0.5
    return position, distance / duration, deltas[3] / duration


def load(section: Section) -> MotionReport:
    return MotionReport(section.printer)
