"""Moves, limits, homing, offsets, extruders, and how long things take."""

from __future__ import annotations

import pytest

from klipper_router.virtual.motion.toolhead import Toolhead
from test.virtual.rig import BASE, CARTESIAN, Rig, virtual_klippy

FAST = 500.0


async def position(rig: Rig) -> list[float]:
    value: list[float] = (await rig.api.query("toolhead", "position"))["position"]
    return [round(number, 6) for number in value]


async def queued_s(rig: Rig, script: str) -> float:
    """How much time of the printer a script queues."""
    toolhead = rig.klippy.printer.lookup(Toolhead, "toolhead")
    begin = toolhead.get_last_move_time()
    await rig.api.script(script)
    return toolhead.get_last_move_time() - begin


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("G1 X10", "Must home axis first: 10.000 0.000 0.000 [0.000]"),
        ("G28\nG1 X300", "Move out of range: 300.000 0.000 0.500 [0.000]"),
        ("G28\nG1 Z-3", "Move out of range: 0.000 0.000 -3.000 [0.000]"),
        ("G1 E5", "Extrude below minimum temp\nSee the 'min_extrude_temp' config option for details"),
        ("G1 X", "Unable to parse move 'G1 X'"),
        ("G1 X1 F-1", "Invalid speed in 'G1 X1 F-1'"),
        ("M104 S300", "Requested temperature (300.0) out of range (0.0:250.0)"),
        ("M104 T1 S100", "Extruder not configured"),
        ("RESTORE_GCODE_STATE NAME=none", "Unknown g-code state: none"),
        ("M220 S0", "Error on 'M220 S0': S must be above 0.0"),
    ],
)
async def test_what_the_machine_cannot_do_is_an_error_in_klippers_words(script: str, message: str) -> None:
    async with virtual_klippy(CARTESIAN, speed=FAST) as rig:
        assert await rig.api.error("gcode/script", {"script": script}) == message


async def test_a_refused_move_leaves_the_position_as_it_was() -> None:
    async with virtual_klippy(CARTESIAN, speed=FAST) as rig:
        await rig.api.script("G28\nG1 X50 F6000")
        await rig.api.error("gcode/script", {"script": "G1 X300"})
        await rig.api.script("G91\nG1 X1\nM114")
        assert rig.klippy.console[-1] == "X:51.000 Y:0.000 Z:0.500 E:0.000"


async def test_homing_sets_the_axes_and_motors_off_clears_them() -> None:
    async with virtual_klippy(CARTESIAN, speed=FAST) as rig:
        assert (await rig.api.query("toolhead", "homed_axes"))["homed_axes"] == ""
        await rig.api.script("G28 X")
        assert (await rig.api.query("toolhead", "homed_axes"))["homed_axes"] == "x"
        await rig.api.script("G28")
        status = await rig.api.query("toolhead")
        assert (status["homed_axes"], status["axis_maximum"][:3]) == ("xyz", [200.0, 200.0, 200.0])
        assert await rig.api.call("query_endstops/status") == {
            "stepper_x": "TRIGGERED",
            "stepper_y": "TRIGGERED",
            "stepper_z": "TRIGGERED",
        }
        assert (await rig.api.query("stepper_enable"))["steppers"]["stepper_x"] is True
        await rig.api.script("G1 Z10\nM84")
        assert (await rig.api.query("toolhead", "homed_axes"))["homed_axes"] == ""
        assert (await rig.api.call("query_endstops/status"))["stepper_z"] == "open"


async def test_coordinates_offsets_and_saved_states() -> None:
    async with virtual_klippy(CARTESIAN, speed=FAST) as rig:
        await rig.api.script("G28\nG1 X100 Y50 Z10 F60000\nSAVE_GCODE_STATE NAME=s")
        await rig.api.script("G92 X0\nG91\nG1 X5\nM114")
        assert rig.klippy.console[-1] == "X:5.000 Y:50.000 Z:10.000 E:0.000"
        await rig.api.script("RESTORE_GCODE_STATE NAME=s MOVE=1")
        assert await position(rig) == [100.0, 50.0, 10.0, 0.0]
        await rig.api.script("SET_GCODE_OFFSET Z=0.5 MOVE=1")
        status = await rig.api.query("gcode_move")
        assert (status["homing_origin"][2], status["gcode_position"][2], status["position"][2]) == (0.5, 10.0, 10.5)
        await rig.api.script("M220 S50\nG1 F1200")
        status = await rig.api.query("gcode_move", "speed", "speed_factor")
        assert status == {"speed": 1200.0, "speed_factor": 0.5}


