"""What must hold of the whole daemon, whichever Klippy it meets: run by test/socket and by test/klipper."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import trio

from test.fleet import RECORDER, Connection, Fleet, Klippy

# A text with everything that G-code, shlex, Jinja and JSON could stumble over.
NASTY = "it's \"a\" #1; M112 \\ * {x} {% y %} =\u2028 \u00e9\U0001f600\t'; M112"
# What a Klipper up to v0.12 cannot read inside quotes is replaced.
CUT_BY_V0_12 = {ord(character): "_" for character in "#;*"}

FOLLOW = """
[gcode_macro ROUTER_ON_READY]
gcode:
  {%% for callback, objects in [%s] %%}
    {action_call_remote_method("router/objects/subscribe", target="main", objects=objects, gcode_callback=callback)}
  {%% endfor %%}
[gcode_macro ON_A]
gcode:
  REC WHO=A {rawparams}
[gcode_macro ON_B]
gcode:
  REC WHO=B {rawparams}
"""
MESSAGE = '{"display_status": ["message"]}'
PROGRESS = '{"display_status": ["message", "progress"]}'


def follower(*subscriptions: str) -> str:
    return FOLLOW % ", ".join(subscriptions)


async def test_two_followers_and_a_third_subscription_get_each_change_exactly_once(crew: Fleet) -> None:
    main = await crew.add("main")
    led = await crew.add("led", follower(f'("ON_A", {MESSAGE})', f'("ON_B", {PROGRESS})'))
    mmu = await crew.add("mmu", follower(f'("ON_A", {MESSAGE})'))
    await crew.start_router()
    await crew.ready()
    await led.console.has_records(2)
    await mmu.console.has_records(1)

    async def change(text: str) -> None:
        before_led, before_mmu = len(led.console.lines), len(mmu.console.lines)
        await main.gcode(f"M117 {text}")
        records = await led.console.has_records(2, before_led)
        assert sorted(record["WHO"] for record in records) == ["A", "B"]
        assert [record["DISPLAY_STATUS_MESSAGE"] for record in records] == [text, text]
        assert await mmu.console.has_records(1, before_mmu) == [{"WHO": "A", "DISPLAY_STATUS_MESSAGE": text}]
        # A second change after it shows that nothing of the first came late.
        before_led, before_mmu = len(led.console.lines), len(mmu.console.lines)
        await main.gcode(f"M117 {text} again")
        assert len(await led.console.has_records(2, before_led)) == 2
        assert len(await mmu.console.has_records(1, before_mmu)) == 1

    await change("first")
    for klippy in (led, mmu, main):
        marks = {each: len(each.console.lines) for each in (led, mmu)}
        await restart(crew, klippy)
        for each, callbacks in ((led, 2), (mmu, 1)):
            if klippy in (each, main):
                # Back with one full snapshot for each callback.
                await each.console.has_records(callbacks, marks[each])
        await change(f"after {klippy.name}")
        for each, callbacks in ((led, 2), (mmu, 1)):
            snapshots = callbacks if klippy in (each, main) else 0
            assert len(each.console.records(marks[each])) == snapshots + 2 * callbacks


async def restart(crew: Fleet, klippy: Klippy) -> None:
    """FIRMWARE_RESTART, until the router has the printer back."""
    mark = len(klippy.console.lines)
    await klippy.gcode("FIRMWARE_RESTART")
    await klippy.console.shows("-- watched --", mark)
    await klippy.state("ready")
    await crew.ready(klippy.name)


async def test_status_texts_arrive_exactly_and_never_do_harm(crew: Fleet) -> None:
    names = [f"{NASTY}.gcode", "a\r.gcode", "plain.gcode", "x'.gcode", "x; M112 .gcode", "A=1 B=2.gcode"]
    main = await crew.add("main")
    for name in names:
        (crew.folder / "main.gcodes" / name).write_text("M117 printing\n")
    led = await crew.add(
        "led",
        follower('("ON_FILE", {"print_stats": ["filename"]})')
        + RECORDER.replace("gcode_macro REC", "gcode_macro ON_FILE"),
    )
    await crew.start_router()
    await crew.ready()
    await led.console.has_records(1)
    for name in names:
        mark = len(led.console.lines)
        await main.gcode(f"M23 {name}")
        shown = name if crew.backend.reads_quotes else name.translate(CUT_BY_V0_12)
        assert await led.console.has_records(1, mark) == [{"PRINT_STATS_FILENAME": shown}]
    await main.state("ready")
    await led.state("ready")


async def test_scripts_arrive_in_order_also_while_the_target_is_busy(crew: Fleet) -> None:
    main = await crew.add(
        "main",
        """
