"""Every error that this project raises on purpose, named after who is at fault.

Each is raised close to the fault and translated once, at the edge where it meets a person: a console line, an
answer on the API socket, a log line or an exit code. Any other exception is a bug and crashes loudly.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """Which of the known names was meant, if one is near."""
    import difflib  # seldom needed

    return next(iter(difflib.get_close_matches(wrong.lower(), list(known), n=1, cutoff=0.5)), None)


class RouterError(Exception):
    """Base of all errors below; ``str()`` is a sentence for people."""


class ConfigError(RouterError):
    """The configuration is at fault. ``file``, ``line`` (1-based, 0: unknown) and ``key`` say where."""

    def __init__(self, message: str, *, file: Path | str = "", line: int = 0, key: str = "") -> None:
        place = f"{file}:{line}: " if line else f"{file}: " if file else ""
        super().__init__(f"{place}{message}")
        self.file = file
        self.line = line
        self.key = key


class ProtocolError(RouterError):
    """The peer sent a frame that cannot be read. ``head`` is how the frame began."""

    def __init__(self, message: str, head: bytes = b"") -> None:
        super().__init__(f"{message}: {head[:80].decode('utf-8', 'replace')!r}" if head else message)
        self.head = head


class LinkLost(RouterError):
    """The connection to a printer ended; what was under way may or may not have been done."""

    def __init__(self, printer: str, why: str) -> None:
        super().__init__(f"connection to {printer} lost: {why}")
        self.printer = printer


class KlipperError(RouterError):
    """Klipper answered a request with an error; ``str()`` is Klipper's own message."""


class CallError(RouterError):
    """The caller of a remote method is at fault, or cannot be served now; ``str()`` is the answer that it gets."""


class ParameterError(CallError):
    """What the caller wrote is at fault, whichever printer it was meant for."""
