"""Printers that come, go and change while the router runs."""

from __future__ import annotations

import trio

from test.memory.bench import Bench, settle


async def started(nursery: trio.Nursery, *names: str) -> Bench:
    bench = Bench(nursery, *names)
    for klippy in bench:
        klippy.define("MOVE", "ON_STATUS", "FAILED", "ROUTER_ON_CONNECTED", "ROUTER_ON_DISCONNECTED")
        klippy.objects = {"print_stats": {"state": "standby"}}
    await bench.start()
    return bench


async def test_a_printer_that_is_added_is_connected_and_announced(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    main = bench.klippys["main"]
    assert bench.reconfigure(main={}, led={}) == ["led: added"]
    await settle()
    assert main.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "led"}]
    assert await bench.client().request("router/gcode/script", target="led", script="M118 hello") == {}


async def test_a_printer_that_is_removed_is_gone_and_the_others_are_told(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.call_remote(
        "router/objects/subscribe", target="led", objects={"print_stats": None}, gcode_callback="ON_STATUS"
    )
    main.call_remote("router/event/subscribe", event="x", gcode="MOVE", callback_target="led")
    led.call_remote("router/event/subscribe", event="y", gcode="MOVE")
    await settle()
    assert bench.reconfigure(main={}) == ["led: removed"]
    await settle()
    assert led.connections == []
    assert main.runs_of("ROUTER_ON_DISCONNECTED") == [{"PRINTER": "led"}]
    told = (
        "!! router: led was removed from the router's configuration; what followed it or handled events on it has ended"
    )
    assert main.console == [told]
    client = bench.client()
    answer = await client.request("router/gcode/script", target="led", script="MOVE")
    assert answer == "led: no printer of that name, the router has main"
    assert await client.request("router/event/trigger", event="x") == {"handlers": 0}
    assert await client.request("router/event/trigger", event="y") == {"handlers": 0}
    await trio.sleep(100)
    assert len(led.dials) == 1


async def test_what_waits_for_a_printer_that_is_removed_is_told_so(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    _, led = bench
    led.hold("gcode/script")
    client = bench.client()
    await client.send(
        *({"id": n, "method": "router/gcode/script", "params": {"target": "led", "script": "MOVE"}} for n in range(6))
    )
    led.become("shutdown")
    await client.send(
        {"id": 6, "method": "router/gcode/script", "params": {"target": "led", "script": "MOVE", "wait": 60}}
    )
    bench.reconfigure(main={})
    await settle()
    assert [frame["id"] for frame in client.received] == list(range(7))
    why = "connection to led lost: removed from the configuration"
    assert {frame["error"]["message"] for frame in client.received} == {why}


async def test_a_printer_that_was_removed_while_away_comes_back_when_it_is_added(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.die()
    await trio.sleep(5)
    bench.reconfigure(main={})
    await trio.sleep(5)
    dials = len(led.dials)
    led.live()
    await trio.sleep(5)
    assert len(led.dials) == dials
    main.ran.clear()
    bench.reconfigure(main={}, led={})
    await trio.sleep(1)
    assert bench.state("led") == "ready"
    assert main.runs_of("ROUTER_ON_CONNECTED") == [{"PRINTER": "led"}]


async def test_a_subscription_on_a_printer_that_came_back_is_served(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow = {"target": "led", "objects": {"print_stats": ["state"]}, "gcode_callback": "ON_STATUS"}
    main.hold("gcode/script")
    main.call_remote("router/objects/subscribe", **follow)  # its callback is under way when led is removed
    await settle()
    bench.reconfigure(main={})
    bench.reconfigure(main={}, led={})
    await trio.sleep(1)
    main.call_remote("router/objects/subscribe", **follow)
    await settle()
    main.release("gcode/script")
    await settle()
    led.change("print_stats", state="printing")
    await settle()
    assert main.runs_of("ON_STATUS")[-1] == {"PRINT_STATS_STATE": "printing"}


async def test_a_new_socket_is_dialled_and_what_was_subscribed_stays(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "led2")
    main, led, led2 = bench
    bench.reconfigure(main={}, led={})
    led2.objects = {"print_stats": {"state": "printing"}}
    main.call_remote(
        "router/objects/subscribe", target="led", objects={"print_stats": ["state"]}, gcode_callback="ON_STATUS"
    )
    await settle()
    assert bench.reconfigure(main={}, led={"sock": "led2"}) == ["led: changed"]
    await trio.sleep(2)
    assert led.connections == []
    assert len(led2.connections) == 1
    assert [run["PRINT_STATS_STATE"] for run in main.runs_of("ON_STATUS")] == ["standby", "printing"]


async def test_what_did_not_change_is_not_disturbed(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    await settle()
    assert bench.reconfigure(led={}, main={"on_connect": "M118 hello"}, mmu={}) == ["main: changed", "mmu: added"]
    await settle()
    assert [printer["name"] for printer in (await bench.client().request("router/printers/list"))["printers"]] == [
        "led",
        "main",
        "mmu",
    ]
    assert len(main.dials) == len(led.dials) == 1
    assert main.console == []
    main.call_remote("router/event/trigger", event="x")
    await settle()
    assert len(led.runs_of("MOVE")) == 1
    main.restart()
    await trio.sleep(2)
    assert main.console == ["echo: hello"]


async def test_every_observer_hears_of_a_change(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    heard: list[list[str]] = []
    bench.router.on_change.append(lambda: heard.append(list(bench.router.printers)))
    bench.reconfigure(main={}, led={})
    assert heard == [["main", "led"]]
