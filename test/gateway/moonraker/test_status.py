"""Objects: subscriptions per client, queries from what is followed, and what that costs Klippy."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from klipper_router.callers import Caller
from klipper_router.gateway.moonraker.klippy import FOLLOW_ASKED_S, MAX_ASKED, Klippy
from klipper_router.gateway.moonraker.session import SUBSCRIBE_WITHIN_S
from klipper_router.messages import Objects
from klipper_router.subscriptions import Subscription
from test.gateway.moonraker.rig import ApiRefused, Client, Rig, rig

DRYER = "heater_generic dryer"


async def heat(made: Rig, target: int) -> None:
    """Something that changes."""
    done = trio.Event()
    made.printer.call(
        "gcode/script", {"script": f"SET_HEATER_TEMPERATURE HEATER=dryer TARGET={target}"}, lambda answer: done.set()
    )
    await done.wait()


async def status_of(client: Client, name: str, field: str, value: object) -> dict[str, Any]:
    """Wait until a client was told of a value; that status."""
    seen = 0
    while True:
        params = await client.notification("status_update", seen)
        status: dict[str, Any] = params[0]
        if status.get(name, {}).get(field) == value:
            return status
        seen = (
            client.notifications.index(
                next(each for each in client.notifications[seen:] if each.get("params") == params)
            )
            + 1
        )


async def test_each_client_is_told_only_what_it_wants() -> None:
    async with rig() as made:
        one, other = made.client(), made.client()
        await one.call("printer.objects.subscribe", objects={DRYER: ["target"]})
        await other.call(
            "printer.objects.subscribe", objects={"print_stats": None, DRYER: ["target"], "webhooks": None}
        )
        await heat(made, 40)
        assert await status_of(one, DRYER, "target", 40.0) == {DRYER: {"target": 40.0}}
        await status_of(other, DRYER, "target", 40.0)
        statuses = [each["params"][0] for each in one.notifications if each["method"] == "notify_status_update"]
        assert {name for status in statuses for name in status} == {DRYER}


async def test_an_update_bears_klippys_eventtime() -> None:
    async with rig() as made:
        client = made.client()
        first = await client.call("printer.objects.subscribe", objects={DRYER: ["target"]})
        await heat(made, 40)
        _, eventtime = await client.notification("status_update")
        assert eventtime > first["eventtime"]
        assert eventtime <= made.printer.feed.eventtime


async def test_a_new_subscription_replaces_the_old_and_none_ends_it() -> None:
    async with rig() as made:
        client = made.client()
        await client.call("printer.objects.subscribe", objects={DRYER: ["target"]})
        answer = await client.call("printer.objects.subscribe", objects={"print_stats": ["state"]})
        assert answer["status"] == {"print_stats": {"state": "standby"}}
        wanted = {name for each in made.printer.feed.following for name in each.objects if each.callback == "status"}
        assert wanted == {"print_stats", "webhooks"}
        assert (await client.call("printer.objects.subscribe", objects={}))["status"] == {}
        assert [each for each in made.printer.feed.following if each.callback == "status"] == []


async def test_a_subscription_of_nothing_that_exists_is_answered() -> None:
    async with rig() as made:
        answer = await made.client().call("printer.objects.subscribe", objects={"none": None, "webhooks": []})
        assert answer["status"] == {"none": {}, "webhooks": {}}


async def test_two_subscriptions_at_once_are_both_answered() -> None:
    async with rig() as made:
        client = made.client()
        ids = [client.request_("printer.objects.subscribe", objects={name: None}) for name in ("toolhead", DRYER)]
        assert DRYER in (await client.answer(ids[1]))["result"]["status"]
        assert "toolhead" in (await client.answer(ids[0]))["result"]["status"]


async def test_a_slow_client_is_told_the_newest_values_at_once() -> None:
    async with rig() as made:
        client, quick = made.client(), made.client()
        for each in (client, quick):
            await each.call("printer.objects.subscribe", objects={DRYER: ["target"]})
        client.reads = trio.Event()
        for target in (30, 40, 50):
            await heat(made, target)
            await status_of(quick, DRYER, "target", float(target))
        client.reads.set()
        await status_of(client, DRYER, "target", 50.0)
        targets = [
            each["params"][0][DRYER]["target"]
            for each in client.notifications
            if each["method"] == "notify_status_update"
        ]
        # One was on its way when it stopped reading; what came meanwhile was merged.
        assert targets == [30.0, 50.0]


async def test_what_is_followed_is_answered_without_klippy() -> None:
    async with rig() as made:
        client = made.client()
        await client.call("printer.objects.subscribe", objects={DRYER: None, "print_stats": None})
        made.asked.clear()
        answer = await client.call("printer.objects.query", objects={DRYER: ["target", "none"], "print_stats": None})
        assert answer["status"][DRYER] == {"target": 0.0, "none": None}
        assert answer["status"]["print_stats"]["state"] == "standby"
        assert made.asked == []


async def test_what_is_asked_again_is_followed_for_a_while() -> None:
    async with rig() as made:
        client = made.client()
        made.asked.clear()
        wanted: Objects = {"toolhead": ["position"]}

        def followed() -> list[Subscription[Caller]]:
            return [each for each in made.printer.feed.following if "toolhead" in each.objects]

        first = await client.call("printer.objects.query", objects=wanted)
        await made.until(lambda: followed()[0].live)
        assert sorted(made.asked) == ["objects/query", "objects/subscribe"]
        again = await client.call("printer.objects.query", objects=wanted)
        assert again["status"] == first["status"]
        assert len(made.asked) == 2
        made.api.klippy.tick(trio.current_time() + FOLLOW_ASKED_S + 1)
        assert followed() == []


async def test_what_is_asked_in_every_way_is_not_all_followed() -> None:
    async with rig() as made:
        client = made.client()
        for number in range(MAX_ASKED + 5):
            await client.call("printer.objects.query", objects={f"object {number}": None})
        asked = [each for each in made.printer.feed.following if each.callback.startswith("asked")]
        assert len(asked) == MAX_ASKED


async def test_configfile_is_fetched_once_and_not_followed() -> None:
    async with rig() as made:
        client, other = made.client(), made.client()
        made.asked.clear()
        ids = [each.request_("printer.objects.subscribe", objects={"configfile": None}) for each in (client, other)]
        for each, id_ in zip((client, other), ids, strict=True):
            status = (await each.answer(id_))["result"]["status"]["configfile"]
            assert status["settings"]["heater_generic dryer"]["max_temp"] == 100.0
            assert status["save_config_pending"] is False
        assert made.asked.count("objects/query") == 1
        followed = [each.objects["configfile"] for each in made.printer.feed.following if "configfile" in each.objects]
        assert followed
        for fields in followed:
            assert fields is not None
            assert not {"config", "settings"} & {*fields}


async def test_configfile_is_forgotten_with_the_last_client() -> None:
    async with rig() as made:
        client = made.client()
        await client.call("printer.objects.query", objects={"configfile": ["settings"]})
        client.hang_up()
        await made.until(lambda: not made.api.sessions)
        made.asked.clear()
        await made.client().call("printer.objects.query", objects={"configfile": ["settings"]})
        assert made.asked == ["objects/query"]


async def test_a_client_that_goes_follows_nothing_any_more() -> None:
    async with rig() as made:
        client = made.client()
        await client.call("printer.objects.subscribe", objects={"toolhead": None})
        client.request_("printer.objects.subscribe", objects={"configfile": None, "idle_timeout": None})
        client.hang_up()
        await made.until(lambda: not made.api.sessions)
        made.client()
        await made.client().call("printer.objects.query", objects={"configfile": None})
        assert not [each for each in made.printer.feed.following if each.callback == "status"]


async def test_a_subscription_ends_with_klippy_and_is_made_anew_by_the_client() -> None:
    async with rig() as made:
        client = made.client()
        await client.call("printer.objects.subscribe", objects={"toolhead": None})
        made.kill_klippy()
        await client.notification("klippy_disconnected")
        assert not [each for each in made.printer.feed.following if each.callback == "status"]
        await made.start_klippy()
        await client.notification("klippy_ready")
        assert "toolhead" in (await client.call("printer.objects.subscribe", objects={"toolhead": None}))["status"]


async def test_loss_answers_every_request_under_way() -> None:
    async with rig() as made:
        client = made.client()
        script = client.request_("printer.gcode.script", script="G4 P60000")
        pause = client.request_("printer.print.pause")
        made.kill_klippy()
        for id_ in (script, pause):
            assert (await client.answer(id_))["error"] == {"code": 503, "message": "Klippy Disconnected"}
        with pytest.raises(ApiRefused, match="503: Klippy Host not connected"):
            await client.call("printer.objects.subscribe", objects={"toolhead": None})


async def test_a_stalled_klippy_fails_a_subscription_in_time() -> None:
    async with rig(klippy=False) as made:
        klippy = await made.start_klippy()
        await made.klippy_state("ready")
        client = made.client()
        await client.call("server.info")
        klippy.stall()
        id_ = client.request_("printer.objects.subscribe", objects={"toolhead": None})
        await client.call("server.info")
        for session in made.api.sessions:
            session.tick(trio.current_time() + SUBSCRIBE_WITHIN_S + 1)
        assert (await client.answer(id_))["error"] == {"code": 500, "message": "Klippy request timed out"}
        klippy.resume()


async def test_the_state_is_startup_until_all_endpoints_are_known() -> None:
    async with rig() as made:
        seen: list[str] = []
        again = Klippy(made.router, made.printer, lambda happening: seen.append(happening))
        assert again.state == "startup"
        again.start()
        await made.until(lambda: again.state == "ready")
        assert seen == ["ready"]
        assert "pause_resume/pause" in again.endpoints
        again.stop()


async def test_temperatures_that_no_one_can_read_are_null() -> None:
    async with rig() as made:
        await made.until(lambda: made.printer.feed.following.of(made.api.sensors)[0].live)
        made.printer.feed.update(b'{"eventtime": 1.0, "status": {"heater_generic dryer": {"temperature": 1e999}}}')
        made.api.sensors.sample()
        shown = made.api.sensors.store.shown(include_monitors=True)[DRYER]["temperatures"]
        assert shown[0] == 25.0
        assert shown[-1] is None
