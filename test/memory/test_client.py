"""The router's own API socket: one client over a memory stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from klipper_router import api_socket
from klipper_router.remote_methods import METHODS
from test.memory.bench import ApiClient, Bench, settle
from test.memory.scripted_klippy import FRAME_END


async def started(nursery: trio.Nursery, *names: str) -> Bench:
    bench = Bench(nursery, *names)
    for klippy in bench:
        klippy.define("MOVE", "HANDLER")
        klippy.objects = {"print_stats": {"state": "standby", "filename": ""}, "heater_bed": {"target": 0.0}}
    await bench.start()
    return bench


async def works(client: ApiClient) -> bool:
    result = await client.request("info")
    return isinstance(result, dict) and result["app"] == "klipper-router"


@pytest.mark.parametrize("id_", [1, -1, 0, 2**70, "text", "", [1, {"a": None}], {"a": 1}, False, 1.5])
async def test_the_id_comes_back_as_it_was(nursery: trio.Nursery, id_: Any) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    await client.send({"id": id_, "method": "router/printers/list"}, {"method": "nonsense", "id": id_})
    assert [frame["id"] for frame in client.received] == [id_, id_]
    assert [set(frame) for frame in client.received] == [{"id", "result"}, {"id", "error"}]


@pytest.mark.parametrize("method", ["info", "router/printers/list", "router/gcode/script", "nonsense"])
async def test_a_request_without_an_id_gets_no_answer(nursery: trio.Nursery, method: str) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    await client.send({"method": method}, {"method": method, "id": None})
    assert client.received == []
    assert await works(client)


@pytest.mark.parametrize("method", [*METHODS, "info", "list_endpoints", "nonsense"])
@pytest.mark.parametrize("params", [{}, {"target": "main"}, {"target": "ghost"}, [], 7, "x", None, {"a": {}}])
async def test_every_request_with_an_id_gets_exactly_one_answer(
    nursery: trio.Nursery, method: str, params: Any
) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    await client.send({"id": 7, "method": method, "params": params})
    assert [frame["id"] for frame in client.received] == [7]
    assert ("result" in client.received[0]) != ("error" in client.received[0])
    assert await works(client)


@pytest.mark.parametrize("method", [None, 7, "", [], {}])
async def test_a_request_whose_method_is_no_text_gets_its_one_answer_too(nursery: trio.Nursery, method: Any) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    await client.send({"id": 7, "method": method}, {"id": "x"})
    assert [frame["id"] for frame in client.received] == [7, "x"]
    assert all("message" in frame["error"] for frame in client.received)


async def test_answers_come_as_they_are_ready(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, _ = bench
    client = bench.client()
    main.hold("gcode/script")
    for id_, target in ((1, "main"), (2, "led")):
        await client.send({"id": id_, "method": "router/gcode/script", "params": {"target": target, "script": "MOVE"}})
    assert client.received == [{"id": 2, "result": {}}]
    main.release("gcode/script")
    await settle()
    assert client.received[1:] == [{"id": 1, "result": {}}]


async def test_klippers_answers_arrive_as_klipper_gave_them(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.answers["x"] = lambda params: [params, None, {"é": 1.5}]
    client = bench.client()
    assert await client.request("router/call", target="main", method="x", params={"a": 1}) == [
        {"a": 1},
        None,
        {"é": 1.5},
    ]
    assert await client.request("router/objects/list", target="main") == {
        "objects": ["webhooks", "print_stats", "heater_bed"]
    }
    query = await client.request("router/objects/query", target="main", objects={"heater_bed": None, "probe": None})
    assert query["status"] == {"heater_bed": {"target": 0.0}, "probe": {}}


async def test_errors_name_the_target_and_the_cause(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    _, led = bench
    client = bench.client()
    script = {"target": "led", "script": "MOVE A='"}
    assert await client.request("router/gcode/script", **script) == "led: Malformed command 'MOVE A=''"
    assert await client.request("router/gcode/script", target="ghost", script="MOVE") == (
        "ghost: no printer of that name, the router has main, led"
    )
    led.die()
    await settle()
    assert await client.request("router/gcode/script", **script) == "led is not connected: closed by Klipper"
    assert "unknown method" in await client.request("router/nonsense")


async def test_info_and_list_endpoints_are_served_as_by_klippy(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    assert (await client.request("info", client_info={"program": "whconsole"}))["state"] == "ready"
    assert set((await client.request("list_endpoints"))["endpoints"]) == {"info", "list_endpoints", *METHODS}


@pytest.mark.parametrize("frame", [b"no json", b"", b"[]", b"7", b"{", b'{"method": ', b"{}", b"\xff", b"[" * 100_000])
async def test_a_broken_frame_is_an_error_that_names_it_and_disturbs_nothing(
    nursery: trio.Nursery, frame: bytes
) -> None:
    bench = await started(nursery, "main")
    client, other = bench.client(), bench.client()
    await client.send_bytes(frame + FRAME_END)
    (answer,) = client.received
    assert answer["id"] is None
    assert answer["error"]["message"]
    assert await works(client)
    assert await works(other)
    assert other.received[0]["id"] == 1


@pytest.mark.parametrize("frame", [b'{"id": 9, "method": ', b'{"id": 9, "method": "info", "params": {]}'])
async def test_a_broken_frame_whose_id_can_be_read_is_answered_to_it(nursery: trio.Nursery, frame: bytes) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    await client.send_bytes(frame + FRAME_END)
    (answer,) = client.received
    assert answer["id"] == 9
    assert "unreadable JSON" in answer["error"]["message"]


async def test_a_frame_of_5_mb_is_refused_and_disturbs_nothing(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    size_bytes = 5_000_000
    await client.send_bytes(b'{"id": 5, "method": "info", "params": "'.ljust(size_bytes, b"x") + FRAME_END)
    (answer,) = client.received
    assert answer["id"] == 5
    assert f"a frame of {size_bytes} bytes, over the limit of {api_socket.MAX_CLIENT_FRAME_BYTES}" in str(
        answer["error"]
    )
    assert await works(client)


async def test_half_a_frame_and_then_close_disturbs_nothing(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    client, other = bench.client(), bench.client()
    await client.send_bytes(b'{"id": 1, "method": "router/gcode/script", "params": {"target": "main", "scr')
    await client.close()
    assert await works(other)
    assert bench.klippys["main"].ran == []


async def test_a_request_sent_byte_by_byte_is_served(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    for byte in b'{"id": 1, "method": "info"}\x03':
        await client.stream.send_all(bytes([byte]))
    await settle()
    assert client.received[0]["result"]["app"] == "klipper-router"


async def test_too_many_requests_under_way_are_refused_and_the_others_served(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client, other = bench.client(), bench.client()
    main.hold("gcode/script")
    limit = api_socket.MAX_REQUESTS_UNDER_WAY
    script = {"target": "main", "script": "MOVE"}
    await client.send(*({"id": id_, "method": "router/gcode/script", "params": script} for id_ in range(limit + 3)))
    assert [frame["id"] for frame in client.received] == [limit, limit + 1, limit + 2]
    assert all(f"{limit} requests of this client are under way" in str(frame["error"]) for frame in client.received)
    assert await works(other)
    main.release("gcode/script")
    await settle()
    assert sorted(frame["id"] for frame in client.received) == list(range(limit + 3))
    assert await works(client)


async def test_a_client_that_does_not_read_is_dropped_and_others_are_served(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.answers["x"] = lambda _: "x" * 1_000_000
    client, other = bench.client(reads=False), bench.client()
    call = {"id": 1, "method": "router/call", "params": {"target": "main", "method": "x"}}
    await client.send(*[call] * 7)
    main.hold("x")
    await client.send(*[call] * 5)  # it is still there: this raises nothing
    main.release("x")
    await settle()
    with pytest.raises(trio.BrokenResourceError):
        await client.stream.send_all(b"x")
    assert await works(other)
    assert (await other.request("router/stats"))["clients"]["dropped"] == 1


async def test_a_client_that_leaves_a_little_unread_for_long_is_dropped(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    client, other = bench.client(reads=False), bench.client()
    await client.send({"id": 1, "method": "info"})
    await trio.sleep(api_socket.UNREAD_S - 1)
    await client.stream.send_all(b"x")  # it is still there: this raises nothing
    await trio.sleep(2)
    with pytest.raises(trio.BrokenResourceError):
        await client.stream.send_all(b"x")
    assert (await other.request("router/stats"))["clients"]["dropped"] == 1
    await trio.sleep(10 * api_socket.UNREAD_S)  # who reads all may be silent for ever
    assert not other.ended


async def test_a_client_that_closes_only_its_sending_side_gets_its_answers(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    main.hold("gcode/script")
    await client.send({"id": 1, "method": "router/gcode/script", "params": {"target": "main", "script": "MOVE"}})
    await client.stream.send_eof()
    await trio.sleep(api_socket.LINGER_S / 2)
    assert not client.ended
    main.release("gcode/script")
    await settle()
    assert client.received == [{"id": 1, "result": {}}]
    assert client.ended


async def test_a_closed_clients_last_answers_are_not_waited_for_long(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    main.hold("gcode/script")
    await client.send({"id": 1, "method": "router/gcode/script", "params": {"target": "main", "script": "MOVE"}})
    await client.stream.send_eof()
    await trio.sleep(api_socket.LINGER_S + 0.1)
    assert client.ended
    main.release("gcode/script")
    await settle()
    assert client.received == []


async def test_a_clients_script_runs_to_its_end_though_the_client_is_gone(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    main.hold("gcode/script")
    await client.send({"id": 1, "method": "router/gcode/script", "params": {"target": "main", "script": "MOVE"}})
    await client.close()
    main.release("gcode/script")
    await settle()
    assert main.runs_of("MOVE") == [{}]


# -- subscriptions and events --------------------------------------------------------------------------------------


async def test_a_subscription_answers_with_what_is_known_and_then_tells_changes(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    objects = {"print_stats": ["state"], "heater_bed": None}
    first = await client.request("router/objects/subscribe", target="main", objects=objects)
    told = [first, *client.notices("router/objects/update")]
    merged = {name: fields for part in told for name, fields in part["status"].items()}
    assert merged == {"print_stats": {"state": "standby"}, "heater_bed": {"target": 0.0}}
    client.received.clear()
    main.change("print_stats", state="printing", filename="not asked for")
    main.change("heater_bed", target=60.0)
    await settle()
    assert client.notices("router/objects/update") == [
        {"target": "main", "eventtime": 2.0, "status": {"print_stats": {"state": "printing"}}},
        {"target": "main", "eventtime": 2.0, "status": {"heater_bed": {"target": 60.0}}},
    ]


async def test_a_second_subscription_to_the_same_is_answered_from_what_is_known(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    first, second = bench.client(), bench.client()
    objects = {"print_stats": ["state"]}
    await first.request("router/objects/subscribe", target="main", objects=objects)
    before = len(main.requests)
    answer = await second.request("router/objects/subscribe", target="main", objects=objects)
    assert answer["status"] == {"print_stats": {"state": "standby"}}
    assert len(main.requests) == before
    assert second.notices("router/objects/update") == []


async def test_each_response_template_is_a_subscription_of_its_own(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    for method, name in (("a", "print_stats"), ("b", "heater_bed"), ("a", "heater_bed")):
        template = {"method": method, "mine": [1]}
        await client.request(
            "router/objects/subscribe", target="main", objects={name: None}, response_template=template
        )
    client.received.clear()
    main.change("heater_bed", target=60.0)
    main.change("print_stats", state="printing")
    await settle()
    assert sorted(frame["method"] for frame in client.received) == ["a", "b"]
    assert all(frame["mine"] == [1] for frame in client.received)


async def test_a_client_follows_a_printer_through_its_restart(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    await client.request("router/objects/subscribe", target="main", objects={"print_stats": ["state"]})
    client.received.clear()
    main.restart()
    await trio.sleep(3)
    main.change("print_stats", state="printing")
    await settle()
    told = [notice["status"] for notice in client.notices("router/objects/update")]
    assert told == [{"print_stats": {"state": "standby"}}, {"print_stats": {"state": "printing"}}]


async def test_a_closed_clients_subscriptions_and_handlers_end(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client, other = bench.client(), bench.client()
    await client.request("router/objects/subscribe", target="main", objects={"heater_bed": None})
    await client.request("router/event/subscribe", event="x", gcode="HANDLER", callback_target="main")
    await client.request("router/event/subscribe", event="x")
    assert (await other.request("router/event/trigger", event="x")) == {"handlers": 2}
    await client.close()
    assert main.requests_of("objects/subscribe")[-1]["objects"] == {"webhooks": ["state", "state_message"]}
    assert (await other.request("router/event/trigger", event="x")) == {"handlers": 0}
    (printer,) = (await other.request("router/printers/list"))["printers"]
    assert printer["subscriptions"] == 0


async def test_a_client_may_handle_events_by_frames(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    await client.request("router/event/subscribe", event="x", response_template={"method": "mine", "tag": 7})
    main.call_remote("router/event/trigger", event="x", context="lane=1")
    await settle()
    assert client.received[1:] == [{"method": "mine", "tag": 7, "params": {"event": "x", "context": {"lane": "1"}}}]


async def test_a_client_hears_of_the_built_in_events(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    for event in ("router/disconnected", "router/ready"):
        await client.request("router/event/subscribe", event=event)
    main.restart()
    await trio.sleep(3)
    assert client.notices("router/event") == [
        {"event": "router/disconnected", "context": {"printer": "main"}},
        {"event": "router/ready", "context": {"printer": "main"}},
    ]


async def test_a_client_without_a_printer_must_name_the_target_of_a_handler(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    error = await client.request("router/event/subscribe", event="x", gcode="HANDLER")
    assert "missing parameter 'callback_target'" in error


async def test_a_handler_of_a_client_that_fails_later_is_told_by_a_frame(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    client = bench.client()
    await client.request("router/event/subscribe", event="x", gcode="HANDLER", callback_target="main")
    main.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    await client.request("router/event/trigger", event="x")
    assert client.notices("router/error") == [{"message": "event x: handler on main: Must home first"}]


async def test_a_trigger_with_handlers_that_cannot_run_is_an_error_that_names_them(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    _, led = bench
    client = bench.client()
    for target in ("main", "led"):
        await client.request("router/event/subscribe", event="x", gcode=f"HANDLER A={target}", callback_target=target)
    led.become("shutdown", "MCU shutdown")
    await settle()
    error = await client.request("router/event/trigger", event="x")
    assert "led is not ready: shutdown, MCU shutdown" in error
    assert bench.klippys["main"].runs_of("HANDLER") == [{"A": "main"}]


@pytest.mark.parametrize("method", ["router/event/subscribe", "router/objects/subscribe"])
@pytest.mark.parametrize("template", ["[" * 900 + "]" * 900, '"' + "x" * 5000 + '"'])
async def test_what_a_client_wants_to_be_told_with_is_small_and_flat(
    nursery: trio.Nursery, method: str, template: str
) -> None:
    bench = await started(nursery, "main")
    client = bench.client()
    about = {"event": "router/disconnected"} if "event" in method else {"target": "main", "objects": {"webhooks": None}}
    params = json.dumps(about)[:-1] + f', "response_template": {{"a": {template}}}}}'
    await client.send_bytes(f'{{"id": 1, "method": "{method}", "params": {params}}}'.encode() + FRAME_END)
    assert "parameter 'response_template'" in client.received[0]["error"]["message"]


async def test_no_template_that_can_be_read_ends_the_router_when_its_event_happens(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    for levels in range(850, 960):  # near the end of what can be read; an event happens deeper in the stack
        client = bench.client()
        template = f'{{"a": {"[" * levels}{"]" * levels}}}'
        params = f'{{"event": "router/disconnected", "response_template": {template}}}'
        await client.send_bytes(
            f'{{"id": 1, "method": "router/event/subscribe", "params": {params}}}'.encode() + FRAME_END
        )
    bench.klippys["main"].die()
    await settle()
    assert await bench.client().request("router/event/trigger", event="x") == {"handlers": 0}
