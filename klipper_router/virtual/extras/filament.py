"""[filament_switch_sensor] and [filament_motion_sensor] (klippy/extras: the modules of the same names).

A virtual printer starts with filament in it. VIRTUAL_SENSOR SENSOR=name STATE=0 takes it out.
"""

from __future__ import annotations

from ..clock import NEVER
from ..config import Section
from ..errors import ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.extruder import Extruder
from ..printer import Status
from ..template import Template, Templates
from .pause_resume import PauseResume
from .switches import Switch

# Events right after the start are the first look at the switch, not something that happened.
SETTLE_S = 2.0
CHECK_RUNOUT_S = 0.250


class RunoutHelper:
    """What happens when filament comes and goes."""

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._name = section.own_name
        self._pause = section.getboolean("pause_on_runout", True)
        if self._pause:
            self.printer.load_object(section.config, "pause_resume")
        templates = self.printer.require(Templates, section.config, "gcode_macro")
        self._runout: Template | None = None
        self._insert: Template | None = None
        if self._pause or section.get("runout_gcode", None) is not None:
            self._runout = templates.load(section, "runout_gcode", "")
        if section.get("insert_gcode", None) is not None:
            self._insert = templates.load(section, "insert_gcode")
        self._pause_delay_s = section.getfloat("pause_delay", 0.5, above=0.0)
        self._event_delay_s = section.getfloat("event_delay", 3.0, minval=0.0)
        self._not_before = NEVER
        self.present = False
        self.enabled: int = True
        self.printer.on("klippy:ready", self._on_ready)
        gcode = self.printer.lookup(GCode, "gcode")
        gcode.register_mux(
            "QUERY_FILAMENT_SENSOR", "SENSOR", self._name, self._cmd_query, "Query the status of the Filament Sensor"
        )
        gcode.register_mux(
            "SET_FILAMENT_SENSOR", "SENSOR", self._name, self._cmd_set, "Sets the filament sensor on/off"
        )

    def _on_ready(self) -> None:
        self._not_before = self.printer.reactor.now() + SETTLE_S

    def note_present(self, eventtime: float, present: bool) -> None:
        if present == self.present:
            return
        self.present = present
        if eventtime < self._not_before or not self.enabled:
            return
        idle = self.printer.status_of("idle_timeout", eventtime) or {}
        printing = idle.get("state") == "Printing"
        if present:
            if not printing and self._insert is not None:
                self._begin("insert", "", self._insert)
        elif printing and self._runout is not None:
            self._begin("runout", "PAUSE\n" if self._pause else "", self._runout)

    def _begin(self, event: str, prefix: str, template: Template) -> None:
        self._not_before = NEVER  # nothing more until this is done
        self.printer.log.info("Filament Sensor %s: %s event detected", self._name, event)
        self.printer.reactor.call_soon(lambda: self._run(prefix, template))

    async def _run(self, prefix: str, template: Template) -> None:
        reactor = self.printer.reactor
        if prefix:
            await self.printer.lookup(PauseResume, "pause_resume").send_pause_command()
            await reactor.pause(reactor.now() + self._pause_delay_s)
        try:
            await self.printer.lookup(GCode, "gcode").run_script(f"{prefix}{template.render()}\nM400")
        except Exception:
            self.printer.log.exception("Script running error")
        self._not_before = reactor.now() + self._event_delay_s

    def get_status(self, eventtime: float) -> Status:
        return {"filament_detected": self.present, "enabled": bool(self.enabled)}

    def _cmd_query(self, command: GCodeCommand) -> None:
        detected = "detected" if self.present else "not detected"
        command.respond_info(f"Filament Sensor {self._name}: filament {detected}")

    def _cmd_set(self, command: GCodeCommand) -> None:
        self.enabled = command.get_int("ENABLE", 1)


class SwitchSensor:
    def __init__(self, section: Section) -> None:
        self._helper = RunoutHelper(section)
        self._switch = Switch(section, self._helper.note_present, pin_option="switch_pin")
        section.printer.on("klippy:ready", lambda: self._switch.set(True))

    def get_status(self, eventtime: float) -> Status:
        return self._helper.get_status(eventtime)


class MotionSensor:
    """Sees the filament move; without STATE=1 it would stand still and run out after `detection_length`.

    Here it moves with the extruder while the switch is 1 (the default) and stands while it is 0.
    """

    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._extruder_name = section.get("extruder")
        self._length = section.getfloat("detection_length", 7.0, above=0.0)
        self._helper = RunoutHelper(section)
        self._moving = True
        self._runout_at = 0.0
        self._switch = Switch(section, self._on_change, pin_option="switch_pin", debounced=False)
        self._timer = self.printer.reactor.register_timer(self._check)
        self.printer.on("klippy:ready", self._on_ready)
        self.printer.on("idle_timeout:printing", lambda print_time: self._watch(True))
        for event in ("idle_timeout:ready", "idle_timeout:idle"):
            self.printer.on(event, lambda print_time: self._watch(False))

    def _on_ready(self) -> None:
        if self.printer.find(Extruder, self._extruder_name) is None:
            raise ConfigError(f"Unknown config object '{self._extruder_name}'")
        self._on_change(self.printer.reactor.now(), True)

    def _watch(self, on: bool) -> None:
        self.printer.reactor.update_timer(self._timer, self.printer.reactor.now() if on else NEVER)

    def _on_change(self, eventtime: float, moving: bool) -> None:
        self._moving = moving
        if moving:
            self._runout_at = self._position() + self._length
            self._helper.note_present(eventtime, True)

    def _position(self) -> float:
        return self.printer.lookup(Extruder, self._extruder_name).last_position

    def _check(self, eventtime: float) -> float:
        if self._moving:
            self._runout_at = self._position() + self._length
        self._helper.note_present(eventtime, self._position() < self._runout_at)
        return eventtime + CHECK_RUNOUT_S

    def get_status(self, eventtime: float) -> Status:
        return self._helper.get_status(eventtime)


def load_switch(section: Section) -> SwitchSensor:
    return SwitchSensor(section)


def load_motion(section: Section) -> MotionSensor:
    return MotionSensor(section)
