"""[idle_timeout]: Idle, Ready, Printing, and G-code after a long time of nothing (klippy/extras/idle_timeout.py)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal

from ..clock import NEVER
from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..printer import Status
from ..template import Templates

READY_TIMEOUT_S = 0.5
IDLE_GCODE = """
{% if 'heaters' in printer %}
   TURN_OFF_HEATERS
{% endif %}
M84
"""


class IdleTimeout:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self.state: Literal["Idle", "Ready", "Printing"] = "Idle"
        self._timeout_s = section.getfloat("timeout", 600.0, above=0.0)
        self._template = self.printer.require(Templates, section.config, "gcode_macro").load(
            section, "gcode", IDLE_GCODE
        )
        self._gcode = self.printer.lookup(GCode, "gcode")
        self._since = 0.0
        self._timer = self.printer.reactor.register_timer(self._on_timer)
        self.printer.on("klippy:ready", self._on_ready)
        self._gcode.register("SET_IDLE_TIMEOUT", self._cmd_set, "Set the idle timeout in seconds")

    def _on_ready(self) -> None:
        self.printer.on("toolhead:sync_print_time", self._on_moves)

    def get_status(self, eventtime: float) -> Status:
        return {
            "state": self.state,
            "printing_time": eventtime - self._since if self.state == "Printing" else 0.0,
            "idle_timeout": self._timeout_s,
        }

    def _on_moves(self, now: float, estimated: float, print_time: float) -> None:
        if self.state == "Printing":
            return
        self.state = "Printing"
        self._since = now
        self.printer.reactor.update_timer(self._timer, now + READY_TIMEOUT_S + print_time - estimated)
        self.printer.send_event("idle_timeout:printing", print_time)

    def _on_timer(self, eventtime: float) -> float | Awaitable[float]:
        if self.printer.is_shutdown:
            return NEVER
        print_time, estimated, nothing_queued = self.printer.lookup(Toolhead, "toolhead").check_busy(eventtime)
        if self.state == "Ready":
            return self._check_idle(eventtime, estimated - print_time, nothing_queued)
        ahead = min(2.0, print_time - estimated)
        if not nothing_queued:
            return eventtime + READY_TIMEOUT_S + max(0.0, ahead)
        if ahead > -READY_TIMEOUT_S:
            return eventtime + READY_TIMEOUT_S + ahead
        if self._gcode.mutex.test():
            return eventtime + READY_TIMEOUT_S
        self.state = "Ready"
        self.printer.send_event("idle_timeout:ready", estimated)
        return eventtime + self._timeout_s

    def _check_idle(self, eventtime: float, idle_s: float, nothing_queued: bool) -> float | Awaitable[float]:
        if not nothing_queued or idle_s < 1.0:
            return eventtime + self._timeout_s
        if idle_s < self._timeout_s:
            return eventtime + self._timeout_s - idle_s
        if self._gcode.mutex.test():
            return eventtime + 1.0
        return self._become_idle(eventtime)

    async def _become_idle(self, eventtime: float) -> float:
        self.state = "Printing"
        try:
            await self._gcode.run_script(self._template.render())
        except Exception:
            self.printer.log.exception("idle timeout gcode execution")
            self.state = "Ready"
            return eventtime + 1.0
        print_time = self.printer.lookup(Toolhead, "toolhead").get_last_move_time()
        self.state = "Idle"
        self.printer.send_event("idle_timeout:idle", print_time)
        return NEVER

    def _cmd_set(self, command: GCodeCommand) -> None:
        self._timeout_s = command.get_float("TIMEOUT", self._timeout_s, above=0.0)
        command.respond_info(f"idle_timeout: Timeout set to {self._timeout_s:.2f} s")
        if self.state == "Ready":
            self.printer.reactor.update_timer(self._timer, self.printer.reactor.now() + self._timeout_s)


def load(section: Section) -> IdleTimeout:
    return IdleTimeout(section)
