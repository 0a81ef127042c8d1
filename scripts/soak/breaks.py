"""When each printer was out of reach, and so may rightly have missed something. Pure.

A break lasts from the moment before a fault to the moment when the printer's ROUTER_ON_READY was run again. What
excuses a missing job must not be "there was some trouble around that time", or a run full of faults would excuse
everything. So the end of the time in question is told by a witness: a printer's queue is first come first served, so
when a script that was sent later has run there, an earlier one has run as well, or was lost in a break before that.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict


class Breaks:
    """Intervals, by printer."""

    def __init__(self) -> None:
        self._starts: dict[str, list[float]] = defaultdict(list)
        self._ends: dict[str, list[float]] = defaultdict(list)

    def begins(self, printer: str, at: float) -> None:
        """No-op while a break goes on already."""
        if not self.is_open(printer):
            self._starts[printer].append(at)

    def ends(self, printer: str, at: float) -> bool:
        """Whether there was a break to end."""
        if not self.is_open(printer):
            return False
        self._ends[printer].append(at)
        return True

    def is_open(self, printer: str) -> bool:
        return len(self._starts[printer]) > len(self._ends[printer])

    def open(self) -> list[str]:
        """Printers that did not come back."""
        return [printer for printer in self._starts if self.is_open(printer)]

    def count(self) -> int:
        return sum(map(len, self._starts.values()))

    def end_of_next(self, printer: str, after: float) -> float:
        """When the first break that ends after this time is over; infinity if there is none."""
        index = bisect.bisect_left(self._ends[printer], after)
        return self._ends[printer][index] if index < len(self._ends[printer]) else math.inf

    def overlap(self, printer: str, since: float, until: float) -> bool:
        """Whether the printer was out of reach at any time from ``since`` to ``until``."""
        begun = bisect.bisect_right(self._starts[printer], until)  # breaks that begin by then
        ended = bisect.bisect_left(self._ends[printer], since)  # breaks that are over before
        return begun > ended


class Witnesses:
    """For each printer: the scripts that ran there, by when they were sent."""

    def __init__(self) -> None:
        self._runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._firsts: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, printer: str, sent_at: float, ran_at: float) -> None:
        self._runs[printer].append((sent_at, ran_at))
        self._firsts.pop(printer, None)

    def first(self, printer: str, after: float) -> float:
        """When the first of the scripts that were sent after ``after`` ran; infinity if none did."""
        if printer not in self._firsts:
            runs = sorted(self._runs[printer])
            firsts: list[float] = []
            earliest = math.inf
            for _, ran_at in reversed(runs):
                earliest = min(earliest, ran_at)
                firsts.append(earliest)
            self._firsts[printer] = ([sent_at for sent_at, _ in runs], firsts[::-1])
        sent, ran = self._firsts[printer]
        index = bisect.bisect_right(sent, after)
        return ran[index] if index < len(ran) else math.inf
