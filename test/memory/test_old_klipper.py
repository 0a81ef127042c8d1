"""Klippers up to v0.12, which cut a line at `#`, `*` and `;` even inside quotes."""

from __future__ import annotations

import pytest
import trio

from test.memory.bench import settle
from test.memory.scripts import numbers, run, started


async def test_an_old_klipper_gets_one_retry_with_replaced_characters(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.reads_quotes = False
    main.answers["x"] = lambda _: {"text": "a#b;c*d'e"}
    led.call_remote("router/call", target="main", method="x", gcode_callback="MOVE")
    await settle()
    assert led.runs_of("MOVE") == [{"TEXT": "a_b_c_d'e"}]
    assert len(led.scripts) == 2
    led.call_remote("router/call", target="main", method="x", gcode_callback="MOVE")
    await settle()
    assert len(led.scripts) == 3  # it is known by now
    assert led.console == []


async def test_a_new_klipper_gets_every_character_at_once(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.answers["x"] = lambda _: {"text": "a#b;c*d'e"}
    led.call_remote("router/call", target="main", method="x", gcode_callback="MOVE")
    await settle()
    assert led.runs_of("MOVE") == [{"TEXT": "a#b;c*d'e"}]
    assert len(led.scripts) == 1


@pytest.mark.parametrize("reads_quotes", [False, True])
async def test_the_retry_keeps_the_order_and_runs_nothing_twice(nursery: trio.Nursery, reads_quotes: bool) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.reads_quotes = reads_quotes
    led.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    await settle()
    led.hold("gcode/script")
    for number in range(0, 60, 2):
        run(main, "led", f"MOVE N={number}")
        main.call_remote("router/event/trigger", event="x", context={"n": number + 1, "text": f"#{number}; *"})
    await settle()
    led.release("gcode/script")
    await settle()
    assert numbers(led) == list(range(60))
    assert main.console == led.console == []


async def test_the_lines_before_a_malformed_one_are_not_run_again(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.reads_quotes = False
    led.call_remote("router/event/subscribe", event="x", gcode="MOVE N=1\nMOVE N=2 T={text}\nMOVE N=3")
    await settle()
    main.call_remote("router/event/trigger", event="x", context={"text": "a # b"})
    await settle()
    assert numbers(led) == [1, 2, 3]
    assert led.runs_of("MOVE")[1]["T"] == "a _ b"


async def test_a_malformed_line_of_a_user_is_not_tried_again(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    run(main, "led", "MOVE N='1 # 2")
    await settle()
    assert len(led.scripts) == 1
    assert "Malformed command" in main.console[0]


async def test_after_an_update_the_characters_arrive_again(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.answers["x"] = lambda _: {"text": "#"}
    led.reads_quotes = False
    led.call_remote("router/call", target="main", method="x", gcode_callback="MOVE")
    await settle()
    led.reads_quotes = True
    led.restart()
    await trio.sleep(3)
    led.call_remote("router/call", target="main", method="x", gcode_callback="MOVE")
    await settle()
    assert led.runs_of("MOVE") == [{"TEXT": "_"}, {"TEXT": "#"}]


async def test_a_loss_between_the_refusal_and_the_retry_runs_nothing_later(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.reads_quotes = False
    main.answers["x"] = lambda _: {"text": "#"}
    led.hold("gcode/script")
    led.call_remote("router/call", target="main", method="x", gcode_callback="MOVE")
    await settle()
    led.let_go("gcode/script")
    await settle()
    assert led.held("gcode/script") == 1  # the retry
    led.restart()
    await trio.sleep(5)
    assert led.ran == []
