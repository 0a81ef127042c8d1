"""Heaters, fans, pins, lights, sensors and switches."""

from __future__ import annotations

import math

import pytest

from klipper_router.virtual.extras.thermal import AMBIENT_C, BED, HOTEND, ThermalState
from test.virtual.rig import BASE, CARTESIAN, virtual_klippy

# Pure: the thermal model


def test_a_heater_rises_holds_and_falls_back_to_the_room() -> None:
    state = ThermalState(HOTEND, now=0.0)
    assert state.temperature(1000.0) == AMBIENT_C
    state.set_target(200.0, 1000.0)
    rise_s = state.time_to(200.0, 200.0, 1000.0)
    assert rise_s is not None
    assert 20.0 < rise_s < 120.0
    assert state.temperature(1000.0 + rise_s / 2) < 200.0
    assert state.temperature(1000.0 + rise_s + 50.0) == 200.0
    assert state.power(1000.0 + rise_s / 2) == 1.0
    assert 0.0 < state.power(5000.0) < 1.0
    state.set_target(0.0, 5000.0)
    assert state.power(5000.0) == 0.0
    assert math.isclose(state.temperature(50000.0), AMBIENT_C, abs_tol=0.01)


def test_a_lower_target_is_reached_from_above_without_power() -> None:
    state = ThermalState(BED, now=0.0)
    state.force(100.0, 0.0)
    state.set_target(60.0, 0.0)
    assert state.power(1.0) == 0.0
    cool_s = state.time_to(60.0, 60.0, 0.0)
    assert cool_s is not None
    assert state.temperature(cool_s + 1.0) == 60.0


def test_a_broken_heater_cools() -> None:
    state = ThermalState(HOTEND, now=0.0)
    state.set_target(200.0, 0.0)
    state.break_power(300.0)
    assert state.temperature(300.0) == 200.0
    assert state.temperature(400.0) < 100.0
    assert state.time_to(200.0, 210.0, 400.0) is None


async def test_waiting_for_a_temperature_reports_it_every_second() -> None:
    async with virtual_klippy(CARTESIAN, speed=100.0) as rig:
        begin = rig.klippy.printer.reactor.now()
        await rig.api.script("M109 S200")
        assert 30.0 < rig.klippy.printer.reactor.now() - begin < 150.0
        status = await rig.api.query("extruder")
        assert abs(status["temperature"] - 200.0) <= 1.0
        assert (status["target"], status["can_extrude"]) == (200.0, True)
        reports = [line for line in rig.klippy.console if line.startswith("B:25.0 /0.0 T0:")]
        assert len(reports) > 10
        await rig.api.script("TURN_OFF_HEATERS\nTEMPERATURE_WAIT SENSOR=extruder MAXIMUM=50")
        assert (await rig.api.query("extruder"))["temperature"] <= 50.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("TEMPERATURE_WAIT SENSOR=extruder", "Error on 'TEMPERATURE_WAIT': missing MINIMUM or MAXIMUM."),
        ("SET_HEATER_TEMPERATURE HEATER=bed", "The value 'bed' is not valid for HEATER. Did you mean 'heater_bed'?"),
        ("SET_PIN PIN=p", "SET_PIN command must specify VALUE or TEMPLATE"),
        ("SET_PIN PIN=p VALUE=0.5", "Invalid pin value"),
        ("SET_LED LED=n RED=2", "Error on 'SET_LED LED=n RED=2': RED must have maximum of 1.0"),
        ("SET_FAN_SPEED FAN=f", "SET_FAN_SPEED must specify SPEED or TEMPLATE"),
        ("SET_LED_TEMPLATE LED=n TEMPLATE=x", "Unknown display_template 'x'"),
    ],
)
async def test_wrong_parameters_are_errors(line: str, message: str) -> None:
    config = CARTESIAN + "[output_pin p]\npin: PC1\n[neopixel n]\npin: PC2\n[fan_generic f]\npin: PC3\n"
    async with virtual_klippy(config) as rig:
        assert await rig.api.error("gcode/script", {"script": line}) == message


OUTPUTS = (
    CARTESIAN
    + """
[fan]
pin: PC0
off_below: 0.1

[output_pin p]
pin: PC1
pwm: true
scale: 10
value: 5

[neopixel n]
pin: PC2
chain_count: 3
initial_GREEN: 0.2

[fan_generic f]
pin: PC3
tachometer_pin: ^PC4

[heater_fan h]
pin: PC5

[controller_fan c]
pin: PC6

[servo s]
pin: PC7

[temperature_sensor room]
sensor_type: Generic 3950
sensor_pin: PC8

[temperature_fan box]
pin: PC9
sensor_type: Generic 3950
sensor_pin: PC10
control: watermark
min_temp: 0
max_temp: 80
target_temp: 35

[display_template glow]
param_red: 0.5
text: {param_red},0,0,0
"""
)


