"""What is made of samples: medians, percentiles, and how far rounds disagree. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Rounds that differ by more than this, relative to their median, are called noise.
NOISE_PERCENT = 15.0


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` (0…1) of all samples do not exceed (nearest rank).

    Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("no samples")
    rank = max(1, math.ceil(share * len(samples)))
    return sorted(samples)[rank - 1]


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two in the middle. Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread_percent(rounds: Sequence[float]) -> float:
    """How far rounds disagree: the distance between the quartiles, in % of the median; with few rounds, of all.

    The quartiles, not the extremes: one round that another process disturbed does not move the median.
    """
    if len(rounds) < 2 or not (middle := median(rounds)):
        return 0.0
    if len(rounds) < 4:
        low, high = min(rounds), max(rounds)
    else:
        low, high = quantile(rounds, 0.25), quantile(rounds, 0.75)
    return 100.0 * (high - low) / abs(middle)


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The slope of the straight line that fits best (least squares). Raises ValueError when all x are the same."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    square = sum((x - mean_x) ** 2 for x in xs)
    if not square:
        raise ValueError("one point has no slope")
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / square
