"""Status of one printer on its way to another's macro: Klipper's JSON becomes parameters of one G-code command.

Invariant: ProtocolError, or one line in which both Klippers read the callback and nothing else, with exactly the
parameters that were asked for, each with its value (line feeds as spaces; what an old Klipper cannot read as ``_``);
a value that did not change is not told again.
Input: frames' params, apart by 0x03; the first is the snapshot, the others are updates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from klipper_router import gcode
from klipper_router.callers import status_parameters
from klipper_router.messages import Objects
from klipper_router.status_feed import StatusFeed
from klipper_router.subscriptions import Subscription
from test.fuzz.keys import Twice, once
from test.unit.harmless import run_as_the_router_does
from test.unit.klipper_model import VERSIONS

WANTS: Objects = {"print_stats": ["state", "info.layer"], "a b": None, "toolhead": ["position.2"]}
WORDS = (
    *(b'{"status":{"print_stats":{"state":"printing"}},"eventtime":1.5}', b'{"status":{"a b":{"', b'"toolhead":'),
    *(b'"position":[0,1,2]', b'"info":{"layer":3}', b"null", b"true", b"NaN", b"1e400", b'\\"', b"\\ud800", b"\\n"),
    *(b"'", b"#", b";", b"*", b"}}}\x03"),
)


def one_input(data: bytes) -> None:
    snapshot, *updates = data.split(b"\x03")
    told: list[Subscription[str]] = []
    feed: StatusFeed[str] = StatusFeed("main", lambda _: True, told.append)
    subscription = feed.following.subscribe("led", "ON_STATUS", WANTS)
    feed.following.snapshot(feed.following.ask(), {}, has_objects=True)
    subscription.take()
    delivered: dict[tuple[str, str], bytes] = {}
    for params in (snapshot, *updates):
        told.clear()
        feed.update(params)
        values = subscription.take() if told else {}
        assert all(delivered.get(key) != value for key, value in values.items()), "told twice"
        delivered |= values
        if values:
            check_script(gcode.command_line("ON_STATUS", status_parameters(values)), params, values.keys())


def check_script(script: gcode.Script, params: bytes, keys: Any) -> None:
    assert "\n" not in script.exact
    assert "\n" not in script.plain
    try:
        reported = read(params)["status"]
    except Twice:
        return
    expected: dict[str, Any] = {}
    for name, field in keys:
        base, *steps = field.split(".") if WANTS[name] is not None else [field]
        if not (steps and holds_infinite(reported[name][base])):  # no float holds it: seen only if the frame was mended
            expected[parameter_name(name, field)] = dig(reported[name][base], steps)
    for version in VERSIONS:
        ran, error, replaced = run_as_the_router_does(version, script)
        assert error is None
        assert [each.command for each in ran] == ["ON_STATUS"]
        assert ran[0].parameters.keys() == {parameter_name(*key) for key in keys}
        for key, value in expected.items():
            check_value(value, ran[0].parameters[key], replaced=replaced)


def check_value(value: Any, text: str, *, replaced: bool) -> None:
    if isinstance(value, Number | list | dict):
        if not replaced:  # in a list's or a map's JSON a replaced character may be anything
            assert same(None if text == "None" else read(text.encode()), value)
        return
    wanted = str(value).replace("\n", " ")
    assert text == (re.sub("[#*;]", "_", wanted) if replaced else wanted)


def same(seen: Any, value: Any) -> bool:
    """The same JSON, but for how a frame that had to be mended writes numbers."""
    if isinstance(seen, Number) and isinstance(value, Number):
        return seen.text == value.text or float(seen.text) == float(value.text)
    if isinstance(seen, list) and isinstance(value, list):
        return len(seen) == len(value) and all(map(same, seen, value))
    if isinstance(seen, dict) and isinstance(value, dict):
        return seen.keys() == value.keys() and all(same(seen[key], value[key]) for key in seen)
    return bool(seen == value) or (seen is None and isinstance(value, Number) and value.is_infinite)


class Number(NamedTuple):
    """A number as it was written."""

    text: str

    @property
    def is_infinite(self) -> bool:
        return math.isinf(float(self.text))


def read(params: bytes) -> Any:
    """As Klipper meant it: NaN and Infinity are null, and half a character is replaced."""
    text = params.decode("utf-8", "replace")
    value = json.loads(
        text, parse_constant=lambda _: None, parse_int=Number, parse_float=Number, object_pairs_hook=once
    )
    return whole(value)


def whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [*map(whole, value)]
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    return value


def parameter_name(name: str, field: str) -> str:
    joined = re.sub("[^A-Z0-9_]", "_", f"{name}_{field}".upper())
    return f"_{joined}" if re.match("[0-9]|$", joined) else joined


def holds_infinite(value: Any) -> bool:
    if isinstance(value, Number):
        return value.is_infinite
    return isinstance(value, list | dict) and any(
        map(holds_infinite, value.values() if isinstance(value, dict) else value)
    )


def dig(value: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
