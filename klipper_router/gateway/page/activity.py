"""The last routes and events for the dashboard's log, and the last errors of each printer. Bounded; no clock, no I/O.

An error stays among its printer's last errors when a chatty macro has pushed it out of the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

MAX_ENTRIES = 200
MAX_ERRORS = 5
MAX_TEXT_CHARS = 300


class Reported(Protocol):
    """What the router says of each route and event (`Router.on_activity`)."""

    @property
    def kind(self) -> str: ...
    @property
    def printer(self) -> str | None: ...
    @property
    def target(self) -> str | None: ...
    @property
    def text(self) -> str: ...


class Entry(Struct, frozen=True):
    """One line of the log."""

    number: int
    """Counts up from 1."""

    time: float
    """When, in s since 1970."""

    kind: str
    """``call``, ``event``, ``callback``, ``error`` or ``state``."""

    printer: str
    """Who did it, or of whom it is; empty: no printer."""

    target: str
    """On which printer; empty: none."""

    text: str


class ActivityLog:
    """A ring of entries; the oldest go when it is full."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._errors: dict[str, deque[Entry]] = {}
        self.last_number = 0

    def add(self, reported: Reported, time: float) -> Entry:
        """Take note. Texts are cut to MAX_TEXT_CHARS: a script may be long."""
        self.last_number += 1
        text = reported.text
        if len(text) > MAX_TEXT_CHARS:
            text = text[: MAX_TEXT_CHARS - 1] + "…"
        entry = Entry(self.last_number, time, reported.kind, reported.printer or "", reported.target or "", text)
        self._entries.append(entry)
        if entry.kind == "error":
            for name in {entry.printer, entry.target} - {""}:
                self._errors.setdefault(name, deque(maxlen=MAX_ERRORS)).append(entry)
        return entry

    def since(self, number: int) -> list[Entry]:
        """The entries after that number, as far as they are still there, oldest first."""
        behind = min(self.last_number - number, len(self._entries))
        return [self._entries[at] for at in range(len(self._entries) - behind, len(self._entries))]

    def errors(self, printer: str) -> list[Entry]:
        """The last errors by or on a printer, oldest first."""
        return list(self._errors.get(printer, ()))

    def keep_only(self, printers: Iterable[str]) -> None:
        """Forget the errors of printers that are no more."""
        kept = set(printers)
        self._errors = {name: errors for name, errors in self._errors.items() if name in kept}
