"""Frames: what Klippy refuses to read, what it writes, and what it cannot send."""

from __future__ import annotations

import json

import pytest

from klipper_router.virtual import wire


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"x",
        b"[1]",
        b'"text"',
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\ud800", "a": 1}',
        b'{"a": "\xff"}',
    ],
)
def test_what_is_no_json_object_is_refused(frame: bytes) -> None:
    with pytest.raises(wire.FrameError):
        wire.decode(frame)


def test_an_object_is_read() -> None:
    assert wire.decode('{"a": ["é", "\\ud83d\\ude00", null, 1.5]}'.encode()) == {"a": ["é", "😀", None, 1.5]}


def test_inf_and_nan_become_null() -> None:
    value = {"a": float("inf"), "b": [float("nan"), (1.0, float("-inf"))], "c": 1}
    assert json.loads(wire.encode(value)) == {"a": None, "b": [None, [1.0, None]], "c": 1}


def test_text_is_sent_as_utf8_without_spaces() -> None:
    assert wire.encode({"a": "é", "b": (1, 2)}) == '{"a":"é","b":[1,2]}'.encode()


class Strange:
    pass


@pytest.mark.parametrize("value", [Strange(), {"a": Strange()}, "\ud800"])
def test_what_cannot_be_sent_is_an_error(value: object) -> None:
    with pytest.raises(wire.EncodeError):
        wire.encode(value)
