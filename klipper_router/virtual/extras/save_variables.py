"""[save_variables]: SAVE_VARIABLE and the file behind it (klippy/extras/save_variables.py)."""

from __future__ import annotations

import ast
import configparser
from typing import Any

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status


class SaveVariables:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._path = section.getpath("filename")
        self.variables: dict[str, Any] = {}
        try:
            self._path.touch()  # an OSError here is "Internal error during connect", as in Klipper
            self._load()
        except CommandError as e:
            raise ConfigError(str(e)) from None
        self.printer.lookup(GCode, "gcode").register(
            "SAVE_VARIABLE", self._cmd_save, "Save arbitrary variables to disk"
        )

    def _load(self) -> None:
        parser = configparser.ConfigParser()
        try:
            parser.read(self._path)
            items = parser.items("Variables") if parser.has_section("Variables") else []
            self.variables = {name: ast.literal_eval(value) for name, value in items}
        except (configparser.Error, ValueError, SyntaxError, OSError):
            self.printer.log.exception("save_variables")
            raise CommandError("Unable to parse existing variable file") from None

    def _cmd_save(self, command: GCodeCommand) -> None:
        name = command.get("VARIABLE")
        if name.lower() != name:
            raise CommandError("VARIABLE must not contain upper case")
        text = command.get("VALUE")
        try:
            # Only ValueError: Klipper lets a SyntaxError pass, which shuts the printer down.
            value = ast.literal_eval(text)
        except ValueError:
            raise CommandError(f"Unable to parse '{text}' as a literal") from None
        parser = configparser.ConfigParser()
        parser.add_section("Variables")
        for key, item in sorted({**self.variables, name: value}.items()):
            parser.set("Variables", key, repr(item))  # a ValueError, for a lone "%", shuts the printer down too
        try:
            with self._path.open("w") as file:
                parser.write(file)
        except OSError:
            self.printer.log.exception("save_variables")
            raise CommandError("Unable to save variable") from None
        self._load()

    def get_status(self, eventtime: float) -> Status:
        return {"variables": self.variables}


def load(section: Section) -> SaveVariables:
    return SaveVariables(section)
