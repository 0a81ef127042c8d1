"""The queue of moves and its time (klippy/toolhead.py).

`print_time` is the printer's time at which everything queued is done; `estimated_print_time` is the time the
micro-controller shows. Klippy queues ahead: a command waits only when more than a second of work is queued, so `G4
P2000` takes about 1.25 s and M400 the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..clock import NEVER
from ..config import Config
from ..coord import Coord
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..mcu import Mcu
from ..printer import Status
from .bed import Bed
from .kinematics import Kinematics, load_kinematics
from .move import Limits, Move, Position

BUFFER_TIME_HIGH_S = 1.0
BUFFER_TIME_START_S = 0.250
# A lone move waits this long for a following one before it is planned to a stop.
PRIMING_S = 0.100
PAUSE_MAX_S = 1.0
# Klippy wakes for every move of a print. Here several short moves are taken at a time: the queue is a second long.
PAUSE_MIN_S = 0.050
# Klippy sends what is planned this long before its time (klippy/extras/motion_queuing.py).
FLUSH_AHEAD_S = 0.2
RESTART_DWELL_S = 0.5
SEGMENTS_KEPT = 2000


class Axis(Protocol):
    """An extruder as the toolhead sees it."""

    name: str

    def check_move(self, move: Move) -> None: ...


class NoExtruder:
    """Stands in while a printer has none."""

    name = ""

    def check_move(self, move: Move) -> None:
        raise move.error("Extrude when no extruder present")


@dataclass(frozen=True)
class Segment:
    """A planned move, for the live position."""

    start_s: float
    end_s: float
    start: tuple[float, ...]
    end: tuple[float, ...]


class Toolhead:
    def __init__(self, config: Config) -> None:
        section = config.section("printer")
        self.printer = printer = config.printer
        self.reactor = printer.reactor
        self.mcu = printer.lookup(Mcu, "mcu")
        self.limits = Limits(
            max_velocity=section.getfloat("max_velocity", above=0.0),
            max_accel=section.getfloat("max_accel", above=0.0),
            minimum_cruise_ratio=section.getfloat("minimum_cruise_ratio", 0.5, below=1.0, minval=0.0),
            square_corner_velocity=section.getfloat("square_corner_velocity", 5.0, minval=0.0),
        )
        self.position: Position = [0.0, 0.0, 0.0, 0.0]
        self.extruder: Axis = NoExtruder()
        self.print_time = 0.0
        self.stalls = 0
        self.segments: deque[Segment] = deque(maxlen=SEGMENTS_KEPT)
        self._last_move: Move | None = None  # its end speed depends on the next one
        self._flush_timer = printer.reactor.register_timer(self._on_flush_timer)
        self.bed = Bed()
        self.kinematics: Kinematics = load_kinematics(config, self.limits)
        printer.on("klippy:shutdown", self._on_shutdown)
        gcode = printer.lookup(GCode, "gcode")
        gcode.before_restart = self._before_restart
        gcode.register("G4", self._cmd_g4)
        gcode.register("M400", lambda command: self.wait_moves())
        gcode.register("SET_VELOCITY_LIMIT", self._cmd_set_velocity_limit, "Set printer velocity limits")
        gcode.register("M204", self._cmd_m204)

    # Time

    def estimated_print_time(self, eventtime: float | None = None) -> float:
        return self.mcu.estimated_print_time(self.reactor.now() if eventtime is None else eventtime)

    def _sync_print_time(self) -> None:
        now = self.reactor.now()
        estimated = self.estimated_print_time(now)
        if estimated + BUFFER_TIME_START_S > self.print_time:
            self.print_time = estimated + BUFFER_TIME_START_S
            self.printer.send_event("toolhead:sync_print_time", now, estimated, self.print_time)

    def get_last_move_time(self) -> float:
        self.flush()
        self._sync_print_time()
        return self.print_time

    def flush(self) -> None:
        """Plan the last move to a stop."""
        if self._last_move is not None:
            move, self._last_move = self._last_move, None
            self._append(move, 0.0)
        self.reactor.update_timer(self._flush_timer, NEVER)

    def _append(self, move: Move, end_speed: float) -> None:
        start = max(self.print_time, self.estimated_print_time())
        self.print_time = start + move.duration(end_speed)
        self.segments.append(Segment(start, self.print_time, move.start, tuple(move.end)))

    def _on_flush_timer(self, eventtime: float) -> float:
        self.flush()
        return NEVER

    async def check_pause(self) -> None:
        """Wait while too much is queued."""
        while not self.printer.is_shutdown:
            ahead = self.print_time - self.estimated_print_time() - BUFFER_TIME_HIGH_S
            if ahead <= 0.0:
                return
            await self.reactor.pause(self.reactor.now() + min(max(ahead, PAUSE_MIN_S), PAUSE_MAX_S))

    async def wait_moves(self) -> None:
        self.flush()
        while not self.printer.is_shutdown:
            ahead = self.print_time - self.estimated_print_time()
            if ahead < 0.0:
                return
            await self.reactor.pause(self.reactor.now() + min(ahead + 0.001, PAUSE_MAX_S))

    def dwell(self, seconds: float) -> None:
        """Queue a pause. Follow it by `check_pause` where the caller may wait."""
        self.print_time = self.get_last_move_time() + max(0.0, seconds)

    def run_at(self, print_time: float, action: Callable[[], None]) -> None:
        """Do something when the motions planned before it are (nearly) done, as Klipper sends pin changes."""
        delay = print_time - FLUSH_AHEAD_S - self.estimated_print_time()

        def on_timer(eventtime: float) -> float:
            action()
            return NEVER

        self.reactor.register_timer(on_timer, self.reactor.now() + max(0.0, delay))

    def check_busy(self, eventtime: float) -> tuple[float, float, bool]:
        return self.print_time, self.estimated_print_time(eventtime), self._last_move is None

    # Moves

    def get_position(self) -> Position:
        return list(self.position)

    def planned_position(self) -> Position:
        """Without the last move while it is not planned yet."""
        return self.get_position() if self._last_move is None else list(self._last_move.start)

    def set_position(self, position: Position, homing_axes: str = "") -> None:
        self.flush()
        self.segments.clear()  # they were made in the old coordinates
        self.position[:3] = position[:3]
        self.kinematics.set_position(position, homing_axes)
        self.printer.send_event("toolhead:set_position")

    def move(self, position: Position, speed: float) -> None:
        """Queue a move. Raises CommandError when it is not allowed; then nothing is queued."""
        move = Move(self.position, position, speed, self.limits)
        if not move.distance:
            return
        if move.is_kinematic:
            self.kinematics.check_move(move)
        if move.deltas[3]:
            self.extruder.check_move(move)
        self.position = list(move.end)
        if self._last_move is None:
            self._sync_print_time()
        else:
            move.start_speed = self._last_move.junction_speed(move)
            self._append(self._last_move, move.start_speed)
        self._last_move = move
        now = self.reactor.now()
        queued_s = self.print_time - self.estimated_print_time(now) - BUFFER_TIME_HIGH_S
        self.reactor.update_timer(self._flush_timer, now + max(0.0, queued_s) + PRIMING_S)

    def manual_move(self, coordinates: list[float | None], speed: float) -> None:
        position = self.get_position()
        for i, value in enumerate(coordinates):
            if value is not None:
                position[i] = value
        self.move(position, speed)
        self.printer.send_event("toolhead:manual_move")

    def set_extruder(self, extruder: Axis, position: float) -> None:
        self.flush()
        self.extruder = extruder
        self.position[3] = position

    def _on_shutdown(self) -> None:
        self._last_move = None
        self.reactor.update_timer(self._flush_timer, NEVER)

    async def _before_restart(self) -> None:
        self.printer.send_event("gcode:request_restart", self.get_last_move_time())
        self.dwell(RESTART_DWELL_S)
        await self.check_pause()
        await self.wait_moves()

    def get_status(self, eventtime: float) -> Status:
        return {
            **self.kinematics.get_status(),
            "print_time": self.print_time,
            "stalls": self.stalls,
            "estimated_print_time": self.estimated_print_time(eventtime),
            "extruder": self.extruder.name,
            "position": Coord(self.position),
            "max_velocity": self.limits.max_velocity,
            "max_accel": self.limits.max_accel,
            "minimum_cruise_ratio": self.limits.minimum_cruise_ratio,
            "square_corner_velocity": self.limits.square_corner_velocity,
            "extra_axes": {self.extruder.name: 3} if self.extruder.name else {},
        }

    # Commands

    async def _cmd_g4(self, command: GCodeCommand) -> None:
        self.dwell(command.get_float("P", 0.0, minval=0.0) / 1000.0)
        await self.check_pause()

    def _cmd_set_velocity_limit(self, command: GCodeCommand) -> None:
        limits = self.limits
        velocity = command.get_float("VELOCITY", None, above=0.0)
        accel = command.get_float("ACCEL", None, above=0.0)
        corner = command.get_float("SQUARE_CORNER_VELOCITY", None, minval=0.0)
        ratio = command.get_float("MINIMUM_CRUISE_RATIO", None, minval=0.0, below=1.0)
        limits.max_velocity = limits.max_velocity if velocity is None else velocity
        limits.max_accel = limits.max_accel if accel is None else accel
        limits.square_corner_velocity = limits.square_corner_velocity if corner is None else corner
        limits.minimum_cruise_ratio = limits.minimum_cruise_ratio if ratio is None else ratio
        if velocity is accel is corner is ratio is None:
            command.respond_info(
                f"max_velocity: {limits.max_velocity:.6f}\n"
                f"max_accel: {limits.max_accel:.6f}\n"
                f"minimum_cruise_ratio: {limits.minimum_cruise_ratio:.6f}\n"
                f"square_corner_velocity: {limits.square_corner_velocity:.6f}",
                log=False,
            )

    def _cmd_m204(self, command: GCodeCommand) -> None:
        accel = command.get_float("S", None, above=0.0)
        if accel is None:
            printing, travel = command.get_float("P", None, above=0.0), command.get_float("T", None, above=0.0)
            if printing is None or travel is None:
                command.respond_info(f'Invalid M204 command "{command.line}"')
                return
            accel = min(printing, travel)
        self.limits.max_accel = accel
