"""The report of `stats` in Prometheus' text format, by prometheus_client. Imported only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from klipper_router.stats import Report

PREFIX = "klipper_router_"

# Of each printer: what is so now, and what it means.
_GAUGES = {
    "connected": "1 when the router is connected to the Klippy",
    "ready": "1 when the printer is ready and its ROUTER_ON_READY is done",
    "calls_under_way": "calls that the Klippy has not answered yet",
    "queue": "scripts that wait or are under way",
    "subscriptions": "callbacks that follow the printer",
    "handlers": "event handlers that its macros registered",
}
# Of each printer: what was counted since the start.
_COUNTERS = {
    "connections": "connections made to the Klippy",
    "frames_in": "frames received",
    "frames_out": "frames sent",
    "frames_skipped": "unreadable frames received",
    "bytes_in": "bytes received",
    "bytes_out": "bytes sent",
    "remote_calls": "calls of remote methods by the printer's macros",
    "errors": "calls of remote methods answered with an error",
    "scripts": "scripts of G-code sent",
    "script_errors": "scripts answered with an error",
    "callbacks": "status callbacks run",
    "merges": "status changes that went along with a waiting callback",
    "drops": "console lines and callbacks that could not be run",
    "refused": "calls that the printer's policy refused",
    "suspended": "calls of its macros not served because they looked like a loop",
}


def text(report: Report) -> str:
    """The report as Prometheus reads it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OneReport(report))
    return generate_latest(registry).decode()


class _OneReport(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        report = self._report
        yield GaugeMetricFamily(PREFIX + "uptime_seconds", "time since the start", value=report.uptime_s)
        yield GaugeMetricFamily(PREFIX + "resident_memory_bytes", "resident memory", value=report.rss_kb * 1024)
        yield GaugeMetricFamily(PREFIX + "open_files", "open file descriptors", value=report.open_files)
        yield GaugeMetricFamily(PREFIX + "tasks", "tasks of trio", value=report.tasks)
        yield GaugeMetricFamily(PREFIX + "suspended_routes", "what looks like a loop", value=len(report.suspended))
        yield GaugeMetricFamily(PREFIX + "clients", "clients of the API socket", value=report.clients.connected)
        for name in ("connections", "refused", "dropped", "requests", "errors"):
            yield CounterMetricFamily(PREFIX + "client_" + name, f"API clients: {name}", getattr(report.clients, name))
        for name in ("triggered", "handlers", "failed"):
            yield CounterMetricFamily(PREFIX + "event_" + name, f"events: {name}", getattr(report.events, name))
        for name, meaning in _GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + "printer_" + name, meaning, labels=["printer"])
            for printer, its in report.printers.items():
                gauge.add_metric([printer], getattr(its, name))
            yield gauge
        for name, meaning in _COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + "printer_" + name, meaning, labels=["printer"])
            for printer, its in report.printers.items():
                counter.add_metric([printer], getattr(its, name))
            yield counter
        yield self._latency()

    def _latency(self) -> Metric:
        name = PREFIX + "printer_callback_latency_seconds"
        family = HistogramMetricFamily(
            name, "status callbacks, from the change to Klipper's answer", labels=["printer"]
        )
        for printer, its in self._report.printers.items():
            latency = its.callback_latency
            buckets = [(str(bound_s), float(count)) for bound_s, count in latency.buckets]
            family.add_metric([printer], [*buckets, ("+Inf", latency.count)], latency.sum_s)
        return family
