"""The account of status: what was true on each printer, and what its followers were told. Pure.

The value that is followed is a text that begins with a number; numbers only grow, so order and truth can be read off
the texts. A printer that starts anew has no text ("None"). Klipper itself reports four times a second, and the router
merges what a slow follower has not taken yet: not every value arrives, but each that does was once true, in order, and
once (a full snapshot after a new subscription, or after the target was away, may repeat the newest).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from scripts.soak.breaks import Breaks

NOTHING = "None"


@dataclass(slots=True)
class _Told:
    text: str
    at: float
    after_subscribing: bool


@dataclass
class Statuses:
    """All values and all that was told of them. Followers are printers, or API clients by any other name."""

    breaks: Breaks
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._texts: dict[int, tuple[str, str]] = {}  # number -> (printer, text)
        self._said: dict[str, list[int]] = defaultdict(list)
        self._said_at: dict[int, float] = {}
        self._told: dict[tuple[str, str], list[_Told]] = defaultdict(list)
        self._subscribed: set[tuple[str, str]] = set()

    # -- entries -------------------------------------------------------------------------------------------------

    def plan(self, number: int, printer: str, text: str) -> None:
        """``text`` is about to be set on a printer."""
        self._texts[number] = (printer, text)

    def said(self, printer: str, number: int, at: float) -> None:
        """The printer has set the text."""
        self._said[printer].append(number)
        self._said_at[number] = at

    def expected(self, follower: str, target: str) -> None:
        """The follower must be told the newest value at the end, even if it is told nothing before."""
        self._told[follower, target] = []

    def subscribed(self, follower: str, target: str) -> None:
        """A follower subscribes (again): what it is told next may be what it knows."""
        self._subscribed.add((follower, target))

    def told(self, follower: str, target: str, text: str, at: float) -> None:
        """A follower's callback."""
        key = (follower, target)
        self._told[key].append(_Told(text, at, key in self._subscribed))
        self._subscribed.discard(key)

    # -- each is a count that must be 0 --------------------------------------------------------------------------

    def untrue(self) -> int:
        """A value that its printer never had."""
        wrong = 0
        for (follower, target), entries in self._told.items():
            true = {self._texts[number][1] for number in self._said[target]} | {NOTHING}
            for entry in entries:
                if entry.text not in true:
                    wrong += 1
                    self._complain("untrue", follower, target, entry)
        return wrong

    def doubled(self) -> int:
        """The value told last, once more, although neither a subscription nor a break came between."""
        wrong = 0
        for (follower, target), entries in self._told.items():
            for number in range(1, len(entries)):
                before, entry = entries[number - 1], entries[number]
                # A callback of the old subscription may be under way while the new one begins.
                fresh = entry.after_subscribing or before.after_subscribing
                if entry.text == before.text and not fresh and not self._broke(follower, target, before, entry):
                    wrong += 1
                    self._complain("doubled", follower, target, entry)
        return wrong

    def out_of_order(self) -> int:
        """An older value than one told before; or none at all, although the printer did not start anew."""
        wrong = 0
        for (follower, target), entries in self._told.items():
            newest = -1
            before: _Told | None = None
            for entry in entries:
                number = _number(entry.text)
                if number is None:
                    bad = (
                        before is not None
                        and before.text != NOTHING
                        and not self._broke(follower, target, before, entry)
                        and not self._began_anew(target, before, entry)
                    )
                else:
                    bad = number < newest
                    newest = max(newest, number)
                if bad:
                    wrong += 1
                    self._complain("out of order", follower, target, entry)
                before = entry
        return wrong

    def stale(self) -> list[str]:
        """Followers that were not told the newest value of their target."""
        wrong = []
        for (follower, target), entries in self._told.items():
            newest = self._texts[self._said[target][-1]][1] if self._said[target] else NOTHING
            last = entries[-1].text if entries else None
            if last != newest:
                wrong.append(f"{follower} follows {target}: was told {last!r} last, not {newest!r}")
        return wrong

    def figures(self) -> dict[str, int]:
        """How many of each kind."""
        return {
            "status changes": sum(map(len, self._said.values())),
            "status callbacks": sum(map(len, self._told.values())),
        }

    # -- how -----------------------------------------------------------------------------------------------------

    def _broke(self, follower: str, target: str, before: _Told, entry: _Told) -> bool:
        return any(self.breaks.overlap(printer, before.at, entry.at) for printer in (follower, target))

    def _began_anew(self, target: str, before: _Told, entry: _Told) -> bool:
        """Whether the target may have lost the text since it set it: a slow follower is told of it later than that."""
        number = _number(before.text)
        since = before.at if number is None else self._said_at.get(number, before.at)
        return self.breaks.overlap(target, since, entry.at)

    def _complain(self, what: str, follower: str, target: str, entry: _Told) -> None:
        self.complaints.append(f"status {what}: {follower} of {target}: {entry}")


def _number(text: str) -> int | None:
    head = text.partition(" ")[0]
    return int(head) if head.isdecimal() else None
