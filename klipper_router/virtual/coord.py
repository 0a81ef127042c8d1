"""A position in status objects: a list for clients, with .x .y .z .e for templates (klippy/gcode.py: Coord)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class Coord(tuple[float, ...]):
    __slots__ = ()

    def __new__(cls, values: Iterable[float]) -> Self:
        numbers = tuple(values)
        # An int, as in Klipper: a template shows `0`.
        return super().__new__(cls, numbers + (0,) * (4 - len(numbers)))

    @property
    def x(self) -> float:
        return self[0]

    @property
    def y(self) -> float:
        return self[1]

    @property
    def z(self) -> float:
        return self[2]

    @property
    def e(self) -> float:
        return self[3]

    def __deepcopy__(self, memo: object) -> Self:
        return self
