"""How Klipper reads G-code, as far as it decides which commands run with which parameters.

An independent model of klippy/gcode.py in two versions, written from its behaviour: v0.13 (checked against
v0.13.0-730) and v0.12 (the parent of d45b9c92d, 2024-11-26). It imports nothing of the product. Every name that
Klipper would accept counts as a defined command unless ``defined`` says otherwise: what may be run is run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Version = Literal["v0.12", "v0.13"]
VERSIONS: tuple[Version, ...] = ("v0.12", "v0.13")

# Handlers that do not look at their parameters but at the text behind their name.
TEXT_COMMANDS = ("M117", "M118", "M23")


class Ran(NamedTuple):
    """A command that was run. ``text`` is what it would get as raw parameters."""

    command: str
    parameters: dict[str, str]
    text: str


@dataclass
class Outcome:
    """What became of a script: what ran, what was unknown, and the error that ended it."""

    ran: list[Ran] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    error: str | None = None


class _Malformed(Exception):
    pass


class _Read(NamedTuple):
    command: str
    letters: dict[str, str]


class Klipper:
    """A Klipper of one version, with the commands ``defined``; None: all that can be."""

    def __init__(self, version: Version, defined: Collection[str] | None = None) -> None:
        self.version = version
        self.defined = defined
        single = "*" if version == "v0.13" else "*/"
        self._groups = re.compile(rf"([A-Z_]+|[{single}])([^A-Z_{single}]*)")

    def run(self, script: str) -> Outcome:
        outcome = Outcome()
        for raw_line in script.split("\n"):
            line = raw_line.strip()
            read = self._read(line)
            name = read.command
            if not self._is_defined(name):
                name = self._text_command(name)
                if not name:
                    if read.command:
                        outcome.unknown.append(read.command)
                    continue
            try:
                parameters = read.letters if is_traditional(name) else self._extended(line, name)
            except _Malformed:
                outcome.error = f"Malformed command '{line}'"
                return outcome
            outcome.ran.append(Ran(name, parameters, self._text(line, name)))
        return outcome

    def _is_defined(self, name: str) -> bool:
        if self.defined is not None:
            return name in self.defined
        if not name or len(name.split()) != 1 or name.split()[0] != name:
            return False
        if is_traditional(name):
            return name == name.upper()
        letters = name.replace("_", "A")
        return name == name.upper() and letters.isalnum() and not name[0].isdigit() and not name[1:2].isdigit()

    def _text_command(self, name: str) -> str:
        """M117 and its like, when figures or signs behind the name were taken for a part of it."""
        if self.version == "v0.12":
            found = next((text for text in ("M117", "M118") if name.startswith(f"{text} ")), "")
        else:
            found = name.split()[0] if " " in name else ""
            found = found if found in TEXT_COMMANDS else ""
        return found if found and self._is_defined(found) else ""

    def _read(self, line: str) -> _Read:
        """The first two steps of any line: cut at ``;``, and taken apart at letters."""
        head = line.partition(";")[0].upper()
        groups = list(self._groups.finditer(head))
        letters = {group[1]: group[2].strip() for group in groups}
        lead = head[: groups[0].start()] if groups else head
        if not groups:
            return _Read(lead.strip(), letters)
        if not lead and groups[0][1] == "N":
            named = groups[1][0] if len(groups) > 1 else ""
            return _Read(named.strip(), letters)
        return _Read((lead + groups[0][0]).strip(), letters)

    def _text(self, line: str, command: str) -> str:
        """What stands behind the command's name."""
        size = len(command)
        if self.version == "v0.12":
            text = line
            if not line.upper().startswith(command):
                text = line[line.upper().find(command) :]
                text = text[: text.rfind("*")] if "*" in text else text
            return text[size:].removeprefix(" ")
        begin, end = size, len(line)
        if line[:size].upper() != command:
            begin += line.upper().find(command)
            star = line.rfind("*")
            if star >= 0 and line[star + 1 :].isdigit():
                end = star
        if line[begin : begin + 1].isspace():
            begin += 1
        return line[begin:end]

    def _extended(self, line: str, command: str) -> dict[str, str]:
        if self.version == "v0.12":
            return _key_values(self._v0_12_arguments(line), comments="")
        return _key_values(self._text(line, command), comments="#;")

    def _v0_12_arguments(self, line: str) -> str:
        """The line up to ``#``, ``*`` or ``;``, wherever they stand, without the command."""
        code = re.split(r"[#*;]", line, maxsplit=1)[0]
        is_cut = code != line
        for shape in (r"\s*N[0-9]+\s*([a-zA-Z_][a-zA-Z0-9_]+)", r"\s*([a-zA-Z_][a-zA-Z0-9_]+)"):
            named = re.match(shape, code)
            if named is not None:
                rest = code[named.end() :]
                if rest[:1].isspace():
                    return rest.strip()
                if not rest and not is_cut:
                    return ""
        raise _Malformed


def is_traditional(name: str) -> bool:
    """Whether a command has parameters of one letter each: its name is a letter and a number."""
    words = name.upper().split()
    if not words or not words[0][0].isupper() or not words[0][1:2].isdigit():
        return False
    try:
        float(words[0][1:])
    except ValueError:
        return False
    return True


def _key_values(text: str, comments: str) -> dict[str, str]:
    """Words as a POSIX shell takes them apart, each of which must be KEY=VALUE."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = comments
    parameters: dict[str, str] = {}
    try:
        words = list(lexer)
    except ValueError as error:
        raise _Malformed from error
    for each in words:
        key, equals, value = each.partition("=")
        if not equals:
            raise _Malformed
        parameters[key.upper()] = value
    return parameters
