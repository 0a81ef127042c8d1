"""The context of an event: text ``k=v,k2=v2`` from a macro, or a map from anybody.

Invariant: CallError, or a map whose values become the parameters of one command: each key once, each value exactly
(line feeds as spaces), and from text exactly the keys and values that stand in it.
Input: the parameters of router/event/trigger, or (when they are no JSON object) the context's text itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from klipper_router import gcode
from klipper_router.errors import CallError
from klipper_router.events import context_texts, parse_context
from klipper_router.messages import EventTriggerParams, decode_params
from klipper_router.template import Template
from test.unit.klipper_model import Klipper

WORDS = (
    b'{"event":"e","context":',
    b'"a":',
    b"true",
    b"null",
    b"1e5",
    b"[1]",
    b",",
    b"=",
    b" ",
    b'\\"',
    b"\\n",
    b"\\u00e9",
)


def one_input(data: bytes) -> None:
    try:
        context = (
            decode_params(data, EventTriggerParams).context if data[:1] == b"{" else data.decode("utf-8", "ignore")
        )
        values = parse_context(context)
        texts = context_texts(values)
    except CallError:
        return
    if isinstance(context, str):
        assert values == naively_parsed(context)
    check_parameters(values, texts)


def naively_parsed(context: str) -> dict[str, str]:
    pairs = [part.split("=", 1) for part in context.split(",") if part.strip()]
    return {key.strip(): value.strip() for key, value in pairs}


def check_parameters(values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    (ran,) = Klipper("v0.13").run(Template("CALLBACK").fill(texts).exact).ran
    assert ran.command == "CALLBACK"
    arrived: dict[str, list[Any]] = {}
    for key, value in values.items():
        arrived.setdefault(gcode.parameter_name(key), []).append(value)
    assert ran.parameters.keys() == arrived.keys()
    for name, text in ran.parameters.items():
        value = arrived[name][-1]  # Klipper takes the last of several
        if isinstance(value, str):
            assert text == value.replace("\n", " ")
        elif value is None or isinstance(value, bool):
            assert text == str(value)
        else:
            assert json.loads(text) == value
