"""G-code from one printer to another: order, bounds, and what is told when it cannot run."""

from __future__ import annotations

import trio

from klipper_router import script_queue
from test.memory.bench import Bench, settle
from test.memory.scripts import numbers, run, started


async def test_a_script_runs_on_the_target_as_it_was_written(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    script = "MOVE A=1 ; comment\n  MOVE B='x # y'\nM118 it's * here"
    run(main, "led", script)
    await settle()
    assert led.scripts == [script]
    assert led.ran == [("MOVE", {"A": "1"}), ("MOVE", {"B": "x # y"})]
    assert main.console == []


async def test_the_default_instance_is_the_target_when_none_is_named(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", default="main")
    main, led = bench
    led.call_remote("router/gcode/script", script="MOVE")
    await settle()
    assert main.runs_of("MOVE") == [{}]


async def test_gcode_callback_tells_when_the_script_is_done(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    run(main, "led", "MOVE", gcode_callback="DONE")
    await trio.sleep(3600)
    assert main.ran == []
    assert len(led.dials) == 1  # a busy Klippy answers all else, so its link is no silent one
    led.release("gcode/script")
    await settle()
    assert main.ran == [("DONE", {})]


async def test_500_scripts_arrive_in_order_through_a_busy_target_and_none_is_lost(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    led.hold("gcode/script")
    for number in range(500):
        run(main, "led", f"MOVE N={number}")
    await settle()
    assert led.held("gcode/script") == script_queue.WINDOW  # the rest waits in the router
    run(main, "afc", "MOVE N=0")
    await settle()
    assert numbers(afc) == [0]  # a slow target delays nobody else
    for _ in range(100):
        led.let_go("gcode/script")
        await trio.sleep(0.1)
    led.release("gcode/script")
    await settle()
    assert numbers(led) == list(range(500))
    assert main.console == []


async def test_scripts_hooks_events_and_callbacks_for_one_printer_keep_the_order_of_their_causes(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    await settle()
    led.hold("gcode/script")
    for number in range(0, 40, 2):
        run(main, "led", f"MOVE N={number}")
        main.call_remote("router/event/trigger", event="x", context={"n": number + 1})
    await settle()
    led.release("gcode/script")
    await settle()
    assert numbers(led) == list(range(40))


async def test_a_full_queue_is_an_error_to_the_caller_and_nothing_else_is_lost(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    more = 7
    room = script_queue.WINDOW + script_queue.MAX_SCRIPTS
    for number in range(room + more):
        run(main, "led", f"MOVE N={number}", error_callback="FAILED")
    await settle()
    errors = [parameters["ERROR"] for parameters in main.runs_of("FAILED")]
    assert len(errors) == more
    assert all("its queue is full (1000 scripts," in error for error in errors)
    led.release("gcode/script")
    await settle()
    assert numbers(led) == list(range(room))


async def test_the_queue_is_bounded_in_bytes_too(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    megabyte = "M118 " + "x" * 1_000_000
    for _ in range(20):
        run(main, "led", megabyte)
    await settle()
    assert len(bench.router.printers["led"].scripts) == 12  # 4 under way, 8 wait
    assert sum("queue is full" in line for line in main.console) == 8


async def test_a_script_that_fails_does_not_stop_the_next(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    run(main, "led", "MOVE N='", error_callback="FAILED")
    run(main, "led", "MOVE N=1")
    await settle()
    assert numbers(led) == [1]
    assert main.runs_of("FAILED") == [
        {"ERROR": "Malformed command 'MOVE N=''", "METHOD": "router/gcode/script", "TARGET": "led"}
    ]


async def test_scripts_are_refused_at_once_while_the_target_is_away(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.die()
    await settle()
    run(main, "led", "MOVE")
    await settle()
    assert main.console == ["!! router: router/gcode/script to led: led is not connected: closed by Klipper"]
    led.live()
    await trio.sleep(3)
    assert led.ran == []


async def test_scripts_under_way_or_waiting_fail_when_the_target_goes_away(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    for number in range(10):
        run(main, "led", f"MOVE N={number}", error_callback="FAILED")
    await settle()
    led.die()
    await settle()
    assert [parameters["ERROR"] for parameters in main.runs_of("FAILED")] == [
        "connection to led lost: closed by Klipper"
    ] * 10
    led.live()
    await trio.sleep(3)
    assert led.ran == []


async def test_klippers_own_refusal_while_it_is_not_ready_reaches_the_caller(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.become("shutdown", "MCU 'mcu' shutdown: Timer too close\nOnce the underlying issue is corrected, use RESTART")
    await settle()
    run(main, "led", "MOVE")
    await settle()
    (line,) = main.console
    assert line.startswith("!! router: router/gcode/script to led: MCU 'mcu' shutdown: Timer too close Once the")


async def test_nothing_of_a_printers_last_life_is_run_in_its_next(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, _ = bench
    main.hold("gcode/script")
    run(main, "main", "MOVE N=1", gcode_callback="DONE", error_callback="FAILED")
    run(main, "ghost", "MOVE N=2", error_callback="FAILED")
    await settle()
    main.restart()
    await trio.sleep(5)
    assert main.ran == []
    assert main.console == []
    assert len(bench.router.printers["main"].scripts) == 0


async def test_scripts_that_cannot_be_sent_fail_one_by_one(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.define("FAILED")
    led.define("MOVE")
    led.become("startup")
    await bench.start()
    led.hold("x")
    for number in range(600):
        run(main, "led", f"MOVE N={number}", wait=1000)
    printer = bench.router.printers["led"]
    failed: list[object] = []
    await settle()
    while not failed:
        printer.call("x", {}, failed.append)
    await settle()
    led.become("ready")
    await settle()
    assert "calls to led wait for an answer already" in main.console[-1]
    led.release("x")
    await settle()
    run(main, "led", "MOVE N=1000")
    await settle()
    assert numbers(led)[-1] == 1000
