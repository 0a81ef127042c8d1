"""Status of one printer as G-code on another: one subscription on Klipper's side, each change exactly one callback."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from klipper_router import script_queue, subscriptions
from test.memory.bench import Bench, settle
from test.memory.scripted_klippy import Json, ScriptedKlippy

Runs = list[dict[str, str]]


def follow(klippy: ScriptedKlippy, callback: str, target: str = "main", **objects: Any) -> None:
    klippy.call_remote("router/objects/subscribe", target=target, objects=objects, gcode_callback=callback)


def taken(klippy: ScriptedKlippy, macro: str = "ON_STATUS") -> Runs:
    """The calls of a macro since this was asked last."""
    runs = klippy.runs_of(macro)
    klippy.ran = [call for call in klippy.ran if call[0] != macro]
    return runs


async def started(nursery: trio.Nursery, *names: str) -> Bench:
    bench = Bench(nursery, *names)
    for klippy in bench:
        klippy.define("ON_STATUS", "ON_OTHER", "ON_THIRD")
    bench.klippys["main"].objects = {
        "print_stats": {"state": "standby", "filename": "", "info": {"current_layer": None, "total_layer": 10}},
        "toolhead": {"position": [1.0, 2.0, 3.5, 0.0], "homed_axes": "xyz"},
        "heater_bed": {"temperature": 21.5, "target": 0.0},
    }
    await bench.start()
    return bench


def last_union(klippy: ScriptedKlippy) -> Json:
    union: Json = klippy.requests_of("objects/subscribe")[-1]["objects"]
    return union


async def test_a_subscriber_gets_a_full_snapshot_and_then_changes_only(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["state", "filename"], heater_bed=None)
    await settle()
    assert taken(led) == [
        {
            "PRINT_STATS_STATE": "standby",
            "PRINT_STATS_FILENAME": "",
            "HEATER_BED_TEMPERATURE": "21.5",
            "HEATER_BED_TARGET": "0.0",
        }
    ]
    main.change("print_stats", state="printing")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "printing"}]
    main.change("heater_bed", temperature=22)
    main.change("toolhead", homed_axes="")
    await settle()
    assert taken(led) == [{"HEATER_BED_TEMPERATURE": "22"}]


async def test_a_dotted_field_arrives_only_when_its_own_value_changes(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["info.current_layer"], toolhead=["position.2"])
    await settle()
    assert taken(led) == [{"PRINT_STATS_INFO_CURRENT_LAYER": "None", "TOOLHEAD_POSITION_2": "3.5"}]
    main.change("toolhead", position=[9.0, 9.0, 3.5, 1.0])
    main.change("print_stats", info={"current_layer": None, "total_layer": 20})
    await settle()
    assert taken(led) == []
    main.change("print_stats", info={"current_layer": 1, "total_layer": 20})
    await settle()
    assert taken(led) == [{"PRINT_STATS_INFO_CURRENT_LAYER": "1"}]


async def test_objects_and_fields_that_the_target_lacks_are_no_error(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", probe=None, print_stats=["state", "nonsense"], bltouch=["x"])
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "standby", "PRINT_STATS_NONSENSE": "None", "BLTOUCH_X": "None"}]
    main.change("print_stats", state="printing")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "printing"}]
    assert led.console == []


async def test_klipper_is_asked_for_the_union_of_what_all_follow(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    follow(afc, "ON_STATUS", print_stats=["filename", "info.total_layer"], heater_bed=["target"])
    await settle()
    assert last_union(main) == {
        "webhooks": ["state", "state_message"],
        "print_stats": ["state", "filename", "info"],
        "heater_bed": ["target"],
    }
    follow(afc, "ON_STATUS", heater_bed=None)
    await settle()
    assert last_union(main)["print_stats"] == ["state"]
    assert last_union(main)["heater_bed"] is None
    led.call_remote("router/objects/unsubscribe", target="main")
    afc.call_remote("router/objects/unsubscribe", target="main", gcode_callback="ON_STATUS")
    await settle()
    assert last_union(main) == {"webhooks": ["state", "state_message"]}


async def test_two_subscribers_and_a_third_subscription_by_one_each_hear_each_change_once(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    follow(afc, "ON_STATUS", print_stats=["state"])
    await settle()
    assert taken(led) == taken(afc) == [{"PRINT_STATS_STATE": "standby"}]
    follow(led, "ON_OTHER", print_stats=["state", "filename"])
    await settle()
    assert taken(led, "ON_OTHER") == [{"PRINT_STATS_STATE": "standby", "PRINT_STATS_FILENAME": ""}]
    for state in ("printing", "paused", "printing", "complete"):
        main.change("print_stats", state=state)
        await settle()
        assert taken(led) == taken(led, "ON_OTHER") == taken(afc) == [{"PRINT_STATS_STATE": state}]


async def test_a_change_in_the_gap_between_two_subscriptions_is_told_once(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    taken(led)
    main.hold("objects/subscribe")
    follow(led, "ON_OTHER", heater_bed=["target"])
    await settle()
    main.change("print_stats", state="printing")  # Klipper reports nothing while it answers
    main.release("objects/subscribe")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "printing"}]
    assert taken(led, "ON_OTHER") == [{"HEATER_BED_TARGET": "0.0"}]


async def test_subscriptions_made_while_one_is_under_way_are_all_served(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.hold("objects/subscribe")
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    follow(led, "ON_OTHER", heater_bed=["target"])
    follow(led, "ON_THIRD", toolhead=["homed_axes"])
    await settle()
    assert main.held("objects/subscribe") == 1
    main.release("objects/subscribe")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "standby"}]
    assert taken(led, "ON_OTHER") == [{"HEATER_BED_TARGET": "0.0"}]
    assert taken(led, "ON_THIRD") == [{"TOOLHEAD_HOMED_AXES": "xyz"}]


async def test_the_same_callback_again_replaces_the_old_subscription(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    for _ in range(5):
        follow(led, "ON_STATUS", print_stats=["state"])
    follow(led, "ON_STATUS", heater_bed=["target"])
    await settle()
    taken(led)
    main.change("print_stats", state="printing")
    main.change("heater_bed", target=60.0)
    await settle()
    assert taken(led) == [{"HEATER_BED_TARGET": "60.0"}]
    assert len(bench.router.printers["main"].feed.following) == 1


async def test_subscribing_again_at_every_start_does_not_double(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.objects = {"print_stats": {"state": "standby"}}
    led.define("ON_STATUS")
    for hook in ("ROUTER_ON_READY", "ROUTER_ON_CONNECTED"):
        led.define(hook, act=lambda _: follow(led, "ON_STATUS", print_stats=["state"]))
    await bench.start()
    for klippy in (main, led, main, led):
        klippy.restart()
        await trio.sleep(3)
        taken(led)
        main.change("print_stats", state=f"after {klippy.name} {trio.current_time()}")
        await settle()
        assert len(taken(led)) == 1


async def test_a_restart_of_the_target_brings_a_full_snapshot_and_then_each_change_once(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    for klippy in (led, afc):
        follow(klippy, "ON_STATUS", print_stats=["state"], heater_bed=["target"])
    await settle()
    taken(led), taken(afc)
    main.die()
    await trio.sleep(10)
    main.live("startup")
    await trio.sleep(2)
    assert taken(led) == []
    main.become("ready")
    await settle()
    assert taken(led) == taken(afc) == [{"PRINT_STATS_STATE": "standby", "HEATER_BED_TARGET": "0.0"}]
    main.change("print_stats", state="printing")
    await settle()
    assert taken(led) == taken(afc) == [{"PRINT_STATS_STATE": "printing"}]


async def test_a_restart_of_a_subscriber_ends_its_own_subscriptions_and_no_others(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    follow(afc, "ON_STATUS", heater_bed=["target"])
    await settle()
    taken(led), taken(afc)
    led.restart()
    await trio.sleep(3)
    assert last_union(main) == {"webhooks": ["state", "state_message"], "heater_bed": ["target"]}
    main.change("print_stats", state="printing")
    main.change("heater_bed", target=60.0)
    await settle()
    assert taken(led) == []
    assert taken(afc) == [{"HEATER_BED_TARGET": "60.0"}]


async def test_startup_to_ready_gives_one_full_snapshot(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.become("startup")
    main.objects = {"print_stats": {"state": "standby"}, "heater_bed": {"target": 0.0}}
    led.define("ON_STATUS")
    await bench.start()
    follow(led, "ON_STATUS", print_stats=["state"], heater_bed=None)
    await trio.sleep(30)
    assert taken(led) == []  # nothing of a printer that has not read its configuration yet
    main.become("ready")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "standby", "HEATER_BED_TARGET": "0.0"}]


async def test_changes_right_after_ready_do_not_come_before_the_full_snapshot(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.become("startup")
    main.objects = {"print_stats": {"state": "standby"}, "heater_bed": {"target": 0.0}}
    led.define("ON_STATUS")
    await bench.start()
    follow(led, "ON_STATUS", print_stats=["state"], heater_bed=["target"])
    await settle()
    main.hold("objects/subscribe")
    main.become("ready")
    main.change("heater_bed", target=60.0)  # reported before the router can ask for the snapshot
    await settle()
    assert taken(led) == []
    main.release("objects/subscribe")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "standby", "HEATER_BED_TARGET": "60.0"}]


async def test_a_target_that_is_not_connected_yet_is_followed_when_it_is(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    main.refuses = FileNotFoundError(2, "No such file or directory")
    main.objects = {"print_stats": {"state": "standby"}}
    led.define("ON_STATUS")
    await bench.start()
    follow(led, "ON_STATUS", print_stats=["state"])
    await trio.sleep(30)
    assert led.console == []
    main.live()
    await trio.sleep(2)
    assert taken(led) == [{"PRINT_STATS_STATE": "standby"}]


async def test_a_printers_state_can_be_followed_through_shutdown(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", webhooks=["state"])
    await settle()
    main.become("shutdown")
    await settle()
    assert taken(led) == [{"WEBHOOKS_STATE": "ready"}, {"WEBHOOKS_STATE": "shutdown"}]


async def test_a_printer_may_follow_itself(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    follow(main, "ON_STATUS", print_stats=["state"])
    await settle()
    main.change("print_stats", state="printing")
    await settle()
    assert taken(main) == [{"PRINT_STATS_STATE": "standby"}, {"PRINT_STATS_STATE": "printing"}]


async def test_a_slow_subscriber_gets_one_callback_and_then_the_newest_values(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    for klippy in (led, afc):
        follow(klippy, "ON_STATUS", print_stats=["state"], heater_bed=["temperature", "target"])
    await settle()
    taken(led), taken(afc)
    led.hold("gcode/script")
    for tick in range(40):
        main.change("heater_bed", temperature=float(tick))
        await trio.sleep(0.25)
        assert led.held("gcode/script") == 1
        assert taken(afc) == [{"HEATER_BED_TEMPERATURE": f"{tick}.0"}]
    main.change("print_stats", state="complete")
    await settle()
    led.release("gcode/script")
    await settle()
    assert taken(led) == [
        {"HEATER_BED_TEMPERATURE": "0.0"},
        {"HEATER_BED_TEMPERATURE": "39.0", "PRINT_STATS_STATE": "complete"},
    ]


async def test_a_value_that_is_back_at_what_was_told_is_no_news(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", heater_bed=["target"])
    await settle()
    led.hold("gcode/script")
    main.change("heater_bed", target=60.0)
    await settle()
    main.change("heater_bed", target=70.0)
    await settle()
    main.change("heater_bed", target=60.0)
    await settle()
    led.release("gcode/script")
    await settle()
    assert taken(led) == [{"HEATER_BED_TARGET": "0.0"}, {"HEATER_BED_TARGET": "60.0"}]


async def test_callbacks_wait_while_the_subscriber_is_shut_down(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    led.become("shutdown")
    await settle()
    before = len(led.scripts)
    for number in range(50):
        main.change("print_stats", state=str(number))
        await settle()
    assert len(led.scripts) == before
    assert len(bench.router.printers["led"].scripts) == 1


async def test_a_callback_that_fails_gets_the_next_change_all_the_same(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    led.raw_answers.clear()
    main.change("print_stats", state="printing")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "printing"}]


async def test_an_ended_subscription_runs_no_callback_that_waited(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    taken(led)
    led.hold("gcode/script")
    main.change("print_stats", state="a")
    await settle()
    main.change("print_stats", state="b")
    led.call_remote("router/objects/unsubscribe", target="main", gcode_callback="ON_STATUS")
    await settle()
    led.release("gcode/script")
    await settle()
    assert taken(led) == [{"PRINT_STATS_STATE": "a"}]


async def test_a_callback_that_waits_for_its_turn_is_not_run_when_its_subscription_ends(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    taken(led)
    led.hold("gcode/script")
    for _ in range(10):
        main.call_remote("router/gcode/script", target="led", script="ON_OTHER")
    await settle()
    main.change("print_stats", state="printing")
    await settle()
    led.call_remote("router/objects/unsubscribe", target="main", gcode_callback="ON_STATUS")
    await settle()
    led.release("gcode/script")
    await settle()
    assert len(taken(led, "ON_OTHER")) == 10
    assert taken(led) == []


async def test_a_macro_cannot_fill_the_memory_with_callbacks(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    _, led = bench
    for number in range(subscriptions.MAX_SUBSCRIPTIONS_PER_CALLER + 1):
        follow(led, f"CALLBACK_{number}", print_stats=["state"])
    await settle()
    assert [line for line in led.console if line.startswith("!!")] == [
        "!! router: router/objects/subscribe to main: 100 callbacks follow it already, the most per caller"
    ]


@pytest.mark.parametrize(
    ("text", "value"), [("NaN", "None"), ("-Infinity", "None"), ("1e400", "1e400"), ('"\\ud800"', "?"), ("[" * 9, None)]
)
async def test_a_strange_value_in_a_status_ends_nothing(nursery: trio.Nursery, text: str, value: str | None) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", heater_bed=["target", "target.x"])
    await settle()
    taken(led)
    template = (
        '{"method": "router/objects/update", "params": {"eventtime": 3.0, "status": {"heater_bed": {"target": %s}}}}'
    )
    main.send_bytes((template % text).encode() + b"\x03")
    await settle()
    assert [run.get("HEATER_BED_TARGET") for run in taken(led)] == ([value] if value is not None else [])
    main.change("heater_bed", target=60.0)
    await settle()
    assert len(taken(led)) == 1


@pytest.mark.parametrize("params", [b"7", b"{}", b'{"status": 7}', b'{"status": {"heater_bed": 7}}', b"null"])
async def test_a_status_of_the_wrong_shape_is_skipped(nursery: trio.Nursery, params: bytes) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", heater_bed=["target"])
    await settle()
    taken(led)
    main.send_bytes(b'{"method": "router/objects/update", "params": ' + params + b"}\x03")
    main.change("heater_bed", target=60.0)
    await settle()
    assert taken(led) == [{"HEATER_BED_TARGET": "60.0"}]


async def test_a_subscription_that_klipper_refused_once_is_asked_for_again(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.raw_answers["objects/subscribe"] = b'{"id": %d, "result": {"broken": ]}'
    follow(led, "ON_STATUS", heater_bed=["target"])
    await settle()
    main.raw_answers.clear()
    await trio.sleep(30)
    assert taken(led) == [{"HEATER_BED_TARGET": "0.0"}]


def keep_busy(bench: Bench, name: str) -> None:
    """Fill what may be under way on a printer; nothing further is rendered until it is released."""
    klippy = bench.klippys[name]
    klippy.hold("gcode/script")
    for _ in range(script_queue.WINDOW):
        klippy.call_remote("router/gcode/script", target=name, script="M118 busy")


async def test_after_a_refusal_even_what_was_asked_for_before_is_asked_for_again(nursery: trio.Nursery) -> None:
    """Of it nothing is known any more; who follows no more than that would never hear of it."""
    bench = await started(nursery, "main", "led")
    main, led = bench
    main.raw_answers["objects/subscribe"] = b'{"id": %d, "error": {"message": "not now"}}'
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    led.call_remote("router/objects/unsubscribe", target="main", gcode_callback="ON_STATUS")
    await settle()
    del main.raw_answers["objects/subscribe"]
    follow(led, "ON_OTHER", webhooks=["state"])
    await trio.sleep(10)
    assert taken(led, "ON_OTHER") == [{"WEBHOOKS_STATE": "ready"}]


async def test_a_callback_subscribed_a_thousand_times_while_its_printer_is_busy_runs_once_with_the_newest_wants(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led")
    _, led = bench
    keep_busy(bench, "led")
    await settle()
    longest = 0
    for _ in range(100):
        for _ in range(5):
            follow(led, "ON_STATUS", print_stats=["state"])
            follow(led, "ON_STATUS", heater_bed=["target"])
        await settle()
        longest = max(longest, len(bench.router.printers["led"].scripts))
    assert longest == script_queue.WINDOW + 1
    led.release("gcode/script")
    await settle()
    assert taken(led) == [{"HEATER_BED_TARGET": "0.0"}]
    assert not bench.router.printers["led"].scripts


async def test_callbacks_under_ever_new_names_leave_nothing_in_the_queue_of_their_busy_printer(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    follow(led, "ON_STATUS", print_stats=["state"])
    await settle()
    taken(led)
    keep_busy(bench, "led")
    main.change("print_stats", state="printing")
    await settle()
    longest = 0
    for turn in range(100):
        for number in range(5):
            callback = f"CALLBACK_{turn * 5 + number}"
            follow(led, callback, print_stats=["state"])
            led.call_remote("router/objects/unsubscribe", target="main", gcode_callback=callback)
        await settle()
        longest = max(longest, len(bench.router.printers["led"].scripts))
    assert longest <= script_queue.WINDOW + 2  # the one that stays, and the newest of those that do not
    led.release("gcode/script")
    await settle()
    assert [name for name, _ in led.ran] == ["ON_STATUS"]
    assert taken(led) == [{"PRINT_STATS_STATE": "printing"}]
    assert led.console == ["echo: busy"] * script_queue.WINDOW


async def test_a_callback_subscribed_again_after_its_end_is_given_the_full_snapshot_once(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    keep_busy(bench, "led")
    await settle()
    for target in (1.0, 2.0, 3.0):
        follow(led, "ON_STATUS", heater_bed=["target"])
        await settle()
        main.change("heater_bed", target=target)
        await settle()
        led.call_remote("router/objects/unsubscribe", target="main")
        await settle()
    follow(led, "ON_STATUS", heater_bed=["target"], print_stats=["state"])
    await settle()
    led.release("gcode/script")
    await settle()
    assert taken(led) == [{"HEATER_BED_TARGET": "3.0", "PRINT_STATS_STATE": "standby"}]


async def test_the_same_callback_on_two_targets_is_two_subscriptions(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    afc.objects = {"print_stats": {"state": "paused"}}
    keep_busy(bench, "led")
    for target in ("main", "afc"):
        follow(led, "ON_STATUS", target, print_stats=["state"])
    await settle()
    led.call_remote("router/objects/unsubscribe", target="afc", gcode_callback="ON_STATUS")
    follow(led, "ON_OTHER", "afc", print_stats=["state"])
    main.change("print_stats", state="printing")
    await settle()
    led.release("gcode/script")
    await settle()
    assert led.ran == [("ON_STATUS", {"PRINT_STATS_STATE": "printing"}), ("ON_OTHER", {"PRINT_STATS_STATE": "paused"})]
