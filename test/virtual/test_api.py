"""The API server: shapes of answers, order, silence, subscriptions, slow clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from test.virtual.rig import BASE, PATIENCE_S, virtual_klippy

VARIABLE = BASE + "[gcode_macro V]\nvariable_a: 1\nvariable_b: 2\ngcode:\n  M118\n"


def set_a(value: object) -> str:
    return f"SET_GCODE_VARIABLE MACRO=V VARIABLE=a VALUE={value}"


async def test_info_has_klippers_fields() -> None:
    async with virtual_klippy() as rig:
        info = await rig.api.call("info", {"client_info": {"program": "test"}})
        assert info["state"] == "ready"
        assert info["state_message"] == "Printer is ready"
        assert info["config_file"] == str(rig.config)
        assert set(info) == {
            "state", "state_message", "hostname", "klipper_path", "python_path", "process_id", "user_id", "group_id",
            "log_file", "config_file", "software_version", "cpu_info",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("nope", {}, "webhooks: No registered callback for path 'nope'"),
        ("gcode/script", {}, "Missing Argument [script]"),
        ("gcode/script", {"script": 1}, "Invalid Argument Type [script]"),
        ("objects/query", {"objects": []}, "Invalid Argument Type [objects]"),
        ("objects/query", {"objects": {"webhooks": "state"}}, "Invalid argument"),
        ("objects/query", {"objects": {"webhooks": [1]}}, "Invalid argument"),
        ("register_remote_method", {"remote_method": "a"}, "Missing Argument [response_template]"),
        ("info", {"client_info": 1}, "Invalid Argument Type [client_info]"),
    ],
)
async def test_wrong_requests_get_klippers_errors(method: str, params: dict[str, Any], message: str) -> None:
    async with virtual_klippy() as rig:
        assert await rig.api.error(method, params) == message


@pytest.mark.parametrize(
    "frame",
    [b"", b"x", b"[]", b'{"id": 1}', b'{"id": 1, "method": 5}', b'{"id": 1, "method": "info", "params": []}',
     b'{"method": "info"}', b'{"id": null, "method": "info"}'],
)  # fmt: skip
async def test_broken_frames_and_requests_without_id_get_no_answer(frame: bytes) -> None:
    async with virtual_klippy() as rig:
        await rig.api.stream.send_all(frame + b"\x03")
        await rig.api.call("info")
        assert rig.api.order == [1]
        assert rig.klippy.state == "ready"


async def test_a_frame_may_come_in_pieces() -> None:
    async with virtual_klippy() as rig:
        for byte in b'{"id":1,"method":"objects/list"}\x03':
            await rig.api.stream.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()
        assert "webhooks" in (await rig.api.answer(1))["result"]["objects"]


async def test_a_waiting_script_does_not_hold_up_other_answers() -> None:
    async with virtual_klippy(speed=5.0) as rig:
        slow = await rig.api.send("gcode/script", {"script": "G4 P5000"})
        assert await rig.api.error("nope")
        await rig.api.call("info")
        assert slow not in rig.api.answers


async def test_scripts_run_first_come_first_served() -> None:
    async with virtual_klippy() as rig:
        requests = [
            await rig.api.send("gcode/script", {"script": f"M118 begin {i}\nG4 P2000\nM118 end {i}"}) for i in range(4)
        ]
        for request in requests:
            await rig.api.answer(request)
        said = [line for line in rig.klippy.console if line.startswith("echo")]
        assert said == [f"echo: {word} {i}" for i in range(4) for word in ("begin", "end")]
        assert rig.api.order == requests


async def test_requests_of_one_packet_start_in_order() -> None:
    async with virtual_klippy(VARIABLE) as rig:
        for value in range(20):
            frames = [
                {"id": 100 + value, "method": "gcode/script", "params": {"script": set_a(value)}},
                {"id": 200 + value, "method": "objects/query", "params": {"objects": {"gcode_macro V": ["a"]}}},
            ]
            await rig.api.stream.send_all(b"".join(json.dumps(f).encode() + b"\x03" for f in frames))
            answer = await rig.api.answer(200 + value)
            assert answer["result"]["status"] == {"gcode_macro V": {"a": value}}


async def test_endpoints_depend_on_the_configuration() -> None:
    async with virtual_klippy(BASE + "[pause_resume]\n") as rig:
        with_pause = (await rig.api.call("list_endpoints"))["endpoints"]
    async with virtual_klippy() as rig:
        without = (await rig.api.call("list_endpoints"))["endpoints"]
    added = {"pause_resume/cancel", "pause_resume/pause", "pause_resume/resume"}
    assert set(with_pause) - set(without) == added


async def test_objects_keep_their_case_and_help_is_upper_case() -> None:
    async with virtual_klippy(BASE + "[gcode_macro My_Macro]\ndescription: mine\ngcode:\n  M118\n") as rig:
        assert "gcode_macro My_Macro" in (await rig.api.call("objects/list"))["objects"]
        assert (await rig.api.call("gcode/help"))["MY_MACRO"] == "mine"


async def test_unknown_object_is_empty_and_unknown_field_is_null() -> None:
    async with virtual_klippy() as rig:
        answer = await rig.api.call("objects/query", {"objects": {"nope": None, "webhooks": ["state", "nope"]}})
        assert answer["status"] == {"nope": {}, "webhooks": {"state": "ready", "nope": None}}


# Subscriptions


async def test_a_subscription_tells_only_what_changed() -> None:
    async with virtual_klippy(VARIABLE) as rig:
        wanted = {"objects": {"gcode_macro V": None}, "response_template": {"method": "status"}}
        first = await rig.api.call("objects/subscribe", wanted)
        assert first["status"] == {"gcode_macro V": {"a": 1, "b": 2}}
        await rig.api.script(set_a(5))
        note = await rig.api.note()
        assert note["method"] == "status"
        assert note["params"]["status"] == {"gcode_macro V": {"a": 5}}


async def test_false_to_zero_is_no_change() -> None:
    async with virtual_klippy(VARIABLE) as rig:
        await rig.api.script(set_a(False))
        await rig.api.call("objects/subscribe", {"objects": {"gcode_macro V": ["a"]}})
        await rig.api.script(set_a(0))
        await rig.api.query("gcode_macro V")  # is answered at the next tick, after that tick's updates
        await rig.api.script(set_a(1))
        assert (await rig.api.note())["params"]["status"] == {"gcode_macro V": {"a": 1}}


async def test_a_new_subscription_replaces_the_old_and_an_empty_one_ends_it() -> None:
    async with virtual_klippy(VARIABLE) as rig:
        await rig.api.call("objects/subscribe", {"objects": {"gcode_macro V": None}, "response_template": {"n": 1}})
        await rig.api.call("objects/subscribe", {"objects": {"gcode_macro V": ["b"]}, "response_template": {"n": 2}})
        await rig.api.script(set_a(7) + "\nSET_GCODE_VARIABLE MACRO=V VARIABLE=b VALUE=8")
        assert (await rig.api.note())["n"] == 2
        await rig.api.call("objects/subscribe", {"objects": {}})
        await rig.api.script("SET_GCODE_VARIABLE MACRO=V VARIABLE=b VALUE=9")
        await rig.api.query("gcode_macro V")
        await rig.api.query("gcode_macro V")
        assert len(rig.api.notes) == 1
        assert rig.api.notes[0]["params"]["status"] == {"gcode_macro V": {"b": 8}}


async def test_a_query_waits_for_the_tick_only_while_someone_subscribes() -> None:
    async with virtual_klippy(VARIABLE, speed=1.0) as rig:
        await rig.api.call("objects/subscribe", {"objects": {"gcode_macro V": None}})
        begin = trio.current_time()
        await rig.api.query("webhooks")
        assert 0.15 < trio.current_time() - begin < 0.5
        await rig.api.call("objects/subscribe", {"objects": {}})
        await trio.sleep(0.3)  # the tick that finds nothing to do any more
        begin = trio.current_time()
        await rig.api.query("webhooks")
        assert trio.current_time() - begin < 0.15


async def test_a_subscription_survives_from_startup_to_ready_and_tells_of_a_shutdown() -> None:
    async with virtual_klippy(ready=False) as rig:
        first = await rig.api.call("objects/subscribe", {"objects": {"webhooks": ["state"]}})
        assert first["status"] == {"webhooks": {"state": "startup"}}
        assert (await rig.api.note())["params"]["status"] == {"webhooks": {"state": "ready"}}
        await rig.api.call("emergency_stop")
        assert (await rig.api.note(2))["params"]["status"] == {"webhooks": {"state": "shutdown"}}


async def test_output_goes_to_every_subscriber_with_its_own_template() -> None:
    async with virtual_klippy() as rig:
        other = await rig.connect()
        await rig.api.call("gcode/subscribe_output", {"response_template": {"method": "one", "params": "lost"}})
        await other.call("gcode/subscribe_output", {"response_template": {"method": "two"}})
        await rig.api.script("M118 hello")
        assert await rig.api.note() == {"method": "one", "params": {"response": "echo: hello"}}
        assert await other.note() == {"method": "two", "params": {"response": "echo: hello"}}


# Clients


async def test_clients_are_counted_and_can_be_dropped() -> None:
    async with virtual_klippy() as rig:
        await rig.api.call("info")
        assert rig.klippy.clients == 1
        rig.klippy.drop_clients()
        await rig.api.end()
        assert rig.klippy.clients == 0
        assert await (await rig.connect()).call("info")


async def test_connections_can_be_cut_in_the_middle_of_a_frame() -> None:
    async with virtual_klippy() as rig:
        await rig.api.script("VIRTUAL_FAULT TYPE=cut")
        await rig.api.end()
        rest = rig.api._partial
        assert rest.startswith(b'{"id": ')
        assert b"\x03" not in rest
        assert await (await rig.connect()).call("info")


async def test_a_client_that_does_not_read_is_closed_and_others_are_not() -> None:
    async with virtual_klippy(speed=50.0) as rig:  # 5.6 s shortened to the real minimum of 1 s
        other = await rig.connect()
        await rig.api.call("gcode/subscribe_output")
        text = "x" * 100_000
        for _ in range(8):
            await other.script(f"M118 {text}")
        assert rig.klippy.clients == 2
        with trio.fail_after(PATIENCE_S):
            while rig.klippy.clients == 2:
                await other.call("info")
        assert await other.call("info")
        await rig.api.end_or_break()
