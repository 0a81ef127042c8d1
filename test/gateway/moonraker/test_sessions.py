"""WebSocket clients: who they are, what they may, batches, order, bounds, and what they are told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from klipper_router.gateway.http import (
    MAX_MESSAGE_BYTES,
    MAX_STRANGERS_MESSAGE_BYTES,
    HttpError,
    HttpRequest,
    Peer,
)
from klipper_router.gateway.moonraker import session
from klipper_router.gateway.moonraker.api import MAX_SESSIONS, MAX_STRANGERS, MAX_STRANGERS_PER_ADDRESS
from klipper_router.gateway.moonraker.session import MAX_REQUESTS_UNDER_WAY
from test.gateway.moonraker.calls import IDENTITY
from test.gateway.moonraker.rig import API_KEY, STRANGER, ApiRefused, rig

HERE = "http://localhost"
STREAM = "/cameras/nozzle/stream"


async def test_a_stranger_may_only_say_who_it_is() -> None:
    async with rig() as made:
        client = made.client(STRANGER)
        assert (await client.call("access.info"))["trusted"] is False
        for method in ("server.info", "printer.info", "printer.pause_resume.pause", "server.websocket.id"):
            with pytest.raises(ApiRefused, match="-32602: Unauthorized"):
                await client.call(method)
        with pytest.raises(ApiRefused, match="-32602: Unauthorized"):
            await client.call("server.connection.identify", **IDENTITY)
        await client.call("server.connection.identify", **IDENTITY, api_key=API_KEY)
        assert (await client.call("server.info"))["klippy_connected"] is True


async def test_a_stranger_is_told_nothing() -> None:
    async with rig() as made:
        stranger, client = made.client(STRANGER), made.client()
        await client.call("printer.gcode.script", script="M118 secret")
        await client.notification("gcode_response")
        await client.notification("proc_stat_update")
        assert stranger.notifications == []


async def test_a_wrong_key_revokes_trust() -> None:
    async with rig() as made:
        client = made.client()
        with pytest.raises(ApiRefused, match="-32602: Unauthorized"):
            await client.call("server.connection.identify", **IDENTITY, api_key="wrong")
        with pytest.raises(ApiRefused, match="-32602: Unauthorized"):
            await client.call("server.info")


async def test_keys_cannot_be_guessed_for_long() -> None:
    async with rig() as made:
        client = made.client(STRANGER)
        ids = [client.request_("server.connection.identify", **IDENTITY, api_key="wrong") for _ in range(20)]
        codes = [(await client.answer(id_))["error"]["code"] for id_ in ids]
        assert codes[0] == -32602
        assert codes[-1] == 429


async def test_a_oneshot_token_is_of_32_characters() -> None:
    async with rig() as made:
        assert len(await made.client().call("access.oneshot_token")) == 32


async def test_each_client_has_its_own_id() -> None:
    async with rig() as made:
        ids = {(await made.client().call("server.websocket.id"))["websocket_id"] for _ in range(3)}
        assert len(ids) == 3


async def test_a_batch_is_answered_by_one_array_in_its_order() -> None:
    async with rig() as made:
        client = made.client()
        calls = ["printer.info", "no.such.method", "server.websocket.id"]
        client.say([{"jsonrpc": "2.0", "method": method, "id": number} for number, method in enumerate(calls)])
        answers = await client.answer("batch")
        assert [answer["id"] for answer in answers] == [0, 1, 2]
        assert answers[0]["result"]["state"] == "ready"
        assert answers[1]["error"] == {"code": -32601, "message": "Method not found"}


async def test_scripts_run_in_the_order_in_which_they_came() -> None:
    async with rig() as made:
        client = made.client()
        ids = [client.request_("printer.gcode.script", script=f"M118 {number}") for number in range(60)]
        for id_ in ids:
            await client.answer(id_)
        lines = [each["params"][0] for each in client.notifications if each["method"] == "notify_gcode_response"]
        assert lines == [f"echo: {number}" for number in range(60)]
        stored = (await client.call("server.gcode_store"))["gcode_store"]
        assert [line["message"] for line in stored if line["type"] == "response"][-60:] == lines
        assert [line["message"] for line in stored if line["type"] == "command"] == [f"M118 {n}" for n in range(60)]


async def test_one_client_may_not_have_any_number_of_requests_under_way() -> None:
    async with rig() as made:
        client = made.client()
        ids = [client.request_("printer.gcode.script", script="G4 P60000") for _ in range(MAX_REQUESTS_UNDER_WAY + 1)]
        refused = (await client.answer(ids[-1]))["error"]
        assert refused["code"] == 503
        assert f"{MAX_REQUESTS_UNDER_WAY} requests" in refused["message"]
        made.kill_klippy()
        for id_ in ids[:-1]:
            assert (await client.answer(id_))["error"]["code"] == 503
        assert (await client.call("server.info"))["klippy_connected"] is False


async def test_the_requests_of_a_batch_are_counted_one_by_one() -> None:
    async with rig() as made:
        client = made.client()
        waiting = {"jsonrpc": "2.0", "method": "printer.gcode.script", "params": {"script": "G4 P60000"}}
        client.say([{**waiting, "id": f"first {number}"} for number in range(MAX_REQUESTS_UNDER_WAY - 1)])
        client.say([{**waiting, "id": "last"}, {**waiting, "id": "too many"}])
        with pytest.raises(ApiRefused, match=f"{MAX_REQUESTS_UNDER_WAY} requests"):
            await client.call("server.info")
        made.kill_klippy()
        (last,) = [each for each in await client.answer("batch") if each["id"] == "too many"]
        assert f"{MAX_REQUESTS_UNDER_WAY} requests" in last["error"]["message"]
        await made.until(lambda: all(session.under_way == 0 for session in made.api.sessions))
        assert (await client.call("server.info"))["klippy_connected"] is False


async def test_what_is_no_request_gets_moonrakers_error() -> None:
    async with rig() as made:
        client = made.client()
        for message, code in (
            ("no json", -32700),
            ('{"jsonrpc": "2.0", "method": "server.info", "id": 1, "params": {"a": "\\ud800"}}', -32700),
            ("[" * 100_000, -32700),
            ("3", -32600),
            ("[]", -32600),
            (json.dumps([{}] * 1000), -32600),
            ('{"method": "server.info"}', -32600),
            ('{"jsonrpc": "2.0", "method": 3}', -32600),
            ('{"jsonrpc": "2.0", "method": "server.info", "params": [1]}', -32602),
        ):
            client.say(message)
            assert (await client.answer(None))["error"]["code"] == code


async def test_a_request_without_id_is_served_in_silence() -> None:
    async with rig() as made:
        client = made.client()
        client.say({"jsonrpc": "2.0", "method": "printer.gcode.script", "params": {"script": "M118 quiet"}})
        assert await client.notification("gcode_response") == ["echo: quiet"]
        await client.call("server.info")
        assert client.answers_left == 0


async def test_there_is_a_most_of_clients() -> None:
    async with rig() as made:
        for _ in range(MAX_SESSIONS):
            await made.client().call("server.websocket.id")
        with pytest.raises(HttpError, match="503"):
            made.site.check_websocket(HttpRequest("GET", "/websocket"))


def addresses(count: int) -> list[Peer]:
    return [Peer(f"192.0.2.{number}", False) for number in range(count)]


async def test_strangers_take_no_place_of_those_who_are_trusted() -> None:
    async with rig(klippy=False) as made:
        for peer in addresses(MAX_STRANGERS):
            await made.client(peer).call("access.info")
        with pytest.raises(HttpError, match="503"):
            made.client(STRANGER)
        for _ in range(MAX_SESSIONS):
            await made.client().call("server.websocket.id")


async def test_strangers_of_one_address_leave_places_to_others() -> None:
    async with rig(klippy=False) as made:
        clients = [made.client(STRANGER) for _ in range(MAX_STRANGERS_PER_ADDRESS)]
        for client in clients:
            await client.call("access.info")
        with pytest.raises(HttpError, match="503"):
            made.client(STRANGER)
        await made.client(Peer("192.0.2.99", False)).call("access.info")
        # Who has said who it is is none any more.
        await clients[0].call("server.connection.identify", **IDENTITY, api_key=API_KEY)
        await made.client(STRANGER).call("access.info")


async def test_those_who_come_at_the_same_time_share_the_last_places() -> None:
    async with rig(klippy=False) as made:
        clients = [made.client(STRANGER) for _ in range(MAX_STRANGERS_PER_ADDRESS + 1)]
        await made.until(lambda: any(client.closed for client in clients))
        closed = [client.closed for client in clients if client.closed]
        assert closed == [(1013, "Maximum Number of Websocket Connections Reached")]
        assert len(made.api.sessions) == MAX_STRANGERS_PER_ADDRESS


async def test_who_is_not_trusted_has_a_short_time_to_identify_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IDENTIFY_WITHIN_S", 0.0)
    async with rig(klippy=False) as made:
        revoked = made.client()
        with pytest.raises(ApiRefused, match="Unauthorized"):
            await revoked.call("server.connection.identify", **IDENTITY, api_key="wrong")
        for client in (made.client(STRANGER), revoked):
            code, reason = await client.until_closed()
            assert code == 1008
            assert "identified" in reason
        assert not made.api.sessions


async def test_who_has_identified_itself_may_stay_and_say_more() -> None:
    async with rig(klippy=False) as made:
        client = made.client(STRANGER)
        await client.call("access.info")
        (stranger,) = made.api.sessions
        until_s = stranger.scope.deadline
        with pytest.raises(ApiRefused, match="Unauthorized"):
            await client.call("server.connection.identify", **IDENTITY, api_key="wrong")
        assert stranger.scope.deadline == until_s  # to be wrong gives no time
        assert client.max_message_bytes == MAX_STRANGERS_MESSAGE_BYTES
        await client.call("server.connection.identify", **IDENTITY, api_key=API_KEY)
        assert stranger.scope.deadline == math.inf
        assert client.max_message_bytes == MAX_MESSAGE_BYTES


async def test_there_is_a_most_of_those_who_identify_themselves() -> None:
    async with rig(klippy=False) as made:
        for _ in range(MAX_SESSIONS):
            await made.client().call("server.websocket.id")
        with pytest.raises(ApiRefused, match="503"):
            await made.client(STRANGER).call("server.connection.identify", **IDENTITY, api_key=API_KEY)


async def test_cameras_have_the_urls_of_where_the_client_is() -> None:
    async with rig() as made:
        made.webcams.append({"name": "nozzle", "uid": "1", "stream_url": STREAM})
        below, own = made.client(prefix="/printers/led"), made.client(prefix="")
        for client, url in ((below, f"{HERE}/printers/led{STREAM}"), (own, HERE + STREAM)):
            assert (await client.call("server.webcams.list"))["webcams"][0]["stream_url"] == url
            assert (await client.call("server.webcams.get_item", uid="1"))["webcam"]["stream_url"] == url
        made.api.look_at_webcams()
        assert (await own.notification("webcams_changed"))[0]["webcams"][0]["stream_url"] == HERE + STREAM
        made.api.look_at_webcams()
        await own.call("server.info")
        told = [each["method"] for each in own.notifications].count("notify_webcams_changed")
        assert told == 1


async def test_policy_holds_for_clients_of_the_gateway() -> None:
    async with rig(gcode_from=["clients"], allow_endpoints=["pause_resume/pause"]) as made:
        client = made.client()
        with pytest.raises(ApiRefused, match="403: refused: gateway is not in gcode_from"):
            await client.call("printer.gcode.script", script="M118 no")
        with pytest.raises(ApiRefused, match="403: refused: pause_resume/cancel"):
            await client.call("printer.pause_resume.cancel")
        assert await client.call("printer.print.pause") == "ok"
        assert (await client.call("printer.info"))["state"] == "ready"
        assert await client.call("printer.emergency_stop") == "ok"
        await client.notification("klippy_shutdown")


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({}, False),
        ({"gcode_from": ["main", "gateway"], "endpoints_from": ["gateway"]}, False),
        ({"gcode_from": ["main"]}, True),
        ({"endpoints_from": []}, True),
        ({"allow_gcode": ["M117"]}, True),
        ({"deny_gcode": ["M112"]}, True),
        ({"allow_endpoints": ["pause_resume/*"]}, True),
    ],
)
async def test_no_policy_is_got_round_by_a_connection_to_klippy(options: dict[str, Any], refused: bool) -> None:
    async with rig(**options) as made:
        request = HttpRequest("GET", "/klippysocket")
        if not refused:
            made.site.check_websocket(request)
            return
        with pytest.raises(HttpError, match=r"403: refused: .* of \[klippy led\]"):
            made.site.check_websocket(request)


async def test_emergency_stop_is_refused_where_the_gateway_may_call_nothing() -> None:
    async with rig(endpoints_from=["clients"]) as made:
        client = made.client()
        with pytest.raises(ApiRefused, match="403: refused: gateway is not in endpoints_from"):
            await client.call("printer.emergency_stop")
        assert "refused to" in (await client.notification("gcode_response"))[0]
        assert made.printer.counters.refused == 1


async def test_the_api_key_is_told_to_those_who_are_let_in_and_can_be_replaced() -> None:
    async with rig() as made:
        stranger = made.client(STRANGER)
        with pytest.raises(ApiRefused, match="Unauthorized"):
            await stranger.call("access.get_api_key")
        client = made.client()
        old = await client.call("access.get_api_key")
        new = await client.call("access.post_api_key")
        assert (old, await client.call("access.get_api_key")) == (API_KEY, new)
        assert not made.api.access.check_api_key(old)
        assert made.api.access.check_api_key(new)


async def test_a_restart_is_answered_and_comes_back() -> None:
    async with rig() as made:
        client = made.client()
        assert await client.call("printer.firmware_restart") == "ok"
        await client.notification("klippy_disconnected")
        await client.notification("klippy_ready")


async def test_a_file_name_is_no_way_to_run_gcode() -> None:
    async with rig() as made:
        with pytest.raises(ApiRefused, match="400"):
            await made.client().call("printer.print.start", filename="x.gcode\nM112")
