"""docs/performance.md: the tables between its markers, and its plots."""

from __future__ import annotations

from pathlib import Path

from bench.report import Results


def write(results: Results, file: Path) -> None:
    raise NotImplementedError
