"""Fits: the least squares of a few equations. Pure."""

from __future__ import annotations

from collections.abc import Sequence

ZERO = 1e-9


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """The x for which rows * x comes closest to values. What the rows leave open is 0."""
    count = len(rows[0])
    # rowsᵀ * rows * x = rowsᵀ * values
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(count)]
        + [sum(row[i] * value for row, value in zip(rows, values, strict=True))]
        for i in range(count)
    ]
    scale = [matrix[i][i] for i in range(count)]
    pivots: dict[int, list[float]] = {}
    for column in range(count):
        pivot = max(matrix, key=lambda line: abs(line[column]), default=None)
        if pivot is None or abs(pivot[column]) <= ZERO * scale[column]:
            continue
        matrix.remove(pivot)
        for line in (*matrix, *pivots.values()):
            factor = line[column] / pivot[column]
            line[:] = [a - factor * b for a, b in zip(line, pivot, strict=True)]
        pivots[column] = pivot
    return [pivots[i][count] / pivots[i][i] if i in pivots else 0.0 for i in range(count)]
