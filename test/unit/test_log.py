"""Log lines: one line each, of bounded length, and not without end."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router import log
from klipper_router.log import (
    EVERY_LINE,
    MAX_CHARACTERS,
    MAX_KINDS,
    MAX_LINES_PER_PERIOD,
    PERIOD_S,
    OneLine,
    Sparing,
)


def record(message: str, *arguments: object, at_s: float = 1_000_000.0) -> logging.LogRecord:
    made = logging.LogRecord("klipper_router", logging.WARNING, __file__, 1, message, arguments, None)
    made.created = at_s
    return made


def line(message: str, *arguments: object) -> str:
    return OneLine("%(levelname)s %(message)s").format(record(message, *arguments))


# -- one line ------------------------------------------------------------------------------------------------------


def test_a_message_stays_as_it_is_where_it_can_be_shown() -> None:
    assert line('%s: it\'s "a" é 😀 {x} %%', "main") == 'WARNING main: it\'s "a" é 😀 {x} %'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\nWARNING main: forged", "a\\r\\nWARNING main: forged"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x00\x07\t", "\\x00\\x07\\t"),
        ("a\u2028b\u0085c\x0bd", "a\\u2028b\\x85c\\x0bd"),
        ("\u202eabc\ufeff", "\\u202eabc\\ufeff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_would_end_or_disturb_a_line_is_escaped(text: str, shown: str) -> None:
    assert line("%s", text) == f"WARNING {shown}"


@given(text=st.text(alphabet=st.characters(), max_size=2 * MAX_CHARACTERS))
def test_any_message_is_one_printable_line_that_can_be_written(text: str) -> None:
    shown = line("%s", text)
    assert shown.isprintable()
    assert shown.encode().splitlines() == [shown.encode()]


def test_a_message_up_to_the_limit_is_whole_and_a_longer_one_is_cut_and_says_so() -> None:
    assert line("x" * MAX_CHARACTERS) == f"WARNING {'x' * MAX_CHARACTERS}"
    assert line("x" * (MAX_CHARACTERS + 1)) == f"WARNING {'x' * MAX_CHARACTERS} …"
    assert line("x" * 50_000_000) == f"WARNING {'x' * MAX_CHARACTERS} …"


@given(text=st.text(min_size=MAX_CHARACTERS + 1, max_size=2 * MAX_CHARACTERS))
def test_a_cut_message_is_no_longer_than_the_limit_though_it_is_escaped(text: str) -> None:
    shown = line("%s", text).removeprefix("WARNING ")
    assert len(shown) <= MAX_CHARACTERS + len(" …")
    assert shown.endswith(" …")


def test_a_traceback_keeps_its_lines_and_its_message_is_one() -> None:
    made = record("main: internal\nerror")
    try:
        raise ValueError("why")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *more = OneLine("%(message)s").format(made).split("\n")
    assert first == "main: internal\\nerror"
    assert more[0] == "Traceback (most recent call last):"
    assert more[-1] == "ValueError: why"


# -- not without end -----------------------------------------------------------------------------------------------


def passed(sparing: Sparing, *records: logging.LogRecord) -> list[str]:
    return [each.getMessage() for each in records if sparing.filter(each)]


def test_of_one_kind_so_many_lines_pass_and_the_last_of_them_says_that_more_do_not() -> None:
    sparing = Sparing()
    lines = passed(sparing, *(record("%s: oops %d", "main", number) for number in range(1000)))
    assert lines[:-1] == [f"main: oops {number}" for number in range(MAX_LINES_PER_PERIOD - 1)]
    last = MAX_LINES_PER_PERIOD - 1
    assert lines[-1] == f"main: oops {last} (more like this are not logged for {PERIOD_S:g} s)"


def test_other_messages_and_other_subjects_pass_meanwhile() -> None:
    sparing = Sparing()
    passed(sparing, *(record("%s: oops", "main") for _ in range(1000)))
    assert passed(sparing, record("%s: oops", "main")) == []
    others = [record("%s: oops", "led"), record("%s: lost", "main"), record("no subject"), record("%d clients", 7)]
    assert passed(sparing, *others) == ["led: oops", "main: lost", "no subject", "7 clients"]


def test_lines_without_a_subject_are_limited_too() -> None:
    sparing = Sparing()
    assert len(passed(sparing, *(record("no subject") for _ in range(1000)))) == MAX_LINES_PER_PERIOD
    mapped = [record("%(who)s", {"who": str(number)}) for number in range(1000)]
    assert len(passed(sparing, *mapped)) == MAX_LINES_PER_PERIOD


def test_every_period_starts_anew() -> None:
    sparing = Sparing()
    for period in range(3):
        begin_s = 1_000_000.0 + period * PERIOD_S
        within = [record("%s: oops", "main", at_s=begin_s + PERIOD_S * part / 1000) for part in range(1000)]
        assert len(passed(sparing, *within)) == MAX_LINES_PER_PERIOD


def test_a_clock_that_is_set_back_does_not_silence_for_longer() -> None:
    sparing = Sparing()
    passed(sparing, *(record("%s: oops", "main") for _ in range(1000)))
    assert passed(sparing, record("%s: oops", "main", at_s=5.0)) == ["main: oops"]


def test_subjects_of_any_length_do_not_fill_the_memory() -> None:
    sparing = Sparing()
    long = "x" * 1_000_000
    assert len(passed(sparing, *(record("%s: oops", f"{long}{number}") for number in range(100)))) == (
        MAX_LINES_PER_PERIOD
    )


def test_lines_of_which_every_one_is_wanted_are_not_held_back() -> None:
    records = [record("%s: GET /", "main") for _ in range(2 * MAX_LINES_PER_PERIOD)]
    for each in records:
        vars(each).update(EVERY_LINE)
    assert len(passed(Sparing(), *records)) == len(records)


def test_many_subjects_are_counted_together_and_other_messages_still_pass() -> None:
    sparing = Sparing()
    lines = passed(sparing, *(record("%s: gone", f"client {number}") for number in range(10 * MAX_KINDS)))
    assert len(lines) == MAX_KINDS + MAX_LINES_PER_PERIOD
    assert passed(sparing, record("%s: lost", "main")) == ["main: lost"]


# -- to stderr -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_programs_start() -> Iterator[logging.Logger]:
    """The root logger as a program finds it: pytest's own handlers are away."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_at_the_normal_level_routes_are_not_told_and_floods_are_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    with a_programs_start() as root:
        log.to_stderr(verbose=False)
        for number in range(200):
            root.debug("main: route %d", number)
            root.warning("%s: oops\n%d", "main", number)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MAX_LINES_PER_PERIOD
    assert lines[0].endswith("WARNING main: oops\\n0")


def test_verbose_tells_each_route(capsys: pytest.CaptureFixture[str]) -> None:
    with a_programs_start() as root:
        log.to_stderr(verbose=True)
        for number in range(200):
            root.debug("%s: route %d", "main", number)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 200
    assert lines[-1].endswith("DEBUG   main: route 199")


@pytest.mark.parametrize(
    ("journal", "line"), [("8:12345", r"INFO    main: up\n"), (None, r"\d{4}-.* INFO    main: up\n")]
)
def test_the_time_is_told_unless_a_journal_adds_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, journal: str | None, line: str
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", journal)
    with a_programs_start() as root:
        log.to_stderr(verbose=False)
        root.info("main: up")
    assert re.fullmatch(line, capsys.readouterr().err)
