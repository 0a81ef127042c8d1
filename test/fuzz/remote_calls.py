"""Calls of the router's remote methods by macros, with any parameters.

Invariant: nothing escapes, nothing is fenced off; every call is answered or failed exactly once (a script with a
``wait`` for a printer that is off may wait on); every frame that goes to any printer is a request that Klipper reads;
the caller's own printer runs its callbacks and console lines, and nothing that it did not ask for.
Input: calls apart by 0x03. The first byte of each chooses method and caller, the rest are its params.
"""

from __future__ import annotations

import json
from typing import Any

from klipper_router.callers import Request
from klipper_router.errors import RouterError
from klipper_router.remote_methods import METHODS
from test.fuzz.rig import Rig

WORDS = (
    *(b'{"target":"led","script":"FOO A=1"}\x03', b'"wait":5', b'"gcode_callback":"CALLBACK"', b'"error_callback":"E"'),
    *(
        b'{"event":"e","gcode":"FOO A={a}"}',
        b'"context":{"a":"1"}',
        b'"context":"a=1,b=2"',
        b'"callback_target":"main"',
    ),
    *(b'"callback_type":"webhook"', b'"objects":{"print_stats":["state"]}', b'"endpoint":"info"', b'"params":{}'),
    *(
        b'"target":"off"',
        b'"main"',
        b"null",
        b"1e400",
        b"99999999999999999999",
        b"\\ud800",
        b"\\n",
        b"'",
        b"#",
        b"\x03",
    ),
)

# By their place, which the corpus relies on: new ones come last.
NAMES = (
    "router/gcode/script",
    "router/event/subscribe",
    "router/event/trigger",
    "router/event/unsubscribe",
    "router/printers/list",
    "router/objects/list",
    "router/objects/query",
    "router/objects/subscribe",
    "router/objects/unsubscribe",
    "router/objects/update",
    "router/call",
    "router/unknown",
    "router/stats",
)
assert {*METHODS} < {*NAMES}


class CountedRequest(Request):
    """A request that knows how often it was answered or failed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ends = 0

    def answer(self, result: bytes, parameters: Any) -> None:
        self.ends += 1
        json.loads(result)
        super().answer(result, parameters)

    def fail(self, error: RouterError) -> None:
        self.ends += 1
        super().fail(error)


async def one_input(data: bytes) -> None:
    rig = Rig(old=data[-1:] == b"#")
    requests: list[CountedRequest] = []
    for piece in data.split(b"\x03"):
        choice = piece[0] if piece else 0
        name = ("main", "led")[choice % 2]
        request = CountedRequest(rig.router._callers[name], NAMES[(choice >> 1 & 31) % len(NAMES)])
        rig.klippys[name].answer_to_anything = {"result": {"a b": [1], "c": None}} if choice & 128 else {"result": 5}
        rig.router.serve(request, piece[1:])
        requests.append(request)
        if choice & 64:
            rig.settle()
    rig.settle()
    late = len(rig.router.printers["off"].scripts)
    assert all(request.ends <= 1 for request in requests)
    assert sum(request.ends == 0 for request in requests) == late
    check_what_ran(rig)


def check_what_ran(rig: Rig) -> None:
    """Callbacks are built by us: whatever runs under their name has parameters of the right names only."""
    for klippy in rig.klippys.values():
        for script in klippy.scripts:
            if script.startswith(("RESPOND ", "ECHO ")):
                for line in script.split("\n"):
                    assert line.startswith(("RESPOND TYPE='error' MSG='", "ECHO MSG='"))
