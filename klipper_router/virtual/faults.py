"""Faults on purpose, by G-code, API and from tests. No real Klipper has these: everything is named virtual."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import CommandError
from .extras.heaters import Heaters
from .gcode import GCode
from .gcode_command import GCodeCommand
from .printer import MESSAGE_SHUTDOWN, Printer
from .webhooks import WebHooks, WebRequest

if TYPE_CHECKING:
    from .klippy import VirtualKlippy

# Klippy notices a lost micro-controller after about 5 s (KLIPPER_FACTS.md; klippy/clocksync.py).
MCU_TIMEOUT_S = 5.0


class Faults:
    def __init__(self, printer: Printer, klippy: VirtualKlippy) -> None:
        self._printer = printer
        self._klippy = klippy
        printer.lookup(GCode, "gcode").register(
            "VIRTUAL_FAULT",
            self._cmd_fault,
            "Provoke a fault: TYPE=mcu|shutdown|stall|drop|cut|refuse|heater",
            always=True,
        )
        printer.lookup(WebHooks, "webhooks").register("virtual/fault", self._endpoint)

    def lose_mcu(self, mcu: str = "mcu") -> None:
        """The micro-controller stops answering; Klippy finds out after its timeout."""
        name = "mcu" if mcu == "mcu" else f"mcu {mcu}"
        if name not in self._printer.objects:
            raise CommandError(f"Unknown mcu '{mcu}'")
        self._after(MCU_TIMEOUT_S, lambda: self._mcu_lost(mcu))

    def _mcu_lost(self, mcu: str) -> None:
        message = f"Lost communication with MCU '{mcu}'"
        self._printer.invoke_shutdown(message, message + MESSAGE_SHUTDOWN)

    def _after(self, delay_s: float, action: Callable[[], object]) -> None:
        self._printer.reactor.nursery.start_soon(self._later, delay_s, action)

    async def _later(self, delay_s: float, action: Callable[[], object]) -> None:
        # Not reactor.pause: a fault ends by itself even while everything else stands still.
        clock = self._printer.reactor.clock
        await clock.sleep_until(clock.now() + delay_s)
        action()

    def _cmd_fault(self, command: GCodeCommand) -> None:
        self.provoke(
            command.get("TYPE"),
            command.get_float("DURATION", 0.0, minval=0.0),
            command.get("MSG", None),
            command.get("MCU", "mcu"),
            command.get("HEATER", "extruder"),
        )

    def _endpoint(self, request: WebRequest) -> None:
        self.provoke(
            request.get_str("type"),
            request.get_float("duration", 0.0),
            request.get_str("message", None),
            request.get_str("mcu", "mcu"),
            request.get_str("heater", "extruder"),
        )

    def provoke(self, kind: str, duration_s: float, message: str | None, mcu: str, heater: str) -> None:
        """Begin a fault soon, so that the request that asked for it is answered first. Raises CommandError."""
        actions: dict[str, Callable[[], object]] = {
            "mcu": lambda: self.lose_mcu(mcu),
            "shutdown": lambda: self._printer.invoke_shutdown(message or "Shutdown due to VIRTUAL_FAULT"),
            "stall": lambda: self._begin(self._klippy.stall, self._klippy.resume, duration_s),
            "heater": lambda: self._break_heater(heater),
            "drop": self._klippy.drop_clients,
            "cut": self._klippy.cut_clients,
            "refuse": lambda: self._begin(
                lambda: self._klippy.refuse(True), lambda: self._klippy.refuse(False), duration_s
            ),
        }
        action = actions.get(kind.lower())
        if action is None:
            raise CommandError(f"Unknown fault type '{kind}': one of {', '.join(actions)}")
        if kind.lower() in ("mcu", "heater"):
            action()  # an unknown name is the caller's error
        else:
            self._after(0.05, action)

    def _break_heater(self, name: str) -> None:
        """It draws no power any more; verify_heater finds out."""
        heaters = self._printer.find(Heaters, "heaters")
        if heaters is None or name not in heaters.heaters:
            raise CommandError(f"Unknown heater '{name}'")
        heaters.heaters[name].thermal.break_power(self._printer.reactor.now())

    def _begin(self, start: Callable[[], object], end: Callable[[], object], duration_s: float) -> None:
        """Without a duration it lasts until the end is asked for from outside (VirtualKlippy.resume, .refuse)."""
        start()
        if duration_s:
            self._after(duration_s, end)
