"""PID_CALIBRATE, which a real Klipper in its batch mode cannot be asked to finish."""

from __future__ import annotations

from test.virtual.rig import CARTESIAN, virtual_klippy


async def test_pid_calibrate_warms_the_heater_and_offers_its_parameters() -> None:
    async with virtual_klippy(CARTESIAN, speed=500.0) as rig:
        await rig.api.script("PID_CALIBRATE HEATER=extruder TARGET=60")
        line = await rig.wait_console("PID parameters")
        assert line.startswith("// PID parameters: pid_Kp=22.000 pid_Ki=1.000 pid_Kd=114.000\n// The SAVE_CONFIG")
        status = await rig.api.query("extruder")
        assert status["target"] == 0.0
        assert status["temperature"] > 50.0
        pending = (await rig.api.query("configfile", "save_config_pending_items"))["save_config_pending_items"]
        assert pending["extruder"]["pid_Kp"] == "22.000"


async def test_a_calibration_above_the_limit_is_refused() -> None:
    async with virtual_klippy(CARTESIAN, speed=500.0) as rig:
        assert "out of range" in await rig.api.error(
            "gcode/script", {"script": "PID_CALIBRATE HEATER=extruder TARGET=999"}
        )
