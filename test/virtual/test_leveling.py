"""Probing at many points: meshes of a part of the bed, several Z motors, screws, and the probe's own G-code."""

from __future__ import annotations

import pytest

from klipper_router.virtual.motion.linear import least_squares
from test.virtual.rig import CARTESIAN, Rig, virtual_klippy

FAST = 500.0

PROBE = """
[probe]
pin: PC0
z_offset: 1.5
y_offset: 10

[bed_mesh]
mesh_min: 20, 20
mesh_max: 180, 180
probe_count: 5
algorithm: bicubic

[exclude_object]
"""
VIA_PROBE = CARTESIAN.replace("endstop_pin: PA8\nposition_endstop: 0.5", "endstop_pin: probe:z_virtual_endstop")


def z_motors(count: int) -> str:
    return "".join(
        f"\n[stepper_z{i}]\nstep_pin: PE{i}\ndir_pin: PF{i}\nrotation_distance: 8\nmicrosteps: 16\n"
        for i in range(1, count)
    )


Z_TILT = f"""
{z_motors(3)}
[z_tilt]
z_positions: 0, 100
  200, 0
  200, 200
points: 20, 100
  180, 20
  180, 180
retries: 2
retry_tolerance: 0.001
"""

QUAD_GANTRY_LEVEL = f"""
{z_motors(4)}
[quad_gantry_level]
gantry_corners: -50, -10
  250, 250
points: 20, 20
  20, 180
  180, 180
  180, 20
retries: 2
retry_tolerance: 0.001
"""

SCREWS = """
[screws_tilt_adjust]
screw1: 20, 20
screw1_name: front left
screw2: 180, 20
screw3: 100, 180
screw_thread: CW-M4
"""


async def mesh(rig: Rig) -> tuple[int, int, list[float], list[float]]:
    """Rows, columns and the corners of the mesh."""
    status = await rig.api.query("bed_mesh")
    matrix = status["probed_matrix"]
    return len(matrix), len(matrix[0]), status["mesh_min"], status["mesh_max"]


async def test_a_mesh_of_the_part_that_was_asked_for() -> None:
    async with virtual_klippy(VIA_PROBE + PROBE, speed=FAST) as rig:
        await rig.api.script("G28\nG1 Z10\nBED_MESH_CALIBRATE")
        assert await mesh(rig) == (5, 5, [20.0, 20.0], [180.0, 180.0])
        await rig.api.script(
            "BED_MESH_CALIBRATE MESH_MIN=50,60 MESH_MAX=90,99 PROBE_COUNT=5,3 ALGORITHM=lagrange MESH_PPS=0"
        )
        assert await mesh(rig) == (3, 5, [50.0, 60.0], [90.0, 99.0])
        await rig.api.script("BED_MESH_CALIBRATE")
        assert await mesh(rig) == (5, 5, [20.0, 20.0], [180.0, 180.0])


async def test_an_adaptive_mesh_covers_the_objects_and_a_margin() -> None:
    async with virtual_klippy(VIA_PROBE + PROBE, speed=FAST) as rig:
        await rig.api.script("EXCLUDE_OBJECT_DEFINE NAME=a POLYGON=[[40,40],[60,40],[60,80]]\nG28\nG1 Z10")
        await rig.api.script("BED_MESH_CALIBRATE ADAPTIVE=1 ADAPTIVE_MARGIN=5")
        assert await mesh(rig) == (3, 3, [35.0, 35.0], [65.0, 85.0])
        assert "// Found 1 objects" in rig.klippy.console
        assert "// Adapted mesh bounds: ([35.0, 35.0],[65.0, 85.0])" in rig.klippy.console


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("MESH_MIN=1", "Unable to parse parameter 'MESH_MIN'"),
        ("PROBE_COUNT=2,3", "Parameter 'PROBE_COUNT' must have a minimum of 3"),
        ("PROBE_COUNT=x", "Unable to parse parameter 'PROBE_COUNT'"),
        ("ALGORITHM=none", "bed_mesh: Unknown algorithm <none>"),
        ("MESH_MIN=50,50 MESH_MAX=51,51", "bed_mesh: min/max points too close together"),
        ("HORIZONTAL_MOVE_Z=1", "horizontal_move_z can't be less than probe's z_offset"),
    ],
)
async def test_a_mesh_that_cannot_be(parameters: str, message: str) -> None:
    async with virtual_klippy(VIA_PROBE + PROBE, speed=FAST) as rig:
        assert await rig.api.error("gcode/script", {"script": f"G28\nBED_MESH_CALIBRATE {parameters}"}) == message


async def test_the_zero_reference_is_zero_and_settings_hold_numbers() -> None:
    config = VIA_PROBE + PROBE.replace("probe_count: 5", "probe_count: 5, 5\nzero_reference_position: 100, 100")
    async with virtual_klippy(config, speed=FAST) as rig:
        await rig.api.script("G28\nG1 Z10\nBED_MESH_CALIBRATE")
        assert abs((await rig.api.query("bed_mesh"))["probed_matrix"][2][2]) < 1e-6
        settings = (await rig.api.query("configfile", "settings"))["settings"]["bed_mesh"]
        assert (settings["probe_count"], settings["mesh_min"]) == ([5, 5], [20.0, 20.0])
        assert (settings["fade_end"], settings["adaptive_margin"]) == (0.0, 0.0)


