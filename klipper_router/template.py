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
behind a line number (N5 …)           nothing: refused, as Klipper would look for a command in the value
====================================  ==============================================================

A handler of one line without placeholders, whose command is an extended one, gets the context appended as
``KEY='value'`` parameters. Where Klipper would read such a line otherwise than it is written (a quote that is not
closed, a name that gets longer in upper case), it is refused when the handler is registered.
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
        command, _ = gcode.command_word(text)
        takes_parameters = bool(command) and not gcode.is_traditional(command) and not gcode.is_numbered(text)
        self._appends = takes_parameters and not has_slots and len(lines) == 1
        if self._appends:
            _check_extended(text, command)
            self._parts = [_code(text)]

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
    command, command_end = gcode.command_word(line)
    code_end = len(line) if gcode.takes_text(command) else _code_end(line)
    parts: list[str | _Slot] = []
    done = 0
    for slot in slots:
        if slot.start() >= code_end:
            break
        if gcode.is_numbered(line):
            raise CallError(f"{slot[0]} in {line.strip()!r}: a line that begins with a line number takes no values")
        if slot.start() < command_end:
            raise CallError(f"{slot[0]} stands in the place of a command in {line.strip()!r}; it can only be a value")
        fit = _fit_at(line, slot, command)
        parts += [line[done : slot.start()], _Slot(slot[1], fit, gcode.is_traditional(command))]
        done = slot.end()
    return [*parts, line[done:]]


def _fit_at(line: str, slot: re.Match[str], command: str) -> Callable[[str], str]:
    if gcode.takes_text(command):
        return gcode.one_line
    if gcode.is_traditional(command):
        return _fit_number
    _check_extended(line, command)
    place = next(place for place in _walk(line) if place.at == slot.start())
    if not place.in_value:
        raise CallError(f"{slot[0]} in {line.strip()!r} must be a parameter's value, as in KEY={slot[0]}")
    if place.escaped:
        raise CallError(f"{slot[0]} in {line.strip()!r} stands after a backslash, which would change its value")
    return {"'": _fit_single_quotes, '"': _fit_double_quotes}.get(place.quote, gcode.word)


def _check_extended(line: str, command: str) -> None:
    """Raises CallError for a line in which Klipper would look for a value where it does not stand."""
    if len(command.upper()) != len(command):
        # gcode.py get_raw_command_parameters: as many characters are skipped as the name has in upper case
        raise CallError(f"write {command!r} in {line.strip()!r} as Klipper knows it: {command.upper()}")
    *_, end = _walk(_code(line))
    if end.quote or end.escaped:
        raise CallError(f"a quote is not closed, or nothing follows a backslash, in {line.strip()!r}")


def _code(line: str) -> str:
    """The line of an extended command without its comment."""
    return line[: _code_end(line)].rstrip()


def _code_end(line: str) -> int:
    """Where the comment of an extended command begins: at the first ``#`` or ``;`` outside quotes."""
    return next(
        (place.at for place in _walk(line) if line[place.at : place.at + 1] in ("#", ";") and place.is_bare),
        len(line),
    )


class _Place(NamedTuple):
    """Where a character of a line stands, for shlex (posix)."""

    at: int
    quote: str  # the quote that is open, or ''
    escaped: bool  # whether it follows a backslash that counts
    in_value: bool  # whether a ``=`` came before in its word

    @property
    def is_bare(self) -> bool:
        return not self.quote and not self.escaped


def _walk(line: str) -> Iterator[_Place]:
    """The place of each character, and at last that of the line's end."""
    quote = ""
    in_value = escaped = False
    for index, character in enumerate(line):
        yield _Place(index, quote, escaped, in_value)
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            if character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in " \t\r":
            in_value = False
        elif character == "=":
            in_value = True
    yield _Place(len(line), quote, escaped, in_value)
