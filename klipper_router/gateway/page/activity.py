"""The last routes and events for the dashboard's log, and the last errors of each printer. Bounded; no clock, no I/O.

What happens again and again is one entry with a count, so that a status that is followed four times a second does
not push everything else out. Errors are what the router logs as such: there is no second list of what is one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

MAX_ENTRIES = 200
MAX_ERRORS = 5
MAX_TEXT_CHARS = 300
# How far back the same is looked for.
REPEATED_WITHIN = 12


class Entry(Struct, frozen=True):
    """One line of the log."""

    id: int
    """Stays the same when the same happens again."""

    number: int
    """Counts up with everything that happens, from 1."""

    time: float
    """When, the last time, in s since 1970."""

    kind: str
    """``call``, ``event``, ``callback``, ``state`` or ``error``."""

    source: str
    """Who did it, or of whom it is: a printer, a client, or empty."""

    target: str
    """On which printer; empty: none."""

    text: str

    count: int = 1
    """How often."""


class ActivityLog:
    """A ring of entries; the oldest go when it is full."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._errors: dict[str, deque[Entry]] = {}
        self.last_number = 0

    def add(self, kind: str, source: str, target: str, text: str, time: float) -> None:
        """Take note. Texts are cut to MAX_TEXT_CHARS: a script may be long."""
        if len(text) > MAX_TEXT_CHARS:
            text = text[: MAX_TEXT_CHARS - 1] + "…"
        self.last_number += 1
        for back in range(1, min(REPEATED_WITHIN, len(self._entries)) + 1):
            same = self._entries[-back]
            if (same.kind, same.source, same.target, same.text) == (kind, source, target, text):
                del self._entries[-back]
                self._entries.append(replace(same, number=self.last_number, time=time, count=same.count + 1))
                return
        self._entries.append(Entry(self.last_number, self.last_number, time, kind, source, target, text))

    def add_error(self, line: str, printers: Iterable[str], time: float) -> None:
        """Take note of a line of the router's log; the printers that it speaks of are found in it."""
        known = set(printers)
        source, target, text = _parties(line, known)
        self.add("error", source, target, text, time)
        for name in {source, target} & known:  # a source may be a client: there is always a new one
            errors = self._errors.setdefault(name, deque(maxlen=MAX_ERRORS))
            newest = self._entries[-1]
            if errors and errors[-1].id == newest.id:
                errors.pop()
            errors.append(newest)

    def since(self, number: int) -> list[Entry]:
        """What happened after that number, as far as it is still here, oldest first."""
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.number <= number:
                break
            found.append(entry)
        return found[::-1]

    def errors(self, printer: str) -> list[Entry]:
        """The last errors by or on a printer since it became ready, oldest first."""
        return list(self._errors.get(printer, ()))

    def forget_errors(self, printer: str) -> None:
        """The printer is well again; the log still has them."""
        self._errors.pop(printer, None)

    def keep_only(self, printers: Iterable[str]) -> None:
        """Forget the errors of printers that are no more."""
        kept = set(printers)
        self._errors = {name: errors for name, errors in self._errors.items() if name in kept}


# callers.Request.complaint: "led: router/gcode/script to main: …"
_COMPLAINT = re.compile(r"(?P<source>[^:]+): (?P<text>router/\S+ to (?P<target>\S+): .*)", re.DOTALL)


def _parties(line: str, printers: set[str]) -> tuple[str, str, str]:
    """Source, target and text of a line of the log; its first words are of whom it is, everywhere in the router."""
    if match := _COMPLAINT.fullmatch(line):
        return match["source"], match["target"] if match["target"] in printers else "", match["text"]
    source, colon, text = line.partition(": ")
    return (source, "", text) if colon and source in printers else ("", "", line)