[gcode_macro FLOOD]
gcode:
  {% for number in range(500) %}
    {action_call_remote_method("router/gcode/script", target="led", script="REC N=%d" % number)}
  {% endfor %}
""",
    )
    led = await crew.add("led")
    await crew.start_router()
    await crew.ready()
    await led.gcode("SET_KINEMATIC_POSITION X=0 Y=0 Z=0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(led.gcode, "G1 X30 F600\nM400\nREC N=busy")  # 3 s
        await trio.sleep(0.2)  # let Klipper begin it; there is nothing to see of a move under way
        await main.gcode("FLOOD")
    records = await led.console.has_records(501)
    assert [record["N"] for record in records] == ["busy", *map(str, range(500))]


async def test_a_busy_follower_gets_one_callback_then_the_newest_and_its_target_is_not_slowed(crew: Fleet) -> None:
    main = await crew.add("main")
    led = await crew.add("led", follower(f'("ON_A", {MESSAGE})'))
    await crew.start_router()
    await crew.ready()
    await led.console.has_records(1)
    await led.gcode("SET_KINEMATIC_POSITION X=0 Y=0 Z=0")
    mark = len(led.console.lines)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(led.gcode, "G1 X40 F600\nM400\nREC BUSY=over")  # 4 s
        await trio.sleep(0.2)  # as above
        for number in range(12):
            with trio.fail_after(1):
                await main.gcode(f"M117 {number}")
            await trio.sleep(0.26)  # Klipper reports at 4 Hz
    records = await led.console.has_records(3, mark)
    await main.gcode("M117 end")
    await led.console.until(lambda: led.console.records(mark)[-1].get("DISPLAY_STATUS_MESSAGE") == "end", "the end")
    messages = [record["DISPLAY_STATUS_MESSAGE"] for record in led.console.records(mark) if "WHO" in record]
    assert records[0] == {"BUSY": "over"}
    assert messages == ["0", "11", "end"]


async def test_a_handler_answers_an_event_and_errors_reach_the_callers_console(crew: Fleet) -> None:
    main = await crew.add(
        "main",
        """
[gcode_macro ROUTER_ON_READY]
gcode:
  ROUTER_EVENT_SUBSCRIBE EVENT=mmu/loaded GCODE="REC GOT=loaded"
[gcode_macro LOAD]
gcode:
  {action_call_remote_method("router/event/trigger", event="mmu/load", context={"lane": 2, "note": params.NOTE})}
[gcode_macro ON_ERROR]
gcode:
  REC FAILED=yes {rawparams}
""",
    )
    mmu = await crew.add(
        "mmu",
        """
[gcode_macro ROUTER_ON_READY]
gcode:
  ROUTER_EVENT_SUBSCRIBE EVENT=mmu/load GCODE=MMU_LOAD
[gcode_macro MMU_LOAD]
gcode:
  REC {rawparams}
  ROUTER_EVENT_TRIGGER EVENT=mmu/loaded CONTEXT="lane={params.LANE},ok=True"
