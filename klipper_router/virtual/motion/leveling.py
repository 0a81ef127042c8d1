"""[z_tilt] and [quad_gantry_level]: several Z motors make the bed or the gantry level (klippy/extras: these names).

The simulated bed loses the slope that the motors took out, so measuring again finds it level.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from .bed import Surface
from .linear import least_squares
from .probe_points import Measured, Point, ProbePoints
from .toolhead import Toolhead

CORNERS = 4


class Retries:
    """`retries` and `retry_tolerance`."""

    def __init__(self, section: Section, hint: str = "") -> None:
        self._gcode = section.printer.lookup(GCode, "gcode")
        self._hint = hint
        self._default = (
            section.getint("retries", 0, minval=0),
            section.getfloat("retry_tolerance", 0.0, above=0.0),
        )
        self._most, self._tolerance = self._default
        self._count = self._increasing = 0
        self._previous: float | None = None

    def start(self, command: GCodeCommand) -> None:
        self._most = command.get_int("RETRIES", self._default[0], minval=0, maxval=30)
        self._tolerance = command.get_float("RETRY_TOLERANCE", self._default[1], minval=0.0, maxval=1.0)
        self._count = self._increasing = 0
        self._previous = None

    def is_done(self, heights: Sequence[float]) -> bool:
        """Raises CommandError when there is no hope."""
        if not self._most:
            return True
        error = round(max(heights) - min(heights), 6)
        self._gcode.respond_info(
            f"Retries: {self._count}/{self._most} Probed points range: {error:0.6f} tolerance: {self._tolerance:0.6f}"
        )
        if self._previous and error > self._previous + 0.0000001:
            self._increasing += 1
        elif self._increasing:
            self._increasing -= 1
        self._previous = error
        if self._increasing > 1:
            raise CommandError(f"Retries aborting: Probed points range is increasing. {self._hint}")
        if error <= self._tolerance:
            return True
        self._count += 1
        if self._count > self._most:
            raise CommandError("Too many retries")
        return False


class Leveling:
    """What both have: a tour over points, Z motors that turn by different amounts, and whether that was done."""

    hint = ""

    def __init__(self, section: Section, positions: Sequence[Point], motors: int) -> None:
        self.printer = section.printer
        self._name = section.name
        self._positions = positions
        self._motors_wanted = motors
        self._motors: tuple[str, ...] = ()
        self._applied = False
        self.retries = Retries(section, self.hint)
        self.points = ProbePoints(section, self._finish)
        self.printer.on("klippy:connect", self._find_motors)
        self.printer.on("stepper_enable:motor_off", self._reset)

    def get_status(self, eventtime: float) -> Status:
        return {"applied": self._applied}

    def _find_motors(self) -> None:
        rails = self.printer.lookup(Toolhead, "toolhead").kinematics.rails
        self._motors = rails[2].steppers if len(rails) > 2 else ()
        if len(self._motors) != self._motors_wanted:
            raise ConfigError(f"{self._name} z_positions needs exactly {len(self._motors)} items")
        if len(self._motors) < 2:
            raise ConfigError(f"{self._name} requires multiple z steppers")

    def _reset(self) -> None:
        self._applied = False

    def start(self, command: GCodeCommand) -> Awaitable[None] | None:
        self._reset()
        self.retries.start(command)
        return self.points.start(command)

    def _finish(self, measured: list[Measured]) -> bool:
        heights = self.adjust(measured)
        done = self.retries.is_done(heights)
        self._applied = self._applied or done
        return done

    def adjust(self, measured: list[Measured]) -> Sequence[float]:
        """Turn the motors. Returns the heights that should have been equal."""
        raise NotImplementedError

    def turn(self, adjustments: Sequence[float], surface: Surface) -> None:
        """Every motor by its adjustment. The lowest one stands still, and counts its place anew."""
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        lines = [f"{name} = {by:.6f}" for name, by in zip(self._motors, adjustments, strict=True)]
        self.printer.lookup(GCode, "gcode").respond_info("Making the following Z adjustments:\n" + "\n".join(lines))
        at = toolhead.get_position()
        up = list(at)
        up[2] += max(adjustments) - min(adjustments)
        toolhead.move(up, self.points.lift_speed)
        at[2] -= min(adjustments)
        toolhead.set_position(at)
        toolhead.bed.level(surface)


class ZTilt(Leveling):
    def __init__(self, section: Section) -> None:
        positions = _points(section, "z_positions")
        super().__init__(section, positions, len(positions))
        self.points.need(2)
        self.printer.lookup(GCode, "gcode").register("Z_TILT_ADJUST", self.start, "Adjust the Z tilt")

    def adjust(self, measured: list[Measured]) -> Sequence[float]:
        flat, slope_x, slope_y = least_squares([[1.0, x, y] for x, y, _ in measured], [z for _, _, z in measured])

        def plane(x: float, y: float) -> float:
            return flat + x * slope_x + y * slope_y

        self.turn([plane(x, y) for x, y in self._positions], plane)
        return [z for _, _, z in measured]


class QuadGantryLevel(Leveling):
    hint = "Possibly Z motor numbering is wrong"

    def __init__(self, section: Section) -> None:
        self._max_adjust = section.getfloat("max_adjust", 4.0, above=0.0)
        self._move_z = section.getfloat("horizontal_move_z", 5.0)
        super().__init__(section, (), CORNERS)
        if len(self.points.points) != CORNERS:
            raise ConfigError("Need exactly 4 probe points for quad_gantry_level")
        self._corners = _points(section, "gantry_corners")
        if len(self._corners) < 2:
            raise ConfigError("quad_gantry_level requires at least two gantry_corners")
        self.printer.lookup(GCode, "gcode").register(
            "QUAD_GANTRY_LEVEL", self.start, "Conform a moving, twistable gantry to the shape of a stationary bed"
        )

    def adjust(self, measured: list[Measured]) -> Sequence[float]:
        """The gantry's height above each point, carried on to its corners by straight lines."""
        gcode = self.printer.lookup(GCode, "gcode")
        heights = [self._move_z - z for _, _, z in measured]
        named = " ".join(f"{i}: {height:.6f}" for i, height in enumerate(heights))
        gcode.respond_info(f"Gantry-relative probe points:\n{named}\n")

        def gantry(x: float, y: float) -> float:
            front = _on_line(measured[0][0], heights[0], measured[3][0], heights[3], x)
            back = _on_line(measured[1][0], heights[1], measured[2][0], heights[2], x)
            return _on_line(measured[0][1], front, measured[1][1], back, y)

        (left, front), (right, back) = self._corners[:2]
        at_motors = [gantry(left, front), gantry(left, back), gantry(right, back), gantry(right, front)]
        named = " ".join(f"{name}: {z:06f}" for name, z in zip(("z", "z1", "z2", "z3"), at_motors, strict=True))
        gcode.respond_info(f"Actuator Positions:\n{named}")
        average = sum(at_motors) / CORNERS
        gcode.respond_info(f"Average: {average:0.6f}")
        adjustments = [average - z for z in at_motors]
        if max(adjustments) > self._max_adjust:
            raise CommandError(
                f"Aborting quad_gantry_level required adjustment {max(adjustments):0.6f}"
                f" is greater than max_adjust {self._max_adjust:0.6f}"
            )
        self.turn(adjustments, lambda x, y: average - gantry(x, y))
        return heights


def _on_line(x0: float, y0: float, x1: float, y1: float, x: float) -> float:
    if y0 == y1:
        return y0
    return y0 + (y1 - y0) / (x1 - x0) * (x - x0)


def _points(section: Section, option: str) -> list[Point]:
    points = section.getpoints(option)
    if any(len(point) != 2 for point in points):
        raise ConfigError(f"Option '{option}' in section '{section.name}' must have 2 elements")
    return [(x, y) for x, y in points]


def load_z_tilt(section: Section) -> ZTilt:
    return ZTilt(section)


def load_quad_gantry_level(section: Section) -> QuadGantryLevel:
    return QuadGantryLevel(section)
