"""The table of ``klipper-router status`` and ``watch``: what a running router knows of each printer."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from klipper_router import client
from klipper_router.errors import CallError

ANSWER_WITHIN_S = 5.0

_STYLES = {"ready": "green", "startup": "yellow", "shutdown": "bold red", "error": "bold red", "disconnected": "red"}


def show(sock: str) -> None:
    """Print the table once. Raises CallError when there is no router."""
    Console(highlight=False).print(_table(_printers(sock)))


def watch(sock: str, interval_s: float) -> None:
    """Show the table until interrupted, also while the router is away."""
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown: Table | Text = _table(_printers(sock))
            except CallError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(interval_s)


def _printers(sock: str) -> list[dict[str, Any]]:
    try:
        printers: list[dict[str, Any]] = client.call(sock, "router/printers/list", {}, ANSWER_WITHIN_S)["printers"]
    except TimeoutError:
        raise CallError(f"the router at {sock} does not answer") from None
    except OSError as error:
        raise CallError(f"no router answers at {sock}: {error.strerror}. Is it running? Give -c or --sock") from None
    return printers


def _table(printers: list[dict[str, Any]]) -> Table:
    table = Table(header_style="bold")
    for heading in ("printer", "connected", "ready", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("subscriptions", justify="right")
    table.add_column("queue", justify="right")
    table.add_column("message", ratio=1)
    for printer in printers:
        state = printer["state"]
        table.add_row(
            Text(printer["name"]),
            "yes" if printer["connected"] else "no",
            "yes" if printer["ready"] else "no",
            Text(state, style=_STYLES.get(state, "")),
            str(printer["subscriptions"]),
            str(printer["queue"]),
            Text("" if printer["ready"] else printer["state_message"].strip()),
        )
    return table
