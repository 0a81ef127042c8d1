"""Events: who handles what in which order, how a context arrives, and what is told when a handler cannot run."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from klipper_router import events, template
from test.memory.bench import Bench, settle
from test.memory.scripted_klippy import ScriptedKlippy


def subscribe(klippy: ScriptedKlippy, event: str, gcode: str, **more: Any) -> None:
    klippy.call_remote("router/event/subscribe", event=event, gcode=gcode, **more)


def trigger(klippy: ScriptedKlippy, event: str, *context: Any) -> None:
    klippy.call_remote("router/event/trigger", event=event, **({"context": context[0]} if context else {}))


async def started(nursery: trio.Nursery, *names: str) -> Bench:
    bench = Bench(nursery, *names)
    for klippy in bench:
        klippy.define("H", "H_A", "H_B", "H_C")
    await bench.start()
    return bench


async def test_handlers_run_in_the_order_of_their_registration(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    for macro in ("H_C", "H_A", "H_B", "H_C"):  # the same one again keeps its place
        subscribe(led, "x", macro)
    await settle()
    trigger(main, "x")
    await settle()
    assert [name for name, _ in led.ran] == ["H_C", "H_A", "H_B"]


async def test_a_handler_registered_again_runs_once(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    for _ in range(5):
        subscribe(led, "led/status_ready", "H")
    await settle()
    trigger(main, "led/status_ready")
    await settle()
    assert led.runs_of("H") == [{}]


@pytest.mark.parametrize(
    "context",
    [{"lane": 1, "length": 1200}, "lane=1,length=1200", " lane = 1 , length=1200,", {"lane": "1", "length": "1200"}],
)
async def test_a_context_is_appended_whether_it_is_a_map_or_a_text(nursery: trio.Nursery, context: Any) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H FIXED=1")
    await settle()
    trigger(main, "x", context)
    await settle()
    assert led.runs_of("H") == [{"FIXED": "1", "LANE": "1", "LENGTH": "1200"}]


async def test_values_of_a_context_arrive_exactly(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H")
    await settle()
    context = {
        "text": "it's \"quoted\" \\ # ; * = {braces} é 🖨 '; M112",
        "yes": True,
        "none": None,
        "list": [1, "a b"],
        "map": {"k": "v"},
        "number": 1.50,
        "odd key!": "x",
    }
    trigger(main, "x", context)
    await settle()
    assert led.runs_of("H") == [
        {
            "TEXT": context["text"],
            "YES": "True",
            "NONE": "None",
            "LIST": '[1,"a b"]',
            "MAP": '{"k":"v"}',
            "NUMBER": "1.5",
            "ODD_KEY_": "x",
        }
    ]
    assert led.console == []


async def test_placeholders_are_filled(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H LANE={lane} MSG='lane {lane}: {why}'\nM118 {why}")
    await settle()
    trigger(main, "x", {"lane": 2, "why": "it's empty; \n M112", "unused": 1})
    await settle()
    assert led.runs_of("H") == [{"LANE": "2", "MSG": "lane 2: it's empty;   M112"}]
    assert led.console == ["echo: it's empty;   M112"]


async def test_a_placeholder_that_the_context_lacks_is_an_error_on_the_triggers_console(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H LANE={lane}")
    subscribe(led, "x", "H_A")
    await settle()
    trigger(main, "x", {"lame": 2})
    await settle()
    assert [name for name, _ in led.ran] == ["H_A"]
    (line,) = main.console
    assert line.startswith("!! router: router/event/trigger: event x: handler of led: the handler needs {lane}")


async def test_a_handler_may_run_on_another_printer(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    subscribe(main, "x", "H", callback_target="afc")
    await settle()
    trigger(led, "x", {"a": 1})
    await settle()
    assert (main.ran, led.ran, afc.ran) == ([], [], [("H", {"A": "1"})])


async def test_a_webhook_handler_calls_the_endpoint_with_the_context(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.answers["pause_resume/pause"] = lambda _: {}
    subscribe(led, "dryer/dead", "pause_resume/pause", callback_target="main", callback_type="webhook")
    await settle()
    trigger(led, "dryer/dead", "why=fire")
    await settle()
    assert main.requests_of("pause_resume/pause") == [{"why": "fire"}]


async def test_a_webhook_that_fails_is_told_to_its_owner(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "pause_resume/pause", callback_target="main", callback_type="webhook")
    await settle()
    trigger(main, "x")
    await settle()
    assert led.console == [
        "!! router: event x: handler on main: webhooks: No registered callback for path 'pause_resume/pause'"
    ]


async def test_a_gcode_handler_that_fails_is_told_to_its_owner_unless_it_failed_on_its_own_console(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H A={a}")
    subscribe(led, "x", "H B={a}", callback_target="main")
    await settle()
    for klippy in bench:
        klippy.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    main.hold("gcode/script")
    led.hold("gcode/script")
    trigger(main, "x", "a=1")
    await settle()
    led.let_go("gcode/script")
    led.raw_answers.clear()
    main.release("gcode/script")
    led.release("gcode/script")
    await settle()
    assert led.console == ["!! router: event x: handler on main: Must home first"]
    assert "led: event x: handler on led: Must home first" in caplog.messages


async def test_a_handler_of_a_builtin_event_that_cannot_run_is_logged_and_the_others_run(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "router/disconnected", "H_A", callback_target="main")
    subscribe(led, "router/disconnected", "H_B")
    await settle()
    main.die()
    await settle()
    assert led.runs_of("H_B") == [{"PRINTER": "main"}]
    problem = "event router/disconnected: handler of led: main is not connected: closed by Klipper"
    assert problem in caplog.messages
    assert led.console == main.console == []


async def test_a_webhook_handler_on_a_printer_that_is_not_connected_is_told_to_whoever_triggers(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    main.define("FAILED")
    subscribe(led, "x", "pause_resume/pause", callback_target="afc", callback_type="webhook")
    await settle()
    afc.die()
    await settle()
    why = "event x: handler of led: afc is not connected: closed by Klipper"
    main.call_remote("router/event/trigger", event="x", error_callback="FAILED")
    await settle()
    assert main.console == [f"!! router: router/event/trigger: {why}"]
    assert main.runs_of("FAILED") == [{"ERROR": why, "METHOD": "router/event/trigger", "TARGET": ""}]
    assert await bench.client().request("router/event/trigger", event="x") == why
    assert led.console == []


@pytest.mark.parametrize("endpoint", ["motion_report/dump_stepper", "objects/subscribe"])
async def test_a_client_cannot_make_a_handler_of_what_streams_or_breaks_the_connection(
    nursery: trio.Nursery, endpoint: str
) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    handler = {"event": "x", "gcode": endpoint, "callback_type": "webhook", "callback_target": "main"}
    assert (await client.request("router/event/subscribe", **handler)).startswith(f"main: {endpoint} ")
    assert await client.request("router/event/trigger", event="x") == {"handlers": 0}


async def test_a_handler_whose_gcode_is_too_long_is_refused_and_not_registered(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    subscribe(main, "x", "H A='" + "{a}" * template.MAX_GCODE_CHARACTERS + "'")
    await settle()
    assert main.console == [
        "!! router: router/event/subscribe to main: gcode of 48006 characters is too long, 16000 are the most"
    ]
    trigger(main, "x")
    await settle()
    assert main.ran == []


async def test_a_handler_of_thousands_of_placeholders_is_run(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H " + " ".join(f"A{i}={{a}}" for i in range(1500)))
    await settle()
    trigger(main, "x", {"a": "it's"})
    await settle()
    assert led.runs_of("H") == [{f"A{i}": "it's" for i in range(1500)}]


async def test_an_event_that_grows_too_long_with_its_values_is_told_to_whoever_triggers(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "H A='" + "{a}" * 5000 + "'")
    await settle()
    trigger(main, "x", {"a": "x" * 1_000_000})
    await settle()
    assert "event x: handler of led: with its values the gcode is too long" in main.console[0]
    assert led.ran == []


async def test_scripts_of_webhook_handlers_keep_their_order_with_others(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(led, "x", "gcode/script", callback_target="main", callback_type="webhook")
    await settle()
    main.hold("gcode/script")
    for number in range(20):
        led.call_remote("router/gcode/script", target="main", script=f"H N={2 * number}")
        trigger(led, "x", {"script": f"H N={2 * number + 1}"})
    await settle()
    main.release("gcode/script")
    await settle()
    assert [run["N"] for run in main.runs_of("H")] == [str(number) for number in range(40)]


@pytest.mark.parametrize("endpoint", ["objects/subscribe", "gcode/subscribe_output", "register_remote_method"])
async def test_a_webhook_that_would_break_the_connection_is_refused(nursery: trio.Nursery, endpoint: str) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    before = len(main.requests)
    subscribe(main, "x", endpoint, callback_type="webhook")
    await settle()
    assert f"{endpoint} cannot be called through the router" in main.console[0]
    trigger(main, "x")
    await settle()
    assert {request["method"] for request in main.requests[before:]} == {"gcode/script"}


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"event": "x"}, "missing parameter 'gcode'"),
        ({"gcode": "H"}, "missing parameter 'event'"),
        ({"event": "x", "gcode": "H", "callback_type": "web"}, "parameter 'callback_type': 'web' is neither"),
        ({"event": "x", "gcode": "{macro} A=1"}, "{macro} stands in the place of a command"),
        ({"event": "x", "gcode": "H", "callback_target": "ghost"}, "no printer of that name, the router has main"),
        ({"event": 7, "gcode": "H"}, "parameter 'event'"),
    ],
)
async def test_a_handler_that_makes_no_sense_is_refused(nursery: trio.Nursery, params: Any, error: str) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.call_remote("router/event/subscribe", **params)
    await settle()
    assert error in main.console[0]
    assert bench.router.events.handlers("x") == []


async def test_a_context_that_is_neither_map_nor_text_is_refused(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    subscribe(main, "x", "H")
    for context in ("lane", "=1", "a=1,b", 7, [1]):
        trigger(main, "x", context)
    await settle()
    assert main.runs_of("H") == []
    assert len(main.console) == 5


async def test_a_target_that_is_not_ready_is_an_error_on_the_triggers_console_and_the_others_run(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    subscribe(main, "x", "H", callback_target="led")
    subscribe(main, "x", "H", callback_target="afc")  # the same gcode again: it replaces the first
    subscribe(main, "x", "H_A", callback_target="led")
    await settle()
    led.become("shutdown", "MCU 'mcu' shutdown")
    await settle()
    trigger(afc, "x")
    await settle()
    assert afc.runs_of("H") == [{}]
    assert afc.console == [
        "!! router: router/event/trigger: event x: handler of main: led is not ready: shutdown, MCU 'mcu' shutdown"
    ]


async def test_a_handler_that_fails_on_another_printer_is_told_to_its_owner(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    subscribe(main, "x", "H", callback_target="led")
    await settle()
    trigger(led, "x")
    await settle()
    assert main.console == ["!! router: event x: handler on led: Must home first"]
    assert led.console == []


async def test_unsubscribing_ends_one_handler_or_all_of_the_callers(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    for klippy in bench:
        for macro in ("H_A", "H_B"):
            subscribe(klippy, "x", macro)
    await settle()
    led.call_remote("router/event/unsubscribe", event="x", gcode="H_A")
    main.call_remote("router/event/unsubscribe", event="x")
    main.call_remote("router/event/unsubscribe", event="never heard of")
    await settle()
    trigger(main, "x")
    await settle()
    assert led.ran == [("H_B", {})]
    assert main.ran == []
    assert main.console == []


async def test_handlers_end_with_the_socket_of_their_owner(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    subscribe(main, "x", "H", callback_target="led")
    subscribe(led, "x", "H_A")
    await settle()
    main.restart()
    await trio.sleep(3)
    trigger(main, "x")
    await settle()
    assert led.ran == [("H_A", {})]


async def test_the_built_in_events_bear_the_printers_name(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    names = [f"router/{name}" for name in ("connected", "ready", "shutdown", "error", "disconnected")]
    for name in names:
        subscribe(led, name, f"H EVENT={name}")
    await settle()
    main.become("shutdown")
    await settle()
    main.die()
    await trio.sleep(3)
    main.live("error")
    await trio.sleep(3)
    main.die()
    await trio.sleep(3)
    main.live("startup")
    await trio.sleep(3)
    main.become("ready")
    await settle()
    told = [run["EVENT"].removeprefix("router/") for run in led.runs_of("H")]
    assert told == ["shutdown", "disconnected", "connected", "error", "disconnected", "connected", "ready"]
    assert all(run["PRINTER"] == "main" for run in led.runs_of("H"))


async def test_a_macro_cannot_fill_the_memory_with_handlers(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    for number in range(events.MAX_HANDLERS_PER_CALLER + 1):
        subscribe(main, f"event {number}", "H")
    await settle()
    assert len(main.console) == 1
    assert "500 event handlers are registered already" in main.console[0]


async def test_an_event_that_triggers_itself_holds_nobody_up(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    rounds = 0

    def again(parameters: dict[str, str]) -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 100:
            trigger(main, "x")

    main.define("AGAIN", act=again)
    subscribe(main, "x", "AGAIN")
    subscribe(led, "x", "H")
    await settle()
    trigger(main, "x")
    await settle()
    assert len(led.runs_of("H")) == 100
