"""What a printer's life sets off: on_connect, the ROUTER_ON macros, each told once and in order."""

from __future__ import annotations

import pytest
import trio

from klipper_router import script_queue
from klipper_router.remote_methods import METHODS
from test.memory.bench import Bench, settle
from test.memory.scripted_klippy import Json, Refusal, ScriptedKlippy

HOOKS = ("ROUTER_ON_READY", "ROUTER_ON_CONNECTED", "ROUTER_ON_DISCONNECTED", "ROUTER_ON_STATE")


def _bench(nursery: trio.Nursery, *names: str) -> Bench:
    bench = Bench(nursery, *names)
    for klippy in bench:
        klippy.define(*HOOKS)
    return bench


async def test_on_ready_runs_once_and_connected_is_told_once_in_both_directions(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    await trio.sleep(100)
    assert main.ran == [("ROUTER_ON_READY", {}), ("ROUTER_ON_CONNECTED", {"PRINTER": "led"})]
    assert led.ran == [("ROUTER_ON_READY", {}), ("ROUTER_ON_CONNECTED", {"PRINTER": "main"})]


async def test_many_that_become_ready_at_once_are_told_of_each_other_exactly_once(nursery: trio.Nursery) -> None:
    names = [f"p{number}" for number in range(6)]
    bench = _bench(nursery, *names)
    for klippy in bench:
        klippy.become("startup")
    await bench.start()
    assert all(not klippy.ran for klippy in bench)
    for klippy in bench:
        klippy.become("ready")
    await settle()
    for klippy in bench:
        assert klippy.ran[0] == ("ROUTER_ON_READY", {})
        told = [parameters["PRINTER"] for parameters in klippy.runs_of("ROUTER_ON_CONNECTED")]
        assert sorted(told) == [name for name in names if name != klippy.name]


async def test_nobody_hears_of_a_printer_before_its_own_on_ready_is_done(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.hold("gcode/script")
    await bench.start()
    await trio.sleep(60)
    assert led.ran == [("ROUTER_ON_READY", {})]
    main.let_go("gcode/script")
    await settle()
    assert main.ran == [("ROUTER_ON_READY", {})]
    assert led.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "main"}]


async def test_a_printer_without_on_ready_is_announced_all_the_same(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.define("ROUTER_ON_CONNECTED")
    await bench.start()
    assert main.ran == [("ROUTER_ON_CONNECTED", {"PRINTER": "led"})]
    assert led.scripts == []


async def test_an_on_ready_that_fails_announces_the_printer_all_the_same(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    await bench.start()
    assert led.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "main"}]


async def test_printers_without_the_macros_see_no_unknown_command_noise(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    main.become("shutdown")
    await settle()
    main.restart()
    await trio.sleep(10)
    assert main.console == led.console == []
    assert main.scripts == led.scripts == []


async def test_macros_are_looked_up_again_when_klippy_comes_back(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    main.define("ROUTER_ON_READY")
    main.restart()
    await trio.sleep(3)
    assert main.ran == [("ROUTER_ON_READY", {})]


async def test_macros_are_known_though_klippy_was_connected_to_in_startup(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.become("startup")
    await bench.start()
    main.define("ROUTER_ON_READY")
    main.become("ready")
    await settle()
    assert main.ran == [("ROUTER_ON_READY", {})]


async def test_on_connect_runs_each_time_before_on_ready(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", main="M118 Router connected\nM118 second line")
    (main,) = bench
    main.define("ROUTER_ON_READY")
    await bench.start()
    for lives in (1, 2, 3):
        assert main.scripts == ["M118 Router connected\nM118 second line", "ROUTER_ON_READY"] * lives
        main.restart()
        await trio.sleep(3)


async def test_on_connect_waits_until_the_printer_is_ready(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", main="M118 hello")
    (main,) = bench
    main.become("startup")
    await bench.start()
    await trio.sleep(20)
    assert main.scripts == []
    main.become("ready")
    await settle()
    assert main.console == ["echo: hello"]


async def test_a_failing_on_connect_stops_nothing(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led", main="HOME AXIS='")
    main, led = bench
    main.define("ROUTER_ON_READY", "HOME")
    led.define("ROUTER_ON_CONNECTED")
    await bench.start()
    assert main.ran == [("ROUTER_ON_READY", {})]
    assert led.ran == [("ROUTER_ON_CONNECTED", {"PRINTER": "main"})]


async def test_states_of_a_printer_are_told_to_the_others(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    led.ran.clear()
    main.become("shutdown", "MCU 'mcu' shutdown: it is \"hot\"")
    await settle()
    assert led.ran == [("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "shutdown"})]
    main.die()
    await settle()
    assert led.ran[1:] == [("ROUTER_ON_DISCONNECTED", {"PRINTER": "main"})]
    led.ran.clear()
    main.live("startup")
    await trio.sleep(1)
    main.become("error", "Option 'x' is not valid")
    await settle()
    main.die()
    await trio.sleep(5)
    main.live("startup")
    await bench.until_state("main", "startup", 2)
    main.become("ready")
    await settle()
    assert led.ran == [
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "startup"}),
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "error"}),
        ("ROUTER_ON_DISCONNECTED", {"PRINTER": "main"}),
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "startup"}),
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "ready"}),
        ("ROUTER_ON_CONNECTED", {"PRINTER": "main"}),
    ]


async def test_a_printer_that_comes_back_is_told_again_of_those_that_are_ready(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    main.ran.clear()
    led.ran.clear()
    main.restart()
    await trio.sleep(3)
    assert main.ran == [("ROUTER_ON_READY", {}), ("ROUTER_ON_CONNECTED", {"PRINTER": "led"})]
    assert led.ran == [
        ("ROUTER_ON_DISCONNECTED", {"PRINTER": "main"}),
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "ready"}),
        ("ROUTER_ON_CONNECTED", {"PRINTER": "main"}),
    ]


