"""[probe] and [bltouch]: PROBE, QUERY_PROBE, PROBE_ACCURACY and the rest (klippy/extras/probe.py).

What they measure is the simulated bed (bed.py), so results are the same each time.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..config import Section
from ..coord import Coord
from ..errors import CommandError
from ..extras.switches import virtual_sensors
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..pins import Pins
from ..printer import Status
from ..template import Templates
from .gcode_move import GCodeMove
from .manual_probe import ManualProbe
from .toolhead import Toolhead

HINT_TIMEOUT = """
If the probe did not move far enough to trigger, then
consider reducing the Z axis minimum position so the probe
can travel further (the Z minimum position can be negative).
"""


@dataclass(frozen=True)
class ProbeParams:
    speed: float
    lift_speed: float
    samples: int
    retract_dist: float
    use_median: bool


class Probe:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self.name = section.name
        self.x_offset = section.getfloat("x_offset", 0.0)
        self.y_offset = section.getfloat("y_offset", 0.0)
        self.z_offset = section.getfloat("z_offset")
        pins = self.printer.lookup(Pins, "pins")
        for option in ("pin", "sensor_pin", "control_pin"):
            pin = section.get(option, None) if section.name != "probe" or option != "pin" else section.get("pin")
            if pin is not None:
                pins.use(pin, can_pullup=True)
        pins.register_chip("probe")
        speed = section.getfloat("speed", 5.0, above=0.0)
        self._params = ProbeParams(
            speed=speed,
            lift_speed=section.getfloat("lift_speed", speed, above=0.0),
            samples=section.getint("samples", 1, minval=1),
            retract_dist=section.getfloat("sample_retract_dist", 2.0, above=0.0),
            use_median=section.getchoice("samples_result", ("median", "average"), "average") == "median",
        )
        section.getfloat("samples_tolerance", 0.100, minval=0.0)
        section.getint("samples_tolerance_retries", 0, minval=0)
        self._z_min = (
            section.config.section("stepper_z").getfloat("position_min", 0.0, note=False)
            if section.config.has_section("stepper_z")
            else 0.0
        )
        templates = self.printer.require(Templates, section.config, "gcode_macro")
        self._each_sample = section.getboolean("deactivate_on_each_sample", True) if self.name == "probe" else True
        self._activate = templates.load(section, "activate_gcode", "")
        self._deactivate = templates.load(section, "deactivate_gcode", "")
        self._lowered = False
        self._docked = False
        virtual_sensors(self.printer).add_switch("probe", self)
        self._last_query: int = False  # an int once it was asked, as in Klipper
        self._last_position = Coord((0.0, 0.0, 0.0))
        self._last_z = 0.0
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register("QUERY_PROBE", self._cmd_query, "Return the status of the z-probe")
        gcode.register("PROBE", self._cmd_probe, "Probe Z-height at current XY position")
        gcode.register("PROBE_CALIBRATE", self._cmd_calibrate, "Calibrate the probe's z_offset")
        gcode.register("PROBE_ACCURACY", self._cmd_accuracy, "Probe Z-height accuracy at current XY position")
        gcode.register("Z_OFFSET_APPLY_PROBE", self._cmd_apply, "Adjust the probe's z_offset")

    def get_status(self, eventtime: float) -> Status:
        return {
            "name": self.name,
            "last_query": self._last_query,
            "last_probe_position": self._last_position,
            "last_z_result": self._last_z,
        }

    @property
    def _toolhead(self) -> Toolhead:
        return self.printer.lookup(Toolhead, "toolhead")

    def params(self, command: GCodeCommand) -> ProbeParams:
        default = self._params
        result = command.get("SAMPLES_RESULT", None)
        return ProbeParams(
            speed=command.get_float("PROBE_SPEED", default.speed, above=0.0),
            lift_speed=command.get_float("LIFT_SPEED", default.lift_speed, above=0.0),
            samples=command.get_int("SAMPLES", default.samples, minval=1),
            retract_dist=command.get_float("SAMPLE_RETRACT_DIST", default.retract_dist, above=0.0),
            use_median=default.use_median if result is None else result == "median",
        )

    def _trigger_z(self) -> float:
        x, y = self._toolhead.position[:2]
        return self._toolhead.bed.height(x + self.x_offset, y + self.y_offset) + self.z_offset

    def set(self, pressed: bool) -> None:
        """For VIRTUAL_SENSOR: a dockable probe that is not at the toolhead shows as triggered."""
        self._docked = pressed

    # The user's G-code that lowers and raises it

    async def lower(self) -> None:
        if not self._lowered:
            await self._script("activate_gcode")
            self._lowered = True

    async def raise_again(self) -> None:
        if self._lowered:
            self._lowered = False
            await self._script("deactivate_gcode")

    async def _script(self, option: str) -> None:
        script = (self._activate if option == "activate_gcode" else self._deactivate).render()
        if not script:
            return
        before = self._toolhead.get_position()
        await self.printer.lookup(GCode, "gcode").run_script_from_command(script)
        if self._toolhead.get_position()[:3] != before[:3]:
            raise CommandError(f"Toolhead moved during probe {option} script")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Around all touches of one command: with `deactivate_on_each_sample` off it stays low in between."""
        try:
            yield
        finally:
            await self.raise_again()

    async def run(self, params: ProbeParams) -> tuple[float, float, float]:
        """Where the bed was touched, in bed coordinates, averaged over the samples. Raises CommandError."""
        toolhead = self._toolhead
        if "z" not in toolhead.kinematics.get_status()["homed_axes"]:
            raise CommandError("Must home before probe")
        results = []
        for sample in range(params.samples):
            await self.lower()
            results.append(await self._touch(params))
            if self._each_sample:
                await self.raise_again()
            if sample + 1 < params.samples:
                up = toolhead.position[2] + params.retract_dist
                toolhead.manual_move([None, None, up], params.lift_speed)
        x, y = toolhead.position[:2]
        z = statistics.median(results) if params.use_median else statistics.fmean(results)
        return x + self.x_offset, y + self.y_offset, z

    async def _touch(self, params: ProbeParams) -> float:
        """Down to the bed. Returns the bed's height."""
        toolhead = self._toolhead
        trigger_z = self._trigger_z()
        x, y, z = toolhead.position[:3]
        if self._docked or z <= trigger_z:
            raise CommandError("Probe triggered prior to movement")
        if trigger_z < self._z_min:
            raise CommandError("No trigger on probe after full movement" + HINT_TIMEOUT)
        toolhead.manual_move([None, None, trigger_z], params.speed)
        await toolhead.check_pause()
        await toolhead.wait_moves()
        if self.printer.is_shutdown:
            raise CommandError("Probing failed due to printer shutdown")
        bed_z = trigger_z - self.z_offset
        self.printer.lookup(GCode, "gcode").respond_info(
            f"probe: at {x + self.x_offset:.3f},{y + self.y_offset:.3f} bed will contact at z={bed_z:.6f}"
        )
        return bed_z

    def _cmd_query(self, command: GCodeCommand) -> None:
        self._toolhead.get_last_move_time()
        self._last_query = int(self._docked or self._toolhead.position[2] <= self._trigger_z())
        command.respond_info(f"probe: {'TRIGGERED' if self._last_query else 'open'}")

    async def _cmd_probe(self, command: GCodeCommand) -> None:
        async with self.session():
            x, y, z = await self.run(self.params(command))
        command.respond_info(f"Result: at {x:.3f},{y:.3f} estimate contact at z={z:.6f}")
        self._last_position = Coord((x, y, z))
        self._last_z = z + self.z_offset

    async def _cmd_accuracy(self, command: GCodeCommand) -> None:
        params = self.params(command)
        count = command.get_int("SAMPLES", 10, minval=1)
        x, y, z = self._toolhead.position[:3]
        command.respond_info(
            f"PROBE_ACCURACY at X:{x:.3f} Y:{y:.3f} Z:{z:.3f} (samples={count} retract={params.retract_dist:.3f}"
            f" speed={params.speed:.1f} lift_speed={params.lift_speed:.1f})\n"
        )
        single = ProbeParams(params.speed, params.lift_speed, 1, params.retract_dist, params.use_median)
        heights = []
        async with self.session():
            for _ in range(count):
                heights.append((await self.run(single))[2])
                up = self._toolhead.position[2] + params.retract_dist
                self._toolhead.manual_move([x, y, up], params.lift_speed)
        command.respond_info(
            f"probe accuracy results: maximum {max(heights):.6f}, minimum {min(heights):.6f},"
            f" range {max(heights) - min(heights):.6f}, average {statistics.fmean(heights):.6f},"
            f" median {statistics.median(heights):.6f}, standard deviation {statistics.pstdev(heights):.6f}"
        )

    async def _cmd_calibrate(self, command: GCodeCommand) -> None:
        params = self.params(command)
        async with self.session():
            x, y, z = await self.run(params)
        at = self._toolhead.position[2]
        self._toolhead.manual_move([None, None, at + 5.0], params.lift_speed)
        self._toolhead.manual_move([x, y], params.speed)
        self.printer.lookup(ManualProbe, "manual_probe").start(command, lambda nozzle_z: self._calibrated(nozzle_z, z))

    def _calibrated(self, nozzle_z: float | None, probed_z: float) -> None:
        if nozzle_z is not None:
            self._save(self.z_offset - nozzle_z + probed_z)

    def _cmd_apply(self, command: GCodeCommand) -> None:
        offset = self.printer.lookup(GCodeMove, "gcode_move").homing_position[2]
        if offset == 0:
            command.respond_info("Nothing to do: Z Offset is 0")
        else:
            self._save(self.z_offset - offset)

    def _save(self, z_offset: float) -> None:
        self.printer.lookup(GCode, "gcode").respond_info(
            f"{self.name}: z_offset: {z_offset:.3f}\n"
            "The SAVE_CONFIG command will update the printer config file\n"
            "with the above and restart the printer."
        )
        self.printer.configfile.save(self.name, "z_offset", f"{z_offset:.3f}")


def load(section: Section) -> Probe:
    probe = Probe(section)
    if section.name != "probe":
        section.printer.add_object("probe", probe)
    return probe
