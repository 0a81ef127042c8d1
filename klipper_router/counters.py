"""What is counted of one printer, of the API clients and of the events; `stats` reports it. Pure.

Counts only ever grow, as Prometheus wants them; what is true just now (queues, calls under way) is asked for where
it lives, not counted.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct

# Upper bounds of the latency classes, in s; one more class holds what took longer.
LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Latency:
    """How long something took, as counts per class: bounded however long it is kept."""

    __slots__ = ("counts", "max_s", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum_s = 0.0
        self.max_s = 0.0

    @property
    def count(self) -> int:
        """How often it was measured."""
        return sum(self.counts)

    def add(self, seconds: float) -> None:
        """Enter one duration."""
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)

    def quantile(self, share: float) -> float:
        """The bound (s) that this share of all durations did not exceed; 0 when there is none yet."""
        wanted = share * self.count
        below = 0
        for count, bound_s in zip(self.counts, LATENCY_BOUNDS_S, strict=False):
            below += count
            if below >= wanted:
                return min(bound_s, self.max_s)
        return self.max_s


class PrinterCounters(Struct):
    """Of one printer, since the router was started."""

    connections: int = 0  # how often its Klippy was identified
    frames_in: int = 0
    frames_out: int = 0
    frames_skipped: int = 0  # unreadable ones
    bytes_in: int = 0
    bytes_out: int = 0
    remote_calls: int = 0  # calls of remote methods by its macros
    errors: int = 0  # of those: answered with an error
    scripts: int = 0  # G-code sent to it
    script_errors: int = 0  # of those: answered with an error
    callbacks: int = 0  # status callbacks run on it
    merges: int = 0  # status changes that went along with a callback that was waiting already
    drops: int = 0  # console lines and callbacks that could not be run
    refused: int = 0  # calls that its policy refused
    suspended: int = 0  # calls of its macros that were not served because they looked like a loop


class ClientCounters(Struct):
    """Of all clients of the API socket, since the router was started."""

    connections: int = 0
    refused: int = 0  # connections, because there were too many
    dropped: int = 0  # clients that did not read, or left a frame half sent
    requests: int = 0
    errors: int = 0  # of those: answered with an error


class EventCounters(Struct):
    """Of all events, since the router was started."""

    triggered: int = 0
    handlers: int = 0  # started
    failed: int = 0  # could not be started