async def test_a_mesh_measured_by_hand() -> None:
    config = CARTESIAN + PROBE[PROBE.index("[bed_mesh]") :].replace("probe_count: 5\nalgorithm: bicubic", "")
    async with virtual_klippy(config, speed=FAST) as rig:
        await rig.api.script("G28\nBED_MESH_CALIBRATE")
        for _ in range(9):
            await rig.api.script("TESTZ Z=-4.9\nACCEPT")
        assert await mesh(rig) == (3, 3, [20.0, 20.0], [180.0, 180.0])


async def test_homing_with_the_probe_leaves_the_nozzle_at_its_offset() -> None:
    async with virtual_klippy(VIA_PROBE + PROBE, speed=FAST) as rig:
        await rig.api.script("G28")
        assert (await rig.api.query("toolhead", "position"))["position"][2] == 1.5
        assert (await rig.api.call("query_endstops/status"))["stepper_z"] == "TRIGGERED"


@pytest.mark.parametrize(
    ("name", "config", "command"),
    [("z_tilt", Z_TILT, "Z_TILT_ADJUST"), ("quad_gantry_level", QUAD_GANTRY_LEVEL, "QUAD_GANTRY_LEVEL")],
)
async def test_the_motors_make_the_bed_level(name: str, config: str, command: str) -> None:
    async with virtual_klippy(VIA_PROBE + PROBE + config, speed=FAST) as rig:
        assert (await rig.api.query(name)) == {"applied": False}
        await rig.api.script(f"G28\nG1 Z10\n{command}")
        assert (await rig.api.query(name)) == {"applied": True}
        retries = [line for line in rig.klippy.console if "Retries:" in line]
        assert [line.split()[2] for line in retries] == ["0/2", "1/2"]
        assert "Probed points range: 0.000000 tolerance: 0.001000" in retries[1]
        await rig.api.script("M84")
        assert (await rig.api.query(name)) == {"applied": False}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Z_TILT.replace("[stepper_z2]", "[manual_stepper z2]"), "z_tilt z_positions needs exactly 2 items"),
        (QUAD_GANTRY_LEVEL.replace("  180, 20\n", ""), "Need exactly 4 probe points for quad_gantry_level"),
        (SCREWS.replace("screw3", "screw4"), "screws_tilt_adjust: Must have at least three screws"),
    ],
)
async def test_what_does_not_fit_the_machine(config: str, message: str) -> None:
    async with virtual_klippy(VIA_PROBE + PROBE + config, speed=FAST, ready=False) as rig:
        await rig.wait_state("error")
        assert rig.klippy.state_message.startswith(message)


async def test_screws_and_how_far_to_turn_them() -> None:
    async with virtual_klippy(VIA_PROBE + PROBE + SCREWS, speed=FAST) as rig:
        await rig.api.script("G28\nG1 Z10\nSCREWS_TILT_CALCULATE")
        status = await rig.api.query("screws_tilt_adjust")
        assert status["error"] is False
        assert status["results"]["screw1"]["is_base"] is True
        assert status["results"]["screw3"]["adjust"].startswith("00:")
        assert any("front left (base) : x=20.0, y=20.0" in line for line in rig.klippy.console)
        message = await rig.api.error("gcode/script", {"script": "SCREWS_TILT_CALCULATE MAX_DEVIATION=0.001"})
        assert message == "bed level exceeds configured limits (0.001mm)! Adjust screws and restart print."
        assert (await rig.api.query("screws_tilt_adjust"))["error"] is True


async def test_the_probes_own_gcode_runs_around_each_touch() -> None:
    own = "z_offset: 1.5\nactivate_gcode: M118 down\ndeactivate_gcode: M118 up"
    async with virtual_klippy(VIA_PROBE + PROBE.replace("z_offset: 1.5", own), speed=FAST) as rig:
        await rig.api.script("G28\nG1 Z10")
        mark = len(rig.klippy.console)
        await rig.api.script("PROBE SAMPLES=2")
        assert [line for line in list(rig.klippy.console)[mark:] if line in ("echo: down", "echo: up")] == [
            "echo: down",
            "echo: up",
        ] * 2


async def test_a_probe_in_its_dock_shows_as_triggered() -> None:
    async with virtual_klippy(VIA_PROBE + PROBE, speed=FAST) as rig:
        await rig.api.script("G28\nG1 Z10\nVIRTUAL_SENSOR SENSOR=probe STATE=1\nQUERY_PROBE")
        assert (await rig.api.query("probe", "last_query"))["last_query"] == 1
        assert await rig.api.error("gcode/script", {"script": "PROBE"}) == "Probe triggered prior to movement"
        await rig.api.script("VIRTUAL_SENSOR SENSOR=probe STATE=0\nPROBE")


def test_least_squares_and_what_is_left_open() -> None:
    plane = least_squares([[1, x, y] for x, y in ((0, 0), (10, 0), (0, 10), (10, 10))], [1, 3, 2, 4])
    assert [round(value, 6) for value in plane] == [1.0, 0.2, 0.1]
    flat = least_squares([[1, 0, 50], [1, 100, 50]], [1, 2])
    assert round(flat[0] + flat[1] * 100 + flat[2] * 50, 6) == 2.0
