"""One G-code line: how Klipper reads it. Pure; knows two dialects and no command.

"v0.13" is Klipper since commit d45b9c92d (2024-11-26), "v0.12" the one before: there `#`, `*` and `;` end the
parameters of an extended command even inside quotes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from .errors import CommandError

if TYPE_CHECKING:
    from .gcode import GCode
    from .printer import Dialect

D = TypeVar("D")
V = TypeVar("V")

# Words of letters and "_", or "*": what stands between them are numbers (klippy/gcode.py: args_r).
_WORDS = {"v0.13": re.compile("([A-Z_]+|[A-Z*])"), "v0.12": re.compile("([A-Z_]+|[A-Z*/])")}


class Required:
    """Stands for "no default"."""


REQUIRED = Required()


def is_traditional(command: str) -> bool:
    """True for a letter followed by a number: G1, M117."""
    words = command.upper().split()
    if not words or len(words[0]) < 2:
        return False
    try:
        float(words[0][1:])
    except ValueError:
        return False
    return words[0][0].isupper() and words[0][1].isdigit()


def split_line(line: str, dialect: Dialect) -> tuple[str, dict[str, str]]:
    """The command and its traditional parameters (`G1 X1` gives `G1` and {"G": "1", "X": "1"})."""
    bare = line.strip().partition(";")[0]
    parts = _WORDS[dialect].split(bare.upper())
    numbered = "".join(parts[:2]) == "N"  # a line number comes first
    command = "".join(parts[3:5] if numbered else parts[:3]).strip()
    return command, {parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)}


class GCodeCommand:
    """A command on its way to its handler."""

    def __init__(
        self, gcode: GCode, name: str, line: str, params: dict[str, str], *, need_ack: bool, dialect: Dialect
    ) -> None:
        self.gcode = gcode
        self.name = name
        self.line = line
        self.params = params
        self._need_ack = need_ack
        self._dialect = dialect

    # Answers

    def respond_info(self, message: str, *, log: bool = True) -> None:
        self.gcode.respond_info(message, log=log)

    def respond_raw(self, message: str) -> None:
        self.gcode.respond_raw(message)

    def ack(self, message: str = "") -> bool:
        """Say "ok" to the serial console, once. False for a script, which gets none."""
        if not self._need_ack:
            return False
        self.respond_raw(f"ok {message}" if message else "ok")
        self._need_ack = False
        return True

    # Parameters

    def raw_params(self) -> str:
        """The text after the command as it was written."""
        return self._raw_v013() if self._dialect == "v0.13" else self._raw_v012()

    def _raw_v013(self) -> str:
        start, end = len(self.name), len(self.line)
        if self.line[:start].upper() != self.name:
            # A line number stands before it and perhaps a checksum behind it.
            start += self.line.upper().find(self.name)
            star = self.line.rfind("*")
            if star >= 0 and self.line[star + 1 :].isdigit():
                end = star
        if self.line[start : start + 1].isspace():
            start += 1
        return self.line[start:end]

    def _raw_v012(self) -> str:
        name = self.name[:4] if self.name.startswith(("M117 ", "M118 ")) else self.name
        text = self.line
        if not text.upper().startswith(name):
            text = text[text.upper().find(name) :]
            star = text.rfind("*")
            if star >= 0:
                text = text[:star]
        return text[len(name) :].removeprefix(" ")

    def read_extended_params(self) -> None:
        """`KEY=value` with shell quoting replaces the traditional parameters. Raises CommandError."""
        try:
            pairs = [word.split("=", 1) for word in self._words()]
            self.params = {key.upper(): value for key, value in pairs}
        except ValueError:
            raise CommandError(f"Malformed command '{self.line}'") from None

    def _words(self) -> Iterator[str]:
        if self._dialect == "v0.13":
            lexer = shlex.shlex(self.raw_params(), posix=True)
            lexer.whitespace_split = True
            lexer.commenters = "#;"
            return iter(lexer)
        return iter(shlex.split(_extended_v012(self.line)))

    def get(self, name: str, default: D | Required = REQUIRED) -> str | D:
        return self._get(name, default, str)

    def get_int(
        self, name: str, default: D | Required = REQUIRED, *, minval: int | None = None, maxval: int | None = None
    ) -> int | D:
        value = self._get(name, default, int)
        if name in self.params:
            self._check(name, float(self.params[name]), minval, maxval, None, None)
        return value

    def get_float(
        self,
        name: str,
        default: D | Required = REQUIRED,
        *,
        minval: float | None = None,
        maxval: float | None = None,
        above: float | None = None,
        below: float | None = None,
    ) -> float | D:
        value = self._get(name, default, float)
        if name in self.params:
            self._check(name, float(self.params[name]), minval, maxval, above, below)
        return value

    def _get(self, name: str, default: D | Required, parse: Callable[[str], V]) -> V | D:
        text = self.params.get(name)
        if text is None:
            if isinstance(default, Required):
                raise CommandError(f"Error on '{self.line}': missing {name}")
            return default
        try:
            return parse(text)
        except ValueError:
            raise CommandError(f"Error on '{self.line}': unable to parse {text}") from None

    def _check(
        self,
        name: str,
        value: float,
        minval: float | None,
        maxval: float | None,
        above: float | None,
        below: float | None,
    ) -> None:
        where = f"Error on '{self.line}': {name} must"
        if minval is not None and value < minval:
            raise CommandError(f"{where} have minimum of {minval}")
        if maxval is not None and value > maxval:
            raise CommandError(f"{where} have maximum of {maxval}")
        if above is not None and value <= above:
            raise CommandError(f"{where} be above {above}")
        if below is not None and value >= below:
            raise CommandError(f"{where} be below {below}")


def _extended_v012(line: str) -> str:
    """The parameters as v0.12 cuts them out. ValueError when the line does not look like a command."""
    match = re.match(r"(?:N[0-9]+\s*)?[a-zA-Z_][a-zA-Z0-9_]+", line.lstrip())
    if match is None:
        raise ValueError(line)
    rest = line.lstrip()[match.end() :]
    if rest and not rest[0].isspace():
        raise ValueError(line)
    return re.split("[#*;]", rest, maxsplit=1)[0]
