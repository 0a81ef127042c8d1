"""The table of `status` and `watch`: what it tells of each printer, at any width."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from klipper_router import status
from klipper_router.status import Latency, Row, Traffic

HEADINGS = ["printer", "connected", "ready", "state", "subs", "queue", "message"]


def printer(name: str, **more: Any) -> Row:
    ready = Row(name, True, True, "ready", "Printer is ready", subscriptions=0, queue=0)
    return msgspec.structs.replace(ready, **more)


LED = printer(
    "led",
    ready=False,
    state="shutdown",
    state_message="MCU 'mcu' shutdown: Timer too close\nOnce the underlying issue is corrected, use FIRMWARE_RESTART\n",
    subscriptions=3,
    queue=1000,
)
AFC = printer(
    "afc", connected=False, ready=False, state="disconnected", state_message="No such file or directory", queue=2
)


def shown(*printers: Row, width: int = 200) -> str:
    """The table as plain text."""
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    console.print(status._table(list(printers)))
    return console.export_text()


def cells(text: str) -> list[list[str]]:
    """The cells of each line that has any."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in lines if line[0] in "┃│"
    ]


def test_each_printer_is_a_row_with_its_state_its_subscriptions_and_its_queue() -> None:
    assert cells(shown(printer("main"), LED, AFC)) == [
        HEADINGS,
        ["main", "yes", "yes", "ready", "0", "0", ""],
        ["led", "yes", "no", "shutdown", "3", "1000", "MCU 'mcu' shutdown: Timer too close"],
        ["", "", "", "", "", "", "Once the underlying issue is corrected, use FIRMWARE_RESTART"],
        ["afc", "no", "no", "disconnected", "0", "2", "No such file or directory"],
    ]


def test_a_ready_printer_has_nothing_to_say_and_one_that_is_not_yet_says_why() -> None:
    waiting = printer("main", ready=False, state="startup", state_message="Printer is not ready")
    assert cells(shown(printer("led"), waiting))[1:] == [
        ["led", "yes", "yes", "ready", "0", "0", ""],
        ["main", "yes", "no", "startup", "0", "0", "Printer is not ready"],
    ]


@pytest.mark.parametrize("width", [100, 80, 72])
def test_on_a_narrow_terminal_the_message_gives_way_and_nothing_else(width: int) -> None:
    text = shown(printer("main"), LED, AFC, width=width)
    assert max(map(len, text.splitlines())) <= width
    rows = cells(text)
    assert rows[0] == HEADINGS
    named = {row[0]: row[1:6] for row in rows[1:] if row[0]}
    assert named == {
        "main": ["yes", "yes", "ready", "0", "0"],
        "led": ["yes", "no", "shutdown", "3", "1000"],
        "afc": ["no", "no", "disconnected", "0", "2"],
    }
    message = "".join(row[6] for row in rows if row[6] not in HEADINGS)
    everything = LED.state_message + AFC.state_message
    assert message.replace(" ", "") == everything.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize("width", [1, 10, 40, 53])
def test_on_a_terminal_too_narrow_for_it_the_table_is_shown_all_the_same(width: int) -> None:
    text = shown(printer("main"), LED, width=width)
    assert len(text.splitlines()) > 3


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    strange = printer("[bold]x", ready=False, state="[red]odd[/]", state_message="[/] :smile: [link=x]")
    assert cells(shown(strange))[1] == ["[bold]x", "yes", "no", "[red]odd[/]", "0", "0", "[/] :smile: [link=x]"]


def test_states_that_need_somebody_are_red() -> None:
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as capture:
        console.print(status._table([LED, AFC, printer("main")]))
    text = capture.get()
    assert "\x1b[1;31mshutdown" in text
    assert "\x1b[31mdisconnected" in text
    assert "\x1b[32mready" in text


def traffic(**more: Any) -> Traffic:
    counts = {name: 0 for name in Traffic.__struct_fields__ if name != "callback_latency"}
    return Traffic(**{**counts, **more}, callback_latency=Latency(p50_s=0.0012, p99_s=0.5))


def test_the_traffic_of_each_printer_is_a_row() -> None:
    console = Console(record=True, width=80, file=io.StringIO(), highlight=False)
    busy = traffic(
        frames_in=12436, frames_out=999, bytes_in=1_234_567, bytes_out=5, calls_under_way=2, errors=1,
        script_errors=2, merges=7, drops=3, refused=4, suspended=5000, reconnects=6,
    )  # fmt: skip
    console.print(*status._traffic({"main": busy, "led": traffic()}))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert lines[0] == ["frames", "bytes", "open", "re-", "callbacks"]
    assert lines[1] == [
        "printer",
        "in/out",
        "in/out",
        "calls",
        "errors",
        "merges",
        "drops",
        "refused",
        "links",
        "p50/99",
        "ms",
    ]
    assert lines[-2] == ["main", "12k/999", "1.2M/5", "2", "3", "7", "3", "5.0k", "6", "1/500"]
    assert lines[-1] == ["led", "0/0", "0/0", "0", "0", "0", "0", "0", "0", "1/500"]


@pytest.mark.parametrize("width", [60, 72, 79, 80])
def test_on_a_narrow_terminal_no_heading_and_no_number_is_cut(width: int) -> None:
    most = traffic(**{name: 999_000 for name in Traffic.__struct_fields__ if name != "callback_latency"})
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    console.print(status._table([printer("main"), LED, AFC], width), *status._traffic({"main": most}, width))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for heading in [*HEADINGS, "calls", "errors", "merges", "drops", "refused", "links", "callbacks"]:
        assert heading in words
    assert words.count("999k/999k") == 2
    assert words.count("999k") == 4  # the others are sums
    assert "disconnected" in words


def test_every_column_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs/operation.md").read_text()
    for heading in [*status._AMOUNTS, *status._TROUBLES]:
        assert f"| `{heading.replace(chr(10), ' ').strip().replace('re- ', 're-')}` |" in page, heading


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9949, "9.9k"),
        (9950, "10k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (5e15, "5000T"),
    ],
)
def test_numbers_are_short(count: float, text: str) -> None:
    assert status._short(count) == text