async def test_outputs_show_what_they_were_set_to() -> None:
    async with virtual_klippy(OUTPUTS) as rig:
        assert (await rig.api.query("output_pin p")) == {"value": 0.5}
        await rig.api.script("SET_PIN PIN=p VALUE=2\nM106 S127.5\nSET_FAN_SPEED FAN=f SPEED=1")
        await rig.api.script("SET_SERVO SERVO=s ANGLE=90\nM400")
        assert (await rig.api.query("output_pin p")) == {"value": 0.2}
        assert (await rig.api.query("fan")) == {"speed": 0.5, "rpm": None}
        generic = await rig.api.query("fan_generic f")
        assert generic["speed"] == 1.0
        assert generic["rpm"] > 0.0
        assert math.isclose((await rig.api.query("servo s"))["value"], 0.075)
        await rig.api.script("M106 S10\nM400")
        assert (await rig.api.query("fan"))["speed"] == 0.0


async def test_lights_keep_their_colors() -> None:
    async with virtual_klippy(OUTPUTS) as rig:
        assert (await rig.api.query("neopixel n"))["color_data"] == [[0.0, 0.2, 0.0, 0.0]] * 3
        await rig.api.script("SET_LED LED=n RED=1 INDEX=2 SYNC=0")
        assert (await rig.api.query("neopixel n"))["color_data"][1] == [1.0, 0.0, 0.0, 0.0]
        await rig.api.call("objects/subscribe", {"objects": {"neopixel n": None}})
        await rig.api.script("SET_LED_TEMPLATE LED=n TEMPLATE=glow INDEX=1 PARAM_RED=0.25")
        note = await rig.api.note()
        assert note["params"]["status"]["neopixel n"]["color_data"][0] == [0.25, 0.0, 0.0, 0.0]


async def test_fans_follow_heaters_motors_and_temperatures() -> None:
    async with virtual_klippy(OUTPUTS) as rig:
        assert (await rig.api.query("heater_fan h"))["speed"] == 0.0
        await rig.api.script("M104 S100")
        assert (await rig.api.query("heater_fan h"))["speed"] == 1.0
        await rig.api.call("objects/subscribe", {"objects": {"controller_fan c": ["speed"]}})
        while (await rig.api.query("controller_fan c"))["speed"] != 1.0:
            pass
        assert (await rig.api.query("temperature_fan box"))["speed"] == 0.0
        await rig.api.script("VIRTUAL_SENSOR SENSOR=box TEMPERATURE=50")
        assert (await rig.api.query("temperature_fan box"))["speed"] == 1.0
        await rig.api.call("virtual/sensor", {"sensor": "room", "temperature": 31.5})
        room = await rig.api.query("temperature_sensor room")
        assert room == {"temperature": 31.5, "measured_min_temp": 25.0, "measured_max_temp": 31.5}


SWITCHES = (
    BASE
    + """
[filament_switch_sensor lane]
switch_pin: PC0
event_delay: 0.5
runout_gcode:
  M118 runout
insert_gcode:
  M118 inserted

[gcode_button door]
pin: PC1
press_gcode:
  M118 pressed
release_gcode:
  M118 released
"""
)


async def test_a_filament_sensor_pauses_on_runout_and_tells_of_an_insert() -> None:
    async with virtual_klippy(SWITCHES, speed=20.0) as rig:
        await rig.api.script("G4 P3000\nQUERY_FILAMENT_SENSOR SENSOR=lane")
        assert rig.klippy.console[-1] == "// Filament Sensor lane: filament detected"
        await rig.api.script("G4 P20000\nVIRTUAL_SENSOR SENSOR=lane STATE=0")  # "Printing"
        await rig.wait_console("echo: runout")
        assert "// action:paused" in rig.klippy.console
        assert (await rig.api.query("pause_resume")) == {"is_paused": True}
        assert (await rig.api.query("filament_switch_sensor lane"))["filament_detected"] is False
        while (await rig.api.query("idle_timeout"))["state"] == "Printing":
            pass
        await rig.api.script("VIRTUAL_SENSOR SENSOR=lane STATE=1")
        await rig.wait_console("echo: inserted")


async def test_a_disabled_filament_sensor_does_nothing() -> None:
    async with virtual_klippy(SWITCHES, speed=20.0) as rig:
        await rig.api.script("G4 P3000\nSET_FILAMENT_SENSOR SENSOR=lane ENABLE=0\nVIRTUAL_SENSOR SENSOR=lane STATE=0")
        await rig.api.script("G4 P3000\nM400")
        status = await rig.api.query("filament_switch_sensor lane")
        assert status == {"filament_detected": False, "enabled": False}
        assert "echo: runout" not in rig.klippy.console


async def test_a_button_runs_its_gcode() -> None:
    async with virtual_klippy(SWITCHES) as rig:
        await rig.api.script("VIRTUAL_SENSOR SENSOR=door STATE=1")
        await rig.wait_console("echo: pressed")
        assert await rig.api.query("gcode_button door") == {"state": "PRESSED"}
        await rig.api.script("VIRTUAL_SENSOR SENSOR=door STATE=0\nQUERY_BUTTON BUTTON=door")
        await rig.wait_console("echo: released")
        message = await rig.api.error("gcode/script", {"script": "VIRTUAL_SENSOR SENSOR=nope STATE=0"})
        assert message.endswith("Sensors: door, lane")
