"""router/stats tells what happened and what is so now; every number is that of something that was just done."""

from __future__ import annotations

import resource
from typing import Any

import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from klipper_router.api_socket import FRAME_WITHIN_S
from klipper_router.stats import report as stats_report
from test.memory.bench import Bench, settle
from test.memory.scripted_klippy import FRAME_END


async def started(nursery: trio.Nursery, **options: Any) -> Bench:
    bench = Bench(nursery, "main", "led", options={"main": options, "led": {}})
    for klippy in bench:
        klippy.define("MOVE", "ON_STATUS", "ANSWER")
        klippy.objects = {"print_stats": {"state": "standby"}}
    await bench.start()
    return bench


async def stats(bench: Bench) -> Any:
    return await bench.client().request("router/stats")


async def test_it_is_told_without_a_file_descriptor_left(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        told = stats_report(bench.router)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told.open_files == 0
    assert told.rss_kb > 1000


async def test_frames_bytes_scripts_and_calls_are_counted(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    before = (await stats(bench))["printers"]
    main, led = bench
    led.hold("gcode/script")
    main.call_remote("router/gcode/script", target="led", script="MOVE")
    main.call_remote("router/gcode/script", target="ghost", script="MOVE")
    main.send_bytes(b"{]\x03")
    await settle()
    held = (await stats(bench))["printers"]
    led.release("gcode/script")
    await settle()
    after = (await stats(bench))["printers"]

    def grown(name: str, key: str) -> int:
        return int(after[name][key] - before[name][key])

    assert {
        key: grown("main", key) for key in ("remote_calls", "errors", "frames_in", "frames_skipped", "scripts")
    } == {
        "remote_calls": 2,
        "errors": 1,
        "frames_in": 4,  # two calls, one broken frame, the answer to the console line
        "frames_skipped": 1,
        "scripts": 1,
    }
    assert {key: grown("led", key) for key in ("scripts", "frames_out", "frames_in", "script_errors")} == {
        "scripts": 1,
        "frames_out": 1,
        "frames_in": 1,
        "script_errors": 0,
    }
    (script,) = [request for request in led.requests if request["method"] == "gcode/script"]
    assert grown("led", "bytes_out") == len(msgspec.json.encode(script)) + len(FRAME_END)
    assert (held["led"]["queue"], held["led"]["calls_under_way"]) == (1, 1)
    assert (after["led"]["queue"], after["led"]["calls_under_way"]) == (0, 0)


async def test_callbacks_merges_and_their_latency_are_counted(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led = bench
    led.call_remote(
        "router/objects/subscribe", target="main", objects={"print_stats": ["state"]}, gcode_callback="ON_STATUS"
    )
    await settle()
    led.hold("gcode/script")
    for state in ("printing", "paused", "printing", "complete"):
        main.change("print_stats", state=state)
        await settle()
    await trio.sleep(4)
    led.release("gcode/script")
    await settle()
    report = (await stats(bench))["printers"]
    assert report["main"]["subscriptions"] == 1
    assert (report["led"]["callbacks"], report["led"]["merges"]) == (3, 3)
    latency = report["led"]["callback_latency"]
    assert (latency["count"], latency["sum_s"], latency["max_s"]) == (3, 4.0, 4.0)
    assert dict(latency["buckets"])[5.0] - dict(latency["buckets"])[2.5] == 1


async def test_connections_clients_events_and_refusals_are_counted(nursery: trio.Nursery) -> None:
    bench = await started(nursery, gcode_from=[])
    main, led = bench
    led.call_remote("router/event/subscribe", event="x", gcode="MOVE")
    client = bench.client()
    await client.request("router/event/trigger", event="x")
    await client.request("router/gcode/script", target="main", script="MOVE")
    before = await stats(bench)
    main.restart()
    await trio.sleep(2)
    after = await stats(bench)
    assert after["printers"]["main"]["reconnects"] == before["printers"]["main"]["reconnects"] + 1 == 1
    assert before["printers"]["main"]["refused"] == 1
    assert before["printers"]["led"]["handlers"] == 1
    assert before["events"]["handlers"] == 1
    assert after["events"]["triggered"] > before["events"]["triggered"]  # router/disconnected and so on
    assert (before["clients"]["errors"], before["clients"]["requests"]) == (1, 3)


async def test_what_is_suspended_is_named(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _ = bench
    for _ in range(3000):
        main.call_remote("router/event/trigger", event="x")
    await settle()
    assert (await stats(bench))["suspended"] == ["main router/event/trigger x"]


async def test_the_process_is_measured(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    await trio.sleep(10)
    report = await stats(bench)
    assert report["uptime_s"] == 10
    assert report["rss_kb"] > 1000
    assert report["open_files"] >= 3
    assert report["tasks"] > 5


async def test_a_macro_gets_the_numbers_of_each_printer(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _ = bench
    main.call_remote("router/stats", gcode_callback="ANSWER")
    await settle()
    (parameters,) = main.runs_of("ANSWER")
    assert parameters["LED_RECONNECTS"] == "0"
    assert parameters["MAIN_REMOTE_CALLS"] == "1"
    assert int(parameters["TASKS"]) > 5


async def test_prometheus_reads_the_report(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _ = bench
    main.call_remote("router/gcode/script", target="ghost", script="MOVE")
    await settle()
    text = await bench.client().request("router/stats", format="prometheus")
    samples = {
        (sample.name, sample.labels.get("printer")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["klipper_router_printer_errors_total", "main"] == 1
    assert samples["klipper_router_printer_connected", "led"] == 1
    assert samples["klipper_router_printer_callback_latency_seconds_count", "led"] == 0
    assert samples["klipper_router_tasks", None] > 5


@pytest.mark.parametrize(("given", "why"), [("xml", "neither 'json' nor 'prometheus'"), ("prometheus", "a macro")])
async def test_a_format_that_cannot_be_given_is_refused(nursery: trio.Nursery, given: str, why: str) -> None:
    bench = await started(nursery)
    main, _ = bench
    main.call_remote("router/stats", format=given)
    await settle()
    assert why in main.console[0]


async def test_each_line_of_a_console_is_told_to_whoever_listens_until_it_stops(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, _ = bench
    main.answers["gcode/subscribe_output"] = lambda params: {}
    printer = bench.router.printers["main"]
    assert main.requests_of("gcode/subscribe_output") == []
    heard: list[str] = []
    stop = printer.listen(heard.append)
    stop_other = printer.listen(lambda line: None)
    await settle()
    (asked,) = main.requests_of("gcode/subscribe_output")
    template = asked["response_template"]
    main.connections[0].send({**template, "params": {"response": "// hello"}})
    main.connections[0].send({**template, "params": {"no": "line"}})
    main.connections[0].send({**template, "params": {"response": "!! bad"}})
    await settle()
    assert heard == ["// hello", "!! bad"]
    stop_other()
    main.restart()
    await trio.sleep(2)
    assert len(main.requests_of("gcode/subscribe_output")) == 2
    stop()
    main.connections[0].send({**template, "params": {"response": "more"}})
    await settle()
    assert heard == ["// hello", "!! bad"]


async def test_a_klipper_that_refuses_to_be_listened_to_disturbs_nothing(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    bench.router.printers["main"].listen(lambda line: None)
    await settle()
    assert bench.state("main") == "ready"


async def test_what_passes_through_is_told_to_whoever_watches(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    main, led = bench
    seen: list[tuple[str, ...]] = []
    bench.router.on_activity.append(lambda activity: seen.append(tuple(activity[1:])))
    main.call_remote("router/gcode/script", target="led", script="MOVE")
    main.call_remote("router/event/trigger", event="x")
    await settle()
    led.call_remote(
        "router/objects/subscribe", target="main", objects={"print_stats": ["state"]}, gcode_callback="ON_STATUS"
    )
    await settle()
    led.become("shutdown")
    await settle()
    assert seen == [
        ("call", "main", "led", "router/gcode/script"),
        ("call", "main", "", "router/event/trigger"),
        ("event", "main", "", "x"),
        ("call", "led", "main", "router/objects/subscribe"),
        ("callback", "main", "led", "ON_STATUS"),
        ("state", "led", "", "shutdown"),
        ("event", "router", "", "router/shutdown"),
    ]


async def test_a_client_that_leaves_a_frame_half_sent_is_dropped_and_others_are_served(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    slow, other = bench.client(), bench.client()
    await slow.send_bytes(b'{"id": 1, "method": "in')
    for _ in range(20):
        await trio.sleep(FRAME_WITHIN_S / 21)
        await slow.send_bytes(b"f")  # a drop now and then does not help
        assert not slow.ended
    await trio.sleep(FRAME_WITHIN_S / 20)
    assert (await other.request("router/stats"))["clients"]["dropped"] == 1
    assert slow.ended


async def test_a_frame_that_is_finished_in_time_begins_the_time_of_the_next(nursery: trio.Nursery) -> None:
    bench = await started(nursery)
    client = bench.client()
    whole = b'{"id": 1, "method": "info"}\x03'
    await client.send_bytes(whole[:5])
    for _ in range(5):
        await trio.sleep(FRAME_WITHIN_S * 0.9)
        await client.send_bytes(whole[5:] + whole[:5])
    assert len(client.received) == 5
    await client.send_bytes(whole[5:])
    await trio.sleep(FRAME_WITHIN_S * 10)  # between two frames there is no limit
    assert not client.ended
