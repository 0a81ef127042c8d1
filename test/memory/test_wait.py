"""Scripts that wait for their target to become ready."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from klipper_router import script_queue
from test.memory.bench import Bench, settle
from test.memory.scripts import numbers, run, started


async def test_wait_holds_a_script_until_the_target_is_ready(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    led.define("MOVE", "ROUTER_ON_READY")
    led.become("startup")
    await bench.start()
    run(main, "led", "MOVE N=1", wait=60)
    run(main, "led", "MOVE N=2", wait="60")  # numbers may come as text
    await trio.sleep(50)
    assert led.scripts == []
    led.become("ready")
    await settle()
    assert numbers(led) == [1, 2]
    await trio.sleep(100)
    assert numbers(led) == [1, 2]
    assert main.console == []


async def test_wait_holds_a_script_until_the_target_is_connected(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    led.define("MOVE")
    led.refuses = FileNotFoundError(2, "No such file or directory")
    await bench.start()
    run(main, "led", "MOVE N=1", wait=60)
    await trio.sleep(50)
    led.live()
    await trio.sleep(2)
    assert numbers(led) == [1]


async def test_wait_expires_with_an_error(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.become("shutdown", "MCU 'mcu' shutdown")
    await settle()
    run(main, "led", "MOVE", wait=2.5, error_callback="FAILED")
    await trio.sleep(2.4)
    assert main.ran == []
    await trio.sleep(0.2)
    assert main.runs_of("FAILED") == [
        {
            "ERROR": "led was not ready within 2.5 s: MCU 'mcu' shutdown",
            "METHOD": "router/gcode/script",
            "TARGET": "led",
        }
    ]
    assert len(bench.router.printers["led"].scripts) == 0


async def test_wait_survives_a_reconnect(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.become("shutdown")
    await settle()
    run(main, "led", "MOVE N=1", wait=60)
    await settle()
    for _ in range(3):
        led.die()
        await trio.sleep(5)
        led.live("startup")
        await trio.sleep(5)
    led.become("ready")
    await settle()
    assert numbers(led) == [1]


async def test_a_waiting_script_on_a_busy_ready_printer_keeps_its_place_when_the_wait_is_over(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    for number in range(20):
        run(main, "led", f"MOVE N={number}", wait=1)
    await trio.sleep(100)
    led.release("gcode/script")
    await settle()
    assert numbers(led) == list(range(20))
    assert main.console == []


async def test_scripts_that_wait_are_run_in_order_when_the_target_becomes_ready(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    led.define("MOVE", "ROUTER_ON_READY")
    led.become("startup")
    await bench.start()
    for number in range(100):
        run(main, "led", f"MOVE N={number}", wait=60)
    await trio.sleep(1)
    led.become("ready")
    await settle()
    assert numbers(led) == list(range(100))


async def test_scripts_that_wait_run_after_on_connect_and_on_ready(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led", led="MOVE N=on_connect")
    main, led = bench
    led.define("MOVE", "ROUTER_ON_READY")
    led.refuses = FileNotFoundError(2, "No such file or directory")
    await bench.start()
    for number in range(3):
        run(main, "led", f"MOVE N={number}", wait=60)
    await trio.sleep(1)
    for life in range(2):
        led.live("startup")
        await trio.sleep(3)
        led.hold("gcode/script")
        led.become("ready")
        await settle()
        run(main, "led", "MOVE N=3", wait=60)
        await trio.sleep(3)
        assert led.held("gcode/script") == 2  # on_connect and ROUTER_ON_READY, and nothing that waits
        if life == 0:
            led.die()
            await trio.sleep(3)
    led.release("gcode/script")
    await settle()
    assert led.ran == [
        ("MOVE", {"N": "on_connect"}),
        ("ROUTER_ON_READY", {}),
        *[("MOVE", {"N": n}) for n in ("0", "1", "2", "3", "3")],
    ]
    assert main.console == []


async def test_a_wait_that_only_on_ready_outlasted_names_it(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.define("FAILED")
    led.define("MOVE", "ROUTER_ON_READY")
    led.hold("gcode/script")
    await bench.start()
    run(main, "led", "MOVE", wait=2, error_callback="FAILED")
    await trio.sleep(2.1)
    (failed,) = main.runs_of("FAILED")
    assert failed["ERROR"] == "led was not ready within 2 s: its ROUTER_ON_READY is not done"
    led.release("gcode/script")
    await settle()
    assert led.ran == [("ROUTER_ON_READY", {})]


async def test_a_full_queue_refuses_a_script_that_would_wait(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.become("shutdown")
    await settle()
    for number in range(script_queue.MAX_SCRIPTS + 2):
        run(main, "led", f"MOVE N={number}", wait=60, error_callback="FAILED")
    await settle()
    errors = [parameters["ERROR"] for parameters in main.runs_of("FAILED")]
    assert len(errors) == 2
    assert all("queue is full (1000 scripts," in error for error in errors)
    led.become("ready")
    await settle()
    assert numbers(led) == list(range(script_queue.MAX_SCRIPTS))
    assert len(main.runs_of("FAILED")) == 2


async def test_a_script_that_comes_before_the_printers_life_begins_waits_for_it(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.define("MOVE")
    client = bench.client()
    await client.send(
        {"id": 1, "method": "router/gcode/script", "params": {"target": "main", "script": "MOVE N=1", "wait": 5}}
    )
    assert client.received == []
    await bench.start()
    assert numbers(main) == [1]
    assert client.received == [{"id": 1, "result": {}}]


async def test_a_script_that_comes_before_the_printers_life_begins_is_not_waiting_for_ever(
    nursery: trio.Nursery,
) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.become("startup")
    client = bench.client()
    await client.send(
        {"id": 1, "method": "router/gcode/script", "params": {"target": "main", "script": "MOVE N=1", "wait": 5}}
    )
    await bench.start()
    await trio.sleep(6)
    (answer,) = client.received
    assert "not ready within 5 s" in answer["error"]["message"]


@pytest.mark.parametrize("wait", [-1, "soon", [1], True, "nan", "inf", 86_401])
async def test_a_wait_that_is_no_time_is_refused(nursery: trio.Nursery, wait: Any) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    run(main, "led", "MOVE", wait=wait)
    await settle()
    assert "parameter 'wait'" in main.console[0]
    assert led.ran == []


async def test_waits_that_are_over_leave_nothing_behind(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    before = trio.lowlevel.current_statistics().tasks_living
    for number in range(300):
        run(main, "led", f"MOVE N={number}", wait=86_400)
    await settle()
    assert len(led.ran) == 300
    assert trio.lowlevel.current_statistics().tasks_living == before
