"""A call that cannot be served is never silent: the caller's console, its error_callback, and what each one says."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from klipper_router.callers import Request
from klipper_router.remote_methods import METHODS
from klipper_router.router import Method, Router
from test.memory.bench import ApiClient, Bench, settle
from test.memory.scripted_klippy import ScriptedKlippy

REFUSED = {
    "objects/subscribe": "router/objects/subscribe does this",
    "gcode/subscribe_output": "it would replace the router's own subscription",
    "register_remote_method": "the router's own methods are registered already",
}


async def started(nursery: trio.Nursery, *names: str) -> Bench:
    bench = Bench(nursery, *names)
    for klippy in bench:
        klippy.define("MOVE", "ANSWER", "FAILED")
        klippy.objects = {"print_stats": {"state": "standby"}, "led bar": {"color": [1, 0.5]}}
    await bench.start()
    return bench


async def console_after(klippy: ScriptedKlippy, method: str, /, **params: Any) -> str:
    """The one line that a call makes on its caller's console."""
    klippy.call_remote(method, **params)
    await settle()
    (line,) = klippy.console
    return line


async def request(client: ApiClient, method: str, params: Any) -> Any:
    """Like `ApiClient.request`, for parameters that bear its own names."""
    await client.send({"id": 1, "method": method, "params": params})
    (answer,) = client.received
    return answer["result"] if "result" in answer else answer["error"]["message"]


