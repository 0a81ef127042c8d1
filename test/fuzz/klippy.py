"""All that a connected Klippy can say, to the whole router: status, answers, calls of its macros, nonsense.

Invariant: nothing escapes, nothing is fenced off; every frame that goes to any printer is a request that Klipper
reads; when the connection ends, nothing of it is left waiting.
Input: the first byte is how large the pieces are, and whether Klipper is an old one; the rest is the stream of
``main``. ``led`` follows its status and handles its events, and main follows led.
"""

from __future__ import annotations

import json

from test.fuzz.rig import Rig

WORDS = (
    *(b'{"method":"router/objects/update","params":{"eventtime":1,"status":{', b'"print_stats":{"state":"printing"}'),
    *(
        b'"webhooks":{"state":"shutdown","state_message":"x"}',
        b'"webhooks":{"state":"ready"}',
        b"}}}\x03",
        b'"target":"led"',
    ),
    *(b'{"remote_method":"router/gcode/script","params":{', b'{"remote_method":"router/event/trigger","params":{'),
    *(
        b'"event":"e"',
        b'"context":{"a":1}',
        b'"script":"FOO A=1"',
        b'"gcode_callback":"CALLBACK"',
        b'"error_callback":"E"',
    ),
    *(b'{"id":30,"result":{}}\x03', b'"error":{"message":"Malformed command', b"NaN", b"\\ud800", b"1e400", b"null"),
)

SUBSCRIPTIONS = {
    "led": [
        (
            "router/objects/subscribe",
            {"target": "main", "objects": {"print_stats": None}, "gcode_callback": "CALLBACK"},
        ),
        ("router/event/subscribe", {"event": "e", "gcode": "FOO A={a}"}),
        ("router/event/subscribe", {"event": "e", "gcode": "gcode/script", "callback_type": "webhook"}),
        ("router/event/subscribe", {"event": "router/shutdown", "gcode": "FOO"}),
    ],
    "main": [
        ("router/objects/subscribe", {"target": "led", "objects": {"toolhead": ["x.1"]}, "gcode_callback": "CALLBACK"}),
        ("router/event/subscribe", {"event": "e", "gcode": "FOO", "callback_target": "led"}),
    ],
}


async def one_input(data: bytes) -> None:
    size, stream = max(1, data[0] >> 1 if data else 1), data[1:]
    rig = Rig(
        [stream[begin : begin + size] for begin in range(0, len(stream), size)],
        old=bool(data) and data[0] % 2 == 1,
    )
    for name, calls in SUBSCRIPTIONS.items():
        for method, params in calls:
            frame = json.dumps({"remote_method": method, "params": params}).encode() + b"\x03"
            rig.klippys[name].receive(frame)
    rig.settle()
    rig.router.printers["main"].call("objects/list", {}, lambda _: None)
    rig.read_main()
    rig.settle()
    rig.lose("main")
    rig.settle()
    main = rig.router.printers["main"]
    assert not main.state.connected
    assert len(main.scripts) == sum(job.outlives_link for job in main.scripts._waiting)
    assert not rig.klippys["main"].link._waiting
    assert len(rig.router.printers["led"].scripts) == 0
