"""What open dashboards are told over the one WebSocket: a snapshot, then what changed. Closed ones cost nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from klipper_router.gateway.page.bodies import MAX_BODY_BYTES
from klipper_router.gateway.page.live import MAX_SENSORS, objects_of_interest
from test.gateway.page_rig import HOTEND, KLIPPY, Dashboard, RejectedByServer, Rig, rig

MAIN = "[klippy main]\nsock: main.sock\n"
BOTH = f"{MAIN}[klippy led]\nsock: led.sock\n"


def live(made: Rig) -> str:
    return f"{made.origin}/router/websocket"


def of(printer: str, *keys: str) -> Any:
    """What an update says of a printer, or None."""

    def find(update: dict[str, Any]) -> Any:
        found: Any = update.get("printers", {}).get(printer)
        for key in keys:
            found = found.get(key) if found else None
        return found

    return find


async def test_a_dashboard_gets_everything_and_then_what_changed() -> None:
    config = f"{BOTH}[camera main nozzle]\nurl: http://user:hidden@cam/\n"
    async with rig(config, {"main": KLIPPY + HOTEND}) as made, Dashboard.open(live(made)) as board:
        snapshot = await board.call("router/dashboard/subscribe")
        assert snapshot["order"] == ["main", "led"]
        main = snapshot["printers"]["main"]
        assert (main["state"], main["ready"]) == ("ready", True)
        assert [camera["name"] for camera in main["cameras"]] == ["nozzle"]
        assert "hidden" not in str(snapshot)
        assert snapshot["printers"]["led"]["state"] == "disconnected"
        status = await board.update(of("main", "status"))
        assert status["print_stats"]["state"] == "standby"
        assert {"extruder", "heater_bed", "heater_generic chamber", "temperature_sensor board"} <= set(status)
        await made.klippys["main"].run_gcode("M104 S150")
        changed = await board.update(of("main", "status", "extruder", "target"))
        assert changed == 150


async def test_a_second_dashboard_gets_what_the_first_has_been_told() -> None:
    async with rig(MAIN, {"main": KLIPPY}) as made, Dashboard.open(live(made)) as first:
        await first.call("router/dashboard/subscribe")
        await first.update(of("main", "status"))
        async with Dashboard.open(live(made)) as second:
            snapshot = await second.call("router/dashboard/subscribe")
            assert snapshot["printers"]["main"]["status"]["print_stats"]["state"] == "standby"
            await made.klippys["main"].run_gcode("M117 to both")
            for board in (first, second):
                assert await board.update(of("main", "status", "display_status", "message")) == "to both"


async def test_printers_are_followed_only_while_a_dashboard_is_open() -> None:
    async with rig(MAIN, {"main": KLIPPY}) as made:
        feed = made.router.printers["main"].feed
        assert len(feed.following) == 0
        async with Dashboard.open(live(made)) as board:
            snapshot = await board.call("router/dashboard/subscribe")
            await board.update(of("main", "status"))
            assert len(feed.following) == 1
            assert snapshot["printers"]["main"]["subscriptions"] == 0
        with trio.fail_after(10):
            while len(feed.following):  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_shutdown_and_its_message_are_told_at_once() -> None:
    async with rig(MAIN, {"main": KLIPPY}) as made, Dashboard.open(live(made)) as board:
        await board.call("router/dashboard/subscribe")
        await board.update(of("main", "status"))
        made.klippys["main"].invoke_shutdown("Lost communication with MCU 'mcu'")
        assert await board.update(of("main", "state")) == "shutdown"
        made.klippys["main"].drop_clients()
        assert await board.update(lambda update: update.get("printers", {}).get("main", {}).get("status", 0) is None)


async def test_a_printer_that_comes_and_goes_is_on_the_dashboard() -> None:
    async with rig(MAIN, {"main": KLIPPY}) as made, Dashboard.open(live(made)) as board:
        await board.call("router/dashboard/subscribe")
        await made.inventory.change({"klippy led": {"sock": "led.sock"}}, made.router.reconfigure)
        assert await board.update(lambda update: update.get("order")) == ["main", "led"]
        await made.start("led", KLIPPY, wait=False)
        assert (await board.update(of("led", "status", "print_stats")))["state"] == "standby"
        await made.inventory.change({"klippy led": None}, made.router.reconfigure)
        assert await board.update(lambda update: update.get("order")) == ["main"]


async def test_routes_events_and_errors_are_in_the_log() -> None:
    async with rig(BOTH, {"main": KLIPPY, "led": KLIPPY}) as made, Dashboard.open(live(made)) as board:
        await board.call("router/dashboard/subscribe")
        await made.klippys["led"].run_gcode('ROUTER_GCODE_SCRIPT TARGET=main SCRIPT="M118 hello"')

        def entry(kind: str, text: str) -> Any:
            return lambda update: next(
                (each for each in update.get("log", []) if each["kind"] == kind and text in each["text"]), None
            )

        call = await board.update(entry("call", "router/gcode/script"))
        assert (call["source"], call["target"]) == ("led", "main")
        await made.klippys["led"].run_gcode("ROUTER_EVENT_TRIGGER EVENT=afc/loaded")
        assert (await board.update(entry("event", "afc/loaded")))["source"] == "led"
        await made.klippys["led"].run_gcode('ROUTER_GCODE_SCRIPT TARGET=gone SCRIPT="M118 hello"')
        assert (await board.update(entry("error", "no printer of that name")))["source"] == "led"
        errors = (await board.call("router/dashboard/subscribe"))["printers"]["led"]["errors"]
        assert "no printer of that name" in errors[-1]["text"]


async def test_its_own_following_is_not_in_the_log() -> None:
    async with rig(MAIN, {"main": KLIPPY + HOTEND}) as made, Dashboard.open(live(made)) as board:
        await board.call("router/dashboard/subscribe")
        for target in (50, 60):
            await made.klippys["main"].run_gcode(f"M140 S{target}")
            await board.update(of("main", "status", "heater_bed", "target"))
        assert [each for each in made.page.live.log.since(0) if each.target == "dashboard"] == []


async def test_errors_of_helper_threads_stay_in_the_log_file_only() -> None:
    async with rig(MAIN) as made:
        log = logging.getLogger("klipper_router.somewhere")
        await trio.to_thread.run_sync(log.warning, "main: from a thread")
        log.warning("main: from the router")
        texts = [error.text for error in made.page.live.log.errors("main")]
        assert "from the router" in texts
        assert "from a thread" not in texts


async def test_a_client_may_subscribe_over_the_same_websocket() -> None:
    async with rig(MAIN, {"main": KLIPPY}) as made, Dashboard.open(live(made)) as board:
        objects = {"display_status": ["message"]}
        await board.call("router/objects/subscribe", target="main", objects=objects)
        await board.call("router/event/subscribe", event="door")
        await made.klippys["main"].run_gcode("M117 seen")

        async def told(method: str) -> Any:
            with trio.fail_after(20):
                while True:
                    message = board.notifications.pop(0) if board.notifications else await board.message()
                    if message.get("method") == method and "seen" in str(message["params"]):
                        return message["params"]

        assert (await told("router/objects/update"))["status"] == {"display_status": {"message": "seen"}}
        await made.klippys["main"].run_gcode('ROUTER_EVENT_TRIGGER EVENT=door CONTEXT="by=seen"')
        assert (await told("router/event"))["context"] == {"by": "seen"}


async def test_what_is_no_request_is_answered_and_the_websocket_stays() -> None:
    async with rig(MAIN) as made, Dashboard.open(live(made)) as board:
        for message, code in [("text", -32600), ([], -32600), ({"id": 7, "method": "x"}, -32600), ([1], -32600)]:
            await board.send(message)
            answer: Any = await board.message()
            assert (answer[0] if isinstance(answer, list) else answer)["error"]["code"] == code
        assert await board.call("router/printers/list")


async def test_a_request_that_is_too_large_ends_the_websocket() -> None:
    async with rig(MAIN) as made, Dashboard.open(live(made)) as board:
        await board.send("x" * MAX_BODY_BYTES)
        with pytest.raises(EOFError, match="1009"):
            await board.message()


async def test_a_foreign_page_and_a_stranger_get_no_websocket() -> None:
    async with rig(f"trusted_proxies: 127.0.0.1\n{MAIN}") as made:
        for headers, status in [
            ([("Origin", "http://evil.example")], 403),
            ([("X-Real-IP", "203.0.113.9")], 401),
        ]:
            with pytest.RaisesGroup(RejectedByServer, allow_unwrapped=True) as caught:
                async with Dashboard.open(live(made), headers):
                    pass
            assert caught.value.args == (status,)
        token = made.access.oneshot_token("203.0.113.9")
        async with Dashboard.open(f"{live(made)}?token={token}", [("X-Real-IP", "203.0.113.9")]) as board:
            assert await board.call("router/dashboard/subscribe")


def test_only_what_a_card_shows_is_followed() -> None:
    sensors = [f"temperature_sensor t{number}" for number in range(40)]
    names = ["toolhead", "extruder", "extruder1", "extruder_stepper x", "heater_bed", "print_stats", "mcu", *sensors]
    objects = objects_of_interest(names)
    assert {"extruder", "extruder1", "heater_bed", "print_stats", "temperature_sensor t0"} <= set(objects)
    assert not {"toolhead", "mcu", "extruder_stepper x"} & set(objects)
    assert sum(name not in ("heater_bed", "print_stats") for name in objects) == MAX_SENSORS
