"""The configuration file: what is read, what is refused and in which words (checked against Klipper v0.13.0-730)."""

from __future__ import annotations

from pathlib import Path

import pytest

from klipper_router.virtual import ConfigError, config_file
from klipper_router.virtual.config_reference import is_documented_option, is_klipper_section
from test.virtual.rig import BASE, CARTESIAN, virtual_klippy

HINT = (
    '\nOnce the underlying issue is corrected, use the "RESTART"\n'
    "command to reload the config and restart the host software.\nPrinter is halted\n"
)


def replaced(old: str, new: str) -> str:
    assert old in CARTESIAN
    return CARTESIAN.replace(old, new, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "Option 'serial' in section 'mcu' must be specified"),
        (BASE.replace("none", "foo"), "Error loading kinematics 'foo'"),
        (BASE.replace("300", "0"), "Option 'max_velocity' in section 'printer' must be above 0.0"),
        (BASE.replace("300", "fast"), "Unable to parse option 'max_velocity' in section 'printer'"),
        (BASE + "[foo bar]\n", "Section 'foo bar' is not a valid config section"),
        (BASE + "[idle_timeout]\nFoo: 1\n", "Option 'foo' is not valid in section 'idle_timeout'"),
        (BASE + "[gcode_macro X]\n", "Option 'gcode' in section 'gcode_macro X' must be specified"),
        (BASE + "[gcode_macro X]\ngcode:\n[gcode_macro x]\ngcode:\n", "gcode command X already registered"),
        (BASE + "[gcode_macro X Y]\ngcode:\n", "Name of section 'gcode_macro X Y' contains illegal whitespace"),
        (BASE + "[gcode_macro A-B]\ngcode:\n", "Can't register 'A-B' as it is an invalid name"),
        (
            BASE + "[gcode_macro X]\nrename_existing: Y\ngcode:\n",
            "Existing command 'X' not found in gcode_macro rename",
        ),
        (
            BASE + "[gcode_macro G1]\nrename_existing: Y\ngcode:\n",
            "G-Code macro rename of different types ('G1' vs 'Y')",
        ),
        (BASE + "[delayed_gcode x]\ninitial_duration: -1\ngcode:\n",
         "Option 'initial_duration' in section 'delayed_gcode x' must have minimum of 0.0"),
        (replaced("step_pin: PA0\n", ""), "Option 'step_pin' in section 'stepper_x' must be specified"),
        (replaced("position_endstop: 0\n", "position_endstop: 100\n"),
         "Unable to infer homing_positive_dir in section 'stepper_x'"),
        (CARTESIAN + "[fan]\npin: PA0\n", "pin PA0 used multiple times in config"),
        (CARTESIAN + "[fan]\npin: foo:PA0\n", "Unknown pin chip name 'foo'"),
        (replaced("Generic 3950", "foo"), "Unknown temperature sensor 'foo'"),
        (replaced("control: pid", "control: x"),
         "Choice 'x' for option 'control' in section 'extruder' is not a valid choice"),
        (CARTESIAN + "[neopixel n]\npin: PD1\nchain_count: 3\ncolor_order: RGB,GRB\n",
         "color_order does not match chain_count"),
    ],
)  # fmt: skip
async def test_a_wrong_configuration_is_state_error_with_klippers_message(config: str, message: str) -> None:
    async with virtual_klippy(config, ready=False) as rig:
        await rig.wait_state("error")
        info = await rig.api.call("info")
        assert (info["state"], info["state_message"]) == ("error", f"{message}\n{HINT}")


async def test_in_state_error_the_api_answers_and_gcode_is_refused() -> None:
    async with virtual_klippy(BASE + "[foo]\n", ready=False) as rig:
        await rig.wait_state("error")
        assert "not a valid config section" in await rig.api.error("gcode/script", {"script": "G28"})
        assert await rig.api.script("M118 still here") == {}
        assert (await rig.api.query("webhooks", "state")) == {"state": "error"}


async def test_restart_reads_the_mended_configuration() -> None:
    async with virtual_klippy(BASE + "[foo]\n", ready=False) as rig:
        await rig.wait_state("error")
        rig.config.write_text(BASE)
        assert await rig.api.call("gcode/restart") == {}
        await rig.wait_state("ready")


