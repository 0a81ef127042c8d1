"""The router's figures in Prometheus' text form. prometheus_client is imported by the first scrape, not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from klipper_router import __version__
from klipper_router.gateway.page import stats
from klipper_router.router import Router

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Figures = Mapping[str, Any]


class _Count(NamedTuple):
    """A figure of one printer in router/stats, and what metrics call it."""

    key: str
    metric: str
    help: str
    labels: tuple[tuple[str, str], ...] = ()


_COUNTERS = (
    _Count("frames_in", "frames", "Frames from and to Klippy", (("direction", "in"),)),
    _Count("frames_out", "frames", "Frames from and to Klippy", (("direction", "out"),)),
    _Count("bytes_in", "bytes", "Bytes from and to Klippy", (("direction", "in"),)),
    _Count("bytes_out", "bytes", "Bytes from and to Klippy", (("direction", "out"),)),
    _Count("callbacks_merged", "callbacks_merged", "Callbacks that were merged into one that waited"),
    _Count("dropped", "dropped", "Console lines that were dropped"),
    _Count("errors", "errors", "Requests that ended in an error"),
    _Count("reconnects", "reconnects", "Connections to Klippy after the first one"),
    _Count("refused", "refused", "Requests that were refused by a full queue or by policy"),
)
_GAUGES = (
    _Count("calls_under_way", "calls_under_way", "Requests that Klippy has not answered yet"),
    _Count("queue", "queue", "Scripts that wait or run"),
    _Count("subscriptions", "subscriptions", "Subscriptions on this printer"),
)
_ROUTER_GAUGES = (
    ("tasks", "klipper_router_tasks", "Tasks of the router", 1),
    ("uptime_s", "klipper_router_uptime_seconds", "Time since the router started", 1),
    ("rss_kb", "klipper_router_resident_memory_bytes", "Memory in use", 1024),
)
_STATES = ("ready", "startup", "shutdown", "error", "disconnected")


def text(router: Router) -> bytes:
    """All figures now."""
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(lambda: stats.read(router), router))
    return generate_latest(registry)


class _Collector:
    """prometheus_client's Collector: asked for all figures at each scrape."""

    def __init__(self, read: Callable[[], Figures], router: Router) -> None:
        self._read = read
        self._router = router

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        figures = self._read()
        yield InfoMetricFamily("klipper_router", "The router itself", {"version": __version__})
        for key, metric, help_, factor in _ROUTER_GAUGES:
            if (value := _number(figures.get(key))) is not None:
                yield GaugeMetricFamily(metric, help_, value * factor)
        if isinstance(clients := figures.get("clients"), dict):
            yield GaugeMetricFamily("klipper_router_clients", "Clients of the router's API socket", len(clients))
        yield from self._states()
        printers = figures.get("printers")
        if isinstance(printers, dict):
            of_each = {name: each for name, each in printers.items() if isinstance(each, dict)}
            yield from _counts(of_each)
            yield from _latency(of_each)

    def _states(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        connected = GaugeMetricFamily("klipper_router_printer_connected", "Whether it is connected", labels=["printer"])
        ready = GaugeMetricFamily(
            "klipper_router_printer_ready", "Whether it is ready and its ROUTER_ON_READY is done", labels=["printer"]
        )
        state = GaugeMetricFamily("klipper_router_printer_state", "1 for its state", labels=["printer", "state"])
        for name, printer in self._router.printers.items():
            connected.add_metric([name], printer.state.connected)
            ready.add_metric([name], printer.state.announced)
            for each in _STATES:
                state.add_metric([name, each], printer.state.state == each)
        yield from (connected, ready, state)


def _counts(printers: Mapping[str, Figures]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for kind, counts in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
        for count in counts:
            label_names = ["printer", *(name for name, _ in count.labels)]
            for name, figures in printers.items():
                if (value := _number(figures.get(count.key))) is None:
                    continue
                metric = f"klipper_router_printer_{count.metric}"
                if metric not in families:
                    families[metric] = kind(metric, count.help, labels=label_names)
                families[metric].add_metric([name, *(value for _, value in count.labels)], value)
    yield from families.values()


def _latency(printers: Mapping[str, Figures]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily

    name_ = "klipper_router_printer_callback_latency"
    summary = SummaryMetricFamily(f"{name_}_seconds", "From a change to its callback's end", labels=["printer"])
    longest = GaugeMetricFamily(f"{name_}_max_seconds", "The longest of these so far", labels=["printer"])
    for name, figures in printers.items():
        latency = figures.get("callback_latency_s")
        if not isinstance(latency, dict):
            continue
        count, total = _number(latency.get("count")), _number(latency.get("sum"))
        if count is not None and total is not None:
            summary.add_metric([name], count_value=int(count), sum_value=total)
        if (value := _number(latency.get("max"))) is not None:
            longest.add_metric([name], value)
    yield from (summary, longest)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
