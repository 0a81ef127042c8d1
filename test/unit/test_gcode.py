"""One safe line of G-code: whatever the values are, one command runs, with the given keys, on either Klipper."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from klipper_router import gcode
from klipper_router.gcode import Script

from .harmless import run_as_the_router_does
from .klipper_model import VERSIONS, Klipper, Version, is_traditional
from .nasty import LETTERS, NASTY, VALUES

KEYS = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
COMMANDS = st.sampled_from(["ON_STATUS", "on_status", "_HIDDEN", "REC2"])


@given(COMMANDS, st.dictionaries(KEYS, VALUES, max_size=5))
@example("ON_STATUS", dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", NASTY, strict=False)))
@example("ON_STATUS", dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", reversed(NASTY), strict=False)))
def test_values_arrive_exactly_as_the_parameters_of_one_command(command: str, parameters: dict[str, str]) -> None:
    script = gcode.command_line(command, parameters.items())
    ran, error, replaced = run_as_the_router_does("v0.13", script)
    assert error is None
    assert not replaced
    assert [(each.command, each.parameters) for each in ran] == [
        (command.upper(), {key: value.replace("\n", " ") for key, value in parameters.items()})
    ]


@given(COMMANDS, st.dictionaries(KEYS, VALUES, max_size=5))
@example("ON_STATUS", dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", NASTY, strict=False)))
def test_an_old_klipper_gets_values_exactly_or_with_what_it_cannot_read_replaced(
    command: str, parameters: dict[str, str]
) -> None:
    script = gcode.command_line(command, parameters.items())
    ran, error, replaced = run_as_the_router_does("v0.12", script)
    expected = {key: value.replace("\n", " ") for key, value in parameters.items()}
    cut = any(set("#*;") & set(value) for value in expected.values())
    assert error is None
    assert replaced == cut
    if cut:
        expected = {key: re.sub("[#*;]", "_", value) for key, value in expected.items()}
    assert [(each.command, each.parameters) for each in ran] == [(command.upper(), expected)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", NASTY)
def test_each_known_trick_is_one_value(version: Version, value: str) -> None:
    ran, error, _ = run_as_the_router_does(version, gcode.command_line("CB", [("FIRST", value), ("LAST", "end")]))
    assert error is None
    assert [(each.command, sorted(each.parameters)) for each in ran] == [("CB", ["FIRST", "LAST"])]
    assert ran[0].parameters["LAST"] == "end"


def test_a_value_without_tricks_is_quoted_and_the_same_for_all_klippers() -> None:
    script = gcode.command_line("ON_STATUS_UPDATE", [("PRINT_STATS_STATE", "printing")])
    assert script == Script.of("ON_STATUS_UPDATE PRINT_STATS_STATE='printing'")
    assert gcode.command_line("CB", []) == Script.of("CB")


@given(VALUES)
def test_a_word_stands_for_its_text_and_has_quotes_only_where_needed(text: str) -> None:
    outcome = Klipper("v0.13").run(f"CB A={gcode.word(text)}")
    assert [each.parameters for each in outcome.ran] == [{"A": text.replace("\n", " ")}]
    assert gcode.word("a.b-C_1:/+,") == "a.b-C_1:/+,"
    assert gcode.word("") == "''"


@given(st.lists(st.text(max_size=8), min_size=1, max_size=3))
@example([""])
@example(["1"])
@example(["²x"])
@example(["straße", "ı"])
def test_a_parameter_name_is_one_that_klipper_reads_as_the_first(parts: list[str]) -> None:
    name = gcode.parameter_name(*parts)
    assert re.fullmatch("[A-Z_][A-Z0-9_]*", name)
    for version in VERSIONS:
        outcome = Klipper(version).run(f"REC {name}='x'")
        assert [(each.command, each.parameters) for each in outcome.ran] == [("REC", {name: "x"})]


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("print_stats", "state"), "PRINT_STATS_STATE"),
        (("print_stats", "info.current_layer"), "PRINT_STATS_INFO_CURRENT_LAYER"),
        (("toolhead", "position.2"), "TOOLHEAD_POSITION_2"),
        (("gcode_macro my macro", "größe"), "GCODE_MACRO_MY_MACRO_GR_SSE"),
        (("3d", "x"), "_3D_X"),
        (("",), "_"),
    ],
)
def test_a_parameter_name_is_made_of_object_and_field(parts: tuple[str, ...], name: str) -> None:
    assert gcode.parameter_name(*parts) == name


@pytest.mark.parametrize(
    ("json_text", "text"),
    [
        (b'"a \\"b\\" \\u00e9"', 'a "b" é'),
        (b'""', ""),
        (b"true", "True"),
        (b"false", "False"),
        (b"null", "None"),
        (b"0.250", "0.250"),
        (b"-3", "-3"),
        (b'[1,"x"]', '[1,"x"]'),
        (b'{"a":null}', '{"a":null}'),
        ('["é"]'.encode(), '["é"]'),
    ],
)
def test_a_json_value_becomes_the_text_that_a_macro_expects(json_text: bytes, text: str) -> None:
    assert gcode.parameter_text(json_text) == text


@given(VALUES)
def test_a_json_text_becomes_exactly_itself(text: str) -> None:
    assert gcode.parameter_text(msgspec.json.encode(text)) == text


@pytest.mark.parametrize(
    ("line", "word", "end"),
    [
        ("FOO A=1", "FOO", 3),
        ("  \tfoo", "foo", 6),
        ("M117;x", "M117", 4),
        ("FOO", "FOO", 3),
        ("; FOO", "", 0),
        ("", "", 0),
    ],
)
def test_the_command_of_a_line_is_its_first_word(line: str, word: str, end: int) -> None:
    assert gcode.command_word(line) == (word, end)


@pytest.mark.parametrize("line", ["N5 M112", "n5M112", " N M112", "N=M112", "N", "N.5 FOO", "Né"])
def test_a_line_number_is_known_however_it_is_written(line: str) -> None:
    assert gcode.is_numbered(line)


@pytest.mark.parametrize("line", ["NEXT", "N_X", "nx", "FOO N5", "", "1N5"])
def test_a_command_is_not_taken_for_a_line_number(line: str) -> None:
    assert not gcode.is_numbered(line)


@given(st.text(st.sampled_from("GM1.9 _XıſßǰN１²"), min_size=1, max_size=6))
def test_no_command_that_klipper_reads_letter_by_letter_passes_for_an_extended_one(command: str) -> None:
    klipper = Klipper("v0.13")
    for each in klipper.run(command).ran:
        if is_traditional(each.command) and not gcode.is_numbered(command):
            assert gcode.is_traditional(gcode.command_word(command)[0])


NAMES = st.from_regex(r"[A-Za-z_]{1,3}[0-9]{0,2}[A-Za-z_]?", fullmatch=True) | st.text(LETTERS, max_size=5)


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=400)
@given(NAMES, VALUES)
def test_a_macros_name_is_one_whose_command_line_runs_that_macro_alone(version: Version, name: str, value: str) -> None:
    if not gcode.is_macro_name(name) or (version == "v0.12" and len(name) == 1):
        return  # v0.12 calls everything with parameters malformed whose name is one letter
    ran, error, _ = run_as_the_router_does(version, gcode.command_line(name, [("A", value)]))
    assert error is None
    assert [(each.command, [*each.parameters]) for each in ran] == [(name.upper(), ["A"])]


@pytest.mark.parametrize("name", ["ON_STATUS", "on_status", "_X", "REC2", "AB", "Load_T12"])
def test_a_name_that_klipper_can_call_is_a_macros_name(name: str) -> None:
    assert gcode.is_macro_name(name)


@pytest.mark.parametrize("name", ["", "G1", "M117", "g28", "REC2_X", "A B", "A;B", "A\nB", "é", "2X", "A=1", "N", "n"])
def test_a_name_that_klipper_would_read_otherwise_is_none(name: str) -> None:
    assert not gcode.is_macro_name(name)


def test_extended_commands_are_not_taken_for_traditional_ones() -> None:
    assert not gcode.is_traditional("SET_LED2")
    assert not gcode.is_traditional("T")
    assert not gcode.is_traditional("")
    assert gcode.is_traditional("g1")


def test_the_commands_that_take_text_are_known_in_any_case() -> None:
    assert [c for c in ("M117", "m118", "M23", "M1170", "M118.5", "ECHO") if gcode.takes_text(c)] == [
        "M117",
        "m118",
        "M23",
    ]


def test_after_a_refusal_only_the_lines_not_yet_run_are_left_in_the_plain_spelling() -> None:
    lines = [gcode.command_line("A", [("X", "1")]), gcode.command_line(" B", [("X", "#")]), Script.of("C")]
    script = Script("\n".join(line.exact for line in lines), "\n".join(line.plain for line in lines))
    assert script.after_malformed("Malformed command 'B X='#''") == " B X='_'\nC"


@pytest.mark.parametrize(
    "message",
    ["Malformed command 'C'", "Malformed command 'A X='1''", "Must home axis first", "", "Malformed command ''"],
)
def test_any_other_error_is_no_reason_to_run_a_script_again(message: str) -> None:
    script = Script("A X='1'\nB X='#'\nC", "A X='1'\nB X='_'\nC")
    assert script.after_malformed(message) is None


def test_what_a_user_wrote_is_never_spelt_otherwise() -> None:
    script = Script.of("B X='#'")
    assert script.exact == script.plain == "B X='#'"
    assert script.after_malformed("Malformed command 'B X='#''") is None
