"""The G-code of an event handler: text with ``{key}`` placeholders, filled with a context's values.

Knows the line format of `gcode`. Rules, so that a value never becomes a command or a further parameter:

====================================  ==============================================================
where ``{key}`` stands                what goes in
====================================  ==============================================================
value of an extended command's        the text, quoted where it must be (``A={k}``), or escaped for the
parameter                             quotes around it (``A="x {k}"``)
text of M117, M118, M23               the text; Klipper hands these the rest of the line as it stands
another traditional command (M104)    a number; anything else is an error, as letters would be parameters
command, or a parameter's name        nothing: refused when the handler is registered
comment, or not a context-like name   it is left alone
====================================  ==============================================================

A handler of one line without placeholders, whose command is an extended one, gets the context appended as
``KEY='value'`` parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from klipper_router import gcode
from klipper_router.errors import CallError

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+")


class _Slot(NamedTuple):
    key: str
    fit: Callable[[str], str]  # value -> what stands in the line
    any_klipper: bool  # whether every Klipper reads that the same way


def _fit_double_quotes(text: str) -> str:
    # shlex, posix: inside double quotes only \" and \\ are escapes
    return gcode.one_line(text).replace("\\", "\\\\").replace('"', '\\"')


def _fit_single_quotes(text: str) -> str:
    return gcode.quoted(text)[1:-1]


def _fit_number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise CallError(f"a traditional G-code takes a number, not {text[:60]!r}")
    return text


class Template:
    """A handler's parsed G-code. Raises CallError when a placeholder stands where no value may go."""

    def __init__(self, text: str) -> None:
        self.text = text
        lines = text.split("\n")
        self._parts: list[str | _Slot] = []
        for number, line in enumerate(lines):
            if number:
                self._parts.append("\n")
            self._parts += _parse_line(line)
        has_slots = any(isinstance(part, _Slot) for part in self._parts)
        command = gcode.command_name(text)
        self._appends = not has_slots and len(lines) == 1 and bool(command) and not gcode.is_traditional(command)
        if self._appends:
            self._parts = [text[: _code_end(text)].rstrip()]

    def fill(self, context: Mapping[str, str]) -> gcode.Script:
        """The G-code for one event. Raises CallError naming a key that ``context`` lacks or cannot be carried."""
        exact: list[str] = []
        plain: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                exact.append(part)
                plain.append(part)
                continue
            if part.key not in context:
                given = ", ".join(context) or "nothing"
                raise CallError(f"the handler needs {{{part.key}}}, the context holds {given}")
            value = context[part.key]
            try:
                exact.append(part.fit(value))
            except CallError as error:
                raise CallError(f"{{{part.key}}}: {error}") from None
            plain.append(exact[-1] if part.any_klipper else part.fit(gcode.plain_value(value)))
        if self._appends:
            for key, value in context.items():
                name = gcode.parameter_name(key)
                exact.append(f" {name}={gcode.quoted(value)}")
                plain.append(f" {name}={gcode.plain_value(gcode.quoted(value))}")
        return gcode.Script("".join(exact), "".join(plain))


def _parse_line(line: str) -> list[str | _Slot]:
    slots = list(_PLACEHOLDER.finditer(line))
    if not slots:
        return [line]
    command = gcode.command_name(line)
    command_end = line.find(command) + len(command)
    code_end = len(line) if gcode.takes_text(command) else _code_end(line)
    parts: list[str | _Slot] = []
    done = 0
    for slot in slots:
        if slot.start() >= code_end:
            break
        if slot.start() < command_end:
            raise CallError(f"{slot[0]} stands in the place of a command in {line.strip()!r}; it can only be a value")
        fit = _fit_at(line, slot.start(), command)
        parts += [line[done : slot.start()], _Slot(slot[1], fit, gcode.is_traditional(command))]
        done = slot.end()
    return [*parts, line[done:]]


def _fit_at(line: str, position: int, command: str) -> Callable[[str], str]:
    if gcode.takes_text(command):
        return gcode.one_line
    if gcode.is_traditional(command):
        return _fit_number
    _, quote, in_value = next(met for met in _walk(line) if met[0] == position)
    if not in_value:
        name = line[position : line.index("}", position) + 1]
        raise CallError(f"{name} in {line.strip()!r} must be a parameter's value, as in KEY={name}")
    return {"'": _fit_single_quotes, '"': _fit_double_quotes}.get(quote, gcode.word)


def _code_end(line: str) -> int:
    """Where the comment of an extended command begins: at the first ``#`` or ``;`` outside quotes."""
    for index, state, _ in _walk(line):
        if not state and line[index] in "#;":
            return index
    return len(line)


def _walk(line: str) -> Iterator[tuple[int, str, bool]]:
    """Each character as shlex (posix) meets it: index, the open quote or '', whether a ``=`` came in its word."""
    state = ""
    in_value = False
    escaped = False
    for index, character in enumerate(line):
        yield index, state, in_value
        if escaped:
            escaped = False
        elif character == "\\" and state != "'":
            escaped = True
        elif state:
            if character == state:
                state = ""
        elif character in "'\"":
            state = character
        elif character in " \t\r":
            in_value = False
        elif character == "=":
            in_value = True
