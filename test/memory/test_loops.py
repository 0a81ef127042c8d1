"""Macros that call each other without end are found by their rate, suspended and allowed again; nobody else notices."""

from __future__ import annotations

import pytest
import trio

from klipper_router.loop_guard import (
    CALLBACKS_PER_S,
    FLOOD_CALLS_PER_S,
    LOOP_CALLS_PER_S,
    LOOP_LASTS_S,
    SUSPENDED_MIN_S,
)
from test.memory.bench import Bench, settle

FAST_S = 0.5 / LOOP_CALLS_PER_S  # from call to call, twice too fast


async def started(nursery: trio.Nursery) -> Bench:
    bench = Bench(nursery, "main", "led", "mmu")
    for klippy in bench:
        klippy.define("AGAIN", "FAILED", "OTHER")
    await bench.start()
    return bench


async def ping_pong(bench: Bench, calls: int) -> None:
    """main and led call each other, as fast as a machine would."""
    for _ in range(calls):
        bench.klippys["main"].call_remote("router/gcode/script", target="led", script="AGAIN", error_callback="FAILED")
        await trio.sleep(FAST_S)


async def loop_until_suspended(bench: Bench) -> int:
    """How many of the calls were served."""
    await ping_pong(bench, int((LOOP_LASTS_S + 2) / FAST_S))
    return len(bench.klippys["led"].runs_of("AGAIN"))


