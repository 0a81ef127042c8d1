"""How log lines are written: for people and journals, one record a line, never without bound.

What printers and clients send ends up in log lines, so a line is cut and its line feeds are escaped; and a mistake
that is made a thousand times a second is told a few times, then counted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Collection

MAX_CHARACTERS = 1000
# So many lines of one kind (one message about one printer or client) are written in one period.
PERIOD_S = 10.0
MAX_LINES_PER_PERIOD = 50
# In one period so many kinds are told apart, and beyond them only messages: each connection of a client has its name.
MAX_KINDS = 1000
MAX_RECENT_LINES = 100
# As ``extra`` of a record: it is wanted however many there are, as somebody has asked for every one.
EVERY_LINE = {"every_line": True}


class OneLine(logging.Formatter):
    """A message of one line and bounded length; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in record.message[: MAX_CHARACTERS + 1])
        record.message = message if len(record.message) <= MAX_CHARACTERS else f"{message[:MAX_CHARACTERS]} …"
        return super().formatMessage(record)


class Sparing(logging.Filter):
    """Lets so many lines of one kind pass in a period, and says at the next one how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0.0
        self._counts: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "every_line"):
            return True
        if not 0 <= record.created - self._begun < PERIOD_S:
            self._begun = record.created
            self._counts = {}
        about = str(record.args[0])[:100] if isinstance(record.args, tuple) and record.args else ""
        kind = (str(record.msg), about)
        if kind not in self._counts and len(self._counts) >= MAX_KINDS:
            kind = (str(record.msg), "")
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count == MAX_LINES_PER_PERIOD:
            record.msg = f"{record.getMessage()} (more like this are not logged for {PERIOD_S:g} s)"
            record.args = ()
        return count <= MAX_LINES_PER_PERIOD


class Recent(logging.Handler):
    """Keeps the last lines of the normal level, for a crash report."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=MAX_RECENT_LINES)
        self.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def to_stderr(*, verbose: bool) -> Collection[str]:
    """Log to stderr; under systemd the journal adds the time. ``verbose``: each route, and all of them.

    Returns the last lines of the log, which go on changing.
    """
    time = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(f"{time}%(levelname)-7s %(message)s"))
    if not verbose:
        handler.addFilter(Sparing())
    recent = Recent()
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler, recent])
    return recent.lines
