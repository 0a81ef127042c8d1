"""The rates by which a loop is told from people, prints and timers. The whole story is in test/memory/test_loops.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router import loop_guard
from klipper_router.loop_guard import LOOP_CALLS_PER_S, LOOP_LASTS_S, SUSPENDED_MAX_S, LoopGuard, Route

ROUTE = Route("main", "router/event/trigger", "x")


def calls(guard: LoopGuard, per_s: int, seconds: int, begin_s: int = 1000, route: Route = ROUTE) -> list[float]:
    """For how long the route was suspended, each time that it was; it is resumed at once."""
    suspensions = []
    for second in range(seconds):
        for number in range(per_s):
            suspended_s = guard.count(route, begin_s + second + number / per_s)
            if suspended_s is not None:
                suspensions.append(suspended_s)
                guard.resume(route)
    return suspensions


def test_the_highest_rate_that_is_no_loop_may_go_on_for_ever() -> None:
    assert calls(LoopGuard(), LOOP_CALLS_PER_S, 100) == []


def test_one_call_more_a_second_is_a_loop() -> None:
    assert calls(LoopGuard(), LOOP_CALLS_PER_S + 1, LOOP_LASTS_S) == []
    assert calls(LoopGuard(), LOOP_CALLS_PER_S + 1, LOOP_LASTS_S + 1) == [10.0]


def test_a_quiet_second_begins_the_count_anew() -> None:
    guard = LoopGuard()
    for begin_s in range(1000, 1100, LOOP_LASTS_S + 1):
        assert calls(guard, 100, LOOP_LASTS_S, begin_s) == []


def test_a_suspension_grows_to_a_limit() -> None:
    guard = LoopGuard()
    longest = [calls(guard, 100, LOOP_LASTS_S + 1, begin_s)[0] for begin_s in range(1000, 1100, 10)]
    assert longest[:6] == [10, 20, 40, 80, 160, 300]
    assert longest[-1] == SUSPENDED_MAX_S


def test_refused_calls_are_counted_until_the_route_is_resumed() -> None:
    guard = LoopGuard()
    assert not guard.is_suspended(ROUTE)
    while guard.count(ROUTE, 1000) is None:
        pass
    assert guard.is_suspended(ROUTE)
    assert guard.is_suspended(ROUTE)
    assert guard.suspended() == [ROUTE]
    assert guard.resume(ROUTE) == 3
    assert not guard.is_suspended(ROUTE)
    assert guard.suspended() == []


@given(st.lists(st.integers(0, 50), max_size=200))
def test_never_more_routes_than_allowed_are_kept_and_a_suspended_one_stays(numbers: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_guard, "MAX_ROUTES", 10)
        guard = LoopGuard()
        while guard.count(ROUTE, 1000) is None:
            pass
        for number in numbers:
            guard.count(Route("main", "m", str(number)), 1001)
        assert len(guard) <= 10
        assert guard.suspended() == [ROUTE]