async def test_a_section_that_is_not_simulated_is_accepted_with_a_warning() -> None:
    async with virtual_klippy(BASE + "[resonance_tester]\nprobe_points: 1,2,3\n", log=True) as rig:
        (warning,) = (await rig.api.query("configfile", "warnings"))["warnings"]
        assert warning["type"] == "runtime_warning"
        assert "'resonance_tester' is accepted but not simulated" in warning["message"]
        assert warning["message"] in (rig.folder / "log").read_text()


async def test_the_configfile_object_shows_what_was_read() -> None:
    async with virtual_klippy(BASE + "[gcode_macro Lower_Case]\ngcode:\n  M118\n") as rig:
        status = await rig.api.query("configfile")
        assert status["config"]["printer"] == {"kinematics": "none", "max_velocity": "300", "max_accel": "3000"}
        assert status["settings"]["printer"]["square_corner_velocity"] == 5.0
        assert status["settings"]["gcode_macro lower_case"]["description"] == "G-Code macro"
        assert status["save_config_pending"] is False


def test_includes_are_relative_sorted_and_override_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.cfg").write_text("[x]\nb: 2\n")
    (tmp_path / "sub" / "a.cfg").write_text("[x]\na: 1\nb: 1\n[include deep.cfg]\n")
    (tmp_path / "sub" / "deep.cfg").write_text("[x]\ndeep = yes\n")
    (tmp_path / "main.cfg").write_text("[x]\na: 0\n[include sub/[ab].cfg]\n[include none*.cfg]\n[x]\nb: 3\n")
    parser, _ = config_file.load(tmp_path / "main.cfg")
    assert dict(parser.items("x")) == {"a": "1", "b": "3", "deep": "yes"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("[include none.cfg]\n", "Include file '.*none.cfg' does not exist"), ("[include m.cfg]", "Recursive include")],
)
def test_wrong_includes_are_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.cfg").write_text(text)
    with pytest.raises(ConfigError, match=message):
        config_file.load(tmp_path / "m.cfg")


def test_comments_continuations_and_case_are_as_in_klipper(tmp_path: Path) -> None:
    (tmp_path / "m.cfg").write_text("[A b]\nKey: 1 # c\nlong:\n  one\n\n  two ; c\nurl = a#b\nsemi: a;b\n")
    parser, _ = config_file.load(tmp_path / "m.cfg")
    assert dict(parser.items("A b")) == {"key": "1", "long": "\none\n\ntwo", "url": "a", "semi": "a;b"}


def test_the_save_config_block_is_read_and_loses_against_nothing_above_it(tmp_path: Path) -> None:
    saved = "#*# [x]\n#*# a = 5\n#*# points =\n#*# \t  1, 2\n#*# \t  3, 4\n"
    (tmp_path / "m.cfg").write_text("[x]\nb: 1\n" + config_file.SAVE_CONFIG_MARK + saved)
    parser, autosave = config_file.load(tmp_path / "m.cfg")
    assert parser.get("x", "a") == "5"
    assert parser.get("x", "points") == "\n1, 2\n3, 4"
    assert autosave.sections() == ["x"]


async def test_save_config_writes_the_block_keeps_a_backup_and_restarts() -> None:
    config = CARTESIAN + "[probe]\npin: PC0\nz_offset: 1.0\n"
    async with virtual_klippy(config) as rig:
        await rig.api.script("SET_GCODE_OFFSET Z=0.25")
        await rig.api.script("Z_OFFSET_APPLY_PROBE")
        pending = await rig.api.query("configfile", "save_config_pending_items")
        assert pending == {"save_config_pending_items": {"probe": {"z_offset": "0.750"}}}
        await rig.api.send("gcode/script", {"script": "SAVE_CONFIG"})
        await rig.api.end()
        await rig.wait_state("ready")
        text = rig.config.read_text()
        assert "#z_offset: 1.0" in text
        assert "#*# z_offset = 0.750" in text
        (backup,) = rig.folder.glob("printer-*.cfg")
        assert backup.read_text() == config
        api = await rig.connect()
        assert (await api.query("configfile", "settings"))["settings"]["probe"]["z_offset"] == 0.75


def test_the_reference_knows_klippers_sections_and_options() -> None:
    assert is_klipper_section("tmc2209 stepper_x")
    assert is_klipper_section("screws_tilt_adjust")
    assert not is_klipper_section("tmc2209")
    assert not is_klipper_section("stepper_x")
    assert is_documented_option("gcode_macro x", "variable_anything")
    assert is_documented_option("extruder3", "max_extrude_only_distance")
    assert not is_documented_option("fan", "color")
