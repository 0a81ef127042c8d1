"""Error lines for a printer's console, until they are written: bounded, the oldest is dropped and counted. Pure."""

from __future__ import annotations

from collections import deque

from klipper_router import gcode

MAX_LINES = 20
# An error may quote what somebody sent.
MAX_CHARACTERS = 2000


class Console:
    """Lines that wait to be shown."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._dropped = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, text: str) -> bool:
        """Take a line in, cut where it is too long; when too many wait, the oldest goes. Returns whether one had to."""
        is_full = len(self._lines) >= MAX_LINES
        if is_full:
            self._lines.popleft()
            self._dropped += 1
        self._lines.append(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ...")
        return is_full

    def clear(self) -> None:
        """Forget what waits."""
        self._lines.clear()
        self._dropped = 0

    def render(self, *, has_respond: bool) -> gcode.Script:
        """G-code that shows all that waits; it waits no more."""
        lines = list(self._lines)
        if self._dropped:
            lines.insert(0, f"router: {self._dropped} older messages were dropped")
        self.clear()
        scripts = [_error_line(line, has_respond) for line in lines]
        return gcode.Script("\n".join(s.exact for s in scripts), "\n".join(s.plain for s in scripts))


def _error_line(text: str, has_respond: bool) -> gcode.Script:
    if has_respond:
        return gcode.command_line("RESPOND", [("TYPE", "error"), ("MSG", text)])
    # Without [respond] this prints the command itself; any Klipper has it, in any state.
    return gcode.command_line("ECHO", [("MSG", f"!! {text}")])
