"""Latencies in classes: bounded, and true enough to look at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klipper_router.counters import LATENCY_BOUNDS_S, Latency

durations = st.lists(st.floats(0, 100), min_size=1, max_size=50)


def latency(values: list[float]) -> Latency:
    made = Latency()
    for value in values:
        made.add(value)
    return made


def test_nothing_measured_is_zero() -> None:
    assert (Latency().count, Latency().quantile(0.5), Latency().max_s) == (0, 0, 0)


@given(durations)
def test_each_duration_is_in_the_class_below_its_bound(values: list[float]) -> None:
    counts = latency(values).counts
    bounds = (*LATENCY_BOUNDS_S, float("inf"))
    below = 0
    for count, bound_s in zip(counts, bounds, strict=True):
        below += count
        assert below == sum(value <= bound_s for value in values)


@given(durations, st.floats(0.01, 1))
def test_a_quantile_is_a_bound_that_enough_durations_did_not_exceed(values: list[float], share: float) -> None:
    made = latency(values)
    bound_s = made.quantile(share)
    assert sum(value <= bound_s for value in values) >= share * len(values)
    assert bound_s <= made.max_s == max(values)
