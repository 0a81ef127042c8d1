"""The life of a printer: which step has which effects, whatever the order of the reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router import printer_state
from klipper_router.printer_state import Effect, PrinterState, Step

STATES = ("startup", "ready", "shutdown", "error")
NEW = PrinterState()


def run(state: PrinterState, *steps: tuple[str, ...]) -> tuple[PrinterState, list[Effect]]:
    """Take steps by name, and collect their effects."""
    effects: list[Effect] = []
    for name, *arguments in steps:
        step: Step = getattr(printer_state, name)(state, *arguments)
        state = step[0]
        effects += step[1]
    return state, effects


def test_a_new_printer_is_neither_connected_nor_ready() -> None:
    assert (NEW.connected, NEW.ready, NEW.has_objects, NEW.announced) == (False, False, False, False)
    assert NEW.message == "not connected yet"


@pytest.mark.parametrize("state", STATES)
def test_an_identified_printer_is_connected_in_every_state_of_klipper(state: str) -> None:
    now, effects = run(NEW, ("identified", state, "why"))
    assert now == PrinterState(state, "why")
    assert now.connected
    assert now.ready == (state == "ready")
    assert now.has_objects == (state in ("ready", "shutdown"))
    assert effects[:2] == [Effect.CONNECTED, Effect.STATE]


def test_the_others_hear_of_a_printer_only_when_its_own_greeting_is_done() -> None:
    now, effects = run(NEW, ("identified", "startup", ""), ("changed", "ready", "Printer is ready"))
    assert effects == [Effect.CONNECTED, Effect.STATE, Effect.STATE, Effect.GREET]
    assert not now.announced
    now, effects = run(now, ("greeted",))
    assert effects == [Effect.ANNOUNCE]
    assert now == PrinterState("ready", "Printer is ready", announced=True)


def test_a_greeting_that_ends_twice_or_too_late_announces_nothing() -> None:
    ready, _ = run(NEW, ("identified", "ready", ""), ("greeted",))
    assert run(ready, ("greeted",)) == (ready, [])
    down, _ = run(NEW, ("identified", "ready", ""), ("changed", "shutdown", "MCU"))
    assert run(down, ("greeted",)) == (down, [])


def test_a_state_that_is_known_already_only_brings_its_message() -> None:
    ready, _ = run(NEW, ("identified", "ready", "a"), ("greeted",))
    assert run(ready, ("changed", "ready", "b")) == (PrinterState("ready", "b", announced=True), [])


def test_a_printer_that_shut_down_and_is_ready_again_is_greeted_and_announced_again() -> None:
    ready, _ = run(NEW, ("identified", "ready", ""), ("greeted",))
    _, effects = run(ready, ("changed", "shutdown", "x"), ("changed", "ready", ""), ("greeted",))
    assert effects == [Effect.STATE, Effect.STATE, Effect.GREET, Effect.ANNOUNCE]


def test_a_lost_connection_is_told_once() -> None:
    ready, _ = run(NEW, ("identified", "ready", ""), ("greeted",))
    gone, effects = run(ready, ("lost", "end of file"), ("lost", "refused"))
    assert gone == PrinterState("disconnected", "refused")
    assert effects == [Effect.DISCONNECTED]


def test_a_printer_that_never_was_connected_is_not_told_as_lost() -> None:
    assert run(NEW, ("lost", "refused")) == (PrinterState(message="refused"), [])


STEPS = st.one_of(
    st.tuples(st.just("identified"), st.sampled_from(STATES), st.just("")),
    st.tuples(st.just("changed"), st.sampled_from(STATES), st.just("")),
    st.just(("greeted",)),
    st.just(("lost", "")),
)


@given(st.lists(STEPS, max_size=30))
def test_in_any_life_each_announcement_has_its_own_greeting_and_each_loss_its_connection(
    steps: list[tuple[str, ...]],
) -> None:
    now = NEW
    greeted_since = connected = False
    for step in steps:
        if step[0] == "changed" and not connected:
            continue  # reports come by a connection
        if step[0] == "identified" and connected:
            continue  # a new connection comes after the loss of the old one
        now, effects = run(now, step)
        for effect in effects:
            if effect is Effect.GREET:
                greeted_since = True
            elif effect is Effect.ANNOUNCE:
                assert greeted_since
                assert now.ready
                greeted_since = False
            elif effect is Effect.CONNECTED:
                assert not connected
                connected = True
            elif effect is Effect.DISCONNECTED:
                assert connected
                connected = greeted_since = False
        assert now.connected == connected
        assert not now.announced or now.ready
