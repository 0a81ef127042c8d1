"""The requests that a virtual Klippy reads: as real Klippy with msgspec does.

Invariant: what msgspec reads as an object, with a text as method and an object as params, is a request with the same
id, method and params; everything else is a FrameError, as real Klippy then gives no answer at all. What it read, it
can send.
Input: one frame.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from klipper_router.virtual import wire
from klipper_router.virtual.server import Client
from klipper_router.virtual.webhooks import WebRequest

WORDS = (
    b'{"id":1,"method":"info","params":{',
    b'"id":',
    b'"a":',
    b"NaN",
    b"1e400",
    b"\\ud83d\\ude00",
    b"\\ud800",
    b"null",
)

NOBODY = cast(Client, None)


def one_input(data: bytes) -> None:
    expected = as_klippy_reads(data)
    try:
        request = WebRequest(NOBODY, data)
    except wire.FrameError:
        assert expected is None
        return
    assert expected is not None
    assert repr((request.id, request.method, request.params)) == repr(expected)
    assert msgspec.json.decode(wire.encode(request.params)) == request.params


def as_klippy_reads(frame: bytes) -> tuple[Any, str, dict[str, Any]] | None:
    try:
        message = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    method, params = message.get("method"), message.get("params", {})
    return (message.get("id"), method, params) if isinstance(method, str) and isinstance(params, dict) else None
