"""The tour over a list of points that bed_mesh, z_tilt, quad_gantry_level and screws_tilt_adjust make.

klippy/extras/probe.py: ProbePointsHelper. Without a probe, or with METHOD=manual, the user measures each point.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode_command import GCodeCommand
from .manual_probe import ManualProbe
from .probe import Probe
from .toolhead import Toolhead

Point = tuple[float, float]
Measured = tuple[float, float, float]
# Gets what was measured; False has everything measured again.
Finalize = Callable[[list[Measured]], bool]


class ProbePoints:
    def __init__(
        self, section: Section, finalize: Finalize, points: Sequence[Point] | None = None, *, use_offsets: bool = False
    ) -> None:
        """`use_offsets`: the probe visits the points; otherwise the nozzle does. Without `points` they are read."""
        self.printer = section.printer
        self._name = section.name
        self._finalize = finalize
        self._use_offsets = use_offsets
        if points is None or section.has("points"):
            read = section.getpoints("points")
            if any(len(point) != 2 for point in read):
                raise ConfigError(f"Option 'points' in section '{section.name}' must have 2 elements")
            points = [(x, y) for x, y in read]
        self.points: list[Point] = list(points)
        self._default_z = section.getfloat("horizontal_move_z", 5.0)
        self.move_z = self._default_z
        self._speed = section.getfloat("speed", 50.0, above=0.0)
        self.lift_speed = self._speed
        self._offset = (0.0, 0.0)
        self._by_hand: list[Measured] = []

    def need(self, count: int) -> None:
        if len(self.points) < count:
            raise ConfigError(f"Need at least {count} probe points for {self._name}")

    def start(self, command: GCodeCommand) -> Awaitable[None] | None:
        """Raises CommandError."""
        self.printer.lookup(ManualProbe, "manual_probe").check_idle()
        probe = self.printer.find(Probe, "probe")
        method = command.get("METHOD", "automatic").lower()
        self.move_z = command.get_float("HORIZONTAL_MOVE_Z", self._default_z)
        if probe is None or method == "manual":
            self.lift_speed, self._offset, self._by_hand = self._speed, (0.0, 0.0), []
            self._next_by_hand(command)
            return None
        params = probe.params(command)
        self.lift_speed = params.lift_speed
        self._offset = (probe.x_offset, probe.y_offset) if self._use_offsets else (0.0, 0.0)
        if self.move_z < probe.z_offset:
            raise CommandError("horizontal_move_z can't be less than probe's z_offset")
        return self._tour(command, probe)

    async def _tour(self, command: GCodeCommand, probe: Probe) -> None:
        params = probe.params(command)
        async with probe.session():
            done, speed = False, self._speed
            while not done:
                measured = []
                for point in self.points:
                    self._raise(speed)
                    speed = self.lift_speed
                    self._move_over(point)
                    measured.append(await probe.run(params))
                self._raise(speed)
                done = self._end_tour(measured)

    def _end_tour(self, measured: list[Measured]) -> bool:
        self.printer.lookup(Toolhead, "toolhead").get_last_move_time()
        return self._finalize(measured)

    def _raise(self, speed: float) -> None:
        self.printer.lookup(Toolhead, "toolhead").manual_move([None, None, self.move_z], speed)

    def _move_over(self, point: Point) -> None:
        x, y = point[0] - self._offset[0], point[1] - self._offset[1]
        self.printer.lookup(Toolhead, "toolhead").manual_move([x, y], self._speed)

    # By hand

    def _next_by_hand(self, command: GCodeCommand) -> None:
        self._raise(self.lift_speed)
        if len(self._by_hand) >= len(self.points):
            if self._end_tour(self._by_hand):
                return
            self._by_hand = []
        self._move_over(self.points[len(self._by_hand)])
        manual = self.printer.lookup(ManualProbe, "manual_probe")
        manual.start(command, lambda z: self._measured_by_hand(command, z))

    def _measured_by_hand(self, command: GCodeCommand, z: float | None) -> None:
        if z is None:
            return
        x, y = self.printer.lookup(Toolhead, "toolhead").position[:2]
        self._by_hand = [*self._by_hand, (x, y, z)]
        self._next_by_hand(command)
