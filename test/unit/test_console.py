"""Error lines for a console: bounded, the oldest dropped and counted, and never more than lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klipper_router.console import MAX_CHARACTERS, MAX_LINES, Console

from .harmless import run_as_the_router_does
from .klipper_model import VERSIONS, Klipper, Version
from .nasty import VALUES


def test_what_was_shown_waits_no_more() -> None:
    console = Console()
    assert not console
    console.add("router: no printer 'x'")
    assert console
    assert console.render(has_respond=True).exact == ("RESPOND TYPE='error' MSG='router: no printer '\"'\"'x'\"'\"''")
    assert not console
    assert console.render(has_respond=True).exact == ""


def test_when_too_many_wait_the_oldest_go_and_are_counted() -> None:
    console = Console()
    for number in range(MAX_LINES + 3):
        console.add(f"line {number}")
    lines = console.render(has_respond=True).exact.split("\n")
    assert len(lines) == MAX_LINES + 1
    assert lines[0] == "RESPOND TYPE='error' MSG='router: 3 older messages were dropped'"
    assert lines[1] == "RESPOND TYPE='error' MSG='line 3'"
    console.add("later")
    assert "dropped" not in console.render(has_respond=True).exact


def test_a_line_that_quotes_too_much_is_cut() -> None:
    console = Console()
    console.add("x" * MAX_CHARACTERS)
    console.add("x" * 4_000_000)
    whole, cut = console.render(has_respond=True).exact.split("\n")
    assert whole == f"RESPOND TYPE='error' MSG='{'x' * MAX_CHARACTERS}'"
    assert cut == f"RESPOND TYPE='error' MSG='{'x' * MAX_CHARACTERS} ...'"


def test_what_is_cleared_is_never_shown() -> None:
    console = Console()
    for _ in range(MAX_LINES + 1):
        console.add("x")
    console.clear()
    assert not console
    assert console.render(has_respond=True).exact == ""


@given(st.lists(VALUES, min_size=1, max_size=4), st.booleans(), st.sampled_from(VERSIONS))
def test_each_line_is_one_command_whatever_it_says(texts: list[str], has_respond: bool, version: Version) -> None:
    console = Console()
    for text in texts:
        console.add(text)
    script = console.render(has_respond=has_respond)
    ran, error, _ = run_as_the_router_does(version, script)
    if not has_respond:
        assert [each.command for each in Klipper("v0.13").run(script.exact).ran] == ["ECHO"] * len(texts)
    elif version == "v0.13":
        assert error is None
        assert [each.parameters["MSG"] for each in ran] == [text.replace("\n", " ") for text in texts]