""",
    )
    await crew.start_router()
    await crew.ready()
    if crew.backend.reads_quotes:
        quoted = "'" + NASTY.replace("'", "'\"'\"'") + "'"
        await main.gcode(f"LOAD NOTE={quoted}")
    else:
        # Its own user cannot write such a line either; the event comes from elsewhere.
        await crew.call("router/event/trigger", event="mmu/load", context={"lane": 2, "note": NASTY})
    note = NASTY if crew.backend.reads_quotes else NASTY.translate(CUT_BY_V0_12)
    assert await mmu.console.has_records(1) == [{"LANE": "2", "NOTE": note}]
    assert await main.console.has_records(1) == [{"GOT": "loaded", "LANE": "2", "OK": "True"}]

    await main.gcode("ROUTER_GCODE_SCRIPT TARGET=nobody SCRIPT=M117 ERROR_CALLBACK=ON_ERROR")
    await main.console.shows("!! router: router/gcode/script to nobody")
    failed = (await main.console.has_records(2))[1]
    assert (failed["METHOD"], failed["TARGET"]) == ("router/gcode/script", "nobody")
    await main.gcode('ROUTER_GCODE_SCRIPT TARGET=mmu SCRIPT="SET_GCODE_VARIABLE MACRO=none VARIABLE=a VALUE=1"')
    await main.console.shows("!! router: router/gcode/script to mmu")
    for klippy in (main, mmu):
        await klippy.state("ready")


async def test_a_printer_that_stops_or_dies_is_recovered_and_others_never_notice(crew: Fleet) -> None:
    main = await crew.add("main")
    led = await crew.add("led")
    bad = await crew.add("bad")
    await crew.start_router()
    await crew.ready()

    async def others_are_served() -> None:
        mark = len(led.console.lines)
        with trio.fail_after(1):
            await main.gcode("ROUTER_GCODE_SCRIPT TARGET=led SCRIPT='REC ALIVE=1'")
            await led.console.has_records(1, mark)

    bad.signal(signal.SIGSTOP)
    await others_are_served()
    bad.signal(signal.SIGCONT)

    await bad.kill()
    await crew.router_says(lambda printers: not printers["bad"]["connected"])
    await others_are_served()
    bad.start()
    await bad.state("ready")
    with trio.fail_after(2):
        await crew.ready("bad")

    await bad.gcode("M112")
    await crew.router_says(lambda printers: printers["bad"]["state"] == "shutdown")
    await others_are_served()
    await restart(crew, bad)

    bad.configure("[gcode_macro WRONG]\nno_gcode: here\n")
    await bad.gcode("RESTART")
    await crew.router_says(lambda printers: printers["bad"]["state"] == "error")
    await others_are_served()
    bad.configure("")
    await bad.gcode("RESTART")
    await crew.ready("bad")
    log = crew.router_log.read_text()
    assert "Traceback" not in log
    assert not [line for line in log.splitlines() if " main: connection" in line or " led: connection" in line]


async def test_a_socket_that_is_stale_silent_or_full_is_retried_and_others_are_served(crew: Fleet) -> None:
    main = await crew.add("main")
    led = await crew.add("led")
    listeners = {
        name: listener(crew.folder / f"{name}.sock", backlog) for name, backlog in (("silent", 5), ("full", 0))
    }
    stale = listener(crew.folder / "stale.sock", 1)
    stale.close()  # the file stays, as after a kill
    waiting = []
    for _ in range(2):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        client.connect_ex(str(crew.folder / "full.sock"))
        waiting.append(client)
    await crew.start_router("main", "led", "silent", "full", "stale", "absent")
    await crew.ready("main", "led")
    await main.gcode("ROUTER_GCODE_SCRIPT TARGET=led SCRIPT='REC ALIVE=1'")
    await led.console.has_records(1)
    # A peer that accepts and hangs up before its first answer.
    dying = listeners["silent"]
    dying.settimeout(5)
    for _ in range(2):
        accepted, _ = await trio.to_thread.run_sync(dying.accept)
        accepted.close()
    await main.gcode("ROUTER_GCODE_SCRIPT TARGET=led SCRIPT='REC ALIVE=2'")
    await led.console.has_records(2)
    late = await crew.add("absent")
    with trio.fail_after(2):
        await crew.ready("absent")
    await late.state("ready")
    for each in (*listeners.values(), *waiting):
        each.close()


def listener(path: Path, backlog: int) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(backlog)
    return made


async def test_bad_input_on_the_routers_socket_is_an_error_that_names_it(crew: Fleet) -> None:
    await crew.add("main")
    await crew.start_router("main")
    await crew.ready("main")
    async with Connection.open(crew.router_sock) as connection:

        async def answer_to(frame: bytes) -> str:
            await connection.stream.send_all(frame + b"\x03")
            message = await connection.receive()
            return str(message["error"]["message"])

        assert "no JSON" in await answer_to(b"no JSON")
        assert "5242880 bytes" in await answer_to(b'{"id": 1, "method": "' + b"x" * (5 * 1024 * 1024 - 21))
        assert "unknown method" in await answer_to(b'{"id": 1, "method": "router/none"}')
        assert "nobody" in await answer_to(
            b'{"id": 1, "method": "router/gcode/script", "params": {"target": "nobody", "script": ""}}'
        )
        assert "'script'" in await answer_to(
            b'{"id": 1, "method": "router/gcode/script", "params": {"target": "main", "script": 1}}'
        )
        await connection.stream.send_all(b'{"id": 2, "meth')  # half a frame, then gone
    assert (await crew.call("info"))["app"] == "klipper-router"
    assert json.loads(json.dumps(await crew.call("router/objects/list", target="main")))["objects"]


async def test_sigterm_stops_within_two_seconds_and_removes_the_socket(crew: Fleet) -> None:
    await crew.add("main")
    await crew.start_router("main")
    await crew.ready("main")
    assert crew.router is not None
    assert crew.router_sock.stat().st_mode & 0o777 == 0o660
    crew.router.terminate()
    with trio.fail_after(2):
        assert await trio.to_thread.run_sync(crew.router.wait) == 0
    assert not crew.router_sock.exists()
