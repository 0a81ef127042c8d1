"""The tables of ``klipper-router status`` and ``watch``: how each printer is, and what passed to and from it."""

from __future__ import annotations

import signal
from collections.abc import Callable
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
# In less than this the tables give up their lines, and the traffic is two tables, so that no heading is cut.
WIDE_CHARACTERS = 80

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
    console = Console(highlight=False)
    console.print(_tables(sock, console.width))


def watch(sock: str, interval_s: float) -> None:
    """Show the table until interrupted, also while the router is away. Raises CallError without a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        raise CallError("watch needs a terminal; `klipper-router status` prints the table once")
    # Ctrl-C is taken between two looks only: raised anywhere, it may be lost in a callback that swallows exceptions.
    interrupt = {signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                try:
                    shown: Group | Text = _tables(sock, console.width)
                except RouterError as error:
                    shown = Text(str(error), style="red")
                live.update(shown, refresh=True)
                if signal.sigtimedwait(interrupt, interval_s):
                    raise KeyboardInterrupt
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tables(sock: str, width: int) -> Group:
    """Raises CallError, ProtocolError."""
    printers = _asked(sock, "router/printers/list", _Listed).printers
    stats = _asked(sock, "router/stats", _Stats)
    suspended = [Text(f"suspended, looks like a loop: {route}", style="bold red") for route in stats.suspended]
    return Group(_table(printers, width), *_traffic(stats.printers, width), *suspended)


def _asked(sock: str, method: str, kind: type[T]) -> T:
    result = client.call(sock, method, {}, ANSWER_WITHIN_S)
    try:
        return msgspec.convert(result, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"what answers at {sock} is no router of this version ({error})") from None


# What each heading (of two lines) stands for; docs/operation.md explains them. In and out are as seen from the router,
# the callbacks' times are in ms, for half and for 99 % of them.
_AMOUNTS: dict[str, Callable[[Traffic], str]] = {
    "frames\nin/out": lambda its: f"{_short(its.frames_in)}/{_short(its.frames_out)}",
    "bytes\nin/out": lambda its: f"{_short(its.bytes_in)}/{_short(its.bytes_out)}",
    "open\ncalls": lambda its: _short(its.calls_under_way),
}
_TROUBLES: dict[str, Callable[[Traffic], str]] = {
    "\nerrors": lambda its: _short(its.errors + its.script_errors),
    "\nmerges": lambda its: _short(its.merges),
    "\ndrops": lambda its: _short(its.drops),
    "\nrefused": lambda its: _short(its.refused + its.suspended),
    "re-\nlinks": lambda its: _short(its.reconnects),
    "callbacks\np50/99 ms": lambda its: (
        f"{its.callback_latency.p50_s * 1e3:.0f}/{its.callback_latency.p99_s * 1e3:.0f}"
    ),
}


def _traffic(printers: dict[str, Traffic], width: int = WIDE_CHARACTERS) -> list[Table]:
    groups = [_AMOUNTS | _TROUBLES] if width >= WIDE_CHARACTERS else [_AMOUNTS, _TROUBLES]
    tables = []
    for columns in groups:
        table = _plain_table()
        table.add_column("\nprinter", no_wrap=True)
        for heading in columns:
            table.add_column(heading, no_wrap=True, justify="right")
        for name, its in printers.items():
            table.add_row(Text(name), *(text_of(its) for text_of in columns.values()))
        tables.append(table)
    return tables


def _plain_table() -> Table:
    return Table(header_style="bold", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)


def _short(count: float) -> str:
    """At most four characters: 999, 1.5k, 10k, 3M."""
    for unit in ("", "k", "M", "G"):
        if count < 999.5:
            return f"{count:.1f}{unit}" if unit and count < 9.95 else f"{count:.0f}{unit}"
        count /= 1000
    return f"{count:.0f}T"


def _table(printers: list[Row], width: int = WIDE_CHARACTERS) -> Table:
    table = Table(header_style="bold") if width >= WIDE_CHARACTERS else _plain_table()
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
