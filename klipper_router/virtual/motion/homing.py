"""G28 and the motors' enable lines (klippy/extras/homing.py, stepper_enable.py, query_endstops.py)."""

from __future__ import annotations

from collections.abc import Awaitable

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Printer, Status
from ..webhooks import WebHooks, WebRequest
from .kinematics import Rail
from .probe import Probe
from .toolhead import Toolhead

# klippy/extras/stepper_enable.py: before and after the motors are switched off
DISABLE_STALL_S = 0.100


class Homing:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        printer.lookup(GCode, "gcode").register("G28", self._cmd_g28)

    async def _cmd_g28(self, command: GCodeCommand) -> None:
        axes = [i for i, axis in enumerate("XYZ") if command.get(axis, None) is not None]
        await self.home(axes or [0, 1, 2])

    async def home(self, axes: list[int]) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        for axis in axes if toolhead.kinematics.rails else []:
            await self._home_axis(toolhead, axis, toolhead.kinematics.rails[axis])

    async def _home_axis(self, toolhead: Toolhead, axis: int, rail: Rail) -> None:
        """Every axis finds its endstop: from the farthest place it could be, back off, and once more slowly."""
        self.printer.send_event("homing:home_rails_begin", [axis])
        toolhead.set_position(toolhead.get_position(), "xyz"[axis])
        span = rail.position_max - rail.position_min
        at = toolhead.get_position()
        endstop = endstop_of(self.printer, rail)
        travel = min(abs(at[axis] - endstop), span)
        probe = self.printer.find(Probe, "probe") if rail.via_probe else None
        if probe is not None:
            await probe.lower()
        toolhead.dwell(travel / rail.homing_speed)
        if rail.retract_dist:
            toolhead.dwell(rail.retract_dist / rail.homing_speed + rail.retract_dist / rail.second_homing_speed)
        await toolhead.check_pause()
        await toolhead.wait_moves()
        if self.printer.is_shutdown:
            raise CommandError("Homing failed due to printer shutdown")
        at[axis] = endstop
        toolhead.set_position(at, "xyz"[axis])
        if probe is not None:
            await probe.raise_again()
        self.printer.lookup(StepperEnable, "stepper_enable").enable(rail.steppers)
        self.printer.send_event("homing:home_rails_end", [axis])


def endstop_of(printer: Printer, rail: Rail) -> float:
    """Where the axis stands when its endstop triggers: with a probe for an endstop, as high as the nozzle is then."""
    probe = printer.find(Probe, "probe") if rail.via_probe else None
    return rail.position_endstop if probe is None else probe.z_offset


class StepperEnable:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self._enabled: dict[str, bool] = {}
        gcode = printer.lookup(GCode, "gcode")
        gcode.register("M18", self._cmd_off)
        gcode.register("M84", self._cmd_off)
        printer.on("gcode:request_restart", lambda print_time: self.motor_off())

    def add_stepper(self, name: str) -> None:
        self._enabled[name] = False
        self.printer.lookup(GCode, "gcode").register_mux(
            "SET_STEPPER_ENABLE", "STEPPER", name, self._cmd_set, "Enable/disable individual stepper by name"
        )

    def enable(self, names: tuple[str, ...]) -> None:
        self._enabled = {name: on or name in names for name, on in self._enabled.items()}

    def set_enabled(self, name: str, on: bool) -> None:
        self._enabled = {**self._enabled, name: on}

    def motor_off(self) -> None:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.flush()
        if any(self._enabled.values()):
            toolhead.dwell(2 * DISABLE_STALL_S)
        self._enabled = dict.fromkeys(self._enabled, False)
        toolhead.kinematics.clear_homing_state("xyz")
        self.printer.send_event("stepper_enable:motor_off")

    def get_status(self, eventtime: float) -> Status:
        return {"steppers": self._enabled}

    def _cmd_off(self, command: GCodeCommand) -> Awaitable[None]:
        self.motor_off()
        return self.printer.lookup(Toolhead, "toolhead").check_pause()

    def _cmd_set(self, command: GCodeCommand) -> None:
        self.set_enabled(command.get("STEPPER"), bool(command.get_int("ENABLE", 1)))


class QueryEndstops:
    """Endstops are triggered when the axis is homed and stands where its endstop is."""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self._last: dict[str, int] = {}
        printer.lookup(WebHooks, "webhooks").register("query_endstops/status", self._endpoint)
        gcode = printer.lookup(GCode, "gcode")
        gcode.register("QUERY_ENDSTOPS", self._cmd_query, "Report on the status of each endstop")
        gcode.register("M119", self._cmd_query)

    def _query(self) -> dict[str, str]:
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        toolhead.get_last_move_time()
        homed = toolhead.kinematics.get_status()["homed_axes"]
        self._last = {
            rail.name: int(axis in homed and toolhead.position[i] == endstop_of(self.printer, rail))
            for i, (axis, rail) in enumerate(zip("xyz", toolhead.kinematics.rails, strict=False))
        }
        return {name: "TRIGGERED" if on else "open" for name, on in self._last.items()}

    def get_status(self, eventtime: float) -> Status:
        return {"last_query": self._last}

    async def _endpoint(self, request: WebRequest) -> None:
        async with self.printer.lookup(GCode, "gcode").mutex:
            request.send(self._query())

    def _cmd_query(self, command: GCodeCommand) -> None:
        command.respond_raw(" ".join(f"{name}:{state}" for name, state in self._query().items()))


def load_stepper_enable(section: Section) -> StepperEnable:
    return StepperEnable(section.printer)


def load_query_endstops(section: Section) -> QueryEndstops:
    return QueryEndstops(section.printer)


def load_homing(section: Section) -> Homing:
    return Homing(section.printer)