async def test_a_long_dwell_answers_when_a_second_of_it_is_left() -> None:
    async with virtual_klippy(speed=2.0) as rig:
        toolhead = rig.klippy.printer.lookup(Toolhead, "toolhead")
        await rig.api.script("G4 P2000")
        assert 0.0 < toolhead.print_time - toolhead.estimated_print_time() <= 1.0
        await rig.api.script("M400")
        assert toolhead.print_time < toolhead.estimated_print_time()


async def test_moves_take_their_time() -> None:
    async with virtual_klippy(CARTESIAN, speed=2.0) as rig:
        await rig.api.script("SET_VELOCITY_LIMIT ACCEL=1000")
        rig.klippy.printer.lookup(Toolhead, "toolhead").set_position([0.0, 0.0, 0.0], "xyz")
        # 100 mm at 100 mm/s and two ramps of 0.1 s
        one = await queued_s(rig, "G1 X100 F6000")
        assert one == pytest.approx(1.1, abs=0.05)
        # 200 short moves in one line are as fast as one long move
        many = await queued_s(rig, "G91\n" + "\n".join(["G1 X-0.5 F6000"] * 200))
        assert many == pytest.approx(one, abs=0.1)
        # a corner is slower
        assert await queued_s(rig, "G1 X50\nG1 Y50") > one + 0.05


async def test_live_position_moves_with_time() -> None:
    async with virtual_klippy(CARTESIAN, speed=5.0) as rig:
        await rig.api.script("G28\nM400")
        await rig.api.send("gcode/script", {"script": "G1 X200 F3000"})
        seen = set()
        while (at := (await rig.api.query("motion_report", "live_position"))["live_position"][0]) < 200.0:
            seen.add(round(at, 3))
        assert len([x for x in seen if 0.0 < x < 200.0]) > 2


async def test_arcs_end_where_they_should() -> None:
    async with virtual_klippy(CARTESIAN + "[gcode_arcs]\n", speed=FAST) as rig:
        await rig.api.script("G28\nG1 X50 Y50 F60000\nG2 X70 Y50 I10 J0")
        assert (await position(rig))[:2] == [70.0, 50.0]
        await rig.api.script("G3 X70 Y50 I10 J0 Z5")  # a full circle upwards
        assert (await position(rig))[:3] == [70.0, 50.0, 5.0]
        message = await rig.api.error("gcode/script", {"script": "G91\nG2 X1 I1"})
        assert message == "G2/G3 does not support relative move mode"


async def test_force_move_sets_a_position_without_homing() -> None:
    async with virtual_klippy(CARTESIAN + "[force_move]\nenable_force_move: true\n", speed=FAST) as rig:
        await rig.api.script("SET_KINEMATIC_POSITION X=10 Y=20 Z=30\nG1 X11 F600")
        assert (await position(rig))[:3] == [11.0, 20.0, 30.0]
        await rig.api.script("SET_KINEMATIC_POSITION CLEAR_HOMED=z")
        assert (await rig.api.query("toolhead", "homed_axes"))["homed_axes"] == "xy"


async def test_safe_z_home_goes_to_its_place_first() -> None:
    config = CARTESIAN + "[safe_z_home]\nhome_xy_position: 100, 90\nz_hop: 5\n"
    async with virtual_klippy(config, speed=FAST) as rig:
        assert await rig.api.error("gcode/script", {"script": "G28 Z"}) == "Must home X and Y axes first"
        await rig.api.script("G28")
        assert (await position(rig))[:3] == [100.0, 90.0, 5.0]


async def test_homing_override_takes_the_place_of_g28() -> None:
    config = CARTESIAN + "[homing_override]\naxes: z\nset_position_z: 0\ngcode:\n  M118 mine\n  G28 X Y Z\n"
    async with virtual_klippy(config, speed=FAST) as rig:
        await rig.api.script("G28 X")
        assert "echo: mine" not in rig.klippy.console
        await rig.api.script("G28")
        assert "echo: mine" in rig.klippy.console
        assert (await rig.api.query("toolhead", "homed_axes"))["homed_axes"] == "xyz"