async def test_calls_at_the_rate_of_a_loop_are_suspended_and_told_to_those_involved_once(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led, mmu = bench
    served = await loop_until_suspended(bench)
    assert LOOP_LASTS_S * LOOP_CALLS_PER_S < served <= (LOOP_LASTS_S + 1) / FAST_S
    told = "!! router: router/gcode/script led from main looks like a loop, not served for 10 s"
    assert main.console == led.console == [told]
    assert mmu.console == []
    assert main.runs_of("FAILED") == []  # it could keep the loop alive
    assert bench.router.gate.guard.suspended() == [("main", "router/gcode/script", "led")]


async def test_a_suspended_call_is_served_again_after_a_while_and_what_was_refused_is_counted(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery)
    main, led, _ = bench
    served = await loop_until_suspended(bench)
    refused = int((LOOP_LASTS_S + 2) / FAST_S) - served
    await trio.sleep(SUSPENDED_MIN_S)
    told = f"!! router: router/gcode/script led from main is served again; {refused} calls were not"
    assert main.console[-1] == led.console[-1] == told
    assert bench.router.printers["main"].counters.suspended == refused
    await ping_pong(bench, 1)
    assert len(led.runs_of("AGAIN")) == served + 1


async def test_a_loop_that_comes_back_is_suspended_for_longer_each_time(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main = bench.klippys["main"]
    for expected_s in (10, 20, 40):
        await loop_until_suspended(bench)
        assert main.console[-1].endswith(f"not served for {expected_s} s")
        await trio.sleep(expected_s)
    await trio.sleep(1000)
    await loop_until_suspended(bench)
    assert main.console[-1].endswith("not served for 10 s")


async def test_a_handler_that_triggers_its_own_event_is_suspended(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led, mmu = bench

    def again(_: object) -> None:
        nursery.start_soon(later)

    async def later() -> None:
        await trio.sleep(FAST_S)
        led.call_remote("router/event/trigger", event="x")

    led.define("AGAIN", act=again)
    led.call_remote("router/event/subscribe", event="x", gcode="AGAIN")
    mmu.call_remote("router/event/subscribe", event="x", gcode="OTHER")
    await settle()
    main.call_remote("router/event/trigger", event="x")
    await trio.sleep(60)
    told = "!! router: router/event/trigger x from led looks like a loop, not served for 10 s"
    again_told = "!! router: router/event/trigger x from led is served again; 1 call was not"
    assert led.console == mmu.console == [told, again_told]
    assert main.console == []
    assert len(led.runs_of("AGAIN")) < (LOOP_LASTS_S + 1) / FAST_S


async def test_other_calls_of_the_same_printer_and_of_others_are_served_meanwhile(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led, mmu = bench
    await loop_until_suspended(bench)
    served = len(led.runs_of("AGAIN"))
    main.call_remote("router/gcode/script", target="mmu", script="OTHER")
    mmu.call_remote("router/gcode/script", target="led", script="OTHER")
    assert await bench.client().request("router/gcode/script", target="led", script="OTHER") == {}
    assert len(mmu.runs_of("OTHER")) == 1
    assert len(led.runs_of("OTHER")) == 2
    assert len(led.runs_of("AGAIN")) == served


async def test_a_fast_loop_does_not_stop_the_other_calls_of_its_printer_at_the_moment_it_is_found(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery)
    main, _, mmu = bench
    while not bench.router.gate.guard.suspended():
        main.call_remote("router/gcode/script", target="led", script="AGAIN")
        await trio.sleep(1 / 300)  # of two idle Klippers; more than a printer may call in all
    main.call_remote("router/gcode/script", target="mmu", script="OTHER")
    await settle()
    assert len(mmu.runs_of("OTHER")) == 1
    assert bench.router.gate.guard.suspended() == [("main", "router/gcode/script", "led")]


async def test_a_printer_that_restarts_is_served_at_once_so_that_its_handlers_are_back(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led, _ = bench
    main.define("ROUTER_ON_READY", act=lambda _: main.call_remote("router/event/subscribe", event="x", gcode="OTHER"))
    for looping in (main, led):
        number = 0
        while (looping.name,) not in [route[:1] for route in bench.router.gate.guard.suspended()]:
            number += 1
            looping.call_remote("router/event/trigger", event=f"x{number}")
            await trio.sleep(1 / 300)
    main.restart()
    await trio.sleep(2)
    assert bench.router.gate.guard.suspended() == [("led", "", "")]
    assert await bench.client().request("router/event/trigger", event="x") == {"handlers": 1}


async def test_a_loop_under_ever_new_names_is_found_as_well(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _, mmu = bench
    for second in range(6):
        for number in range(LOOP_CALLS_PER_S * 5):
            main.call_remote("router/event/trigger", event=f"x{second}.{number}")
        await trio.sleep(1)
    assert main.console == ["!! router: every call from main looks like a loop, not served for 10 s"]
    mmu.call_remote("router/gcode/script", target="mmu", script="OTHER")
    await settle()
    assert len(mmu.runs_of("OTHER")) == 1


async def test_long_names_are_counted_and_not_kept(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _, _ = bench
    for second in range(6):
        for number in range(LOOP_CALLS_PER_S * 5):
            name = f"{second}.{number}{'x' * 1000}"
            main.call_remote("router/event/trigger", event=name)
            main.call_remote("router/objects/list", target=name)
        await trio.sleep(1)
    guard = bench.router.gate.guard
    assert guard.suspended() == [("main", "", "")]
    assert len(guard) > LOOP_CALLS_PER_S
    assert max(len(text) for route in guard.routes() for text in route) == 256


async def test_many_calls_at_once_are_no_loop(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led, _ = bench
    for _ in range(3):
        for _ in range(500):
            main.call_remote("router/gcode/script", target="led", script="AGAIN")
        await trio.sleep(5)
    assert len(led.runs_of("AGAIN")) == 1500
    assert main.console == []


async def test_a_flood_is_cut_off_within_its_second(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main = bench.klippys["main"]
    before = bench.router.event_counters.triggered
    for _ in range(FLOOD_CALLS_PER_S + 100):
        main.call_remote("router/event/trigger", event="x")
    await settle()
    assert main.console == ["!! router: router/event/trigger x from main looks like a loop, not served for 10 s"]
    assert bench.router.event_counters.triggered - before == FLOOD_CALLS_PER_S


@pytest.mark.parametrize("per_s", [200])
async def test_a_client_may_be_fast(nursery: trio.Nursery, per_s: int) -> None:
    bench = await started(nursery)
    client = bench.client()
    for _ in range(per_s * 10):
        assert await client.request("router/event/trigger", event="x") == {"handlers": 0}
        await trio.sleep(1 / per_s)
    assert bench.router.gate.guard.suspended() == []


async def test_callbacks_at_the_pace_of_klipper_are_no_loop_however_many_printers_are_followed(
    nursery: trio.Nursery,
) -> None:
    names = [f"p{number}" for number in range(20)]
    bench = Bench(nursery, "main", "led", *names)
    main, led, *followed = bench
    led.define("SHOW")
    main.define("ON_STATUS", act=lambda _: main.call_remote("router/gcode/script", target="led", script="SHOW"))
    for klippy in followed:
        klippy.change("toolhead", position=0)
    await bench.start()
    for name in names:
        objects = {"toolhead": ["position"]}
        main.call_remote("router/objects/subscribe", target=name, objects=objects, gcode_callback="ON_STATUS")
    await settle()
    led.ran.clear()
    ticks = 40
    for tick in range(ticks):
        for klippy in followed:
            klippy.change("toolhead", position=tick + 1)
        await trio.sleep(1 / CALLBACKS_PER_S)
    assert main.console == []
    assert len(led.runs_of("SHOW")) == ticks * len(names)
    # A loop is found all the same, at the rate of one.
    for _ in range(LOOP_LASTS_S + 2):
        for _ in range(LOOP_CALLS_PER_S * 2):
            main.call_remote("router/gcode/script", target="led", script="SHOW")
        await trio.sleep(1)
    assert bench.router.gate.guard.suspended() == [("main", "router/gcode/script", "led")]


async def test_a_callback_that_subscribes_anew_is_a_loop(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led, _ = bench
    led.change("toolhead", position=0)
    follow = {"target": "led", "objects": {"toolhead": ["position"]}, "gcode_callback": "ON_STATUS"}

    async def later() -> None:
        await trio.sleep(FAST_S)
        main.call_remote("router/objects/subscribe", **follow)

    main.define("ON_STATUS", act=lambda _: nursery.start_soon(later))
    main.call_remote("router/objects/subscribe", **follow)
    await trio.sleep(LOOP_LASTS_S + 2)
    assert bench.router.gate.guard.suspended() == [("main", "router/objects/subscribe", "led")]
