"""[bed_mesh]: measuring, profiles and status (klippy/extras/bed_mesh.py).

The mesh is real, but moves are not bent by it: the simulated toolhead goes where the G-code says. Points between probed
ones are interpolated straight, where Klipper uses Lagrange or bicubic curves.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from ..webhooks import WebHooks, WebRequest
from .exclude_object import ExcludeObject
from .mesh import PROFILE_VERSION, Mesh, read_profile
from .mesh_area import Point, read_area
from .probe import Probe
from .probe_points import Measured, ProbePoints
from .toolhead import Toolhead


class BedMesh:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.name
        self._configured = self._area = read_area(section)
        self._adaptive_margin = section.getfloat("adaptive_margin", 0.0)
        zero = section.getfloatlist("zero_reference_position", None, count=2)
        self._zero: Point | None = None if zero is None else (zero[0], zero[1])
        self._probe_zero = False  # the reference is outside of the mesh and must be measured itself
        self._points = ProbePoints(section, self._measured, self._area.path(), use_offsets=True)
        self._points.need(3)
        section.getfloat("scan_overshoot", 0.0, minval=1.0)
        section.getfloat("fade_start", 1.0)
        section.getfloat("fade_end", 0.0)
        section.getfloat("fade_target", None)
        section.getfloat("split_delta_z", 0.025, minval=0.01)
        section.getfloat("move_check_distance", 5.0, minval=3.0)
        self._profile = "default"
        self._mesh: Mesh | None = None
        self._profiles: dict[str, Mesh] = {
            mesh.name: mesh for mesh in map(read_profile, section.config.sections(f"{section.name} ")) if mesh
        }
        self._gcode = gcode = self.printer.lookup(GCode, "gcode")
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
        mesh, area = self._mesh, self._area
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
                "calibration": {"points": area.path(), "config": asdict(area), "probe_path": area.path()},
                "probe_offsets": [probe.x_offset, probe.y_offset, probe.z_offset] if probe else [0, 0, 0],
                "axis_minimum": kinematics["axis_minimum"],
                "axis_maximum": kinematics["axis_maximum"],
            }
        )

    # Commands

    def _cmd_calibrate(self, command: GCodeCommand) -> Awaitable[None] | None:
        self._profile = command.get("PROFILE", "default")
        if not self._profile.strip():
            raise CommandError("Value for parameter 'PROFILE' must be specified")
        self._set_mesh(None)
        area = self._configured.asked(command)
        if command.get_int("ADAPTIVE", 0):
            exclude_object = self.printer.find(ExcludeObject, "exclude_object")
            area = area.adapted(command, exclude_object, self._adaptive_margin)
        try:
            area = area.checked()
        except ConfigError as e:
            raise CommandError(str(e)) from None
        self._area, self._points.points = area, area.path()
        self._probe_zero = False
        if self._zero is not None and command.get("METHOD", "automatic") != "manual":
            inside = all(
                low <= at <= high for low, at, high in zip(area.mesh_min, self._zero, area.mesh_max, strict=True)
            )
            self._probe_zero = not inside
            if self._probe_zero:
                self._points.points.append(self._zero)
        return self._points.start(command)

    def _measured(self, measured: list[Measured]) -> bool:
        zero_z = measured.pop()[2] if self._probe_zero else 0.0
        heights = dict(zip(self._area.path(), (round(z - zero_z, 6) for _, _, z in measured), strict=True))
        mesh = Mesh(self._profile, self._area.params(), self._area.matrix(heights))
        if self._zero is not None and not self._probe_zero:
            mesh = mesh.lowered(mesh.height(*self._zero))
        self._set_mesh(mesh)
        self._gcode.respond_info("Mesh Bed Leveling Complete")
        self._save_profile(self._profile)
        return True

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
                action(name)
            return
        command.respond_info(f"Invalid syntax '{command.line}'")

    def _load_profile(self, name: str) -> None:
        if name not in self._profiles:
            raise CommandError(f"bed_mesh: Unknown profile [{name}]")
        self._set_mesh(self._profiles[name])

    def _save_profile(self, name: str) -> None:
        if self._mesh is None:
            self._gcode.respond_info(f"Unable to save to profile [{name}], the bed has not been probed")
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
        self._gcode.respond_info(
            f"Bed Mesh state has been saved to profile [{name}]\n"
            "for the current session.  The SAVE_CONFIG command will\n"
            "update the printer config file and restart the printer."
        )

    def _remove(self, name: str) -> None:
        if name not in self._profiles:
            self._gcode.respond_info(f"No profile named [{name}] to remove")
            return
        self.printer.configfile.remove_section(f"{self._name} {name}")
        self._profiles = {key: mesh for key, mesh in self._profiles.items() if key != name}
        self._update_status()
        self._gcode.respond_info(
            f"Profile [{name}] removed from storage for this session.\n"
            "The SAVE_CONFIG command will update the printer\n"
            "configuration and restart the printer"
        )

    def _cmd_output(self, command: GCodeCommand) -> None:
        if command.get_int("PGP", 0):
            self._show_points(command)
            return
        if self._mesh is None:
            command.respond_info("Bed has not been probed")
            return
        lines = [" " + " ".join(f"{z:f}" for z in row) for row in self._mesh.probed]
        command.respond_info("Mesh Leveling Probed Z positions:\n" + "\n".join(lines))
        command.respond_raw(self._describe(self._mesh))

    def _show_points(self, command: GCodeCommand) -> None:
        probe = next(self.printer.find_all(Probe), None)
        dx, dy = (probe.x_offset, probe.y_offset) if probe is not None else (0.0, 0.0)
        command.respond_info("bed_mesh: generated points\nIndex |  Tool Adjusted  |   Probe")
        for i, (x, y) in enumerate(self._area.path()):
            tool = f"({x - dx:.1f}, {y - dy:.1f})"
            command.respond_info(f"  {i:<4d}| {tool:<16s}| ({x:.1f}, {y:.1f})")

    def _describe(self, mesh: Mesh) -> str:
        matrix = mesh.interpolated()
        heights = [z for row in matrix for z in row]
        lines = [
            f"Mesh X,Y: {len(matrix[0])},{len(matrix)}",
            f"Search Height: {self._points.move_z:.0f}",
            "Mesh Offsets: X=0.0000, Y=0.0000",
            f"Mesh Average: {statistics.fmean(heights):.2f}",
            f"Mesh Range: min={min(heights):.4f} max={max(heights):.4f}",
            f"Interpolation Algorithm: {mesh.params.algo}",
            "Measured points:",
            *("".join(f"  {z:f}" for z in row) for row in reversed(matrix)),
        ]
        return "\n".join(lines) + "\n"

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


def load(section: Section) -> BedMesh:
    return BedMesh(section)
