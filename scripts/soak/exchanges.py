"""The account of requests that pass through the gateway to a printer's own Moonraker. Pure.

Every request bears a number, by which the upstream knows it, and which its answer must name. An upstream that hangs up
or breaks off may have done what it was asked; so what acts is sent to it once at most, and what only reads twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

# Of each kind of complaint so many are told in full.
DETAILED = 5
# What became of a request, where that is no status.
BROKEN = -1  # the connection ended before the answer did
GONE = -2  # the same, as the router was ended


@dataclass(slots=True)
class Exchange:
    what: str
    acts: bool
    sent_at: float
    arrived: int = 0
    begun: int = 0  # how often the upstream began an answer that says what it should; the rest of it may be missing
    served: int = 0  # how often it came to the end of that
    spoilt: int = 0  # how often it answered what is no answer
    outcome: int | None = None
    answers: str = ""  # which request the answer named


@dataclass
class Exchanges:
    """All requests of a run."""

    complaints: list[str] = field(default_factory=list)
    strangers: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._all: dict[int, Exchange] = {}

    # -- entries -------------------------------------------------------------------------------------------------

    def sent(self, number: int, what: str, at: float, *, acts: bool) -> None:
        """A request is about to be sent."""
        self._all[number] = Exchange(what, acts, at)

    def arrived(self, number: int) -> Exchange:
        """The upstream has read it to its end; it enters there what it does with it."""
        if number not in self._all:
            self.strangers[number] += 1
            return Exchange("made up", acts=True, sent_at=0)
        self._all[number].arrived += 1
        return self._all[number]

    def ended(self, number: int, outcome: int, answers: str = "") -> None:
        """What its sender got: a status and whose answer that is, `BROKEN` or `GONE`."""
        self._all[number].outcome, self._all[number].answers = outcome, answers

    # -- each is a count that must be 0 --------------------------------------------------------------------------

    def balance(self) -> dict[str, int]:
        """The counts, by name."""
        return {
            "requests doubled": self._count("doubled", lambda number, each: each.arrived > (1 if each.acts else 2)),
            "requests that nobody sent": sum(self.strangers.values()),
            "requests never answered": self._count("never answered", lambda number, each: each.outcome is None),
            "answers to another request": self._count("of another", self._is_of_another),
            "answers lost (the upstream gave them)": self._count("lost", self._is_lost),
            "answers that nobody gave": self._count(
                "made up", lambda number, each: each.outcome == 200 and not each.begun
            ),
            "broken off by the gateway": self._count("broken off", self._is_broken_off),
        }

    def figures(self) -> dict[str, int]:
        """How many of each kind."""
        outcomes = Counter(each.outcome for each in self._all.values())
        return {
            "requests to upstreams": len(self._all),
            "requests that act": sum(each.acts for each in self._all.values()),
            "requests answered well": outcomes[200],
            "requests answered with an error": sum(n for status, n in outcomes.items() if status and status > 200),
            "requests broken off": outcomes[BROKEN],
            "requests repeated": sum(each.arrived > 1 for each in self._all.values()),
        }

    # -- how -----------------------------------------------------------------------------------------------------

    def _is_of_another(self, number: int, each: Exchange) -> bool:
        return each.outcome == 200 and each.answers != str(number)

    def _is_lost(self, number: int, each: Exchange) -> bool:
        return each.served > 0 and each.outcome not in (200, GONE, None)

    def _is_broken_off(self, number: int, each: Exchange) -> bool:
        """Where the upstream did not: what it begins to answer has been passed on, and cannot be taken back."""
        return each.outcome == BROKEN and not each.spoilt and each.begun == each.served

    def _count(self, what: str, wrong: Callable[[int, Exchange], bool]) -> int:
        found = [number for number, each in self._all.items() if wrong(number, each)]
        self.complaints += [f"request {what}: {number} {self._all[number]}" for number in found[:DETAILED]]
        return len(found)
