"""Everything the printers of one virtual Klippy said, and waiting for a line (for tests and the demo)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

LINES_KEPT = 10_000

Wanted = str | Callable[[str], bool]


class Console:
    """Messages in order. One message may hold several lines (`// a\\n// b`), as in `gcode/subscribe_output`."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.count = 0
        self._more = trio.Event()

    def add(self, line: str) -> None:
        self.lines.append(line)
        self.count += 1
        self._more.set()
        self._more = trio.Event()

    def since(self, mark: int) -> list[str]:
        """The messages from number `mark` on (0 is the first ever), less those forgotten."""
        first = self.count - len(self.lines)
        return list(self.lines)[max(0, mark - first) :]

    async def wait(self, wanted: Wanted, since: int) -> str:
        matches = (lambda line: wanted in line) if isinstance(wanted, str) else wanted
        while True:
            for line in self.since(since):
                if matches(line):
                    return line
            since = self.count
            await self._more.wait()
