"""The requests of API clients: whoever may open the router's socket may send anything.

Invariant: nothing escapes, nothing is fenced off; each request with an id gets exactly one result or error with that
id, each frame that is no request one error, a request without an id nothing; all that the client is sent is JSON;
every frame that goes to any printer is a request that Klipper reads; no printer is stopped, and led runs nothing that
its configuration denies.
Input: the first byte is how large the pieces are; the rest is the client's stream.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NamedTuple

from test.fuzz.rig import Rig, finish

WORDS = (
    *(
        b'{"id":1,"method":"router/gcode/script","params":{"target":"led","script":"FOO"}}\x03',
        b'"id":"x"',
        b'"id":null',
    ),
    *(
        b'"method":"info"',
        b'"router/event/subscribe"',
        b'"router/event/trigger"',
        b'"router/call"',
        b'"router/objects/query"',
    ),
    *(b'"router/objects/subscribe"', b'"router/printers/list"', b'"objects":{"print_stats":["state"]}', b'"params":{'),
    *(b'"response_template":{"method":"x"}', b'"event":"e"', b'"context":{"a":1}', b'"wait":5', b'"target":"off"'),
    *(b'"callback_type":"webhook"', b'"callback_target":"main"', b'"gcode":"FOO A={a}"', b"}}\x03", b"NaN", b"1e400"),
    *(
        b"99999999999999999999",
        b"\\ud800",
        b"\xff",
        b"[[[[",
        b'"script":"M112"',
        b'"emergency_stop"',
        b'"SET_PIN"',
        b'"router/stats"',
    ),
)


class Whole(NamedTuple):
    """A whole number of any length."""

    text: str


class Asked:
    """What a stream asks for, as the standard library reads it."""

    def __init__(self, stream: bytes) -> None:
        self.ids: Counter[str] = Counter()
        self.frames = self.without_id = 0
        self.certain = True
        for frame in stream.split(b"\x03")[:-1]:
            self.frames += 1
            try:
                text = frame.decode("utf-8", "replace")
                message = json.loads(
                    text, parse_constant=lambda _: None, parse_int=Whole, object_pairs_hook=self.without_doubles
                )
            except RecursionError:
                self.certain = False
                continue
            except ValueError:
                continue
            if isinstance(message, dict) and isinstance(message.get("method"), str):
                self.take(message.get("id"))

    def without_doubles(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Of two equal keys one may be wrong; what becomes of such a request is not said."""
        if len(pairs) != len(dict(pairs)):
            self.certain = False
        return dict(pairs)

    def take(self, id_: Any) -> None:
        if isinstance(id_, float) and not math.isfinite(id_):
            self.certain = False  # null in a frame that was mended
        elif id_ is None:
            self.without_id += 1
        else:
            self.ids[as_text(id_)] += 1


def as_text(id_: Any) -> str:
    """One text for one id; half a character was replaced when the frame was mended."""
    return json.dumps(id_, ensure_ascii=False).encode("utf-8", "replace").decode()


async def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] if data else 1), data[1:]
    rig = Rig()
    client = rig.client([stream[begin : begin + size] for begin in range(0, len(stream), size)])
    for klippy in rig.klippys.values():
        klippy.answer_to_anything = {"error": {"message": "no"}} if size % 2 else {"result": {"a": 1}}
    finish(client._read())
    rig.settle()
    late = len(rig.router.printers["off"].scripts)
    answered: Counter[str] = Counter()
    for frame in client._outbox._frames:
        assert frame.endswith(b"\x03")
        message = json.loads(frame[:-1], parse_int=Whole)
        if "params" not in message:  # a notice, whose response_template is the client's own, has them
            assert ("result" in message) != ("error" in message)
            answered[as_text(message["id"])] += 1
    asked = Asked(stream)
    if asked.certain:
        assert answered.total() <= asked.frames - asked.without_id <= answered.total() + late
        assert (asked.ids - answered).total() <= late
    for klippy in rig.klippys.values():
        assert "emergency_stop" not in klippy.called
    for ran in rig.klippys["led"].ran:
        assert ran.command != "M112"
        assert not ran.command.startswith("SET_")
    rig.router.drop(client)
    rig.settle()
    assert all(not len(printer.feed.following) for printer in rig.router.printers.values())
