"""The whole virtual process: one life of the printer after another, and the handles that tests hold.

Knows what outlives a restart: the clock, the log, the console, the socket's path (klippy/klippy.py: main).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

from .clock import Clock
from .console import Console, Wanted
from .extras import SimulatedModules
from .faults import Faults
from .gcode import COMMANDS_KEPT, GCode
from .printer import Dialect, Printer, StartArgs, State
from .reactor import Reactor
from .serial_console import SerialConsole
from .webhooks import WebHooks

# Those of the two Klippers that this one was compared with.
SOFTWARE_VERSIONS: dict[Dialect, str] = {
    "v0.13": "v0.13.0-730-g84104bbbd-virtual",
    "v0.12": "v0.12.0-386-g49205f92f-virtual",
}

# klippy/klippy.py sleeps 1 s between two lives; nobody listens meanwhile.
RESTART_S = 1.0

_console_log = logging.getLogger("klipper_router.virtual")
_console_log.addHandler(logging.NullHandler())


class VirtualKlippy:
    """One simulated klippy.py. `await klippy.run()` is the process; cancel it to end it.

    `speed` multiplies the printer's time: dwells, heaters, moves, restarts. A wrong configuration is no exception:
    as with Klippy, the state becomes "error" and RESTART over the API tries again.
    """

    def __init__(
        self,
        config_file: str | Path,
        *,
        apiserver: str | Path | None = None,
        log_file: str | Path | None = None,
        input_tty: str | Path | None = None,
        speed: float = 1.0,
        gcode_dialect: Dialect = "v0.13",
    ) -> None:
        self.config_file = Path(config_file)
        self.apiserver = None if apiserver is None else Path(apiserver)
        self.log_file = None if log_file is None else Path(log_file)
        self.input_tty = None if input_tty is None else Path(input_tty)
        self.speed = speed
        self.gcode_dialect: Dialect = gcode_dialect
        self.commands: deque[tuple[float, str]] = deque(maxlen=COMMANDS_KEPT)
        self.starts = 0  # lives so far: 1 after the first start, one more with each restart
        self._console = Console()
        self._clock: Clock | None = None
        self._printer: Printer | None = None
        self._changed = trio.Event()
        self._stalled = False
        self._refusing = False

    # The process

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, listen, serve until cancelled. Reports as started as soon as the API socket listens."""
        self._clock = Clock(self.speed)
        log, close_log = self._open_log()
        tty = SerialConsole(self.input_tty) if self.input_tty is not None else None
        reason = "startup"
        try:
            log.info("Starting Klippy...")
            while True:
                reason = await self._live(reason, log, tty, task_status if self.starts == 0 else None)
                await self._clock.sleep_until(self._clock.now() + RESTART_S)
                log.info("Restarting printer")
        finally:
            if tty is not None:
                tty.close()
            close_log()

    async def _live(
        self, reason: str, log: logging.Logger, tty: SerialConsole | None, started: trio.TaskStatus[None] | None
    ) -> str:
        """One life, from start to the restart that ends it. Returns the reason for the next one."""
        assert self._clock is not None
        async with trio.open_nursery() as nursery:
            printer = Printer(Reactor(self._clock, nursery), self._start_args(reason), log, SimulatedModules())
            self._adopt(printer)
            webhooks = printer.lookup(WebHooks, "webhooks")
            try:
                if tty is not None:
                    tty.attach(printer)
                if self._refusing:
                    webhooks.server.refuse(True)
                else:
                    webhooks.server.listen()
                if self._stalled:
                    printer.reactor.stall()
                self.starts += 1
                nursery.start_soon(printer.reactor.run_timers)
                nursery.start_soon(printer.reactor.run_callbacks)
                nursery.start_soon(printer.connect)
                self._note_change()
                if started is not None:
                    started.started()
                await printer.exit_requested.wait()
            finally:
                printer.send_event("klippy:disconnect")
                self._printer = None
                nursery.cancel_scope.cancel()
        return printer.exit_reason or "exit"

    def _start_args(self, reason: str) -> StartArgs:
        return StartArgs(
            config_file=self.config_file,
            apiserver=self.apiserver,
            log_file=self.log_file,
            dialect=self.gcode_dialect,
            start_reason=reason,
            software_version=SOFTWARE_VERSIONS[self.gcode_dialect],
            cpu_info="1 core virtual",
        )

    def _adopt(self, printer: Printer) -> None:
        self._printer = printer
        gcode = printer.lookup(GCode, "gcode")
        gcode.commands = self.commands  # the record goes on across restarts
        gcode.on_output(self._console.add)
        printer.on("virtual:state", self._note_change)
        printer.add_object("virtual", Faults(printer, self))

    def _open_log(self) -> tuple[logging.Logger, Callable[[], None]]:
        log = logging.Logger(f"klippy {self.config_file}", logging.INFO)
        if self.log_file is None:
            log.parent = _console_log
            return log, lambda: None
        handler = logging.FileHandler(self.log_file)
        log.addHandler(handler)
        return log, handler.close

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # What tests hold

    @property
    def state(self) -> State:
        """ "startup" also between two lives, when nobody listens."""
        return "startup" if self._printer is None else self._printer.state

    @property
    def state_message(self) -> str:
        return "" if self._printer is None else self._printer.state_message

    async def wait_state(self, state: State) -> None:
        while self._printer is None or self._printer.state != state:
            await self._changed.wait()

    @property
    def clients(self) -> int:
        """API connections that are open now."""
        return len(self._webhooks.server.clients) if self._printer is not None else 0

    @property
    def console(self) -> deque[str]:
        """The newest console messages: `// ...`, `!! ...`, `echo: ...`."""
        return self._console.lines

    @property
    def console_mark(self) -> int:
        """The number of console messages so far, for `wait_console(since=...)`."""
        return self._console.count

    async def wait_console(self, wanted: Wanted, *, since: int = 0) -> str:
        """The first message number `since` or later that contains `wanted` (or for which it is true)."""
        return await self._console.wait(wanted, since)

    async def run_gcode(self, script: str) -> None:
        """Run a script as `gcode/script` would. Raises CommandError as the API would report it."""
        await self.printer.lookup(GCode, "gcode").run_script(script)

    @property
    def printer(self) -> Printer:
        """The printer's current life. RuntimeError between two lives and when not running."""
        if self._printer is None:
            raise RuntimeError("the virtual Klippy is not running")
        return self._printer

    @property
    def _webhooks(self) -> WebHooks:
        return self.printer.lookup(WebHooks, "webhooks")

    # Faults

    def invoke_shutdown(self, message: str) -> None:
        self.printer.invoke_shutdown(message)

    def lose_mcu(self, mcu: str = "mcu") -> None:
        self.printer.lookup(Faults, "virtual").lose_mcu(mcu)

    def stall(self) -> None:
        """Like SIGSTOP: connections are accepted by the kernel, nothing is said, nothing moves on."""
        self._stalled = True
        if self._printer is not None:
            self._printer.reactor.stall()

    def resume(self) -> None:
        self._stalled = False
        if self._printer is not None:
            self._printer.reactor.resume()

    def drop_clients(self) -> None:
        """Close every API connection."""
        if self._printer is not None:
            self._webhooks.server.drop_clients()

    def cut_clients(self) -> None:
        """Close every API connection in the middle of a frame."""
        if self._printer is not None:
            self._webhooks.server.cut_clients()

    def refuse(self, on: bool) -> None:
        """Refuse new API connections (ECONNREFUSED); those that are open stay."""
        self._refusing = on
        if self._printer is not None:
            self._webhooks.server.refuse(on)
