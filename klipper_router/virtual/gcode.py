"""Runs G-code: which command goes to whom, what the console says (klippy/gcode.py: GCodeDispatch)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from .errors import CommandError, ConfigError
from .gcode_command import GCodeCommand, is_traditional, split_line
from .printer import Printer, Status
from .reactor import Mutex

Handler = Callable[[GCodeCommand], "Awaitable[None] | None"]
Restart = Callable[[], Awaitable[None]]

COMMANDS_KEPT = 10_000


class GCode:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self.mutex = Mutex(printer.reactor)
        self.commands: deque[tuple[float, str]] = deque(maxlen=COMMANDS_KEPT)
        self.before_restart: Restart | None = None  # the toolhead's: stop the motors, let the moves end
        self._ready = False
        self._all: dict[str, Handler] = {}
        self._always: dict[str, Handler] = {}  # also before ready and after a shutdown
        self._handlers = self._always
        self._mux: dict[str, tuple[str, dict[str | None, Handler]]] = {}
        self._help: dict[str, str] = {}
        self._outputs: list[Callable[[str], None]] = []
        self._status: dict[str, dict[str, str]] = {}
        printer.on("klippy:ready", self._on_ready)
        printer.on("klippy:shutdown", self._on_shutdown)
        printer.on("klippy:disconnect", lambda: self._respond_state("Disconnect"))
        for name, handler, text in (
            ("M110", _nothing, None),
            ("M112", self._cmd_m112, None),
            ("M115", self._cmd_m115, None),
            ("RESTART", self._cmd_restart, "Reload config file and restart host software"),
            ("FIRMWARE_RESTART", self._cmd_firmware_restart, "Restart firmware, host, and reload config"),
            ("ECHO", self._cmd_echo, None),
            ("STATUS", self._cmd_status, "Report the printer status"),
            ("HELP", self._cmd_help, "Report the list of available extended G-Code commands"),
        ):
            self.register(name, handler, text, always=True)

    # Registering

    def register(self, name: str, handler: Handler, text: str | None = None, *, always: bool = False) -> None:
        """Raises ConfigError when the name is taken or could never be called."""
        if name in self._all:
            raise ConfigError(f"gcode command {name} already registered")
        if not is_traditional(name):
            if name.upper() != name or not name.replace("_", "A").isalnum() or name[0].isdigit() or name[1:2].isdigit():
                raise ConfigError(f"Can't register '{name}' as it is an invalid name")
            handler = _Extended(handler)
        self._register(name, handler, text, always=always)

    def _register(self, name: str, handler: Handler, text: str | None, *, always: bool = False) -> None:
        self._all[name] = handler
        if always:
            self._always[name] = handler
        if text is not None:
            self._help[name] = text
        self._build_status()

    def unregister(self, name: str) -> Handler | None:
        """Take a command out. Its handler can be registered under another name. The help text stays, as in Klipper."""
        self._always.pop(name, None)
        handler = self._all.pop(name, None)
        self._build_status()
        return handler

    def register_mux(self, name: str, key: str, value: str | None, handler: Handler, text: str | None = None) -> None:
        """One command for many objects: `SET_PIN PIN=my_pin`. `value` None serves a call without the key."""
        if name not in self._mux:
            values: dict[str | None, Handler] = {}
            self.register(name, lambda command: self._run_mux(key, values, command), text)
            self._mux[name] = (key, values)
        previous_key, values = self._mux[name]
        if previous_key != key:
            raise ConfigError(f"mux command {name} {key} {value} may have only one key ({previous_key})")
        if value in values:
            raise ConfigError(f"mux command {name} {key} {value} already registered ({values})")
        values[value] = handler

    def _run_mux(self, key: str, values: dict[str | None, Handler], command: GCodeCommand) -> Awaitable[None] | None:
        value = command.get(key, None) if None in values else command.get(key)
        if value not in values:
            message = f"The value '{value}' is not valid for {key}"
            if self.printer.start_args.dialect == "v0.13":
                message += _guess(value or "", [name for name in values if name is not None])
            raise CommandError(message)
        return values[value](command)

    def help(self) -> dict[str, str]:
        return dict(self._help)

    def _build_status(self) -> None:
        self._status = {name: {"help": self._help[name]} if name in self._help else {} for name in self._handlers}

    def get_status(self, eventtime: float) -> Status:
        return {"commands": self._status}

    # Running

    async def run_script(self, script: str) -> None:
        """Run lines when everything asked for before is done. Raises CommandError at the first that fails."""
        async with self.mutex:
            await self.run_script_from_command(script)

    async def run_script_from_command(self, script: str) -> None:
        """The same from inside a command, which holds the mutex already."""
        await self.run_lines(script.split("\n"), need_ack=False)

    async def run_lines(self, lines: Iterable[str], *, need_ack: bool) -> None:
        for line in lines:
            await self._run_line(line.strip(), need_ack=need_ack)

    async def _run_line(self, line: str, *, need_ack: bool) -> None:
        dialect = self.printer.start_args.dialect
        name, params = split_line(line, dialect)
        command = GCodeCommand(self, name, line, params, need_ack=need_ack, dialect=dialect)
        if line:
            self.commands.append((self.printer.reactor.now(), line))
        try:
            result = self._handlers.get(name, self._cmd_default)(command)
            if result is not None:
                await result
        except CommandError as e:
            self._respond_error(str(e))
            self.printer.send_event("gcode:command_error")
            if not need_ack:
                raise
        except Exception:
            # klippy/gcode.py: whatever a handler did not foresee stops the printer.
            message = f'Internal error on command:"{name}"'
            self.printer.log.exception(message)
            self.printer.invoke_shutdown(message)
            self._respond_error(message)
            if not need_ack:
                raise
        command.ack()

    # The console

    def on_output(self, callback: Callable[[str], None]) -> None:
        self._outputs.append(callback)

    def respond_raw(self, message: str) -> None:
        for callback in list(self._outputs):
            callback(message)

    def respond_info(self, message: str, *, log: bool = True) -> None:
        if log:
            self.printer.log.info("%s", message)
        lines = [line.strip() for line in message.strip().split("\n")]
        self.respond_raw("// " + "\n// ".join(lines))

    def _respond_error(self, message: str) -> None:
        self.printer.log.warning("%s", message)
        lines = message.strip().split("\n")
        if len(lines) > 1:
            self.respond_info("\n".join(lines), log=False)
        self.respond_raw(f"!! {lines[0].strip()}")

    def _respond_state(self, state: str) -> None:
        self.respond_info(f"Klipper state: {state}", log=False)

    # States

    def _on_ready(self) -> None:
        self._ready = True
        self._handlers = self._all
        self._build_status()
        self._respond_state("Ready")

    def _on_shutdown(self) -> None:
        if not self._ready:
            return
        self._ready = False
        self._handlers = self._always
        self._build_status()
        self._respond_state("Shutdown")

    # Commands that exist before the configuration is read

    def _cmd_default(self, command: GCodeCommand) -> Awaitable[None] | None:
        name = command.name
        if name == "M105":
            command.ack("T:0")
            return None
        if name == "M21":
            return None
        if not self._ready:
            raise CommandError(self.printer.state_message)
        if not name:
            return None
        if " " in name:
            # `M117 50%...`: the text belongs to the command.
            real = name.split()[0]
            handler = self._handlers.get(real)
            if real in ("M117", "M118", "M23") and handler is not None:
                command.name = real
                return handler(command)
        elif (name in ("M140", "M104") and not command.get_float("S", 0.0)) or (
            name == "M107" or (name == "M106" and not command.get_float("S", 1.0))
        ):
            return None  # turning off what is not there
        command.respond_info(f'Unknown command:"{name}"')
        return None

    def _cmd_m112(self, command: GCodeCommand) -> None:
        self.printer.invoke_shutdown("Shutdown due to M112 command")

    def _cmd_m115(self, command: GCodeCommand) -> None:
        message = f"FIRMWARE_NAME:Klipper FIRMWARE_VERSION:{self.printer.start_args.software_version}"
        if not command.ack(message):
            command.respond_info(message)

    async def request_restart(self, reason: str) -> None:
        if self._ready and self.before_restart is not None:
            await self.before_restart()
        self.printer.request_exit(reason)

    def _cmd_restart(self, command: GCodeCommand) -> Awaitable[None]:
        return self.request_restart("restart")

    def _cmd_firmware_restart(self, command: GCodeCommand) -> Awaitable[None]:
        return self.request_restart("firmware_restart")

    def _cmd_echo(self, command: GCodeCommand) -> None:
        command.respond_info(command.line, log=False)

    def _cmd_status(self, command: GCodeCommand) -> None:
        if not self._ready:
            raise CommandError(self.printer.state_message.rstrip() + "\nKlipper state: Not ready")
        self._respond_state("Ready")

    def _cmd_help(self, command: GCodeCommand) -> None:
        lines = [] if self._ready else ["Printer is not ready - not all commands available."]
        lines.append("Available extended commands:")
        lines += [f"{name:<10}: {self._help[name]}" for name in sorted(self._handlers) if name in self._help]
        command.respond_info("\n".join(lines), log=False)


class _Extended:
    """A handler whose command takes KEY=value parameters. A second wrapping (a renamed command) does no harm."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def __call__(self, command: GCodeCommand) -> Awaitable[None] | None:
        command.read_extended_params()
        return self._handler(command)


def _nothing(command: GCodeCommand) -> None:
    return None


def _guess(value: str, names: list[str]) -> str:
    alike = [name for name in names if value and value in name]
    if alike:
        return f". Did you mean '{alike[-1]}'?"
    return ". Options: " + ", ".join(f"'{name}'" for name in names)
