"""What `router/stats` reports: the counters, what waits and is under way now, and what the process takes.

Read from where it lives at the moment of asking; nothing is measured in between.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import trio
from msgspec import Struct

from klipper_router import __version__
from klipper_router.counters import LATENCY_BOUNDS_S, ClientCounters, EventCounters, Latency, PrinterCounters
from klipper_router.router import Router

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


class LatencyReport(Struct):
    """Durations in s. ``buckets``: how many took at most so long, as ``[bound, count]``; the bounds grow."""

    count: int
    sum_s: float
    p50_s: float
    p99_s: float
    max_s: float
    buckets: list[tuple[float, int]]


class PrinterReport(PrinterCounters, kw_only=True):
    """One printer: its counters, and what is so now."""

    state: str
    connected: bool
    ready: bool
    reconnects: int
    calls_under_way: int
    queue: int  # scripts that wait or are under way
    subscriptions: int  # callbacks that follow it
    handlers: int  # of events, that its macros registered
    callback_latency: LatencyReport


class ClientReport(ClientCounters, kw_only=True):
    """The API clients: their counters, and how many there are now."""

    connected: int


class Report(Struct):
    """The result of ``router/stats``."""

    version: str
    pid: int
    uptime_s: float
    rss_kb: int  # resident memory
    open_files: int
    tasks: int  # of trio
    printers: dict[str, PrinterReport]
    clients: ClientReport
    events: EventCounters
    suspended: list[str]  # what looks like a loop, and is not served now


def report(router: Router) -> Report:
    """The state of the router now."""
    return Report(
        version=__version__,
        pid=os.getpid(),
        uptime_s=round(trio.current_time() - router.started_at_s, 3),
        rss_kb=_rss_kb(),
        open_files=_open_files(),
        tasks=trio.lowlevel.current_statistics().tasks_living,
        printers={name: _printer(router, name) for name in router.printers},
        clients=ClientReport(**_fields(router.client_counters), connected=router.clients),
        events=router.event_counters,
        suspended=[" ".join(filter(None, route)) for route in router.gate.guard.suspended()],
    )


def _rss_kb() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KB
    except OSError:  # no file descriptor is left to ask with
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _open_files() -> int:
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _printer(router: Router, name: str) -> PrinterReport:
    printer = router.printers[name]
    return PrinterReport(
        **_fields(printer.counters),
        state=printer.state.state,
        connected=printer.state.connected,
        ready=printer.state.announced,
        reconnects=max(0, printer.counters.connections - 1),
        calls_under_way=printer.calls_under_way,
        queue=len(printer.scripts),
        subscriptions=len(printer.feed.following),
        handlers=router.handlers_of(name),
        callback_latency=_latency(printer.callback_latency),
    )


def _latency(latency: Latency) -> LatencyReport:
    total = 0
    buckets = []
    for bound_s, count in zip(LATENCY_BOUNDS_S, latency.counts, strict=False):
        total += count
        buckets.append((bound_s, total))
    return LatencyReport(
        count=latency.count,
        sum_s=round(latency.sum_s, 6),
        p50_s=latency.quantile(0.5),
        p99_s=latency.quantile(0.99),
        max_s=round(latency.max_s, 6),
        buckets=buckets,
    )


def _fields(counters: Struct) -> dict[str, int]:
    return {name: getattr(counters, name) for name in counters.__struct_fields__}