async def test_a_printer_whose_socket_stays_away_is_told_as_gone_once(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    main.die()
    await trio.sleep(1000)
    assert led.runs_of("ROUTER_ON_DISCONNECTED") == [{"PRINTER": "main"}]


async def test_nobody_is_told_of_a_printer_that_was_never_there(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.refuses = FileNotFoundError(2, "No such file or directory")
    await bench.start()
    await trio.sleep(1000)
    assert led.ran == [("ROUTER_ON_READY", {})]


async def test_a_state_that_changed_between_info_and_the_subscription_is_noticed(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main")
    (main,) = bench
    main.become("startup")
    main.hold("objects/subscribe")
    await bench.start()
    main.become("ready")
    await settle()
    assert bench.state("main") == "startup"
    main.release("objects/subscribe")
    await settle()
    assert bench.state("main") == "ready"
    assert main.ran == [("ROUTER_ON_READY", {})]


async def test_a_macro_may_call_the_router_while_it_is_still_in_startup(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    led.define("BLINK")
    main.become("startup")
    await bench.start()
    main.call_remote("router/gcode/script", target="led", script="BLINK")
    await settle()
    assert led.runs_of("BLINK") == [{}]


async def test_an_event_triggered_in_connected_finds_the_handlers_of_on_ready(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench

    def subscribe(klippy: ScriptedKlippy) -> None:
        klippy.define("HELLO")
        klippy.define(
            "ROUTER_ON_READY",
            act=lambda _: klippy.call_remote("router/event/subscribe", event=f"hello/{klippy.name}", gcode="HELLO"),
        )
        klippy.define(
            "ROUTER_ON_CONNECTED",
            act=lambda parameters: klippy.call_remote("router/event/trigger", event=f"hello/{parameters['PRINTER']}"),
        )

    subscribe(main)
    subscribe(led)
    await bench.start()
    assert main.runs_of("HELLO") == [{}]
    assert led.runs_of("HELLO") == [{}]
    assert main.console == led.console == []


@pytest.mark.parametrize(
    "moment", ["info", "register_remote_method", "gcode/help", "objects/subscribe", "gcode/script"]
)
async def test_a_loss_at_any_moment_of_the_beginning_is_recovered_from(nursery: trio.Nursery, moment: str) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.hold(moment)
    await bench.start()
    assert main.held(moment) > 0
    main.die()
    await trio.sleep(5)
    main.ran.clear()
    led.ran.clear()
    main.live()
    await trio.sleep(2)
    assert main.ran == [("ROUTER_ON_READY", {}), ("ROUTER_ON_CONNECTED", {"PRINTER": "led"})]
    assert led.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "main"}]


async def test_each_answer_and_the_end_of_file_in_one_piece_are_recovered_from(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.hold("info")
    await bench.start()
    main.release("info")
    main.die()
    await trio.sleep(5)
    main.live()
    await trio.sleep(2)
    assert bench.state("main") == "ready"
    assert led.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "main"}]


# -- a busy printer ------------------------------------------------------------------------------------------------


async def test_on_ready_runs_and_the_printer_is_announced_though_its_queue_is_full_of_waiting_scripts(
    nursery: trio.Nursery,
) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    led.define("MOVE")
    led.become("startup")
    await bench.start()
    for number in range(script_queue.MAX_SCRIPTS + 1):
        main.call_remote("router/gcode/script", target="led", script=f"MOVE N={number}", wait=60)
    await settle()
    assert "led: its queue is full" in main.console[0]
    assert led.scripts == []
    led.become("ready")
    await settle()
    assert led.ran[0] == ("ROUTER_ON_READY", {})
    assert [run["N"] for run in led.runs_of("MOVE")] == [str(number) for number in range(script_queue.MAX_SCRIPTS)]
    assert led.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "main"}]
    assert main.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "led"}]


