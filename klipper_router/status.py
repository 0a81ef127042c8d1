"""The table of ``klipper-router status`` and ``watch``: what a running router knows of each printer."""

from __future__ import annotations

import time

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from klipper_router import client
from klipper_router.errors import CallError, ProtocolError, RouterError

ANSWER_WITHIN_S = 5.0

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


class _Listed(msgspec.Struct):
    printers: list[Row]


def show(sock: str) -> None:
    """Print the table once. Raises CallError when there is no router, ProtocolError when it is none."""
    Console(highlight=False).print(_table(_printers(sock)))


def watch(sock: str, interval_s: float) -> None:
    """Show the table until interrupted, also while the router is away. Raises CallError without a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        raise CallError("watch needs a terminal; `klipper-router status` prints the table once")
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown: Table | Text = _table(_printers(sock))
            except RouterError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(interval_s)


def _printers(sock: str) -> list[Row]:
    """Raises CallError, ProtocolError."""
    result = client.call(sock, "router/printers/list", {}, ANSWER_WITHIN_S)
    try:
        return msgspec.convert(result, _Listed).printers
    except msgspec.ValidationError as error:
        raise ProtocolError(f"what answers at {sock} is no router of this version ({error})") from None


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
