"""A measured bed: the probed heights, what lies between them, and how a profile is kept in the configuration."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..config import Section

PROFILE_VERSION = 1
Matrix = list[list[float]]


@dataclass(frozen=True)
class MeshParams:
    min_x: float
    max_x: float
    min_y: float
    max_y: float
    x_count: int
    y_count: int
    mesh_x_pps: int
    mesh_y_pps: int
    algo: str
    tension: float


@dataclass(frozen=True)
class Mesh:
    name: str
    params: MeshParams
    probed: Matrix

    def interpolated(self) -> Matrix:
        """The probed points with `mesh_pps` more between each two: on a straight line, where Klipper bends."""
        rows = [_fill(row, self.params.mesh_x_pps) for row in self.probed]
        columns = [_fill(list(column), self.params.mesh_y_pps) for column in zip(*rows, strict=True)]
        return [[round(z, 6) for z in row] for row in zip(*columns, strict=True)]

    def height(self, x: float, y: float) -> float:
        """At any place: outside of the mesh that of its edge."""
        p = self.params
        column, x_part = _between(x, p.min_x, p.max_x, p.x_count)
        row, y_part = _between(y, p.min_y, p.max_y, p.y_count)
        low, high = (line[column] + (line[column + 1] - line[column]) * x_part for line in self.probed[row : row + 2])
        return low + (high - low) * y_part

    def lowered(self, z: float) -> Mesh:
        return Mesh(self.name, self.params, [[height - z for height in row] for row in self.probed])


def _fill(values: list[float], between: int) -> list[float]:
    filled = []
    for low, high in itertools.pairwise(values):
        filled += [low + (high - low) * i / (between + 1) for i in range(between + 1)]
    return [*filled, values[-1]]


def _between(at: float, low: float, high: float, count: int) -> tuple[int, float]:
    """The number of the last point before `at`, and how far `at` is on the way to the next one (0 to 1)."""
    place = min(max((at - low) / (high - low), 0.0), 1.0) * (count - 1)
    index = min(int(place), count - 2)
    return index, place - index


def read_profile(section: Section) -> Mesh | None:
    """What SAVE_CONFIG wrote. Profiles of another version are left alone."""
    for option in section.options():
        section.get(option)
    if section.getint("version", 0) != PROFILE_VERSION:
        return None
    points = section.getpoints("points")
    params = MeshParams(
        min_x=section.getfloat("min_x"),
        max_x=section.getfloat("max_x"),
        min_y=section.getfloat("min_y"),
        max_y=section.getfloat("max_y"),
        x_count=section.getint("x_count"),
        y_count=section.getint("y_count"),
        mesh_x_pps=section.getint("mesh_x_pps"),
        mesh_y_pps=section.getint("mesh_y_pps"),
        algo=section.get("algo"),
        tension=section.getfloat("tension"),
    )
    return Mesh(section.name.split(" ", 1)[1], params, [list(row) for row in points])
