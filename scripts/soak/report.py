"""What a run comes to: the account as text and as JSON, and whether it balances."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from scripts.soak.books import Books, percentile

# Beyond this it is a leak for certain. Resident memory grows in steps, by bad clients for whom megabytes wait, and
# keeps what it had at most; so a smaller slope over minutes tells little, and is only reported.
MAX_SLOPE_KB_PER_MINUTE = 500.0
SLOPE_AFTER_S = 300.0


@dataclass
class Course:
    """How the router fared: measured after its last start and at the end, its memory now and then in between."""

    start: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)
    rss_kb: list[tuple[float, int]] = field(default_factory=list)  # (s, kB) since the last start

    def slope(self) -> float | None:
        """Growth of memory over the second half of the last life, in kB a minute; None where that is too short."""
        if not self.rss_kb:
            return None
        middle = (self.rss_kb[0][0] + self.rss_kb[-1][0]) / 2
        half = [(at / 60, kb) for at, kb in self.rss_kb if at >= middle]
        if len(half) < 10:
            return None
        return statistics.linear_regression(*zip(*half, strict=True)).slope

    def is_leak(self) -> bool:
        slope = self.slope()
        long_enough = bool(self.rss_kb) and self.rss_kb[-1][0] - self.rss_kb[0][0] >= SLOPE_AFTER_S
        return long_enough and slope is not None and slope > MAX_SLOPE_KB_PER_MINUTE


def report(books: Books, course: Course, log: Path, setting: dict[str, object], json_file: Path | None) -> int:
    """Print the account; the exit code."""
    balance = books.balance()
    balance["tracebacks in the router's log"] = log.read_text(errors="replace").count("Traceback")
    balance["memory grows"] = int(course.is_leak())
    figures = books.jobs.figures() | books.statuses.figures()
    figures |= {"faults": sum(books.faults.values()), "breaks": books.breaks.count()}
    times = books.recovery_s
    recovery = {
        "count": len(times),
        "p50_s": round(percentile(times, 0.5), 3),
        "p99_s": round(percentile(times, 0.99), 3),
    }
    slope = course.slope()

    print("setting       " + ", ".join(f"{name} {value}" for name, value in setting.items()))
    print(f"faults        {dict(sorted(books.faults.items()))}")
    for name, count in figures.items():
        print(f"{name:42} {count:9}")
    print("must be 0:")
    for name, count in balance.items():
        print(f"  {name:40} {count:9}{'  <-' if count else ''}")
    print(f"recovery      p50 {recovery['p50_s']} s, p99 {recovery['p99_s']} s, of {recovery['count']}")
    for name in ("rss_kb", "files", "tasks"):
        if name in course.end:
            print(f"{name:13} {course.start.get(name)} after the last start, {course.end[name]} at the end")
    print("memory slope  " + ("too short to tell" if slope is None else f"{slope:.1f} kB a minute in the second half"))
    for complaint in books.complaints():
        print("-", complaint)
    ok = not any(balance.values())
    print("The books balance." if ok else "The books do NOT balance.")
    if json_file is not None:
        account = {
            "setting": setting,
            "ok": ok,
            "balance": balance,
            "figures": figures,
            "faults": dict(books.faults),
            "recovery": recovery,
            "router": {"start": course.start, "end": course.end, "rss_slope_kb_per_minute": slope},
            "rss_kb": course.rss_kb,
            "complaints": books.complaints(),
        }
        json_file.write_text(json.dumps(account, indent=1) + "\n")
    return 0 if ok else 1
