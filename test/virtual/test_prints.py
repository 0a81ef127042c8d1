"""Printing files: virtual_sdcard, print_stats, pause_resume, exclude_object."""

from __future__ import annotations

from typing import Any

from test.virtual.rig import BASE, CARTESIAN, Rig, virtual_klippy

PRINTER = (
    BASE
    + """
[virtual_sdcard]
path: {folder}/gcodes

[pause_resume]
[display_status]
[exclude_object]

[gcode_macro FAIL]
gcode:
  {action_raise_error("broken")}
"""
)

FILES = {
    "gcodes/short.gcode": "M118 one\nG4 P100\nM118 two",
    "gcodes/lines.gcode": "M118 one\nG4 P100\nM118 two\n",
    "gcodes/long.gcode": "M118 begin\n" + "G4 P500\n" * 200 + "M118 end\n",
    "gcodes/bad.gcode": "M118 one\nFAIL\nM118 two\n",
    "gcodes/sub/Deep.gcode": "M118 deep\n",
    "gcodes/notes.txt": "M118 text\n",
    "gcodes/self.gcode": "M118 one\nPAUSE\nM118 two\n",
}


async def wait_print(rig: Rig, *states: str) -> dict[str, Any]:
    """The status of the print when its state is one of these."""
    number = 0
    first = await rig.api.call("objects/subscribe", {"objects": {"print_stats": ["state"]}})
    state = first["status"]["print_stats"]["state"]
    number = len(rig.api.notes)
    while state not in states:
        number += 1
        state = (await rig.api.note(number))["params"]["status"]["print_stats"].get("state", state)
    await rig.api.call("objects/subscribe", {"objects": {}})
    return await rig.api.query("print_stats")


async def test_a_file_is_printed_line_by_line_to_the_end() -> None:
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=lines.gcode")
        assert list(rig.klippy.console)[-2:] == ["File opened:lines.gcode Size:26", "File selected"]
        await rig.wait_console("Done printing file")
        assert [line for line in rig.klippy.console if line.startswith("echo")] == ["echo: one", "echo: two"]
        stats = await wait_print(rig, "complete")
        assert stats["filename"] == "lines.gcode"
        assert stats["total_duration"] > 0.0
        card = await rig.api.query("virtual_sdcard")
        assert card == {"file_path": None, "progress": 1.0, "is_active": False, "file_position": 26, "file_size": 26}


async def test_the_last_line_needs_a_line_end() -> None:
    # Klipper runs what ends with a line end only.
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=short.gcode")
        await wait_print(rig, "complete")
        assert "echo: two" not in rig.klippy.console


async def test_an_error_ends_the_print_in_state_error() -> None:
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=/BAD.gcode")
        stats = await wait_print(rig, "error")
        assert stats["message"] == "Error evaluating 'gcode_macro FAIL:gcode': gcode.CommandError: broken\n"
        assert "echo: two" not in rig.klippy.console
        await rig.api.script("SDCARD_RESET_FILE")
        assert (await rig.api.query("print_stats", "state", "filename")) == {"state": "standby", "filename": ""}


async def test_pause_resume_and_cancel_over_the_api() -> None:
    async with virtual_klippy(PRINTER, files=FILES, speed=20.0) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=long.gcode")
        await rig.wait_console("echo: begin")
        assert (await wait_print(rig, "printing"))["state"] == "printing"
        await rig.api.call("pause_resume/pause")
        assert (await wait_print(rig, "paused"))["state"] == "paused"
        assert (await rig.api.query("pause_resume")) == {"is_paused": True}
        assert (await rig.api.query("virtual_sdcard", "is_active")) == {"is_active": False}
        await rig.api.call("pause_resume/resume")
        assert (await wait_print(rig, "printing"))["state"] == "printing"
        await rig.api.call("pause_resume/cancel")
        assert (await wait_print(rig, "cancelled"))["state"] == "cancelled"
        assert "echo: end" not in rig.klippy.console


