"""Scripts that wait for their target to become ready."""

from __future__ import annotations

from typing import Any

import pytest
import trio

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
