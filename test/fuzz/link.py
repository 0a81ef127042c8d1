"""The bytes that Klippy sends: cut into frames, decoded, and handed to who waits for them.

Invariant: nothing escapes; every call gets one answer, at the latest when the link ends, and a result is JSON that
can be passed on; the same messages and answers come out however the stream is cut.
Input: the first byte is how large the pieces are; the rest is the stream. Calls 1 to 3 wait for an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from klipper_router import messages
from klipper_router.errors import KlipperError, LinkLost
from klipper_router.link import Answer, Link
from test.fuzz.rig import Pieces, finish

CALLS = 3
WORDS = (
    *(
        b'{"id":1,"result":{}}\x03',
        b'{"id":2,"error":{"message":"',
        b'{"method":"',
        b'{"remote_method":"',
        b'"params":',
    ),
    *(b'"status"', b"NaN", b"-Infinity", b"1e400", b"\\ud800", b"\xff", b"null", b"\x03"),
)

Outcome = tuple[list[str], list[list[str]]]


def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] if data else 1), data[1:]
    assert outcome([stream[begin : begin + size] for begin in range(0, len(stream), size)]) == outcome([stream])


def outcome(pieces: Sequence[bytes]) -> Outcome:
    arrived: list[str] = []
    answers: list[list[str]] = [[] for _ in range(CALLS)]

    def on_message(message: messages.FromKlippy) -> None:
        assert message.id is None
        check_json(bytes(message.params))
        arrived.append(repr((message.method, message.remote_method, bytes(message.params))))

    def on_answer(number: int, answer: Answer) -> None:
        if isinstance(answer, bytes):
            check_json(answer)
        else:
            assert isinstance(answer, KlipperError | LinkLost)
        answers[number].append(repr(answer))

    link = Link("main", Pieces(pieces), on_message)
    for number in range(CALLS):
        link.post("info", {}, lambda answer, number=number: on_answer(number, answer))  # type: ignore[misc]
    link.end(finish(link._read()))
    assert [len(each) for each in answers] == [1] * CALLS
    return arrived, answers


def check_json(text: bytes) -> None:
    """What is passed on, and later written into a frame of ours as it stands."""
    if text:
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
