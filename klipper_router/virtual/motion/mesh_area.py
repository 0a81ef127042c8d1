"""Where a mesh is measured: the area and the number of points, from the configuration and from BED_MESH_CALIBRATE.

klippy/extras/bed_mesh.py: BedMeshCalibrate. Faulty regions are accepted and probed all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode_command import GCodeCommand
from .exclude_object import ExcludeObject
from .mesh import Matrix, MeshParams

Point = tuple[float, float]
LAGRANGE_POINTS_MAX = 6


@dataclass(frozen=True)
class MeshArea:
    mesh_min: Point
    mesh_max: Point
    x_count: int
    y_count: int
    mesh_x_pps: int
    mesh_y_pps: int
    algo: str
    tension: float
    radius: float | None = None
    origin: Point | None = None

    def grid(self) -> tuple[list[float], list[float]]:
        """The columns' x and the rows' y; of a round bed seen from its centre."""
        x_step = math.floor((self.mesh_max[0] - self.mesh_min[0]) / (self.x_count - 1) * 100) / 100
        y_step = math.floor((self.mesh_max[1] - self.mesh_min[1]) / (self.y_count - 1) * 100) / 100
        if x_step < 1.0 or y_step < 1.0:
            raise CommandError("bed_mesh: min/max points too close together")
        if self.radius is not None:
            half = self.x_count // 2
            line = [x_step * (i - half) for i in range(self.x_count)]
            return line, line
        xs = [self.mesh_min[0] + x_step * i for i in range(self.x_count)]
        return xs, [self.mesh_min[1] + y_step * i for i in range(self.y_count)]

    def path(self) -> list[Point]:
        """Row by row, there and back. Raises CommandError when the points are too close."""
        xs, ys = self.grid()
        radius, (ox, oy) = self.radius, self.origin or (0.0, 0.0)
        path: list[Point] = []
        for row, y in enumerate(ys):
            for x in xs if row % 2 == 0 else reversed(xs):
                if radius is None:
                    path.append((x, y))
                elif math.hypot(x, y) <= radius:
                    path.append((ox + x, oy + y))
        return path

    def matrix(self, heights: dict[Point, float]) -> Matrix:
        """Of the heights of `path()`. The rows of a round bed are filled up with their outermost values."""
        ox, oy = self.origin or (0.0, 0.0)
        xs, ys = self.grid()
        rows = []
        for y in ys:
            row = [heights.get((ox + x, oy + y) if self.radius is not None else (x, y)) for x in xs]
            known = [z for z in row if z is not None]
            row[: row.index(known[0])] = [known[0]] * row.index(known[0])
            rows.append([known[-1] if z is None else z for z in row])
        return rows

    def params(self) -> MeshParams:
        points = self.path()
        return MeshParams(
            min_x=min(x for x, _ in points),
            max_x=max(x for x, _ in points),
            min_y=min(y for _, y in points),
            max_y=max(y for _, y in points),
            x_count=self.x_count,
            y_count=self.y_count,
            mesh_x_pps=self.mesh_x_pps,
            mesh_y_pps=self.mesh_y_pps,
            algo=self.algo,
            tension=self.tension,
        )

    def checked(self) -> MeshArea:
        """With the interpolation that will be used. Raises ConfigError for one that is not possible."""
        low, high = sorted((self.x_count, self.y_count))
        counts = f"Configured Probe Count: {self.x_count}, {self.y_count}"
        if self.algo not in ("lagrange", "bicubic"):
            raise ConfigError(f"bed_mesh: Unknown algorithm <{self.algo}>")
        if max(self.mesh_x_pps, self.mesh_y_pps) == 0:
            return replace(self, algo="direct")
        if self.algo == "lagrange" and high > LAGRANGE_POINTS_MAX:
            raise ConfigError(f"bed_mesh: cannot exceed a probe_count of 6 when using lagrange interpolation. {counts}")
        if self.algo == "bicubic" and low < 4:
            if high > LAGRANGE_POINTS_MAX:
                raise ConfigError(
                    "bed_mesh: invalid probe_count option when using bicubic interpolation.  Combination of 3 points"
                    f" on one axis with more than 6 on another is not permitted. {counts}"
                )
            return replace(self, algo="lagrange")
        return self

    def adapted(self, command: GCodeCommand, exclude_object: ExcludeObject | None, margin: float) -> MeshArea:
        """ADAPTIVE=1: the part of the area in which the objects of the print are."""
        if exclude_object is None:
            command.respond_info("Exclude objects not enabled. Using full mesh...")
            return self
        objects = exclude_object.get_status(0.0)["objects"]
        if not objects:
            return self
        margin = command.get_float("ADAPTIVE_MARGIN", margin)
        command.respond_info(f"Found {len(objects)} objects")
        corners = [point for each in objects for point in each.get("polygon", [])]
        low = [max(min(p[i] for p in corners) - margin, self.mesh_min[i]) for i in (0, 1)]
        high = [min(max(p[i] for p in corners) + margin, self.mesh_max[i]) for i in (0, 1)]
        ratio = tuple((high[i] - low[i]) / (self.mesh_max[i] - self.mesh_min[i]) for i in (0, 1))
        command.respond_info(f"Original mesh bounds: ({self.mesh_min},{self.mesh_max})")
        command.respond_info(f"Original probe count: ({self.x_count},{self.y_count})")
        command.respond_info(f"Adapted mesh bounds: ({low},{high})")
        command.respond_info(f"Ratio: ({ratio[0]}, {ratio[1]})")
        counts = [math.ceil(self.x_count * ratio[0]), math.ceil(self.y_count * ratio[1])]
        least = 4 if max(counts) > LAGRANGE_POINTS_MAX and min(counts) < 4 else 3
        x_count, y_count = (max(least, count) for count in counts)
        command.respond_info(f"Adapted probe count: ({x_count},{y_count})")
        if self.radius is None:
            return replace(
                self, mesh_min=(low[0], low[1]), mesh_max=(high[0], high[1]), x_count=x_count, y_count=y_count
            )
        width, depth = max(high[0] - low[0], x_count), max(high[1] - low[1], y_count)
        radius = math.hypot(width, depth) / 2
        origin = (low[0] + width / 2, low[1] + depth / 2)
        if radius + math.hypot(*origin) >= self.radius:
            return self
        count = max(x_count, y_count) | 1  # odd
        return replace(self._round(radius), origin=origin, x_count=count, y_count=count)

    def _round(self, radius: float) -> MeshArea:
        return replace(self, radius=radius, mesh_min=(-radius, -radius), mesh_max=(radius, radius))

    def asked(self, command: GCodeCommand) -> MeshArea:
        """With what BED_MESH_CALIBRATE names."""
        area, named = self, command.params
        if self.radius is not None:
            if "MESH_RADIUS" in named:
                area = area._round(math.floor(command.get_float("MESH_RADIUS") * 10) / 10)
            if "MESH_ORIGIN" in named:
                area = replace(area, origin=_coordinate(command, "MESH_ORIGIN"))
            if "ROUND_PROBE_COUNT" in named:
                count = command.get_int("ROUND_PROBE_COUNT", minval=3)
                area = replace(area, x_count=count, y_count=count)
        else:
            if "MESH_MIN" in named:
                area = replace(area, mesh_min=_coordinate(command, "MESH_MIN"))
            if "MESH_MAX" in named:
                area = replace(area, mesh_max=_coordinate(command, "MESH_MAX"))
            if "PROBE_COUNT" in named:
                x_count, y_count = _counts(command, "PROBE_COUNT", 3)
                area = replace(area, x_count=x_count, y_count=y_count)
        if "MESH_PPS" in named:
            x_pps, y_pps = _counts(command, "MESH_PPS", 0)
            area = replace(area, mesh_x_pps=x_pps, mesh_y_pps=y_pps)
        if "ALGORITHM" in named:
            area = replace(area, algo=command.get("ALGORITHM").strip().lower())
        return area


def read_area(section: Section) -> MeshArea:
    radius = section.getfloat("mesh_radius", None, above=0.0)
    origin: Point | None = None
    if radius is not None:
        x, y = section.getfloatlist("mesh_origin", (0.0, 0.0), count=2)
        origin = (x, y)
        x_count = y_count = section.getint("round_probe_count", 5, minval=3)
        if not x_count & 1:
            raise ConfigError("bed_mesh: probe_count must be odd for round beds")
        radius = math.floor(radius * 10) / 10
        low, high = (-radius, -radius), (radius, radius)
    else:
        x_count, y_count = _pair(section, "probe_count", 3, minimum=3)
        low_x, low_y = section.getfloatlist("mesh_min", count=2)
        high_x, high_y = section.getfloatlist("mesh_max", count=2)
        if high_x <= low_x or high_y <= low_y:
            raise ConfigError("bed_mesh: invalid min/max points")
        low, high = (low_x, low_y), (high_x, high_y)
    x_pps, y_pps = _pair(section, "mesh_pps", 2, minimum=0)
    algo = section.get("algorithm", "lagrange").strip().lower()
    tension = section.getfloat("bicubic_tension", 0.2, minval=0.0, maxval=2.0)
    area = MeshArea(low, high, x_count, y_count, x_pps, y_pps, algo, tension, radius, origin).checked()
    try:
        area.path()
    except CommandError as e:
        raise ConfigError(str(e)) from None
    return area


def _pair(section: Section, option: str, default: int, *, minimum: int) -> tuple[int, int]:
    values = section.getintlist(option, (default, default))
    if len(values) not in (1, 2):
        raise ConfigError(f"bed_mesh: malformed '{option}' value: {section.get(option, note=False)}")
    if min(values) < minimum:
        raise ConfigError(f"Option '{option}' in section bed_mesh must have a minimum of {minimum}")
    return values[0], values[-1]


def _counts(command: GCodeCommand, name: str, minimum: int) -> tuple[int, int]:
    try:
        values = [int(part) for part in command.get(name).split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise CommandError(f"Unable to parse parameter '{name}'")
    if min(values) < minimum:
        raise CommandError(f"Parameter '{name}' must have a minimum of {minimum}")
    return values[0], values[-1]


def _coordinate(command: GCodeCommand, name: str) -> Point:
    try:
        x, y = (float(part) for part in command.get(name).split(","))
    except ValueError:
        raise CommandError(f"Unable to parse parameter '{name}'") from None
    return x, y
