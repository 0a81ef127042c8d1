"""What a run comes to: the account as text and as JSON, and whether it balances."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from scripts.soak.books import Books, percentile

# Of the least memory, between the second and the last third of a life: bad clients for whom megabytes wait come and go,
# but what leaks is there in the best of moments as well.
MAX_GROWTH_KB_PER_MINUTE = 100.0
JUDGED_AFTER_S = 600.0
# One more or less may be under way in the moment of measuring.
SPARE = 3


@dataclass
class Course:
    """How the router fared: measured after its last start in the chaos, when that was over, and in one more life after
    it; its memory now and then in between."""

    start: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    rss_kb: list[tuple[float, int]] = field(default_factory=list)  # (s, kB) since the last start

    def left_over(self, what: str) -> int:
        """Files or tasks that a router holds after the chaos beyond those of a new one with the same printers."""
        if what not in self.end or what not in self.new:
            return 0
        return max(0, self.end[what] - self.new[what] - SPARE)

    def growth_kb_per_minute(self) -> float | None:
        """Of the least memory in the last life; None where that is too short to tell."""
        if not self.rss_kb or self.rss_kb[-1][0] - self.rss_kb[0][0] < JUDGED_AFTER_S:
            return None
        begin, end = self.rss_kb[0][0], self.rss_kb[-1][0]
        third = (end - begin) / 3
        second = min(kb for at, kb in self.rss_kb if begin + third <= at < end - third)
        last = min(kb for at, kb in self.rss_kb if at >= end - third)
        return (last - second) / (third / 60)


def report(books: Books, course: Course, log: Path, setting: dict[str, object], json_file: Path | None) -> int:
    """Print the account; the exit code."""
    balance = books.balance()
    balance["tracebacks in the router's log"] = log.read_text(errors="replace").count("Traceback")
    growth = course.growth_kb_per_minute()
    balance["memory grows"] = int(growth is not None and growth > MAX_GROWTH_KB_PER_MINUTE)
    balance |= {f"{what} left over": course.left_over(what) for what in ("files", "tasks")}
    figures = books.jobs.figures() | books.statuses.figures() | books.exchanges.figures() | dict(books.seen)
    figures |= {"faults": sum(books.faults.values()), "breaks": books.breaks.count()}
    times = books.recovery_s
    recovery = {
        "count": len(times),
        "p50_s": round(percentile(times, 0.5), 3),
        "p99_s": round(percentile(times, 0.99), 3),
    }

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
            new = f"{course.new.get(name)} in a new life"
            print(f"{name:13} {course.start.get(name)} after the last start, {course.end[name]} at the end, {new}")
    print("memory grows  " + ("too short to tell" if growth is None else f"by {growth:.1f} kB a minute, its least"))
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
            "router": {"start": course.start, "end": course.end, "new": course.new, "growth_kb_per_minute": growth},
            "rss_kb": course.rss_kb,
            "complaints": books.complaints(),
        }
        json_file.write_text(json.dumps(account, indent=1) + "\n")
    return 0 if ok else 1