async def test_an_error_is_shown_on_the_callers_console_as_klipper_shows_one(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    line = await console_after(main, "router/gcode/script", target="ghost", script="MOVE")
    assert line == "!! router: router/gcode/script to ghost: no printer of that name, the router has main, led"
    assert led.console == []


async def test_an_error_is_shown_without_respond_too(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.has_respond = False
    await bench.start()
    line = await console_after(main, "router/gcode/script", target="ghost", script="MOVE")
    assert line.startswith("ECHO MSG='!! router: router/gcode/script to ghost: no printer of that name")


@pytest.mark.parametrize("state", ["startup", "shutdown", "error"])
async def test_an_error_is_shown_in_every_state_of_the_caller(nursery: trio.Nursery, state: str) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.become(state)
    await bench.start()
    line = await console_after(main, "router/gcode/script", target="ghost", script="MOVE")
    assert line.startswith("!! router: router/gcode/script to ghost:")


async def test_error_callback_gets_error_method_and_target(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, _ = bench
    await console_after(main, "router/gcode/script", target="led", script="MOVE A='it", error_callback="FAILED")
    assert main.runs_of("FAILED") == [
        {"ERROR": "Malformed command 'MOVE A='it'", "METHOD": "router/gcode/script", "TARGET": "led"}
    ]


async def test_error_callback_runs_even_if_the_parameters_are_wrong(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    await console_after(main, "router/gcode/script", target="main", scrypt="MOVE", error_callback="FAILED")
    assert main.runs_of("FAILED") == [
        {
            "ERROR": "unknown parameter 'scrypt', did you mean 'script'?",
            "METHOD": "router/gcode/script",
            "TARGET": "main",
        }
    ]


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("router/gcode/script", {"script": "M"}, "missing parameter 'target' (the router has no default_instance)"),
        ("router/gcode/script", {"target": "main"}, "to main: missing parameter 'script'"),
        ("router/gcode/script", {"target": 7, "script": "M"}, "parameter 'target': expected text | null, got number"),
        ("router/gcode/script", {"target": "main", "script": ["M"]}, "parameter 'script': expected text, got list"),
        ("router/gcode/script", {"target": "main", "script": "M", "wiat": 1}, "'wiat', did you mean 'wait'?"),
        ("router/gcode/script", {"target": "main", "script": "M", "zzzz": 1}, "parameter 'zzzz' (script, target,"),
        ("router/event/trigger", {}, "missing parameter 'event'"),
        ("router/event/trigger", {"event": "x" * 257}, "parameter 'event': expected text of length <= 256"),
        ("router/event/trigger", {"event": "x", "error_callback": "X" * 257}, "parameter 'error_callback': expected"),
        ("router/gcode/script", {"target": "x" * 257, "script": "M"}, "parameter 'target': expected text"),
        ("router/call", {"target": "main", "endpoint": "x" * 257}, "parameter 'endpoint': expected text"),
        (
            "router/event/subscribe",
            {"event": "x", "gcode": "x" * 257, "callback_type": "webhook"},
            "parameter 'gcode': an endpoint has at most 256 characters",
        ),
        ("router/objects/list", {}, "missing parameter 'target'"),
        ("router/objects/query", {"target": "main"}, "missing parameter 'objects'"),
        ("router/objects/query", {"target": "main", "objects": ["a"]}, "parameter 'objects': expected map, got list"),
        ("router/objects/query", {"target": "main", "objects": {"a": 7}}, "parameter 'objects"),
        ("router/objects/query", {"target": "main", "objects": {"a": [7]}}, "parameter 'objects"),
        ("router/objects/subscribe", {"target": "main", "objects": {"a": None}}, "missing parameter 'gcode_callback'"),
        ("router/objects/subscribe", {"target": "main", "objects": {}, "gcode_callback": "M"}, "names no object"),
        ("router/objects/subscribe", {"target": "x", "objects": {"a": None}, "gcode_callback": "M"}, "no printer"),
        ("router/objects/unsubscribe", {"target": "x"}, "no printer of that name"),
        ("router/objects/update", {"status": {}}, "this is the router's own"),
        ("router/call", {"target": "main"}, "exactly one of the parameters 'method' and"),
        ("router/call", {"target": "main", "method": "info", "params": [1]}, "parameter 'params': expected map"),
        ("router/call", {"target": "main", "method": "gcode/script"}, "missing parameter 'script', a text"),
        ("router/call", {"target": "main", "method": "motion_report/dump_stepper"}, "streams to its caller"),
        ("router/call", {"target": "main", "method": "no/such"}, "No registered callback for path 'no/such'"),
    ],
)  # fmt: skip
async def test_a_call_that_makes_no_sense_is_refused_and_says_why(
    nursery: trio.Nursery, method: str, params: Any, error: str
) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    line = await console_after(main, method, **params)
    assert line.startswith(f"!! router: {method}")
    assert error in line
    main.console.clear()
    main.call_remote("router/gcode/script", target="main", script="MOVE")
    await settle()
    assert main.runs_of("MOVE") == [{}]
    assert main.console == []


async def test_a_frame_of_a_remote_call_without_a_map_of_params_is_refused(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    for params in (b"7", b"[1]", b'"x"', b"null"):
        main.send_bytes(b'{"remote_method": "router/gcode/script", "params": ' + params + b"}\x03")
        await settle()
    main.send_bytes(
        b'{"remote_method": "router/gcode/script"}\x03{"remote_method": "router/nonsense", "params": {}}\x03'
    )
    await settle()
    assert len(main.console) == 6
    assert "unknown method, the router has router/gcode/script, " in main.console[-1]


async def test_many_errors_at_once_reach_a_busy_console_in_order_and_the_oldest_are_counted(
    nursery: trio.Nursery,
) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.hold("gcode/script")
    for number in range(50):
        main.call_remote("router/gcode/script", target=f"ghost{number}", script="MOVE")
    await settle()
    assert main.held("gcode/script") == 1
    main.release("gcode/script")
    await settle()
    assert "to ghost0:" in main.console[0]
    assert main.console[1] == "!! router: 29 older messages were dropped"
    assert [line.split(":")[1].split()[-1] for line in main.console[2:]] == [
        f"ghost{number}" for number in range(30, 50)
    ]


async def test_an_error_text_of_any_content_is_one_line_and_no_command(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "bad \'; M112\\nM112 # \\"x\\" ; *"}}'
    line = await console_after(main, "router/gcode/script", target="led", script="MOVE", error_callback="FAILED")
    assert line == '!! router: router/gcode/script to led: bad \'; M112 M112 # "x" ; *'
    assert main.runs_of("FAILED")[0]["ERROR"] == 'bad \'; M112 M112 # "x" ; *'


async def test_an_error_callback_that_fails_ends_there(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.raw_answers["gcode/script"] = b'{"id": %d, "error": {"message": "Must home first"}}'
    before = len(main.requests)
    main.call_remote("router/gcode/script", target="ghost", script="MOVE", error_callback="FAILED")
    await settle()
    assert len(main.requests) == before + 2  # the console line and the callback


async def test_a_caller_that_is_gone_when_its_call_fails_disturbs_nobody(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    main.call_remote(
        "router/gcode/script", target="led", script="MOVE", gcode_callback="ANSWER", error_callback="FAILED"
    )
    main.call_remote("router/gcode/script", target="led", script="MOVE X='", error_callback="FAILED")
    await settle()
    main.die()
    await settle()
    led.release("gcode/script")
    await settle()
    assert led.runs_of("MOVE") == [{}]
    assert bench.state("led") == "ready"


async def test_a_bug_in_one_method_is_told_to_its_caller_and_ends_nothing(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await started(nursery, "main", "led")
    main, _ = bench

    def bug(router: Router, request: Request, params: dict[str, Any]) -> None:
        raise ZeroDivisionError("of a test")

    bench.router.methods = {**METHODS, "router/call": Method(dict[str, Any], bug)}
    line = await console_after(main, "router/call", target="led", method="info", error_callback="FAILED")
    assert line == "!! router: router/call to led: internal error of the router, see its log"
    assert main.runs_of("FAILED")[0]["METHOD"] == "router/call"
    assert "ZeroDivisionError: of a test" in caplog.text
    client = bench.client()
    assert await client.request("router/call") == "internal error of the router, see its log"
    main.call_remote("router/gcode/script", target="led", script="MOVE")
    await settle()
    assert bench.klippys["led"].runs_of("MOVE") == [{}]
    assert [len(klippy.dials) for klippy in bench] == [1, 1]


# -- answers -------------------------------------------------------------------------------------------------------


async def test_router_call_answers_with_the_result_as_parameters(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.answers["print/stats"] = lambda params: {"given": params, "text": "it's", "yes": True, "none": None, "n": 1.5}
    main.call_remote("router/call", target="led", method="print/stats", params={"a": [1]}, gcode_callback="ANSWER")
    await settle()
    assert main.runs_of("ANSWER") == [
        {"GIVEN": '{"a": [1]}', "TEXT": "it's", "YES": "True", "NONE": "None", "N": "1.5"}
    ]


async def test_a_macro_names_the_endpoint_as_klipper_keeps_method_for_itself(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, _ = bench
    main.call_remote("router/call", target="led", endpoint="info", gcode_callback="ANSWER")
    await settle()
    assert main.runs_of("ANSWER")[0]["STATE"] == "ready"
    line = await console_after(main, "router/call", target="led", endpoint="info", method="info")
    assert "exactly one of the parameters" in line


async def test_router_call_without_a_callback_is_done_and_silent(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.answers["pause_resume/pause"] = lambda _: {}
    main.call_remote("router/call", target="led", method="pause_resume/pause")
    await settle()
    assert led.requests_of("pause_resume/pause") == [{}]
    assert not main.console
    assert not main.ran


@pytest.mark.parametrize("of_a_macro", [True, False])
@pytest.mark.parametrize(
    ("names", "error"),
    [
        ({"method": "x"}, None),
        ({"endpoint": "x"}, None),
        ({"method": "x", "endpoint": None}, None),
        ({"method": None, "endpoint": "x"}, None),
        ({"method": "x", "endpoint": "x"}, "exactly one of the parameters 'method' and (for macros) 'endpoint' must"),
        ({}, "exactly one of the parameters 'method' and (for macros) 'endpoint' must"),
        ({"method": None}, "exactly one of the parameters 'method' and (for macros) 'endpoint' must"),
        ({"endpoint": 7}, "parameter 'endpoint'"),
    ],
)
async def test_router_call_takes_its_endpoint_under_either_name_and_one_only(
    nursery: trio.Nursery, names: dict[str, Any], error: str | None, of_a_macro: bool
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.answers["x"] = lambda params: params
    call = {"target": "led", "params": {"a": "b"}, **names}
    if of_a_macro:
        main.call_remote("router/call", **call, gcode_callback="ANSWER")
        await settle()
        answer: Any = main.console[0] if error else main.runs_of("ANSWER")
        expected: Any = [{"A": "b"}]
    else:
        answer = await request(bench.client(), "router/call", call)
        expected = {"a": "b"}
    if error:
        assert error in answer
        assert led.requests_of("x") == []
    else:
        assert answer == expected
        assert led.requests_of("x") == [{"a": "b"}]


@pytest.mark.parametrize("name", ["method", "endpoint"])
async def test_a_dump_that_is_answered_once_passes_and_one_that_streams_is_refused(
    nursery: trio.Nursery, name: str
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    for endpoint in ("bed_mesh/dump_mesh", "motion_report/dump_stepper", "adxl345/dump_adxl345"):
        led.answers[endpoint] = lambda _: {"mesh": [1]}
    main.call_remote("router/call", target="led", **{name: "bed_mesh/dump_mesh"}, gcode_callback="ANSWER")
    await settle()
    assert main.runs_of("ANSWER") == [{"MESH": "[1]"}]
    for endpoint in ("motion_report/dump_stepper", "adxl345/dump_adxl345"):
        main.console.clear()
        line = await console_after(main, "router/call", target="led", **{name: endpoint}, params={"name": "x"})
        assert line == (
            f"!! router: router/call to led: {endpoint} streams to its caller; call it on Klipper's own socket"
        )
        assert led.requests_of(endpoint) == []


NO_MACROS = [
    "G1",
    "M600",
    "A B",
    "A\nM112",
    "REC\n",
    "REC2_X",
    "",
    " ",
    "REC A='1'",
    "1A",
    "T0",
    "{A}",
    "Ä",
    "A-B",
    "REC;",
]


@pytest.mark.parametrize("key", ["gcode_callback", "error_callback"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_callback_that_is_no_macros_name_is_refused_by_every_method(
    nursery: trio.Nursery, method: str, key: str
) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    before = len(led.requests)
    for name in NO_MACROS:
        main.console.clear()
        line = await console_after(
            main, method, target="led", script="MOVE", event="x", objects={"a": None}, endpoint="info", **{key: name}
        )
        assert f"parameter '{key}': {name!r} is not the name of a macro that Klipper can call" in line
    assert main.ran == []
    assert {script.split()[0] for script in main.scripts} == {"RESPOND"}
    assert len(led.requests) == before


@pytest.mark.parametrize("name", ["A", "answer", "_ANSWER", "ON_STATUS_UPDATE", "LED_2", "A_B12"])
async def test_a_callback_that_is_a_macros_name_is_taken(nursery: trio.Nursery, name: str) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.define(name.upper())
    main.call_remote("router/printers/list", gcode_callback=name)
    main.call_remote("router/printers/list", gcode_callback=name, error_callback=name)
    await settle()
    assert [run["PRINTERS"] for run in main.runs_of(name.upper())] == ["main", "main"]


async def test_a_wrong_gcode_callback_is_told_to_the_error_callback(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main")
    (main,) = bench
    main.call_remote("router/printers/list", gcode_callback="M112", error_callback="FAILED")
    await settle()
    (failed,) = main.runs_of("FAILED")
    assert failed["ERROR"].startswith("parameter 'gcode_callback': 'M112' is not the name of a macro")


@pytest.mark.parametrize("endpoint", REFUSED)
async def test_router_call_refuses_what_belongs_to_the_connection(nursery: trio.Nursery, endpoint: str) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    before = len(led.requests)
    line = await console_after(main, "router/call", target="led", method=endpoint, params={"objects": {}})
    assert REFUSED[endpoint] in line
    assert len(led.requests) == before


async def test_router_call_of_a_script_takes_its_turn_among_scripts(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("gcode/script")
    for number in range(0, 40, 2):
        main.call_remote("router/gcode/script", target="led", script=f"MOVE N={number}")
        main.call_remote("router/call", target="led", method="gcode/script", params={"script": f"MOVE N={number + 1}"})
    await settle()
    led.release("gcode/script")
    await settle()
    assert [parameters["N"] for parameters in led.runs_of("MOVE")] == [str(number) for number in range(40)]


async def test_an_answer_that_is_no_map_is_an_error_of_its_own_call(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.answers["x"] = lambda _: [1, 2]
    line = await console_after(main, "router/call", target="led", method="x", gcode_callback="ANSWER")
    assert "router/call to led: unexpected shape of a message" in line
    assert main.ran == []


async def test_objects_list_and_query_answer_with_parameters(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, _ = bench
    main.call_remote("router/objects/list", target="led", gcode_callback="ANSWER")
    await settle()
    objects = {"led bar": None, "print_stats": ["state"], "probe": None}
    main.call_remote("router/objects/query", target="led", objects=objects, gcode_callback="ANSWER")
    await settle()
    assert main.runs_of("ANSWER") == [
        {"OBJECTS": '["webhooks", "print_stats", "led bar"]'},
        {"LED_BAR_COLOR": "[1, 0.5]", "PRINT_STATS_STATE": "standby"},
    ]


async def test_printers_list_tells_the_state_of_each(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led-bar")
    main, led = bench
    led.become("shutdown")
    await settle()
    main.call_remote("router/printers/list", gcode_callback="ANSWER")
    await settle()
    assert main.runs_of("ANSWER") == [
        {
            "PRINTERS": "main,led-bar",
            "MAIN_CONNECTED": "True",
            "MAIN_READY": "True",
            "MAIN_STATE": "ready",
            "LED_BAR_CONNECTED": "True",
            "LED_BAR_READY": "False",
            "LED_BAR_STATE": "shutdown",
        }
    ]


async def test_a_call_under_way_fails_when_the_target_goes_away(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led")
    main, led = bench
    led.hold("x")
    main.call_remote("router/call", target="led", method="x", error_callback="FAILED")
    await settle()
    led.die()
    await settle()
    assert main.runs_of("FAILED") == [
        {"ERROR": "connection to led lost: closed by Klipper", "METHOD": "router/call", "TARGET": "led"}
    ]
    main.console.clear()
    line = await console_after(main, "router/call", target="led", method="x")
    assert line == "!! router: router/call to led: led is not connected: closed by Klipper"


async def test_a_target_that_does_not_read_delays_nobody_else(nursery: trio.Nursery) -> None:
    bench = await started(nursery, "main", "led", "afc")
    main, led, afc = bench
    led.connections[0].stop_reading()
    for number in range(100):
        main.call_remote("router/gcode/script", target="led", script="MOVE")
        main.call_remote("router/gcode/script", target="afc", script=f"MOVE N={number}")
        main.call_remote("router/objects/query", target="led", objects={"print_stats": None})
    await settle()
    assert len(afc.runs_of("MOVE")) == 100
    assert trio.current_time() == main.dials[0]
    assert main.console == []
