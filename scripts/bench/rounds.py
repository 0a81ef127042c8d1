"""Measuring several things in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleaved(rounds: int, *measures: Callable[[], T]) -> list[list[T]]:
    """The results of each measure, after a first round that is thrown away: A B, B A, A B …

    A single round, that of a smoke test, is not worth another before it. Every second round goes backwards, so that
    none is always the one after the machine did something else.
    """
    if rounds > 1:
        for measure in measures:
            measure()
    results: list[list[T]] = [[] for _ in measures]
    for number in range(rounds):
        order = list(zip(measures, results, strict=True))
        for measure, into in order if number % 2 == 0 else reversed(order):
            into.append(measure())
    return results


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, as what happens to one round happens to both."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]
