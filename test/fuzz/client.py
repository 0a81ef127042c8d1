"""What a router's socket answers to `klipper-router call`: the command line reads it from whatever listens there.

Invariant: the result or the error (as CallError) of the first answer in the stream, or ProtocolError; the same however
the stream is cut.
Input: the first byte is how large the pieces are; the rest is the stream.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from klipper_router import client
from klipper_router.errors import CallError, ProtocolError

WORDS = (
    b'{"id":1,"result":',
    b'{"id":null,"error":{"message":"',
    b'"error":',
    b"{}}\x03",
    b'"}}\x03',
    b"NaN",
    b"\\ud800",
)


def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] if data else 1), data[1:]
    pieces = [stream[begin : begin + size] for begin in range(0, len(stream), size)]
    seen = outcome(iter(pieces))
    assert repr(seen) == repr(outcome(iter([stream])))
    first = first_answer(stream)
    if isinstance(first, str):
        assert seen == (CallError, first)
    elif first is None:
        assert isinstance(seen, tuple)
        assert seen[0] is ProtocolError


def first_answer(stream: bytes) -> Any:
    """The message of the error that comes first, None if the stream holds no answer; anything else where unsure."""
    for frame in stream.split(b"\x03")[:-1]:
        try:
            message = json.loads(frame, parse_float=finite)
            is_plain = frame.isascii() and b"\\u" not in frame
            is_plain = is_plain and frame.count(b'"error"') == frame.count(b'"message"') == 1
            if is_plain and isinstance(message["error"]["message"], str):
                return message["error"]["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        return 0
    return None


def finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(text)
    return number


def outcome(pieces: Iterator[bytes]) -> Any:
    try:
        return client._result(lambda: next(pieces, b""))
    except (CallError, ProtocolError) as error:
        return type(error), str(error)
