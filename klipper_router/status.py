"""The tables of ``klipper-router status`` and ``watch``: how each printer is, and what passed to and from it."""

from __future__ import annotations

import time
from typing import TypeVar

import msgspec
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from klipper_router import client
from klipper_router.errors import CallError, ProtocolError, RouterError

ANSWER_WITHIN_S = 5.0

T = TypeVar("T")

_STYLES = {"ready": "green", "startup": "yellow", "shutdown": "bold red", "error": "bold red", "disconnected": "red"}


class Row(msgspec.Struct):
    """One printer, as ``router/printers/list`` tells of it."""

    name: str
    connected: bool
    ready: bool
    state: str
    state_message: str
    subscriptions: int
    queue: int


class Latency(msgspec.Struct):
    """Of the callbacks on one printer, in s, as ``router/stats`` tells of it."""

    p50_s: float
    p99_s: float


class Traffic(msgspec.Struct):
    """What passed between the router and one printer, as ``router/stats`` tells of it."""

    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    calls_under_way: int
    merges: int
    drops: int
    errors: int
    script_errors: int
    refused: int
    suspended: int
    reconnects: int
    callback_latency: Latency


class _Listed(msgspec.Struct):
    printers: list[Row]


class _Stats(msgspec.Struct):
    printers: dict[str, Traffic]
    suspended: list[str]


def show(sock: str) -> None:
    """Print the table once. Raises CallError when there is no router, ProtocolError when it is none."""
    Console(highlight=False).print(_tables(sock))


def watch(sock: str, interval_s: float) -> None:
    """Show the table until interrupted, also while the router is away. Raises CallError without a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        raise CallError("watch needs a terminal; `klipper-router status` prints the table once")
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown: Group | Text = _tables(sock)
            except RouterError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(interval_s)


def _tables(sock: str) -> Group:
    """Raises CallError, ProtocolError."""
    printers = _asked(sock, "router/printers/list", _Listed).printers
    stats = _asked(sock, "router/stats", _Stats)
    suspended = [Text(f"suspended, looks like a loop: {route}", style="bold red") for route in stats.suspended]
    return Group(_table(printers), _traffic(stats.printers), *suspended)


def _asked(sock: str, method: str, kind: type[T]) -> T:
    result = client.call(sock, method, {}, ANSWER_WITHIN_S)
    try:
        return msgspec.convert(result, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"what answers at {sock} is no router of this version ({error})") from None


def _traffic(printers: dict[str, Traffic]) -> Table:
    """In and out as seen from the router; the last column is in ms, for half and for 99 % of the callbacks."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("\nprinter", no_wrap=True)
    above = {"frames": "in/out", "bytes": "in/out", "callbacks": "p50/99 ms"}
    for heading in ("frames", "bytes", "calls", "errors", "merges", "drops", "refused", "relinks", "callbacks"):
        lines = [heading, above[heading]] if heading in above else ["", heading]
        table.add_column("\n".join(lines), no_wrap=True, justify="right")
    for name, its in printers.items():
        table.add_row(
            Text(name),
            f"{_short(its.frames_in)}/{_short(its.frames_out)}",
            f"{_short(its.bytes_in)}/{_short(its.bytes_out)}",
            _short(its.calls_under_way),
            _short(its.errors + its.script_errors),
            _short(its.merges),
            _short(its.drops),
            _short(its.refused + its.suspended),
            _short(its.reconnects),
            f"{its.callback_latency.p50_s * 1e3:.0f}/{its.callback_latency.p99_s * 1e3:.0f}",
        )
    return table


def _short(count: float) -> str:
    """At most four characters: 999, 1.5k, 10k, 3M."""
    for unit in ("", "k", "M", "G"):
        if count < 999.5:
            return f"{count:.1f}{unit}" if unit and count < 9.95 else f"{count:.0f}{unit}"
        count /= 1000
    return f"{count:.0f}T"


def _table(printers: list[Row]) -> Table:
    table = Table(header_style="bold")
    for heading in ("printer", "connected", "ready", "state", "subs", "queue"):
        is_number = heading in ("subs", "queue")
        # The message is what gives way on a narrow terminal.
        table.add_column(heading, no_wrap=True, min_width=len(heading), justify="right" if is_number else "left")
    table.add_column("message", overflow="fold")
    for printer in printers:
        table.add_row(
            Text(printer.name),
            "yes" if printer.connected else "no",
            "yes" if printer.ready else "no",
            Text(printer.state, style=_STYLES.get(printer.state, "")),
            str(printer.subscriptions),
            str(printer.queue),
            Text("" if printer.ready else printer.state_message.strip()),
        )
    return table
