"""[respond]: M118 and RESPOND (klippy/extras/respond.py). They run in every state."""

from __future__ import annotations

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand

PREFIXES = {"echo": "echo:", "command": "//", "error": "!!"}


class Respond:
    def __init__(self, section: Section) -> None:
        self._prefix = section.getchoice("default_type", PREFIXES, "echo")
        self._prefix = section.get("default_prefix", self._prefix)
        gcode = section.printer.lookup(GCode, "gcode")
        gcode.register("M118", self._cmd_m118, always=True)
        gcode.register("RESPOND", self._cmd_respond, "Echo the message prepended with a prefix", always=True)

    def _cmd_m118(self, command: GCodeCommand) -> None:
        command.respond_raw(f"{self._prefix} {command.raw_params()}")

    def _cmd_respond(self, command: GCodeCommand) -> None:
        prefix, space = self._prefix, " "
        kind = command.get("TYPE", None)
        if kind is not None:
            kind = kind.lower()
            if kind in PREFIXES:
                prefix = PREFIXES[kind]
            elif kind == "echo_no_space":
                prefix, space = PREFIXES["echo"], ""
            else:
                raise CommandError(f"RESPOND TYPE '{kind}' is invalid. Must be one of 'echo', 'command', or 'error'")
        command.respond_raw(f"{command.get('PREFIX', prefix)}{space}{command.get('MSG', '')}")


def load(section: Section) -> Respond:
    return Respond(section)