async def test_skew_and_firmware_retraction() -> None:
    config = CARTESIAN + "[skew_correction]\n[firmware_retraction]\nretract_length: 2\n"
    async with virtual_klippy(config, speed=FAST) as rig:
        await rig.api.script("G28\nSET_SKEW XY=140,142,100\nG1 X100 Y100 F60000\nM114")
        assert rig.klippy.console[-1].startswith("X:100.000 Y:100.000")
        assert (await position(rig))[0] != 100.0
        await rig.api.script("SET_SKEW CLEAR=1\nM109 S200\nG10\nG10")
        assert (await position(rig))[3] == -2.0
        await rig.api.script("G11")
        assert (await position(rig))[3] == 0.0


EXTRUDER1 = """
[extruder1]
step_pin: PE0
dir_pin: PE1
rotation_distance: 33
microsteps: 16
nozzle_diameter: 0.4
filament_diameter: 1.75
heater_pin: PE2
sensor_type: Generic 3950
sensor_pin: PE3
control: watermark
min_temp: 0
max_temp: 250

[gcode_macro T1]
gcode:
  ACTIVATE_EXTRUDER EXTRUDER=extruder1
"""


async def test_a_second_extruder_has_its_own_heat_and_position() -> None:
    async with virtual_klippy(CARTESIAN + EXTRUDER1, speed=FAST) as rig:
        await rig.api.script("T1\nM104 S100\nM104 T0 S50")
        assert (await rig.api.query("toolhead", "extruder"))["extruder"] == "extruder1"
        assert (await rig.api.query("extruder1", "target"))["target"] == 100.0
        assert (await rig.api.query("extruder", "target"))["target"] == 50.0
        await rig.api.script("T1")
        assert rig.klippy.console[-1] == "// Extruder extruder1 already active"
        await rig.api.script("SET_PRESSURE_ADVANCE ADVANCE=0.05")
        assert (await rig.api.query("extruder1", "pressure_advance"))["pressure_advance"] == 0.05


async def test_kinematics_none_allows_every_move_and_never_homes() -> None:
    async with virtual_klippy(BASE, speed=FAST) as rig:
        await rig.api.script("G28\nG1 X1000 F60000")
        assert (await position(rig))[0] == 1000.0
        assert (await rig.api.query("toolhead", "homed_axes"))["homed_axes"] == ""
        message = await rig.api.error("gcode/script", {"script": "G1 E1"})
        assert message == "Extrude when no extruder present: 1000.000 0.000 0.000 [1.000]"


async def test_a_probe_measures_the_same_bed_every_time_and_a_mesh_is_kept() -> None:
    config = CARTESIAN + (
        "[probe]\npin: PC0\nz_offset: 1.0\nx_offset: 5\n"
        "[bed_mesh]\nmesh_min: 20,20\nmesh_max: 180,180\nprobe_count: 3\n"
    )
    async with virtual_klippy(config, speed=FAST) as rig:
        assert await rig.api.error("gcode/script", {"script": "PROBE"}) == "Must home before probe"
        await rig.api.script("G28\nG1 Z10 F60000\nPROBE")
        first = (await rig.api.query("probe"))["last_z_result"]
        await rig.api.script("G1 Z10\nPROBE")
        assert (await rig.api.query("probe"))["last_z_result"] == first
        await rig.api.script("QUERY_PROBE")
        assert rig.klippy.console[-1] == "// probe: TRIGGERED"
        await rig.api.script("G1 Z5\nBED_MESH_CALIBRATE")
        status = await rig.api.query("bed_mesh")
        assert status["profile_name"] == "default"
        assert [len(row) for row in status["probed_matrix"]] == [3, 3, 3]
        assert [len(row) for row in status["mesh_matrix"]] == [7] * 7
        assert list(status["profiles"]) == ["default"]
        await rig.api.script("BED_MESH_PROFILE SAVE=hot\nBED_MESH_CLEAR")
        assert (await rig.api.query("bed_mesh"))["probed_matrix"] == [[]]
        await rig.api.script("BED_MESH_PROFILE LOAD=hot\nSAVE_CONFIG")
        await rig.api.end()
        await rig.wait_state("ready")
        api = await rig.connect()
        assert set((await api.query("bed_mesh"))["profiles"]) == {"default", "hot"}
        await api.script("BED_MESH_PROFILE LOAD=hot")
        assert (await api.query("bed_mesh"))["probed_matrix"] == status["probed_matrix"]


