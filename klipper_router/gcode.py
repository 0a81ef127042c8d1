"""One safe line of G-code out of a command and values of any content.

Knows how Klipper reads a line (klippy/gcode.py), and nothing of ours. Strategy: an extended command's parameters
are read with shlex, where a text in single quotes stands for itself; so every value is quoted whole, and only what
no quoting can carry is replaced:

- Only a line feed ends a command, so it becomes a space, everywhere.
- A Klipper up to v0.12 (before d45b9c92d, 2024-11-26) cuts a line at ``#``, ``*`` and ``;`` even inside quotes, and
  refuses what is left as "Malformed command". So a `Script` has two spellings: ``exact``, and ``plain`` for such a
  Klipper, in which these three are ``_``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

_NO_KEY = re.compile(r"[^A-Z0-9_]")
_CUT_BY_V0_12 = re.compile(r"[#*;]")
_MACRO_NAME = re.compile(r"[A-Za-z_]+[0-9]*")
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_.,:/+-]+")
_COMMAND = re.compile(r"\s*([^\s;]*)")
# Klipper gcode.py _process_commands: an N that no letter follows, and whatever stands between it and the next letter.
_LINE_NUMBER = re.compile(r"\s*[nN](?![A-Za-z_])")
# gcode.py args_r, in v0.13 and up to v0.12; they differ in the slash only
_PARTS = (re.compile(r"([A-Z_]+|[A-Z*])"), re.compile(r"([A-Z_]+|[A-Z*/])"))
# Most lines, which every Klipper reads the same way: letters (not N alone) and digits, then a letter, a comment or the
# end. Of ASCII only: what else there is may become a letter in upper case.
_ORDINARY = re.compile(r"[ \t]*+(?![Nn](?![A-Za-z_]))([A-Za-z_]++[0-9]*+)[ \t\r]*+(?:[A-Za-z_;]|\Z)")


class Script(NamedTuple):
    """G-code in two spellings with the same number of lines; they differ only in values, and seldom."""

    exact: str
    plain: str

    @classmethod
    def of(cls, text: str) -> Script:
        """A script that a user wrote: it is run as it stands on any Klipper."""
        return cls(text, text)

    def after_malformed(self, error_message: str) -> str | None:
        """What is left to run, in the plain spelling, when the exact one failed with ``error_message``.

        None unless Klipper refused a line of ours before it ran (gcode.py: "Malformed command '<the line>'"), and
        the plain spelling of that line differs. The lines before it are done and are not in the answer.
        """
        if self.exact == self.plain:
            return None
        exact, plain = self.exact.split("\n"), self.plain.split("\n")
        for number, line in enumerate(exact):
            if line != plain[number] and error_message == f"Malformed command '{line.strip()}'":
                return "\n".join(plain[number:])
        return None


def parameter_name(*parts: str) -> str:
    """Parts joined by ``_``, in upper case, every character outside ``A-Z 0-9 _`` replaced by ``_``.

    Begins with ``_`` where it would begin with a digit: Klipper reads ``CMD 1=x`` as the unknown command ``CMD 1=``.
    """
    name = _NO_KEY.sub("_", "_".join(parts).upper())
    return f"_{name}" if name[:1].isdigit() or not name else name


def parameter_text(json_text: bytes) -> str:
    """A JSON value as the text of a parameter: texts as they are, True/False/None, else as JSON writes it."""
    match json_text[:1]:
        case b'"':
            return msgspec.json.decode(json_text, type=str)
        case b"t":
            return "True"
        case b"f":
            return "False"
        case b"n":
            return "None"
    return json_text.decode()


def one_line(text: str) -> str:
    """``text`` with every line feed replaced by a space."""
    return text.replace("\n", " ")


def plain_value(text: str) -> str:
    """``text`` with what a Klipper up to v0.12 cannot read inside quotes replaced by ``_``."""
    return _CUT_BY_V0_12.sub("_", text)


def quoted(text: str) -> str:
    """``text`` as one shlex word that stands for exactly this text (but for line feeds)."""
    return "'" + one_line(text).replace("'", "'\"'\"'") + "'"


def word(text: str) -> str:
    """Like `quoted`, without quotes where none are needed."""
    return text if _NEEDS_NO_QUOTES.fullmatch(text) else quoted(text)


def command_word(line: str) -> tuple[str, int]:
    """The word that names the command of ``line``, as it is written, and where it ends; empty in a comment."""
    match = _COMMAND.match(line)
    assert match is not None
    return match[1], match.end()


def commands(script: str) -> list[str]:
    """The commands that Klipper finds in a script, in upper case and in order, each once.

    Where versions of Klipper read a line differently, what each finds; so nothing that may be run is missing.
    """
    found: dict[str, None] = {}
    for line in dict.fromkeys(script.split("\n")):
        if ordinary := _ORDINARY.match(line):
            found[ordinary[1].upper()] = None
        elif code := line.strip().partition(";")[0].upper():
            for parts in _PARTS if "/" in code else _PARTS[:1]:
                found[_command_of(code, parts)] = None
    found.pop("", None)
    return list(found)


def _command_of(line: str, parts_of: re.Pattern[str]) -> str:
    # gcode.py _process_commands; no more of the line is taken apart than is looked at
    parts = parts_of.split(line, 3)
    command = "".join(parts[3:5] if "".join(parts[:2]) == "N" else parts[:3]).strip()
    first = command.split()[0] if " " in command else command
    return first if takes_text(first) else command  # cmd_default


def is_numbered(line: str) -> bool:
    """Whether Klipper skips the first word of ``line`` as a line number, and looks for the command behind it."""
    return _LINE_NUMBER.match(line) is not None


def is_traditional(command: str) -> bool:
    """Whether Klipper reads the parameters of ``command`` the way of G1 and M104, letter by letter."""
    # gcode.py is_traditional_gcode: a letter followed by a number; upper() makes I of a dotless i, too
    return command.upper()[1:2].isdigit()


def is_macro_name(command: str) -> bool:
    """Whether ``command`` is one word that Klipper reads as an extended command, so that `command_line` is safe.

    Klipper takes the letters and digits up to the first digit's end for the command (gcode.py args_r), so a name with
    a digit in it can only end in digits.
    """
    return _MACRO_NAME.fullmatch(command) is not None and not is_traditional(command) and not is_numbered(command)


def takes_text(command: str) -> bool:
    """Whether Klipper hands the rest of the line to ``command`` as it stands (gcode.py cmd_default)."""
    return command.upper() in ("M117", "M118", "M23")


def command_line(command: str, parameters: Iterable[tuple[str, str]]) -> Script:
    """``COMMAND KEY='value' …``; keys are used as they are (see `parameter_name`), values are quoted."""
    words = [command]
    plain_words = [command]
    for key, text in parameters:
        value = quoted(text)
        words.append(f"{key}={value}")
        plain_words.append(f"{key}={plain_value(value)}")
    return Script(" ".join(words), " ".join(plain_words))
