"""How one line of G-code is read, in both dialects."""

from __future__ import annotations

import pytest

from klipper_router.virtual import CommandError
from klipper_router.virtual.gcode_command import is_traditional, split_line
from test.virtual.rig import BASE, virtual_klippy

SHOW = (
    BASE
    + """
[gcode_macro SHOW]
gcode:
  {% for key in params|sort %}
  RESPOND PREFIX="show" MSG="{key}={params[key]|replace('\\\\', '\\\\\\\\')|replace('"', '\\\\"')}"
  {% endfor %}
"""
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("G1 X1", "G1"),
        ("g1x1", "G1"),
        ("N10 G1 X1*33", "G1"),
        ("G28.1", "G28.1"),
        ("SET_PIN PIN=a", "SET_PIN"),
        ("REC 1='x'", "REC 1='"),  # the first parameter must begin with a letter
        ("REC2_X", "REC2"),
        ("M117 50% done", "M117 50%"),
        ("; only a comment", ""),
        ("", ""),
    ],
)
def test_the_command_is_the_first_word_as_klipper_splits_it(line: str, command: str) -> None:
    assert split_line(line, "v0.13")[0] == command


@pytest.mark.parametrize(("name", "traditional"), [("G1", True), ("M117", True), ("G", False), ("PAUSE", False)])
def test_a_traditional_command_is_a_letter_and_a_number(name: str, traditional: bool) -> None:
    assert is_traditional(name) is traditional


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("SHOW KEY='a;b#c*d'", ["KEY=a;b#c*d"]),
        ("SHOW key=lower", ["KEY=lower"]),
        ("SHOW A=1 A=2", ["A=2"]),
        ('SHOW A="x \\" y"', ['A=x " y']),
        ("SHOW A='it'\"'\"'s'", ["A=it's"]),
        ("SHOW A=1 ; B=2", ["A=1"]),
        ("SHOW A=1 # B=2", ["A=1"]),
        ("SHOW A=é", ["A=é"]),
        ("SHOW A=", ["A="]),
    ],
)
async def test_v013_reads_parameters_like_a_shell(line: str, shown: list[str]) -> None:
    async with virtual_klippy(SHOW) as rig:
        await rig.api.script(line)
        assert [text.removeprefix("show ") for text in rig.klippy.console if text.startswith("show ")] == shown


@pytest.mark.parametrize("line", ["SHOW X", "SHOW A='x", "SHOW A=1 B"])
@pytest.mark.parametrize("dialect", ["v0.13", "v0.12"])
async def test_a_word_without_value_or_an_open_quote_is_malformed(line: str, dialect: str) -> None:
    async with virtual_klippy(SHOW, dialect="v0.12" if dialect == "v0.12" else "v0.13") as rig:
        assert await rig.api.error("gcode/script", {"script": line}) == f"Malformed command '{line}'"


@pytest.mark.parametrize("mark", "#;*")
async def test_v012_cuts_at_comment_marks_even_inside_quotes(mark: str) -> None:
    async with virtual_klippy(SHOW, dialect="v0.12") as rig:
        line = f"SHOW A='x{mark}y'"
        assert await rig.api.error("gcode/script", {"script": line}) == f"Malformed command '{line}'"
        await rig.api.script(f"SHOW A=x{mark}y")
        assert rig.klippy.console[-1] == "show A=x"


async def test_traditional_commands_take_the_rest_of_the_line_as_it_is() -> None:
    async with virtual_klippy(BASE + "[display_status]\n") as rig:
        await rig.api.script("M117 50% done; 'really' #1")
        assert (await rig.api.query("display_status"))["message"] == "50% done; 'really' #1"
        await rig.api.script("M118 a;b")
        assert rig.klippy.console[-1] == "echo: a;b"
        await rig.api.script("N10 M117 hi*33")
        assert (await rig.api.query("display_status"))["message"] == "hi"


async def test_only_line_feeds_split_a_script() -> None:
    async with virtual_klippy() as rig:
        await rig.api.script("M118 one\u2028two\x0bthree\nM118 four")
        assert list(rig.klippy.console)[-2:] == ["echo: one\u2028two\x0bthree", "echo: four"]


async def test_an_unknown_command_is_no_error_and_the_script_goes_on() -> None:
    async with virtual_klippy() as rig:
        assert await rig.api.script("FOO\nM118 on") == {}
        assert list(rig.klippy.console)[-2:] == ['// Unknown command:"FOO"', "echo: on"]


async def test_a_failed_line_ends_the_script() -> None:
    async with virtual_klippy() as rig:
        with pytest.raises(CommandError, match="Machine does not support G20"):
            await rig.klippy.run_gcode("M118 before\nG20\nM118 after")
        assert "echo: after" not in rig.klippy.console
        assert [text for _, text in rig.klippy.commands][-2:] == ["M118 before", "G20"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("G4 P-1", "Error on 'G4 P-1': P must have minimum of 0.0"),
        ("G4 P1.1.1", "Error on 'G4 P1.1.1': unable to parse 1.1.1"),
        ("SET_GCODE_VARIABLE VARIABLE=a", "Error on 'SET_GCODE_VARIABLE VARIABLE=a': missing MACRO"),
        (
            "SET_GCODE_VARIABLE MACRO=S VARIABLE=a VALUE=1",
            "The value 'S' is not valid for MACRO. Did you mean 'SHOW'?",
        ),
        (
            "SET_GCODE_VARIABLE MACRO=X VARIABLE=a VALUE=1",
            "The value 'X' is not valid for MACRO. Options: 'SHOW'",
        ),
    ],
)
async def test_wrong_parameters_are_errors_in_klippers_words(line: str, message: str) -> None:
    async with virtual_klippy(SHOW) as rig:
        assert await rig.api.error("gcode/script", {"script": line}) == message
