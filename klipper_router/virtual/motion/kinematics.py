"""What the machine allows: its axes, their ranges, what is homed (klippy/kinematics, klippy/stepper.py).

Positions are exact for every machine whose axes are X, Y and Z. "none" is Klipper's own machine without axes. Others
(delta, polar, ...) are treated as if their axes were free, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, Section
from ..coord import Coord
from ..errors import ConfigError
from ..pins import Pins
from ..printer import Status
from .move import Limits, Move, Position

# Kinematics of Klipper whose limits are those of three straight axes.
STRAIGHT = ("cartesian", "corexy", "corexz", "hybrid_corexy", "hybrid_corexz")
OTHER = ("generic_cartesian", "delta", "deltesian", "polar", "rotary_delta", "winch")
UNHOMED = (1.0, -1.0)


@dataclass(frozen=True)
class Rail:
    """One axis: [stepper_x]."""

    name: str
    position_min: float
    position_max: float
    position_endstop: float
    homing_speed: float
    second_homing_speed: float
    retract_dist: float
    positive_dir: bool
    via_probe: bool
    steppers: tuple[str, ...]


class Kinematics:
    """Also Klipper's "none": a machine without axes, which allows everything."""

    rails: tuple[Rail, ...] = ()
    steppers: tuple[str, ...] = ()

    def set_position(self, position: Position, homing_axes: str) -> None:
        pass

    def clear_homing_state(self, axes: str) -> None:
        pass

    def check_move(self, move: Move) -> None:
        """Raises CommandError for a move the machine cannot make; limits the speed of others."""

    def get_status(self) -> Status:
        return {"homed_axes": "", "axis_minimum": Coord((0.0, 0.0, 0.0)), "axis_maximum": Coord((0.0, 0.0, 0.0))}


class StraightKinematics(Kinematics):
    def __init__(self, config: Config, limits: Limits) -> None:
        section = config.section("printer")
        self.rails = tuple(_load_rail(config, axis) for axis in "xyz")
        self.steppers = tuple(name for rail in self.rails for name in rail.steppers)
        self._max_z_velocity = section.getfloat(
            "max_z_velocity", limits.max_velocity, above=0.0, maxval=limits.max_velocity
        )
        self._max_z_accel = section.getfloat("max_z_accel", limits.max_accel, above=0.0, maxval=limits.max_accel)
        self._limits = [UNHOMED] * 3

    def set_position(self, position: Position, homing_axes: str) -> None:
        for axis in homing_axes:
            index = "xyz".index(axis)
            self._limits[index] = (self.rails[index].position_min, self.rails[index].position_max)

    def clear_homing_state(self, axes: str) -> None:
        for axis in axes:
            self._limits["xyz".index(axis)] = UNHOMED

    def check_move(self, move: Move) -> None:
        for i, (low, high) in enumerate(self._limits):
            if move.deltas[i] and not low <= move.end[i] <= high:
                raise move.error("Must home axis first") if low > high else move.error()
        if move.deltas[2]:
            ratio = move.distance / abs(move.deltas[2])
            move.limit_speed(self._max_z_velocity * ratio, self._max_z_accel * ratio)

    def get_status(self) -> Status:
        return {
            "homed_axes": "".join(axis for axis, (low, high) in zip("xyz", self._limits, strict=True) if low <= high),
            "axis_minimum": Coord(rail.position_min for rail in self.rails),
            "axis_maximum": Coord(rail.position_max for rail in self.rails),
        }


def load_kinematics(config: Config, limits: Limits) -> Kinematics:
    name = config.section("printer").get("kinematics")
    if name == "none":
        return Kinematics()
    if name in STRAIGHT:
        return StraightKinematics(config, limits)
    if name in OTHER:
        for section in [*config.sections("stepper_"), *config.sections("carriage ")]:
            for option in section.options():
                section.get(option)
        config.printer.configfile.runtime_warning(
            f"Kinematics '{name}' is accepted but not simulated: positions are not checked"
        )
        return Kinematics()
    raise ConfigError(f"Error loading kinematics '{name}'")


def read_stepper(section: Section) -> None:
    """The options of one stepper motor: checked as Klipper does, without effect."""
    pins = section.printer.lookup(Pins, "pins")
    pins.use(section.get("step_pin"))
    pins.use(section.get("dir_pin"))
    section.getfloat("step_pulse_duration", None, minval=0.0, maxval=0.001)
    gears = section.getlist("gear_ratio", ())
    if not gears or section.has("rotation_distance"):  # a rotating axis may have gears alone
        section.getfloat("rotation_distance", above=0.0)
    section.getint("microsteps", minval=1)
    if section.getint("full_steps_per_rotation", 200, minval=1) % 4:
        raise ConfigError(f"full_steps_per_rotation invalid in section '{section.name}'")
    enable = section.get("enable_pin", None)
    if enable is not None:
        pins.use(enable, shared=True)


def _load_rail(config: Config, axis: str) -> Rail:
    section = config.section(f"stepper_{axis}")
    pins = config.printer.lookup(Pins, "pins")
    endstop = section.get("endstop_pin")
    via_probe = endstop.strip() == "probe:z_virtual_endstop"
    # A virtual endstop belongs to another section; those of drivers ([tmc2209]) are not simulated.
    if via_probe:
        pins.parse(endstop, can_invert=True, can_pullup=True)
    elif "virtual_endstop" not in endstop:
        pins.use(endstop, can_pullup=True, shared=True)
    position_min = section.getfloat("position_min", 0.0)
    position_max = section.getfloat("position_max", above=position_min)
    position_endstop = 0.0 if via_probe else section.getfloat("position_endstop")
    if not via_probe and not position_min <= position_endstop <= position_max:
        raise ConfigError(f"position_endstop in section '{section.name}' must be between position_min and position_max")
    homing_speed = section.getfloat("homing_speed", 5.0, above=0.0)
    section.getfloat("homing_retract_speed", homing_speed, above=0.0)
    steppers = [section.name]
    read_stepper(section)
    for number in range(1, 99):
        if not config.has_section(f"{section.name}{number}"):
            break
        extra = config.section(f"{section.name}{number}")
        read_stepper(extra)
        extra.get("endstop_pin", None)
        steppers.append(extra.name)
    return Rail(
        name=section.name,
        position_min=position_min,
        position_max=position_max,
        position_endstop=position_endstop,
        homing_speed=homing_speed,
        second_homing_speed=section.getfloat("second_homing_speed", homing_speed / 2.0, above=0.0),
        retract_dist=section.getfloat("homing_retract_dist", 5.0, minval=0.0),
        positive_dir=_direction(section, position_min, position_max, position_endstop),
        via_probe=via_probe,
        steppers=tuple(steppers),
    )


def _direction(section: Section, low: float, high: float, endstop: float) -> bool:
    positive = section.getboolean("homing_positive_dir", None)
    if positive is None:
        if endstop <= low + (high - low) / 4.0:
            return section.getboolean("homing_positive_dir", False)
        if endstop >= high - (high - low) / 4.0:
            return section.getboolean("homing_positive_dir", True)
        raise ConfigError(f"Unable to infer homing_positive_dir in section '{section.name}'")
    if (positive and endstop == low) or (not positive and endstop == high):
        raise ConfigError(f"Invalid homing_positive_dir / position_endstop in '{section.name}'")
    return positive
