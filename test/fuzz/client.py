"""What a router's socket answers to `klipper-router call`: the command line reads it from whatever listens there.

Invariant: a result, or CallError or ProtocolError; the same however the stream is cut.
Input: the first byte is how large the pieces are; the rest is the stream.
"""

from __future__ import annotations

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
    assert repr(outcome(iter(pieces))) == repr(outcome(iter([stream])))


def outcome(pieces: Iterator[bytes]) -> Any:
    try:
        return client._result(lambda: next(pieces, b""))
    except (CallError, ProtocolError) as error:
        return type(error), str(error)
