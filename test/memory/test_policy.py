"""What `[klippy NAME]` says of others holds in every way to reach a printer, and a refusal is told to both sides."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from klipper_router.gate import REFUSALS_TOLD_EVERY_S
from test.memory.bench import Bench, settle

UNTOUCHED: dict[str, list[str]] = {"gcode_from": [], "endpoints_from": [], "events_from": []}


async def started(nursery: trio.Nursery, **options: Any) -> Bench:
    """main with these options, and led without any."""
    bench = Bench(nursery, "main", "led", options={"main": options, "led": {}})
    for klippy in bench:
        klippy.define("MOVE", "STOP", "SET_LED")
        klippy.answers["pause_resume/pause"] = klippy.answers["emergency_stop"] = lambda params: {}
    await bench.start()
    return bench


def refused(bench: Bench, name: str = "main") -> int:
    return bench.router.printers[name].counters.refused


async def test_without_a_policy_others_may_do_everything_but_stop_the_machine(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    client = bench.client()
    assert await client.request("router/gcode/script", target="main", script="STOP") == {}
    assert await client.request("router/call", target="main", method="pause_resume/pause") == {}
    answer = await client.request("router/call", target="main", method="emergency_stop")
    assert answer == "refused: emergency_stop is not in allow_endpoints of [klippy main], where it must be named"
    assert bench.klippys["main"].requests_of("emergency_stop") == []


async def test_emergency_stop_is_called_where_it_is_named_and_no_wildcard_names_it(nursery: trio.Nursery) -> None:
    bench = await started(nursery, allow_endpoints=["*"])
    assert "must be named" in await bench.client().request("router/call", target="main", method="emergency_stop")
    bench.reconfigure(main={"allow_endpoints": ["emergency_stop"]}, led={})
    assert await bench.client().request("router/call", target="main", method="emergency_stop") == {}
    assert len(bench.klippys["main"].requests_of("emergency_stop")) == 1


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("router/gcode/script", {"script": "MOVE"}),
        ("router/gcode/script", {"script": "MOVE", "wait": 5}),
        ("router/call", {"method": "gcode/script", "params": {"script": "MOVE"}}),
        ("router/call", {"method": "pause_resume/pause"}),
        ("router/event/trigger", {"event": "x"}),
        ("router/event/trigger", {"event": "by/client"}),
        ("router/event/trigger", {"event": "by/client/webhook"}),
    ],
)
async def test_a_printer_that_nobody_may_touch_is_not_touched_in_any_way(
    nursery: trio.Nursery, method: str, params: dict[str, Any]
) -> None:
    bench = await started(nursery, **UNTOUCHED)
    main, _ = bench
    main.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    client = bench.client()
    await client.request("router/event/subscribe", event="by/client", gcode="MOVE", callback_target="main")
    webhook = {"gcode": "pause_resume/pause", "callback_target": "main", "callback_type": "webhook"}
    await client.request("router/event/subscribe", event="by/client/webhook", **webhook)
    before = len(main.requests)
    await client.send(
        {"id": 7, "method": method, "params": {**({} if "event" in params else {"target": "main"}), **params}}
    )
    message = client.received[-1]["error"]["message"]
    assert "refused: clients is not in " in message
    assert main.ran == []
    assert [request["params"]["script"][:7] for request in main.requests[before:]] == ["RESPOND"]  # the refusal itself
    assert main.console[-1].startswith("!! router: refused to client ")
    assert refused(bench) == 1


async def test_what_a_printer_asks_of_itself_passes_its_own_policy(nursery: trio.Nursery) -> None:
    bench = await started(nursery, **UNTOUCHED, deny_gcode=["*"], allow_endpoints=[])
    main, _ = bench
    main.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    main.call_remote("router/event/trigger", event="x")
    main.call_remote("router/gcode/script", target="main", script="MOVE")
    main.call_remote("router/call", target="main", endpoint="pause_resume/pause")
    await settle()
    assert len(main.runs_of("MOVE")) == 2
    assert len(main.requests_of("pause_resume/pause")) == 1
    assert refused(bench) == 0


async def test_who_is_named_may_and_who_is_not_is_told_on_both_consoles(nursery: trio.Nursery) -> None:
    bench = await started(nursery, gcode_from=["clients"])
    main, led = bench
    assert await bench.client().request("router/gcode/script", target="main", script="MOVE") == {}
    led.call_remote("router/gcode/script", target="main", script="MOVE", error_callback="STOP")
    await settle()
    why = "led is not in gcode_from of [klippy main]"
    assert led.console == [f"!! router: router/gcode/script to main: refused: {why}"]
    assert main.console == [f"!! router: refused to led: {why}"]
    assert led.runs_of("STOP")[0]["ERROR"] == f"refused: {why}"
    assert len(main.runs_of("MOVE")) == 1


@pytest.mark.parametrize(
    ("options", "script", "why"),
    [
        ({"allow_gcode": ["M117", "SET_*"]}, "M117 hello", None),
        ({"allow_gcode": ["M117", "SET_*"]}, "set_led led=x ; and a comment", None),
        ({"allow_gcode": ["M117", "SET_*"]}, "M117 a\nMOVE", "MOVE is not in allow_gcode of [klippy main]"),
        ({"deny_gcode": ["M112", "STO?"]}, "MOVE\n  stop", "STOP is in deny_gcode of [klippy main]"),
        ({"allow_gcode": ["*"], "deny_gcode": ["MOVE"]}, "N5 MOVE", "MOVE is in deny_gcode of [klippy main]"),
    ],
)
async def test_only_allowed_commands_run(
    nursery: trio.Nursery, options: dict[str, list[str]], script: str, why: str | None
) -> None:
    bench = await started(nursery, **options)
    answer = await bench.client().request("router/gcode/script", target="main", script=script)
    assert answer == ({} if why is None else f"refused: {why}")
    main = bench.klippys["main"]
    assert (script in main.scripts) == (why is None)
    assert main.ran == ([] if why is not None or "SET" not in script.upper() else [("SET_LED", {"LED": "x"})])


async def test_a_filled_handler_is_checked_by_whoever_registered_it(nursery: trio.Nursery) -> None:
    bench = await started(nursery, allow_gcode=["SET_*"])
    main, led = bench
    led.call_remote("router/event/subscribe", event="x", gcode="SET_LED LED={n}", callback_target="main")
    led.call_remote("router/event/subscribe", event="y", gcode="MOVE N={n}", callback_target="main")
    led.call_remote("router/event/trigger", event="x", context={"n": 1})
    led.call_remote("router/event/trigger", event="y", context={"n": 1})
    await settle()
    assert main.ran == [("SET_LED", {"LED": "1"})]
    assert refused(bench) == 1


async def test_a_refused_handler_does_not_keep_the_others_from_running(nursery: trio.Nursery) -> None:
    bench = await started(nursery, events_from=[])
    main, led = bench
    for klippy in (main, led):
        klippy.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    answer = await bench.client().request("router/event/trigger", event="x")
    assert answer == "event x: handler of main: refused: clients is not in events_from of [klippy main]"
    assert len(led.runs_of("MOVE")) == 1
    assert main.ran == []


async def test_following_a_printer_that_nobody_may_touch_goes_on(nursery: trio.Nursery) -> None:
    bench = await started(nursery, **UNTOUCHED)
    main, led = bench
    main.change("print_stats", state="standby")
    led.call_remote(
        "router/objects/subscribe", target="main", objects={"print_stats": ["state"]}, gcode_callback="MOVE"
    )
    await settle()
    assert led.runs_of("MOVE") == [{"PRINT_STATS_STATE": "standby"}]
    assert main.console == []


async def test_rules_that_are_made_while_a_script_waits_hold_for_it(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _ = bench
    main.hold("gcode/script")
    client = bench.client()
    scripts = [{"target": "main", "script": "MOVE"}] * 5 + [{"target": "main", "script": "SET_LED", "wait": 3600}]
    await client.send(*({"id": n, "method": "router/gcode/script", "params": each} for n, each in enumerate(scripts)))
    assert main.held("gcode/script") == 4
    bench.reconfigure(main={"gcode_from": ["led"], "deny_gcode": ["MOVE"]}, led={})
    main.release("gcode/script")
    await settle()
    assert len(client.received) == len(scripts)
    answers = {frame["id"]: frame.get("error", {}).get("message") for frame in client.received}
    why = "refused: clients is not in gcode_from of [klippy main]"
    assert answers == dict.fromkeys(range(4)) | {4: why, 5: why}
    assert len(main.runs_of("MOVE")) == 4
    assert main.runs_of("SET_LED") == []
    assert refused(bench) == 2


async def test_a_printer_is_not_kept_busy_by_being_told_what_it_refuses(nursery: trio.Nursery) -> None:
    bench = await started(nursery, **UNTOUCHED)
    main, led = bench

    async def ask(times: int) -> None:
        for _ in range(times):
            client = bench.client()  # each time another one, with another name
            assert "refused" in await client.request("router/gcode/script", target="main", script="MOVE")

    await ask(50)
    assert len(main.scripts) == len(main.console) == 1
    led.call_remote("router/gcode/script", target="main", script="MOVE")  # somebody else is told of
    await settle()
    assert main.console[1:] == ["!! router: refused to led: led is not in gcode_from of [klippy main]"]
    await trio.sleep(REFUSALS_TOLD_EVERY_S)
    await ask(50)
    (line,) = main.console[2:]
    assert line.endswith("clients is not in gcode_from of [klippy main] (and 49 more to clients before)")
    assert refused(bench) == 101
