"""startup, ready, shutdown, error; restarts; faults on purpose."""

from __future__ import annotations

import socket

import pytest
import trio

from test.virtual.rig import BASE, CARTESIAN, PATIENCE_S, virtual_klippy


async def test_in_startup_the_api_answers_and_ordinary_gcode_does_not_run() -> None:
    async with virtual_klippy(ready=False, speed=1.0) as rig:
        assert (await rig.api.call("info"))["state"] == "startup"
        assert "Printer is not ready" in await rig.api.error("gcode/script", {"script": "G28"})
        assert await rig.api.script("M118 hello\nRESPOND MSG=hello\nECHO A=1\nM105\nM21") == {}
        assert rig.klippy.console[0].startswith("// Printer is not ready\n// The klippy host software")
        assert list(rig.klippy.console)[1:] == [
            "!! Printer is not ready",
            "echo: hello",
            "echo: hello",
            "// ECHO A=1",
        ]


async def test_shutdown_refuses_gcode_but_not_the_restart() -> None:
    async with virtual_klippy() as rig:
        assert await rig.api.call("emergency_stop") == {}
        message = "Shutdown due to webhooks request"
        info = await rig.api.call("info")
        assert info["state"] == "shutdown"
        assert info["state_message"].startswith(f'{message}\nOnce the underlying issue is corrected, use the\n"FIRM')
        assert (await rig.api.error("gcode/script", {"script": "G1 X1"})).startswith(message)
        assert await rig.api.script("M118 still") == {}
        assert await rig.api.call("gcode/firmware_restart") == {}
        await rig.api.end()
        await rig.wait_state("ready")


async def test_m112_stops_a_running_script() -> None:
    async with virtual_klippy(speed=5.0) as rig:
        script = await rig.api.send("gcode/script", {"script": "M118 begin\nG4 P600000\nM118 end"})
        await rig.wait_console("echo: begin")
        rig.klippy.invoke_shutdown("Shutdown due to M112 command")
        answer = await rig.api.answer(script)
        assert answer["result"] == {}  # M118 runs in every state
        assert rig.klippy.state == "shutdown"


async def test_a_restart_answers_closes_refuses_and_comes_back() -> None:
    async with virtual_klippy(speed=2.0) as rig:
        begin = trio.current_time()
        assert await rig.api.call("gcode/restart") == {}
        await rig.api.end()
        assert rig.klippy.state == "startup"
        assert rig.socket.exists()
        probe = socket.socket(socket.AF_UNIX)
        with probe, pytest.raises(ConnectionRefusedError):
            probe.connect(str(rig.socket))
        await rig.wait_state("ready")
        # about 2.5 s of the printer's time
        assert 1.0 < trio.current_time() - begin < 2.5
        assert rig.klippy.starts == 2
        assert (await (await rig.connect()).call("info"))["state"] == "ready"
        assert list(rig.klippy.console).count("// Klipper state: Disconnect") == 1


async def test_the_socket_file_stays_after_the_end_and_the_next_start_takes_it_over() -> None:
    async with virtual_klippy() as rig:
        rig.nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()
    async with virtual_klippy(files={"s": "left behind"}) as rig:
        assert await rig.api.call("info")


async def test_a_stalled_printer_accepts_and_says_nothing_until_resumed() -> None:
    async with virtual_klippy() as rig:
        rig.klippy.stall()
        late = await rig.connect()
        request = await late.send("info")
        with trio.move_on_after(0.05) as silence:
            await late.receive()
        assert silence.cancelled_caught
        rig.klippy.resume()
        assert (await late.answer(request))["result"]["state"] == "ready"


async def test_refusing_keeps_open_connections() -> None:
    async with virtual_klippy() as rig:
        rig.klippy.refuse(True)
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(str(rig.socket))
        assert await rig.api.call("info")
        rig.klippy.refuse(False)
        assert await (await rig.connect()).call("info")


