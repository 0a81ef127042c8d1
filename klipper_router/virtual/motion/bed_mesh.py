"""[bed_mesh]: measuring, profiles and status (klippy/extras/bed_mesh.py).

The mesh is real, but moves are not bent by it: the simulated toolhead goes where the G-code says. Points between probed
ones are interpolated straight, where Klipper uses Lagrange or bicubic curves.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from typing import Any

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from ..webhooks import WebHooks, WebRequest
from .probe import Probe
from .toolhead import Toolhead

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

    def point(self, column: int, row: int) -> tuple[float, float]:
        return (
            self.min_x + (self.max_x - self.min_x) * column / (self.x_count - 1),
            self.min_y + (self.max_y - self.min_y) * row / (self.y_count - 1),
        )


@dataclass(frozen=True)
class Mesh:
    name: str
    params: MeshParams
    probed: Matrix

    def interpolated(self) -> Matrix:
        """The probed points with `mesh_pps` more between each two."""
        rows = [_fill(row, self.params.mesh_x_pps) for row in self.probed]
        columns = [_fill(list(column), self.params.mesh_y_pps) for column in zip(*rows, strict=True)]
        return [[round(z, 6) for z in row] for row in zip(*columns, strict=True)]


def _fill(values: list[float], between: int) -> list[float]:
    filled = []
    for low, high in itertools.pairwise(values):
        filled += [low + (high - low) * i / (between + 1) for i in range(between + 1)]
    return [*filled, values[-1]]


class BedMesh:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.name
        self._params = _read_params(section)
        self._speed = section.getfloat("speed", 50.0, above=0.0)
        self._move_z = section.getfloat("horizontal_move_z", 5.0)
        self._mesh: Mesh | None = None
        self._profiles: dict[str, Mesh] = {
            mesh.name: mesh for mesh in map(_read_profile, section.config.sections(f"{section.name} ")) if mesh
        }
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register("BED_MESH_CALIBRATE", self._cmd_calibrate, "Perform Mesh Bed Leveling")
        gcode.register("BED_MESH_PROFILE", self._cmd_profile, "Bed Mesh Persistent Storage management")
        gcode.register("BED_MESH_OUTPUT", self._cmd_output, "Retrieve interpolated grid of probed z-points")
        gcode.register("BED_MESH_MAP", self._cmd_map, "Serialize mesh and output to terminal")
        gcode.register("BED_MESH_CLEAR", lambda c: self._set_mesh(None), "Clear the Mesh so no z-adjustment is made")
        gcode.register("BED_MESH_OFFSET", self._cmd_offset, "Add X/Y offsets to the mesh lookup")
        self.printer.lookup(WebHooks, "webhooks").register("bed_mesh/dump_mesh", self._dump)
        self._set_mesh(None)

    # Status

    def _set_mesh(self, mesh: Mesh | None) -> None:
        self._mesh = mesh
        self._update_status()

    def _update_status(self) -> None:
        mesh = self._mesh
        self._status: Status = {
            "profile_name": mesh.name if mesh else "",
            "mesh_min": (mesh.params.min_x, mesh.params.min_y) if mesh else (0.0, 0.0),
            "mesh_max": (mesh.params.max_x, mesh.params.max_y) if mesh else (0.0, 0.0),
            "probed_matrix": mesh.probed if mesh else [[]],
            "mesh_matrix": mesh.interpolated() if mesh else [[]],
            "profiles": self._profile_status(),
        }

    def _profile_status(self) -> dict[str, Any]:
        return {
            name: {"points": mesh.probed, "mesh_params": asdict(mesh.params)} for name, mesh in self._profiles.items()
        }

    def get_status(self, eventtime: float) -> Status:
        return self._status

    def _dump(self, request: WebRequest) -> None:
        mesh, params = self._mesh, self._params
        probe = next(self.printer.find_all(Probe), None)
        current = {}
        if mesh is not None:
            current = {
                "name": mesh.name,
                "probed_matrix": mesh.probed,
                "mesh_matrix": mesh.interpolated(),
                "mesh_params": asdict(mesh.params),
            }
        kinematics = self.printer.lookup(Toolhead, "toolhead").kinematics.get_status()
        request.send(
            {
                "current_mesh": current,
                "profiles": self._profile_status(),
                "calibration": {"points": _path(params), "config": asdict(params), "probe_path": _path(params)},
                "probe_offsets": [probe.x_offset, probe.y_offset, probe.z_offset] if probe else [0, 0, 0],
                "axis_minimum": kinematics["axis_minimum"],
                "axis_maximum": kinematics["axis_maximum"],
            }
        )

    # Commands

    async def _cmd_calibrate(self, command: GCodeCommand) -> None:
        name = command.get("PROFILE", "default")
        if not name.strip():
            raise CommandError("Value for parameter 'PROFILE' must be specified")
        self._set_mesh(None)
        probe = next(self.printer.find_all(Probe), None)
        if probe is None:
            raise CommandError("bed_mesh: the virtual Klippy measures with a [probe] only")
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        params = probe.params(command)
        move_z = command.get_float("HORIZONTAL_MOVE_Z", self._move_z)
        if move_z < probe.z_offset:
            raise CommandError("horizontal_move_z can't be less than probe's z_offset")
        heights: dict[tuple[float, float], float] = {}
        for x, y in _path(self._params):
            toolhead.manual_move([None, None, move_z], params.lift_speed if heights else self._speed)
            toolhead.manual_move([x - probe.x_offset, y - probe.y_offset], self._speed)
            heights[x, y] = round((await probe.run(params))[2], 6)
        toolhead.manual_move([None, None, move_z], params.lift_speed)
        rows, columns = range(self._params.y_count), range(self._params.x_count)
        matrix = [[heights[self._params.point(column, row)] for column in columns] for row in rows]
        self._set_mesh(Mesh(name, self._params, matrix))
        command.respond_info("Mesh Bed Leveling Complete")
        self._save_profile(command, name)

    def _cmd_profile(self, command: GCodeCommand) -> None:
        for key, action in (("LOAD", self._load_profile), ("SAVE", self._save_profile), ("REMOVE", self._remove)):
            name = command.get(key, None)
            if name is None:
                continue
            if not name.strip():
                raise CommandError(f"Value for parameter '{key}' must be specified")
            if name == "default" and key == "SAVE":
                command.respond_info("Profile 'default' is reserved, please choose another profile name.")
            else:
                action(command, name)
            return
        command.respond_info(f"Invalid syntax '{command.line}'")

    def _load_profile(self, command: GCodeCommand, name: str) -> None:
        if name not in self._profiles:
            raise CommandError(f"bed_mesh: Unknown profile [{name}]")
        self._set_mesh(self._profiles[name])

    def _save_profile(self, command: GCodeCommand, name: str) -> None:
        if self._mesh is None:
            command.respond_info(f"Unable to save to profile [{name}], the bed has not been probed")
            return
        section = f"{self._name} {name}"
        configfile = self.printer.configfile
        configfile.save(section, "version", PROFILE_VERSION)
        points = "".join("\n  " + ", ".join(f"{z:.6f}" for z in row) for row in self._mesh.probed)
        configfile.save(section, "points", points)
        for key, value in asdict(self._mesh.params).items():
            configfile.save(section, key, value)
        self._profiles = {**self._profiles, name: Mesh(name, self._mesh.params, self._mesh.probed)}
        self._update_status()
        command.respond_info(
            f"Bed Mesh state has been saved to profile [{name}]\n"
            "for the current session.  The SAVE_CONFIG command will\n"
            "update the printer config file and restart the printer."
        )

    def _remove(self, command: GCodeCommand, name: str) -> None:
        if name not in self._profiles:
            command.respond_info(f"No profile named [{name}] to remove")
            return
        self.printer.configfile.remove_section(f"{self._name} {name}")
        self._profiles = {key: mesh for key, mesh in self._profiles.items() if key != name}
        self._update_status()
        command.respond_info(
            f"Profile [{name}] removed from storage for this session.\n"
            "The SAVE_CONFIG command will update the printer\n"
            "configuration and restart the printer"
        )

    def _cmd_output(self, command: GCodeCommand) -> None:
        if self._mesh is None:
            command.respond_info("Bed has not been probed")
            return
        lines = [" " + " ".join(f"{z:f}" for z in row) for row in self._mesh.probed]
        command.respond_info("Mesh Leveling Probed Z positions:\n" + "\n".join(lines))

    def _cmd_map(self, command: GCodeCommand) -> None:
        if self._mesh is None:
            command.respond_info("Bed has not been probed")
            return
        params = self._mesh.params
        outline = {
            "mesh_min": (params.min_x, params.min_y),
            "mesh_max": (params.max_x, params.max_y),
            "z_positions": self._mesh.probed,
        }
        command.respond_raw("mesh_map_output " + json.dumps(outline))

    def _cmd_offset(self, command: GCodeCommand) -> None:
        for name in ("X", "Y", "ZFADE"):
            command.get_float(name, None)
        if self._mesh is None:
            command.respond_info("No mesh loaded to offset")


def _path(params: MeshParams) -> list[tuple[float, float]]:
    """Row by row, there and back."""
    path = []
    for row in range(params.y_count):
        columns = range(params.x_count) if row % 2 == 0 else reversed(range(params.x_count))
        path += [params.point(column, row) for column in columns]
    return path


def _read_params(section: Section) -> MeshParams:
    radius = section.getfloat("mesh_radius", None, above=0.0)
    if radius is not None:
        section.getfloatlist("mesh_origin", (0.0, 0.0), count=2)
        x_count = y_count = section.getint("round_probe_count", 5, minval=3)
        if not x_count & 1:
            raise ConfigError("bed_mesh: probe_count must be odd for round beds")
        low, high = (-radius, -radius), (radius, radius)
    else:
        x_count, y_count = _pair(section, "probe_count", "3", minimum=3)
        low_x, low_y = section.getfloatlist("mesh_min", count=2)
        high_x, high_y = section.getfloatlist("mesh_max", count=2)
        if high_x <= low_x or high_y <= low_y:
            raise ConfigError("bed_mesh: invalid min/max points")
        low, high = (low_x, low_y), (high_x, high_y)
    x_pps, y_pps = _pair(section, "mesh_pps", "2", minimum=0)
    algorithm = section.get("algorithm", "lagrange").strip().lower()
    if algorithm not in ("lagrange", "bicubic"):
        raise ConfigError(f"bed_mesh: Unknown algorithm <{algorithm}>")
    if max(x_pps, y_pps) == 0:
        algorithm = "direct"
    elif algorithm == "lagrange" and max(x_count, y_count) > 6:
        raise ConfigError(
            "bed_mesh: cannot exceed a probe_count of 6 when using lagrange interpolation."
            f" Configured Probe Count: {x_count}, {y_count}"
        )
    tension = section.getfloat("bicubic_tension", 0.2, minval=0.0, maxval=2.0)
    return MeshParams(low[0], high[0], low[1], high[1], x_count, y_count, x_pps, y_pps, algorithm, tension)


def _pair(section: Section, option: str, default: str, *, minimum: int) -> tuple[int, int]:
    text = section.get(option, default)
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 2
    if len(values) != 2:
        raise ConfigError(f"bed_mesh: malformed '{option}' value: {text}")
    if min(values) < minimum:
        raise ConfigError(f"Option '{option}' in section bed_mesh must have a minimum of {minimum}")
    return values[0], values[1]


def _read_profile(section: Section) -> Mesh | None:
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


def load(section: Section) -> BedMesh:
    return BedMesh(section)
