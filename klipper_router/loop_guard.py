"""Finds macros that call each other without end, by the rate of their calls. Pure; the time is handed in, in s.

A macro's calls are counted per route: who called which method about which event or target. People, prints and
timers call now and then, or many times at once; only a loop keeps up a high rate for seconds. Such a route is
suspended, which breaks a loop that lives by the router, and allowed again after a while, each time a longer one.

Status callbacks come at Klipper's pace, four times a second and subscription, however many printers are followed;
what they call is no loop, so they raise the rate that is taken for normal. But no further than that pace: a callback
that subscribes anew is run at once, and may be a loop of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

# So many calls in each of so many seconds on end, or in one second: it is a loop. A loop over two idle Klippers does
# several hundred a second; a macro may well make 500 calls at once, but not again in the next second and the next.
LOOP_CALLS_PER_S = 40
LOOP_LASTS_S = 3
FLOOD_CALLS_PER_S = 2000
# Klipper webhooks.py: status is looked at each 0.25 s. A callback may well call the same thing twice.
CALLBACKS_PER_S = 4
CALLS_PER_CALLBACK = 2
SUSPENDED_MIN_S = 10.0
SUSPENDED_MAX_S = 300.0
# After so long without a loop, the next one is a first one again.
FORGIVEN_AFTER_S = 600.0
MAX_ROUTES = 1000


class Route(NamedTuple):
    """What is counted together. An empty ``method`` stands for all calls of the printer."""

    printer: str
    method: str = ""
    subject: str = ""  # the event, or the target


@dataclass(slots=True)
class _Rate:
    second: int = 0  # the second that is counted now
    count: int = 0
    callbacks: int = 0  # how many were run before it
    busy_s: int = 0  # seconds on end, before this one, with too many calls
    suspended: bool = False
    refused: int = 0
    suspended_s: float = 0.0  # how long the last suspension was to last; 0: there was none
    forgiven_at: float = 0.0


class LoopGuard:
    """The rates of all routes, a bounded number of them."""

    def __init__(self) -> None:
        self._rates: OrderedDict[Route, _Rate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rates)

    def routes(self) -> list[Route]:
        """All that it keeps in mind."""
        return list(self._rates)

    def suspended(self) -> list[Route]:
        """The routes that are not served now."""
        return [route for route, rate in self._rates.items() if rate.suspended]

    def is_suspended(self, route: Route) -> bool:
        """Whether calls on this route are refused now; counts one that is."""
        rate = self._rates.get(route)
        if rate is None or not rate.suspended:
            return False
        rate.refused += 1
        return True

    def count(
        self,
        route: Route,
        now_s: float,
        allowance: int = 1,
        callbacks: int = 0,
        subscriptions: Callable[[], int] = lambda: 0,
    ) -> float | None:
        """Count one call. Returns None, or for how many seconds the route is suspended from now on, this call included.

        ``allowance`` multiplies what is taken for normal. ``callbacks``: how many status callbacks the caller was given
        so far, for how many ``subscriptions`` (asked for only when it matters).
        """
        rate = self._rate(route)
        self._begin_second(rate, int(now_s), allowance, callbacks, subscriptions)
        rate.count += 1
        is_loop = rate.busy_s >= LOOP_LASTS_S
        if not is_loop and rate.count <= FLOOD_CALLS_PER_S * allowance:
            return None
        if now_s > rate.forgiven_at:
            rate.suspended_s = 0.0
        rate.suspended_s = min(max(SUSPENDED_MIN_S, rate.suspended_s * 2), SUSPENDED_MAX_S)
        rate.forgiven_at = now_s + rate.suspended_s + FORGIVEN_AFTER_S
        rate.suspended, rate.refused = True, 1
        return rate.suspended_s

    def resume(self, route: Route) -> int:
        """Serve the route again; returns how many calls were refused."""
        rate = self._rates[route]
        rate.suspended, rate.count, rate.busy_s = False, 0, 0
        return rate.refused

    def excuse(self, route: Route) -> None:
        """Its calls so far are put down to another route: begin to count anew."""
        rate = self._rate(route)
        rate.count = rate.busy_s = 0

    def _rate(self, route: Route) -> _Rate:
        rate = self._rates.get(route)
        if rate is None:
            rate = self._rates[route] = _Rate()
            if len(self._rates) > MAX_ROUTES:
                # The one that was not called for longest; a suspended one is waited for by whoever resumes it.
                idle = next(old for old, its in self._rates.items() if not its.suspended)
                del self._rates[idle]
        else:
            self._rates.move_to_end(route)
        return rate

    def _begin_second(
        self, rate: _Rate, second: int, allowance: int, callbacks: int, subscriptions: Callable[[], int]
    ) -> None:
        if second == rate.second:
            return
        was_busy = second == rate.second + 1 and rate.count > LOOP_CALLS_PER_S * allowance
        if was_busy and callbacks > rate.callbacks:
            paced = min(callbacks - rate.callbacks, CALLBACKS_PER_S * subscriptions())
            was_busy = rate.count > (LOOP_CALLS_PER_S + CALLS_PER_CALLBACK * paced) * allowance
        rate.busy_s = rate.busy_s + 1 if was_busy else 0
        rate.second, rate.count, rate.callbacks = second, 0, callbacks