async def test_a_busy_printer_is_told_only_the_newest_of_one_that_comes_and_goes(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led", "afc")
    main, led, _ = bench
    await bench.start()
    led.define("MOVE")
    led.ran.clear()
    led.hold("gcode/script")
    for _ in range(script_queue.WINDOW):
        main.call_remote("router/gcode/script", target="led", script="MOVE")
    await settle()
    longest = 0
    for _ in range(100):
        main.die()
        await trio.sleep(5)
        main.live()
        await bench.until_state("main", "ready", 2)
        longest = max(longest, len(bench.router.printers["led"].scripts))
    assert longest == script_queue.WINDOW + 3  # gone, its state, connected
    led.release("gcode/script")
    await settle()
    assert led.ran[script_queue.WINDOW :] == [
        ("ROUTER_ON_DISCONNECTED", {"PRINTER": "main"}),
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "ready"}),
        ("ROUTER_ON_CONNECTED", {"PRINTER": "main"}),
    ]


async def test_the_last_thing_that_a_busy_printer_is_told_of_another_is_how_it_is_now(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    led.ran.clear()
    led.hold("gcode/script")
    main.become("shutdown")  # under way already: told all the same
    await settle()
    for _ in range(3):
        main.restart()
        await trio.sleep(10)
        main.become("shutdown")
        await settle()
    main.die()
    await settle()
    led.release("gcode/script")
    await settle()
    assert led.ran[0] == ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "shutdown"})
    assert led.ran[-3:] == [
        ("ROUTER_ON_CONNECTED", {"PRINTER": "main"}),
        ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "shutdown"}),
        ("ROUTER_ON_DISCONNECTED", {"PRINTER": "main"}),
    ]


async def test_hooks_about_different_printers_do_not_take_each_others_place(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led", "afc")
    main, led, afc = bench
    await bench.start()
    led.ran.clear()
    led.hold("gcode/script")
    for _ in range(5):
        for klippy in (main, afc):
            klippy.die()
            await trio.sleep(5)
            klippy.live()
            await trio.sleep(5)
    led.release("gcode/script")
    await settle()
    for name in ("main", "afc"):
        assert [macro for macro, parameters in led.ran if parameters["PRINTER"] == name][-3:] == [
            "ROUTER_ON_DISCONNECTED",
            "ROUTER_ON_STATE",
            "ROUTER_ON_CONNECTED",
        ]


async def test_a_hook_that_failed_is_run_the_next_time(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    await bench.start()
    led.ran.clear()
    led.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    main.become("shutdown")
    await settle()
    assert led.ran == []
    led.raw_answers.clear()
    main.become("ready")
    await settle()
    assert led.ran[0] == ("ROUTER_ON_STATE", {"PRINTER": "main", "STATE": "ready"})


# -- a Klippy that is not quite one ----------------------------------------------------------------------------------


async def test_a_method_that_a_klippy_refuses_to_register_costs_no_other(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    led.define("MOVE")

    def register(params: Json) -> Json:
        if params["remote_method"] == "router/call":
            raise Refusal("Remote method 'router/call' is taken")
        main.connections[0].methods[params["remote_method"]] = params["response_template"]
        return {}

    main.answers["register_remote_method"] = register
    await bench.start()
    assert set(main.connections[0].methods) == set(METHODS) - {"router/call"}
    main.call_remote("router/gcode/script", target="led", script="MOVE")
    await settle()
    assert led.runs_of("MOVE") == [{}]


@pytest.mark.parametrize("answer", [b'{"id": %d, "result": [1]}', b'{"id": %d, "error": {"message": "no"}}'])
async def test_a_printer_whose_macros_cannot_be_learnt_is_announced_and_runs_none(
    nursery: trio.Nursery, answer: bytes
) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.raw_answers["gcode/help"] = answer
    await bench.start()
    assert led.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "main"}]
    assert main.scripts == []


async def test_a_printer_that_is_ready_no_more_when_its_macros_are_learnt_is_not_greeted(nursery: trio.Nursery) -> None:
    bench = _bench(nursery, "main", "led")
    main, led = bench
    main.hold("gcode/help")
    await bench.start()
    main.become("shutdown")
    await settle()
    main.release("gcode/help")
    await settle()
    assert main.scripts == []
    assert led.runs_of("ROUTER_ON_CONNECTED") == []


async def test_a_message_that_nobody_asked_for_is_skipped_with_its_name(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench = _bench(nursery, "main")
    (main,) = bench
    await bench.start()
    main.connections[0].send({"method": "process_gcode_response", "params": {"response": "// hello"}})
    await settle()
    assert "main: skipped a message that nobody asked for: 'process_gcode_response'" in caplog.messages
    assert len(main.dials) == 1