async def test_refusing_outlasts_a_restart_and_ends() -> None:
    async with virtual_klippy() as rig:
        rig.klippy.refuse(True)
        await rig.api.call("gcode/restart")
        await rig.api.end()
        await rig.wait_state("ready")
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(str(rig.socket))
        rig.klippy.refuse(False)
        assert await (await rig.connect()).call("info")


async def test_a_lost_micro_controller_becomes_a_shutdown_after_its_timeout() -> None:
    async with virtual_klippy() as rig:
        await rig.api.call("virtual/fault", {"type": "mcu"})
        assert rig.klippy.state == "ready"
        await rig.wait_state("shutdown")
        assert rig.klippy.state_message.startswith("Lost communication with MCU 'mcu'\nOnce")
        assert await rig.api.error("virtual/fault", {"type": "mcu", "mcu": "x"}) == "Unknown mcu 'x'"


async def test_faults_can_be_provoked_by_gcode() -> None:
    async with virtual_klippy() as rig:
        await rig.api.script("VIRTUAL_FAULT TYPE=stall DURATION=1\nVIRTUAL_FAULT TYPE=refuse DURATION=1")
        await rig.api.script("VIRTUAL_FAULT TYPE=drop")
        await rig.api.end()
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    api = await rig.connect()
                    await api.call("info")
                except (OSError, EOFError):
                    await trio.sleep(0.01)
                else:
                    break
        await api.script("VIRTUAL_FAULT TYPE=shutdown MSG='on purpose'")
        await rig.wait_state("shutdown")
        assert rig.klippy.state_message.startswith("on purpose\n")
        message = await api.error("gcode/script", {"script": "VIRTUAL_FAULT TYPE=rain"})
        assert message.startswith("Unknown fault type 'rain': one of mcu, ")


async def test_a_broken_heater_is_found_out() -> None:
    async with virtual_klippy(CARTESIAN, speed=200.0) as rig:
        await rig.api.script("M104 S200\nVIRTUAL_FAULT TYPE=heater HEATER=extruder")
        await rig.wait_state("shutdown")
        assert rig.klippy.state_message.startswith(
            "Heater extruder not heating at expected rate\nSee the 'verify_heater' section"
        )


async def test_heaters_are_off_after_a_shutdown() -> None:
    async with virtual_klippy(CARTESIAN) as rig:
        await rig.api.script("M140 S60")
        assert (await rig.api.query("heater_bed"))["power"] > 0.0
        rig.klippy.invoke_shutdown("test")
        assert (await rig.api.query("heater_bed"))["power"] == 0.0


async def test_idle_timeout_goes_from_printing_to_ready_to_idle_and_runs_its_gcode() -> None:
    config = BASE + "[idle_timeout]\ntimeout: 5\ngcode:\n  M118 good night\n"
    async with virtual_klippy(config) as rig:
        assert (await rig.api.query("idle_timeout"))["state"] == "Idle"
        await rig.api.call("objects/subscribe", {"objects": {"idle_timeout": ["state"]}})
        await rig.api.script("G4 P1")
        await rig.wait_console("echo: good night")
        states: list[str] = []
        with trio.fail_after(PATIENCE_S):
            while states[-1:] != ["Idle"]:
                note = await rig.api.note(len(states) + 1)
                states.append(note["params"]["status"]["idle_timeout"]["state"])
        assert states == ["Printing", "Ready", "Idle"]


async def test_a_sensor_out_of_its_range_stops_the_printer() -> None:
    async with virtual_klippy(CARTESIAN) as rig:
        await rig.api.call("virtual/sensor", {"sensor": "extruder", "temperature": 999})
        assert rig.klippy.state == "shutdown"
        assert rig.klippy.state_message.startswith(
            "MCU 'mcu' shutdown: ADC out of range\n\n"
            "Sensor 'extruder' temperature 999.000 not in range 0.000:250.000\n\nThis generally occurs when"
        )
