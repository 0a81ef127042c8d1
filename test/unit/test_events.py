"""Who handles which event: in the order of registration, each once, until the caller goes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from klipper_router.errors import CallError
from klipper_router.events import (
    MAX_HANDLERS_PER_CALLER,
    EventRegistry,
    FrameHandler,
    GcodeHandler,
    Handler,
    WebhookHandler,
    context_texts,
    parse_context,
)
from klipper_router.template import Template

from .klipper_model import Klipper
from .nasty import VALUES

CALLERS = st.sampled_from(["main", "led", "client"])
EVENTS = st.sampled_from(["router/ready", "led/status_ready", ""])
GCODES = st.sampled_from(["A", "B", "C", "pause_resume/pause", None])


class Registry(RuleBasedStateMachine):
    """The registry beside a plain list of (event, caller, gcode, handler) in the order of registration."""

    def __init__(self) -> None:
        super().__init__()
        self.registry: EventRegistry[str] = EventRegistry()
        self.naive: list[tuple[str, str, str | None, Handler]] = []
        self.made = 0

    @rule(caller=CALLERS, event=EVENTS, gcode=GCODES, printer=st.sampled_from(["main", "led", None]))
    def subscribe(self, caller: str, event: str, gcode: str | None, printer: str | None) -> None:
        self.made += 1
        handler = WebhookHandler(printer, f"x/{self.made}") if printer else FrameHandler({"n": self.made})
        self.registry.subscribe(caller, event, gcode, handler)
        for place, (e, c, g, _) in enumerate(self.naive):
            if (e, c, g) == (event, caller, gcode):
                self.naive[place] = (event, caller, gcode, handler)
                return
        self.naive.append((event, caller, gcode, handler))

    @rule(caller=CALLERS, event=EVENTS, gcode=GCODES)
    def unsubscribe(self, caller: str, event: str, gcode: str | None) -> None:
        kept = [h for h in self.naive if not (h[0] == event and h[1] == caller and gcode in (None, h[2]))]
        assert self.registry.unsubscribe(caller, event, gcode) == len(self.naive) - len(kept)
        self.naive = kept

    @rule(caller=CALLERS)
    def drop(self, caller: str) -> None:
        self.registry.drop(caller)
        self.naive = [h for h in self.naive if h[1] != caller]

    @rule(printer=st.sampled_from(["main", "led", "nobody"]))
    def drop_target(self, printer: str) -> None:
        gone = [h for h in self.naive if isinstance(h[3], WebhookHandler) and h[3].target == printer]
        assert sorted(self.registry.drop_target(printer)) == sorted(caller for _, caller, _, _ in gone)
        self.naive = [h for h in self.naive if h not in gone]

    @invariant()
    def handlers_are_those_registered_in_their_order(self) -> None:
        for event in ("router/ready", "led/status_ready", "", "never"):
            assert self.registry.handlers(event) == [(c, h) for e, c, _, h in self.naive if e == event]
        for caller in ("main", "led", "client", "nobody"):
            assert self.registry.count(caller) == sum(h[1] == caller for h in self.naive)

    @invariant()
    def an_event_without_handlers_takes_no_memory(self) -> None:
        assert set(self.registry._handlers) == {h[0] for h in self.naive}


TestRegistry = Registry.TestCase


def test_one_caller_cannot_fill_the_memory_and_others_are_not_held_up() -> None:
    registry: EventRegistry[str] = EventRegistry()
    handler = GcodeHandler("main", Template("FOO"))
    for number in range(MAX_HANDLERS_PER_CALLER):
        registry.subscribe("main", f"event {number}", "FOO", handler)
    with pytest.raises(CallError, match=f"{MAX_HANDLERS_PER_CALLER} event handlers"):
        registry.subscribe("main", "one more", "FOO", handler)
    assert registry.handlers("one more") == []
    registry.subscribe("main", "event 0", "FOO", FrameHandler({}))  # the same again is no further one
    assert registry.handlers("event 0") == [("main", FrameHandler({}))]
    registry.subscribe("led", "one more", "FOO", handler)
    assert registry.handlers("one more") == [("led", handler)]


KEYS = st.text(st.characters(exclude_characters=",="), min_size=1, max_size=6).map(str.strip).filter(bool)
TEXTS = st.text(st.characters(exclude_characters=","), max_size=8).map(str.strip)
SPACES = st.sampled_from(["", " ", "\t", "\n "])


@given(st.dictionaries(KEYS, TEXTS, max_size=4), SPACES, st.sampled_from([",", ", ", ",,", " , "]))
def test_a_context_written_as_text_is_read_as_it_was_meant(values: dict[str, str], space: str, comma: str) -> None:
    text = comma.join(f"{space}{key}{space}={space}{value}{space}" for key, value in values.items())
    assert parse_context(text) == values
    assert list(parse_context(text)) == list(values)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,3}", fullmatch=True), JSON_VALUES, max_size=3))
def test_a_contexts_values_arrive_as_the_parameters_of_one_command(context: dict[str, Any]) -> None:
    (ran,) = Klipper("v0.13").run(Template("CALLBACK").fill(context_texts(context)).exact).ran
    assert ran.command == "CALLBACK"
    assert ran.parameters.keys() == context.keys()
    for key, value in context.items():
        text = ran.parameters[key]
        if isinstance(value, str):
            assert text == value.replace("\n", " ")
        elif value is None or isinstance(value, bool):
            assert text == str(value)
        else:
            assert json.loads(text) == value


@pytest.mark.parametrize(
    ("context", "values"),
    [
        (None, {}),
        ("", {}),
        (" , ,", {}),
        ("lane=1,length=1200", {"lane": "1", "length": "1200"}),
        (" lane = 1 , note=a=b ,", {"lane": "1", "note": "a=b"}),
        ("lane=", {"lane": ""}),
        ("lane=1,lane=2", {"lane": "2"}),
        ({"lane": 1, "x": [None]}, {"lane": 1, "x": [None]}),
    ],
)
def test_a_context_is_a_map_or_text_of_keys_and_values(context: Any, values: dict[str, Any]) -> None:
    assert parse_context(context) == values


@pytest.mark.parametrize(("context", "part"), [("lane", "lane"), ("a=1, lane 1", "lane 1"), (" =3", "=3")])
def test_a_context_that_is_neither_names_the_part_that_is_wrong(context: str, part: str) -> None:
    with pytest.raises(CallError) as caught:
        parse_context(context)
    assert str(caught.value) == f"context {context!r}: {part!r} is not KEY=VALUE"


def test_a_contexts_values_become_texts_by_the_rules_of_a_status() -> None:
    context = {"text": 'a"b\\é', "yes": True, "no": False, "none": None, "n": 1.5, "list": [1, "x"], "map": {"a": None}}
    assert context_texts(context) == {
        "text": 'a"b\\é',
        "yes": "True",
        "no": "False",
        "none": "None",
        "n": "1.5",
        "list": '[1,"x"]',
        "map": '{"a":null}',
    }