async def test_pause_inside_the_file_goes_on_behind_it() -> None:
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=self.gcode")
        await wait_print(rig, "paused")
        assert "echo: two" not in rig.klippy.console
        await rig.api.script("RESUME")
        await wait_print(rig, "complete")
        assert list(rig.klippy.console)[-2:] == ["echo: two", "Done printing file"]


async def test_without_a_print_pause_and_resume_only_say_so() -> None:
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("PAUSE\nPAUSE\nRESUME\nRESUME\nCANCEL_PRINT")
        assert list(rig.klippy.console)[-5:] == [
            "// action:paused",
            "// Print already paused",
            "// action:resumed",
            "// Print is not paused, resume aborted",
            "// action:cancel",
        ]


async def test_files_are_listed_and_selected_as_on_a_card() -> None:
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("M20")
        begin = list(rig.klippy.console).index("Begin file list")
        assert list(rig.klippy.console)[begin + 1] == f"bad.gcode {len(FILES['gcodes/bad.gcode'])}"
        assert not any("Deep" in line for line in list(rig.klippy.console)[begin:])
        await rig.api.script("M23 lines.gcode\nM27")
        assert rig.klippy.console[-1] == "SD printing byte 0/26"
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=sub/deep.gcode")
        await rig.wait_console("echo: deep")
        await wait_print(rig, "complete")
        for name in ("notes.txt", "none.gcode"):
            script = {"script": f"SDCARD_PRINT_FILE FILENAME={name}"}
            assert await rig.api.error("gcode/script", script) == "Unable to open file"


async def test_a_second_print_is_refused_while_one_runs() -> None:
    async with virtual_klippy(PRINTER, files=FILES, speed=5.0) as rig:
        await rig.api.script("SDCARD_PRINT_FILE FILENAME=long.gcode")
        script = {"script": "SDCARD_PRINT_FILE FILENAME=lines.gcode"}
        assert await rig.api.error("gcode/script", script) == "SD busy"


async def test_slicer_info_and_display() -> None:
    async with virtual_klippy(PRINTER, files=FILES) as rig:
        await rig.api.script("SET_PRINT_STATS_INFO TOTAL_LAYER=10\nSET_PRINT_STATS_INFO CURRENT_LAYER=12")
        assert (await rig.api.query("print_stats"))["info"] == {"total_layer": 10, "current_layer": 10}
        await rig.api.script("M117 hello\nM73 P50\nG4 P1")
        assert await rig.api.query("display_status") == {"progress": 0.5, "message": "hello"}


async def test_excluded_objects_are_not_printed() -> None:
    config = CARTESIAN + "[exclude_object]\n"
    async with virtual_klippy(config, speed=500.0) as rig:
        await rig.api.script("G28\nM109 S200\nM83\nG1 Z1 F6000")
        await rig.api.script("EXCLUDE_OBJECT_DEFINE NAME=cube CENTER=1,2 POLYGON=[[1,2],[3,4]]")
        await rig.api.script("EXCLUDE_OBJECT_DEFINE NAME=ball\nEXCLUDE_OBJECT NAME=cube")
        for i in range(5):
            await rig.api.script(f"G1 X{10 + i} E0.1 F6000")
        await rig.api.script("EXCLUDE_OBJECT_START NAME=cube\nG1 X100 E1\nG1 X120 E1")
        at = (await rig.api.query("toolhead", "position"))["position"]
        assert at[0] == 14.0
        await rig.api.script("EXCLUDE_OBJECT_END NAME=cube\nEXCLUDE_OBJECT_START NAME=ball\nG1 X50 E0.5")
        after = (await rig.api.query("toolhead", "position"))["position"]
        assert after[0] == 50.0
        assert abs(after[3] - at[3] - 0.5) < 1e-9
        status = await rig.api.query("exclude_object")
        assert status["objects"][1] == {"name": "CUBE", "center": [1, 2], "polygon": [[1, 2], [3, 4]]}
        assert (status["excluded_objects"], status["current_object"]) == (["CUBE"], "BALL")
