"""Loops in a file, analog pins, and timers that are put off."""

from __future__ import annotations

import trio

from klipper_router.virtual.clock import Clock
from klipper_router.virtual.reactor import Reactor
from test.virtual.rig import CARTESIAN, virtual_klippy

FAST = 500.0
CARD = "[virtual_sdcard]\npath: {folder}\n[sdcard_loop]\n"


async def test_a_loop_in_a_file_runs_as_often_as_told() -> None:
    file = "SDCARD_LOOP_BEGIN COUNT=2\nM118 out\nSDCARD_LOOP_BEGIN COUNT=3\nM118 in\nSDCARD_LOOP_END\n"
    file += "SDCARD_LOOP_END\nM118 done\n"
    async with virtual_klippy(CARTESIAN + CARD, speed=FAST, files={"a.gcode": file}) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=a.gcode")
        await rig.wait_console("Done printing file")
        said = [line.removeprefix("echo: ") for line in rig.klippy.console if line.startswith("echo: ")]
        assert said == ["out", "in", "in", "in", "out", "in", "in", "in", "done"]


async def test_loops_belong_into_files_only() -> None:
    async with virtual_klippy(CARTESIAN + CARD, speed=FAST) as rig:
        for script in ("SDCARD_LOOP_BEGIN COUNT=1", "SDCARD_LOOP_END"):
            assert await rig.api.error("gcode/script", {"script": script}) == "Only permitted in SD file."
        await rig.api.script("SDCARD_LOOP_DESIST")


async def test_query_adc_lists_and_shows_thermistors() -> None:
    async with virtual_klippy(CARTESIAN, speed=FAST) as rig:
        await rig.api.script("QUERY_ADC")
        assert rig.klippy.console[-1] == '// Available ADC objects: "extruder", "heater_bed"'
        await rig.api.script("QUERY_ADC NAME=extruder PULLUP=4700")
        assert rig.klippy.console[-1].startswith('// ADC object "extruder" has value 0.')
        assert "(with 4700 pullup)" in rig.klippy.console[-1]


async def test_a_temperature_probe_shows_its_temperature_and_has_nothing_to_calibrate() -> None:
    config = "[temperature_probe eddy]\nsensor_type: Generic 3950\nsensor_pin: PG0\nhorizontal_move_z: 3\n"
    async with virtual_klippy(CARTESIAN + config, speed=FAST) as rig:
        await rig.api.script("VIRTUAL_SENSOR SENSOR=eddy TEMPERATURE=40\nTEMPERATURE_PROBE_ENABLE PROBE=eddy ENABLE=1")
        status = await rig.api.query("temperature_probe eddy")
        assert (status["temperature"], status["in_calibration"], status["compensation_enabled"]) == (40.0, False, False)
        message = await rig.api.error("gcode/script", {"script": "TEMPERATURE_PROBE_CALIBRATE PROBE=eddy TARGET=60"})
        assert message == "No calibration helper registered for [temperature_probe eddy]"


async def test_menus_of_a_display_are_accepted() -> None:
    menu = "[display]\nlcd_type: st7920\n[menu __main __mine]\ntype: command\nname: Mine\ngcode: M118 x\n"
    async with virtual_klippy(CARTESIAN + menu, speed=FAST) as rig:
        assert rig.klippy.state == "ready"


async def test_a_timer_that_is_put_off_or_brought_forward_fires_once_at_its_time() -> None:
    fired: list[str] = []
    async with trio.open_nursery() as nursery:
        reactor = Reactor(Clock(1.0), nursery)
        now = reactor.now()

        def timer(name: str, delay: float):  # type: ignore[no-untyped-def]
            def fire(eventtime: float) -> float:
                fired.append(name)
                return float("inf")

            return reactor.register_timer(fire, now + delay)

        later, sooner, _ = timer("later", 0.02), timer("sooner", 5.0), timer("between", 0.04)
        never = timer("never", 0.01)
        for delay in (0.03, 0.05, 0.06):
            reactor.update_timer(later, now + delay)
        reactor.update_timer(sooner, now + 0.01)
        reactor.unregister_timer(never)
        nursery.start_soon(reactor.run_timers)
        await trio.sleep(0.15)
        nursery.cancel_scope.cancel()
    assert fired == ["sooner", "between", "later"]