async def test_a_manual_stepper_moves_by_itself_and_waits_when_asked() -> None:
    config = CARTESIAN + (
        "[manual_stepper lane]\nstep_pin: PF0\ndir_pin: PF1\nrotation_distance: 20\nmicrosteps: 16\n"
        "velocity: 10\nposition_max: 100\n"
        "[extruder_stepper feeder]\nextruder: extruder\nstep_pin: PF3\ndir_pin: PF4\n"
        "rotation_distance: 20\nmicrosteps: 16\n"
    )
    async with virtual_klippy(config, speed=50.0) as rig:
        assert await queued_s(rig, "MANUAL_STEPPER STEPPER=lane MOVE=50") >= 5.0
        assert (await rig.api.query("stepper_enable"))["steppers"]["manual_stepper lane"] is True
        assert await queued_s(rig, "MANUAL_STEPPER STEPPER=lane MOVE=0 SYNC=0") < 5.0
        for line, message in (
            ("MANUAL_STEPPER STEPPER=lane MOVE=101", "Move out of range"),
            ("MANUAL_STEPPER STEPPER=lane MOVE=1 STOP_ON_ENDSTOP=1", "No endstop for this manual stepper"),
        ):
            assert await rig.api.error("gcode/script", {"script": line}) == message
        assert (await rig.api.query("extruder_stepper feeder"))["motion_queue"] == "extruder"
        await rig.api.script("SYNC_EXTRUDER_MOTION EXTRUDER=feeder MOTION_QUEUE=")
        assert (await rig.api.query("extruder_stepper feeder"))["motion_queue"] is None


async def test_a_tuning_tower_changes_its_parameter_with_the_height() -> None:
    async with virtual_klippy(CARTESIAN, speed=FAST) as rig:
        await rig.api.script("G28\nM109 S200\nM83\nTUNING_TOWER COMMAND=M220 PARAMETER=S START=50 FACTOR=10")
        assert rig.klippy.console[-1] == "// Starting tuning test (start=50.000000 factor=10.000000)"
        await rig.api.script("G1 Z2 F60000\nG1 X10 E0.1")
        await rig.api.script("G1 Z4\nG1 X20 E0.1")
        await rig.api.call("info")  # the change comes right behind the move
        speeds = [line for _, line in rig.klippy.commands if line.startswith("M220")]
        assert speeds == ["M220 S70.000000000", "M220 S90.000000000"]
        await rig.api.script("G1 Z0.5\nG1 X30 E0.1")
        assert "// Ending tuning test mode" in rig.klippy.console


async def test_input_shaper_settings_are_kept() -> None:
    async with virtual_klippy(CARTESIAN + "[input_shaper]\nshaper_freq_x: 40\n", speed=FAST) as rig:
        await rig.api.script("SET_INPUT_SHAPER SHAPER_TYPE=EI SHAPER_FREQ_Y=50")
        assert list(rig.klippy.console)[-2:] == [
            "// shaper_type_x:ei shaper_freq_x:40.000 damping_ratio_x:0.100000",
            "// shaper_type_y:ei shaper_freq_y:50.000 damping_ratio_y:0.100000",
        ]
        message = await rig.api.error("gcode/script", {"script": "SET_INPUT_SHAPER SHAPER_TYPE=foo"})
        assert message == "Unsupported shaper type: foo"


async def test_driver_currents_are_kept() -> None:
    config = CARTESIAN + "[tmc2209 stepper_x]\nuart_pin: PF5\nrun_current: 0.8\n"
    async with virtual_klippy(config, speed=FAST) as rig:
        await rig.api.script("SET_TMC_CURRENT STEPPER=stepper_x CURRENT=0.5")
        assert rig.klippy.console[-1] == "// Run Current: 0.50A Hold Current: 0.50A"
        assert (await rig.api.query("tmc2209 stepper_x"))["run_current"] == 0.5
