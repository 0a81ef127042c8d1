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

# A handler's gcode is read character by character, while all printers wait; this is more than any needs.
MAX_GCODE_CHARACTERS = 16_000
# A long value in thousands of placeholders would fill the memory; no queue takes as much (script_queue).
MAX_FILLED_CHARACTERS = 8 * 1024 * 1024

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
        if len(text) > MAX_GCODE_CHARACTERS:
            raise CallError(f"gcode of {len(text)} characters is too long, {MAX_GCODE_CHARACTERS} are the most")
        self.text = text
        lines = text.split("\n")
        self._parts: list[str | _Slot] = []
        for number, line in enumerate(lines):
            if number:
                self._parts.append("\n")
            self._parts += _parse_line(line)
        has_slots = any(isinstance(part, _Slot) for part in self._parts)
        command, _ = gcode.command_word(text)
        # Behind some words (a letter of another script, say) Klipper takes what is appended for a part of the name.
        is_read_alone = gcode.commands(f"{command} A=1") == [command.upper()]
        is_code = is_read_alone and not command.startswith("#")
        takes_parameters = is_code and not gcode.is_traditional(command) and not gcode.is_numbered(text)
        self._appends = takes_parameters and not has_slots and len(lines) == 1
        if self._appends:
            self._parts = [_extended_code(text, command)]

    def fill(self, context: Mapping[str, str]) -> gcode.Script:
        """The G-code for one event.

        Raises CallError naming a key that ``context`` lacks or cannot be carried, or when the whole is too long.
        """
        exact: list[str] = []
        plain: list[str] = []
        filled = 0
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
            filled += len(exact[-1])
            if filled > MAX_FILLED_CHARACTERS:
                most = MAX_FILLED_CHARACTERS
                raise CallError(f"with its values the gcode is too long, {most} characters are the most")
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
    fit_at, code_end = _fitting(line, command)
    parts: list[str | _Slot] = []
    done = 0
    for slot in slots:
        if slot.start() >= code_end:
            break
        if gcode.is_numbered(line):
            raise CallError(f"{slot[0]} in {line.strip()!r}: a line that begins with a line number takes no values")
        if slot.start() < command_end:
            raise CallError(f"{slot[0]} stands in the place of a command in {line.strip()!r}; it can only be a value")
        parts += [line[done : slot.start()], _Slot(slot[1], fit_at(slot), gcode.is_traditional(command))]
        done = slot.end()
    return [*parts, line[done:]]


def _fitting(line: str, command: str) -> tuple[Callable[[re.Match[str]], Callable[[str], str]], int]:
    """How a value is made to fit at a placeholder of the line, and where the line's code ends."""
    if gcode.takes_text(command):
        return lambda _: gcode.one_line, len(line)
    places = list(_walk(line))
    code_end = _code_end(line, places)
    if gcode.is_traditional(command):
        return lambda _: _fit_number, code_end

    def fit_extended(slot: re.Match[str]) -> Callable[[str], str]:
        place = places[slot.start()]
        if not place.in_value:
            raise CallError(f"{slot[0]} in {line.strip()!r} must be a parameter's value, as in KEY={slot[0]}")
        if place.escaped:
            raise CallError(f"{slot[0]} in {line.strip()!r} stands after a backslash, which would change its value")
        return {"'": _fit_single_quotes, '"': _fit_double_quotes}.get(place.quote, gcode.word)

    if _PLACEHOLDER.search(line, 0, code_end):
        _check_extended(line, command, places, code_end)
    return fit_extended, code_end


def _extended_code(line: str, command: str) -> str:
    """The line of an extended command without its comment. Raises CallError when nothing can be appended to it."""
    places = list(_walk(line))
    code_end = _code_end(line, places)
    _check_extended(line, command, places, code_end)
    return line[:code_end].rstrip()


def _check_extended(line: str, command: str, places: list[_Place], code_end: int) -> None:
    """Raises CallError for a line in which Klipper would look for a value where it does not stand."""
    if len(command.upper()) != len(command):
        # gcode.py get_raw_command_parameters: as many characters are skipped as the name has in upper case
        raise CallError(f"write {command!r} in {line.strip()!r} as Klipper knows it: {command.upper()}")
    end = places[len(line[:code_end].rstrip())]
    if end.quote or end.escaped:
        raise CallError(f"a quote is not closed, or nothing follows a backslash, in {line.strip()!r}")


def _code_end(line: str, places: list[_Place]) -> int:
    """Where the comment of an extended command begins: at the first ``#`` or ``;`` outside quotes."""
    ends = (place.at for place in places if line[place.at : place.at + 1] in ("#", ";") and place.is_bare)
    return next(ends, len(line))


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
