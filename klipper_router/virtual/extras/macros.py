"""[gcode_macro] and [delayed_gcode] (klippy/extras/gcode_macro.py, delayed_gcode.py)."""

from __future__ import annotations

import ast
import json
from typing import Any

from ..clock import NEVER
from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand, is_traditional
from ..printer import Status
from ..reactor import Timer
from ..template import Templates

VARIABLE = "variable_"


class GCodeMacro:
    def __init__(self, section: Section) -> None:
        if len(section.name.split()) > 2:
            raise ConfigError(f"Name of section '{section.name}' contains illegal whitespace")
        name = section.own_name
        self.printer = section.printer
        self.alias = name.upper()
        self.variables: dict[str, Any] = {}
        self._templates = self.printer.require(Templates, section.config, "gcode_macro")
        self._template = self._templates.load(section, "gcode")
        self._gcode = self.printer.lookup(GCode, "gcode")
        self._running = False
        self._rename = section.get("rename_existing", None)
        self._description = section.get("description", "G-Code macro")
        if self._rename is None:
            self._gcode.register(self.alias, self._cmd, self._description)
        else:
            if is_traditional(self.alias) != is_traditional(self._rename):
                raise ConfigError(f"G-Code macro rename of different types ('{self.alias}' vs '{self._rename}')")
            self.printer.on("klippy:connect", self._take_over)
        self._gcode.register_mux(
            "SET_GCODE_VARIABLE", "MACRO", name, self._cmd_set_variable, "Set the value of a G-Code macro variable"
        )
        for option in section.options(VARIABLE):
            try:
                self.variables[option.removeprefix(VARIABLE)] = _literal(section.get(option))
            except (SyntaxError, TypeError, ValueError) as e:
                raise ConfigError(
                    f"Option '{option}' in section '{section.name}' is not a valid literal: {e}"
                ) from None

    def _take_over(self) -> None:
        """Give the command of the same name its new name, then take its place."""
        assert self._rename is not None
        previous = self._gcode.unregister(self.alias)
        if previous is None:
            raise ConfigError(f"Existing command '{self.alias}' not found in gcode_macro rename")
        self._gcode.register(self._rename, previous, f"Renamed builtin of '{self.alias}'")
        self._gcode.register(self.alias, self._cmd, self._description)

    def get_status(self, eventtime: float) -> Status:
        return self.variables

    def _cmd_set_variable(self, command: GCodeCommand) -> None:
        variable, value = command.get("VARIABLE"), command.get("VALUE")
        if variable not in self.variables:
            raise CommandError(f"Unknown gcode_macro variable '{variable}'")
        try:
            literal = _literal(value)
        except (SyntaxError, TypeError, ValueError) as e:
            raise CommandError(f"Unable to parse '{value}' as a literal: {e} in '{command.line}'") from None
        self.variables = {**self.variables, variable: literal}  # a new one, so that a subscription sees the change

    async def _cmd(self, command: GCodeCommand) -> None:
        if self._running:
            raise CommandError(f"Macro {self.alias} called recursively")
        context = {
            **self.variables,
            **self._templates.context(),
            "params": command.params,
            "rawparams": command.raw_params(),
        }
        self._running = True
        try:
            await self._gcode.run_script_from_command(self._template.render(context))
        finally:
            self._running = False


class DelayedGCode:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._template = self.printer.require(Templates, section.config, "gcode_macro").load(section, "gcode")
        self._gcode = self.printer.lookup(GCode, "gcode")
        self._duration = section.getfloat("initial_duration", 0.0, minval=0.0)
        self._timer: Timer = self.printer.reactor.register_timer(self._run)
        self._inside = self._repeat = False
        self.printer.on("klippy:ready", self._arm)
        self._gcode.register_mux(
            "UPDATE_DELAYED_GCODE", "ID", section.own_name, self._cmd_update, "Update the duration of a delayed_gcode"
        )

    def _arm(self) -> None:
        now = self.printer.reactor.now()
        self.printer.reactor.update_timer(self._timer, now + self._duration if self._duration else NEVER)

    async def _run(self, eventtime: float) -> float:
        self._inside = True
        try:
            await self._gcode.run_script(self._template.render())
        except Exception:
            self.printer.log.exception("Script running error")
        waketime = eventtime + self._duration if self._repeat else NEVER
        self._inside = self._repeat = False
        return waketime

    def _cmd_update(self, command: GCodeCommand) -> None:
        self._duration = command.get_float("DURATION", minval=0.0)
        if self._inside:
            self._repeat = self._duration != 0.0
        else:
            self._arm()


def _literal(text: str) -> Any:
    """A Python literal that JSON can carry. Raises SyntaxError, TypeError, ValueError."""
    value = ast.literal_eval(text)
    json.dumps(value, separators=(",", ":"))
    return value


def load_templates(section: Section) -> Templates:
    return Templates(section.printer)


def load(section: Section) -> GCodeMacro:
    return GCodeMacro(section)


def load_delayed(section: Section) -> DelayedGCode:
    return DelayedGCode(section)
