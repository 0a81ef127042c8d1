"""The object `system_stats` (klippy/extras/statistics.py)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..config import Section
from ..printer import Status

REFRESH_S = 1.0  # as Klippy's statistics timer; here nothing runs unless somebody asks


class SystemStats:
    def __init__(self) -> None:
        self._next = 0.0
        self._status: Status = {"sysload": 0.0, "cputime": 0.0, "memavail": 0}

    def get_status(self, eventtime: float) -> Status:
        if eventtime >= self._next:
            self._next = eventtime + REFRESH_S
            self._status = {
                "sysload": os.getloadavg()[0],
                "cputime": time.process_time(),
                "memavail": _available_kb(),
            }
        return self._status


def load(section: Section) -> SystemStats:
    return SystemStats()


def _available_kb() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)
