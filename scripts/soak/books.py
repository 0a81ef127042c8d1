"""All accounts together: what a console line means, and whether the books balance. Pure; times are handed in, in s."""

from __future__ import annotations

import math
import re
from collections import Counter

from scripts.soak.breaks import Breaks
from scripts.soak.exchanges import Exchanges
from scripts.soak.jobs import Answer, Jobs
from scripts.soak.statuses import Statuses

# An unknown command is shown on the console, so a callback needs no macro to be seen (klippy/gcode.py: cmd_default).
_CALLBACK = re.compile(r'Unknown command:"(DONE|FAIL)(\d+)"')
DETAILED = 60


class Books:
    """The account of one run."""

    def __init__(self) -> None:
        self.breaks = Breaks()
        self.jobs = Jobs(self.breaks)
        self.statuses = Statuses(self.breaks)
        self.exchanges = Exchanges()
        self.faults: Counter[str] = Counter()
        self.recovery_s: list[float] = []
        # What else happened as it should, by name.
        self.seen: Counter[str] = Counter()
        # What else must not happen, by name.
        self.mishaps: Counter[str] = Counter()
        self.mishap_notes: list[str] = []

    def mishap(self, what: str, note: str) -> None:
        """Something happened that must not, ever."""
        self.mishaps[what] += 1
        self.mishap_notes.append(f"{what}: {note}")

    def hear(self, printer: str, neighbour: str, line: str, at: float) -> None:
        """Enter what a line of a printer's console tells; most tell nothing."""
        kind, _, rest = line.partition(" ")
        match kind:
            case "RUN":
                self.jobs.ran(printer, int(rest), at)
            case "HEARD":
                label, number = rest.split(" ")
                self.jobs.heard(printer, label, int(number), at)
            case "TOLD":
                self.statuses.told(printer, neighbour, rest, at)
            case "SUBSCRIBED":
                self.statuses.subscribed(printer, neighbour)
            case "STATE" if rest.partition(" ")[0] == neighbour:
                # It was away; its snapshot comes anew. A slow follower runs what was told before, and this, later than
                # the break, so that times cannot tell; the order of its lines can.
                self.statuses.subscribed(printer, neighbour)
            case "SAID":
                self.statuses.said(printer, int(rest), at)
            case "FLOODED":
                first, count = map(int, rest.split(" "))
                for each in range(first, first + count):
                    self.jobs.scripts[each].was_sent = True
            case "Unknown" if match := _CALLBACK.match(line):
                # Why a script failed cannot be seen from here: it may have run.
                answer = Answer.DONE if match[1] == "DONE" else Answer.UNCERTAIN
                self.jobs.answered(int(match[2]), answer, at)

    def see(self, printer: str, line: str) -> None:
        """A console line as an API client saw it: what a killed printer could not write to its log any more."""
        kind, _, rest = line.removeprefix("// ").partition(" ")
        if kind == "RUN":
            self.jobs.ran_for_certain(int(rest))
        elif kind == "HEARD":
            label, number = rest.split(" ")
            self.jobs.heard_for_certain(printer, label, int(number))

    def balance(self) -> dict[str, int]:
        """What must be 0, by name."""
        jobs, statuses = self.jobs, self.statuses
        stale = statuses.stale()
        statuses.complaints += stale
        return {
            "lost": jobs.lost(),
            "lost without a word": jobs.silent(),
            "doubled": jobs.doubled(),
            "out of order": jobs.out_of_order(),
            "ghosts (refused, but run)": jobs.ghosts(),
            "run elsewhere": jobs.astray(),
            "done on a removed printer": jobs.served_though_removed(),
            "never answered": jobs.unanswered(),
            "events lost": jobs.events_lost(),
            "events doubled": jobs.events_doubled(),
            "events out of order": jobs.events_out_of_order(),
            "events ghosts (not started, but run)": jobs.events_ghosts(),
            "events never answered": jobs.events_unanswered(),
            "wrong status (not the newest)": len(stale),
            "status untrue": statuses.untrue(),
            "status doubled": statuses.doubled(),
            "status out of order": statuses.out_of_order(),
            **self.exchanges.balance(),
            **self.mishaps,
        }

    def complaints(self) -> list[str]:
        """The first of what is wrong, in full; after `balance`."""
        notes = self.mishap_notes + self.jobs.complaints + self.statuses.complaints + self.exchanges.complaints
        return notes[:DETAILED]


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of all values do not pass; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan
