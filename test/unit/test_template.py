"""The G-code of event handlers: whatever a context holds, it never becomes a command or a further parameter.

The general proof fills a template twice, with harmless figures and with arbitrary values, and lets the model of
Klipper read both: the same commands must run with the same keys, and the values must be the given ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import HealthCheck, assume, example, given, settings, target
from hypothesis import strategies as st

from klipper_router.errors import CallError
from klipper_router.template import MAX_FILLED_CHARACTERS, MAX_GCODE_CHARACTERS, Template

from .harmless import in_one_line, prove_appended, prove_harmless, run_as_the_router_does
from .klipper_model import VERSIONS, Klipper, Version
from .nasty import NASTY, VALUES

WORDS = (
    *("FOO", "foo", "SET_X", "M117", "m118", "m118x", "M118.5", "M23", "G1", "M104", "N5", "N", "n", "T", "ßßßß"),
    *("ı1", "ſ1", "ÜB", "é", "G１", "STRASSE", "Straßenfußgröße", "FOO2", "REC2_X", "*", "/", "\x00"),
)
PIECES = (
    *(" ", " ", " ", "\t", "\r", "\x0b", "\xa0", "\u2028", "\n"),
    *(" A=", " B=", " C=", "=", "'", "'", '"', '"', "\\", "#", ";", "*", "_", "1", "-", ".5", "x", "*12"),
    *("{a}", "{a}", "{a}", "{b}", "{c d}", "{}", "{", "}"),
    *("='{a}'", '="{a}"', " A={a}", ' B="x {b} y"', " C='{a}{b}'", " X{a}", " S{b}", "\\{a}", '"\\{a}"'),
)
ANY_TEMPLATE = st.builds(
    lambda first, rest: first + "".join(rest),
    st.sampled_from([*WORDS, "", " ", "N5 FOO", "N1 M117", "  FOO"]),
    st.lists(st.sampled_from([*PIECES, *PIECES, *WORDS]), max_size=8),
)
WORD_PIECES = st.sampled_from(
    [*"'\"'\"'\"\\=#*;1x", "{a}", "{a}", "{a}", "{b}", " ", "\t", "\\\\", "'{a}'", '"{b}"', "ß"]
)
LIKELY_TEMPLATE = st.builds(
    lambda command, words: command + "".join(f" {key}={''.join(pieces)}" for key, pieces in words),
    st.sampled_from(["FOO", "set_x", "N5 FOO", "ßX", "FOO*x", "FOO2", "M117", "G1", "FOO A=1\nBAR"]),
    st.lists(st.tuples(st.sampled_from("ABC"), st.lists(WORD_PIECES, min_size=1, max_size=5)), max_size=4),
)
PAIRS = st.fixed_dictionaries({"a": VALUES, "b": VALUES})
FIGURES = st.from_regex(r"[+-]?[0-9]{1,4}(\.[0-9]{1,3})?", fullmatch=True)


def accepted(text: str) -> Template:
    """The template, when it is not refused when it is registered."""
    try:
        return Template(text)
    except CallError:
        assume(False)
        raise


@settings(max_examples=1000, suppress_health_check=[HealthCheck.filter_too_much])
@given(ANY_TEMPLATE | LIKELY_TEMPLATE, PAIRS, st.sampled_from(VERSIONS))
def test_no_value_in_any_template_adds_a_command_or_a_parameter(
    text: str, values: dict[str, str], version: Version
) -> None:
    template = accepted(text)
    target(float("{a}" in text))
    try:
        template.fill(values)
    except CallError:
        return  # refused when it is triggered: not a number where a number must stand
    prove_harmless(version, template, values)


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(ANY_TEMPLATE | LIKELY_TEMPLATE, st.fixed_dictionaries({"a": FIGURES, "b": FIGURES}), st.sampled_from(VERSIONS))
def test_figures_are_taken_by_every_template_and_add_nothing(
    text: str, values: dict[str, str], version: Version
) -> None:
    prove_harmless(version, accepted(text), values)


QUOTED_SLOT = st.sampled_from(
    ["{a}", "'{a}'", '"{a}"', "x{a}", "'x {a} y'", '"x {a} y"', "{a}{b}", "'{b}'\"{a}\"", '"\\\\{a}\\""']
)
WELL_FORMED = st.builds(
    lambda command, slots, comment: command + "".join(f" K{i}={slot}" for i, slot in enumerate(slots)) + comment,
    st.sampled_from(["CB", "cb", "  SET_LED2", "_X"]),
    st.lists(QUOTED_SLOT, min_size=1, max_size=4),
    st.sampled_from(["", " ", "\r", " # it's {a}", ' ; "{b}']),
)


@settings(max_examples=300)
@given(WELL_FORMED, PAIRS, st.sampled_from(VERSIONS))
def test_a_well_formed_handler_gets_its_values_exactly_or_plain(
    text: str, values: dict[str, str], version: Version
) -> None:
    template = Template(text)
    prove_harmless(version, template, values)
    ran, error, replaced = run_as_the_router_does(version, template.fill(values))
    assert len(ran) == 1
    assert error is None
    assert replaced is False or version == "v0.12"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize(
    "text",
    [
        "FOO A={a}",
        "FOO A='{a}' B={b}",
        'FOO A="{a}" B="1"',
        'foo A="x\\"{a}\\\\" B={b}',
        'FOO A={a}{b}\nBAR B="{a}"',
        "FOO",
        "FOO A=1 ; comment",
        "FOO A='x y' # it's a comment",
    ],
)
def test_each_known_trick_stays_one_value(version: Version, value: str, text: str) -> None:
    prove_harmless(version, Template(text), {"a": value, "b": value})


@given(
    st.sampled_from(["M117", "m117", "M118", "M23", " M117", "M117\t"]),
    st.sampled_from(["{a}", "x {a} y", "'{a}'", '"{a}', "; {a}", "# {a}", "\\{a}", "{a}{b}"]),
    PAIRS,
    st.sampled_from(VERSIONS),
)
@example("M117", "{a}", {"a": "\nM112", "b": ""}, "v0.13")
@example("M117", "{a}", {"a": "#*;'\"\\", "b": ""}, "v0.12")
def test_a_text_command_gets_the_text_as_it_is(
    command: str, text: str, values: dict[str, str], version: Version
) -> None:
    script = Template(f"{command} {text}").fill(values)
    assert script.exact == script.plain == f"{command} " + text.format(**in_one_line(values))
    outcome = Klipper(version).run(script.exact)
    assert outcome.error is None
    assert [ran.command for ran in outcome.ran] in ([command.strip().upper()], [])


@pytest.mark.parametrize("text", ["G1 X{a} Y{b}", "M104 S{a}", "m118x {a}", "M118.5 {a}", "M117x {a}", "T0 P={a}"])
@pytest.mark.parametrize("value", ["1 Y2", "1Y2", "1e5", "x", "", " ", "1\nM112", "0x1", "１", "nan", "1;", "1*5"])
def test_a_traditional_command_takes_numbers_only(text: str, value: str) -> None:
    with pytest.raises(CallError, match="takes a number"):
        Template(text).fill({"a": value, "b": value})


@pytest.mark.parametrize("value", ["1", "-1.5", "+.5", "007", "12.25"])
def test_a_traditional_command_gets_its_number(value: str) -> None:
    script = Template("M104 S{a} ; heat {b}").fill({"a": value})
    assert script.exact == script.plain == f"M104 S{value} ; heat {{b}}"
    for version in VERSIONS:
        assert [ran.parameters for ran in Klipper(version).run(script.exact).ran] == [{"M": "104", "S": value}]


@pytest.mark.parametrize(
    "text",
    [
        "{a}",
        "{a} X=1",
        "  {a}",
        "FOO{a}",
        "FOO\n{a}",
        "FOO\nBAR{a} X=1",
        "M117{a}",
        "FOO'{a}'",
        "FOO={a}",
    ],
)
def test_a_placeholder_is_refused_as_a_command(text: str) -> None:
    with pytest.raises(CallError, match="place of a command"):
        Template(text)


@pytest.mark.parametrize(
    "text",
    ["FOO {a}", "FOO {a}=1", "FOO A=1 {a}", "FOO A=1\r{a}", "FOO A=1\t{a}", "FOO '{a}'", "FOO A{a}=1", 'FOO "x={a}"'],
)
def test_a_placeholder_is_refused_where_it_would_be_a_parameters_name(text: str) -> None:
    with pytest.raises(CallError, match=r"must be a parameter's value, as in KEY=\{a\}"):
        Template(text)


@pytest.mark.parametrize("text", ["FOO A=\\{a}", 'FOO A="\\{a}"', 'FOO A="x\\{a}" B=1', "FOO A='x'\\{a}"])
def test_a_placeholder_is_refused_behind_a_backslash_that_would_open_its_quotes(text: str) -> None:
    with pytest.raises(CallError, match="stands after a backslash"):
        Template(text)


@pytest.mark.parametrize("text", ["FOO A='\\{a}'", "FOO A=\\\\{a}", 'FOO A="\\\\{a}"', "FOO A=\\#{a}", "FOO A=\\'{a}"])
@pytest.mark.parametrize("value", NASTY)
def test_a_backslash_that_stands_for_itself_is_no_obstacle(text: str, value: str) -> None:
    prove_harmless("v0.13", Template(text), {"a": value, "b": ""})


@pytest.mark.parametrize("text", ["N5 FOO A={a}", "N ={a}", "N5 M104 S{a}", "n1 M117 {a}", "N.5 G1 X={a}", "N={a}"])
def test_a_placeholder_is_refused_behind_a_line_number(text: str) -> None:
    with pytest.raises(CallError, match="line number"):
        Template(text)


@pytest.mark.parametrize(
    "text",
    ["FOO A='{a}", 'FOO A="{a}', 'FOO A="x', "FOO A='x", "FOO A={a} B=\\", "FOO A=\\", "FOO A=\\ ", 'FOO A="{a}\\"'],
)
def test_a_line_that_klipper_cannot_end_is_refused(text: str) -> None:
    with pytest.raises(CallError, match="quote is not closed, or nothing follows"):
        Template(text)


@pytest.mark.parametrize("text", ["\u06d0", "ÄÖ", "FOO.BAR"])
def test_nothing_is_appended_where_klipper_would_read_it_into_the_name(text: str) -> None:
    assert Template(text).fill({"a": "1"}).exact == text
    assert Template("FOO\u06d0").fill({"a": "1"}).exact == "FOO\u06d0 A='1'"


@pytest.mark.parametrize("text", ["ßßßß A={a}", "ßßßß", "Schließgefäß A='{a}'"])
def test_a_name_that_gets_longer_in_capitals_is_refused_with_the_capitals(text: str) -> None:
    with pytest.raises(CallError, match=r"as Klipper knows it: (SSSSSSSS|SCHLIESSGEFÄSS)"):
        Template(text)


@pytest.mark.parametrize(
    "text",
    [
        "FOO A=1 # {a}",
        "FOO A=1 ; {a}",
        "; {a}",
        "# {a} it's",
        "G1 X1 ; {a}",
        "FOO A='{c d}' B={} C={1}",
        "N5 FOO # {a}",
        "G28\nFOO A=1",
        "M117 hello",
        "N5 FOO",
        "",
    ],
)
def test_what_is_no_placeholder_is_left_alone(text: str) -> None:
    script = Template(text + "\n").fill({"a": "x"})
    assert script.exact == script.plain == text + "\n"


@pytest.mark.parametrize(
    "text", ["G28", "M117 hello", "N5 FOO", "N FOO", "FOO\nBAR", "; FOO", "# FOO", "", "ı1", "G１"]
)
def test_a_context_is_not_appended_where_it_would_not_be_parameters(text: str) -> None:
    assert Template(text).fill({"a": "x"}).exact == text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_context_never_becomes_the_command_of_a_line_that_is_only_a_comment(version: Version) -> None:
    script = Template("# nothing yet").fill({"N": "M112 x"})
    assert Klipper(version).run(script.exact).ran == []


def test_a_handler_without_placeholders_gets_the_context_as_parameters() -> None:
    script = Template("  LOAD_LANE FAST=1  # quick").fill({"lane": "1", "my note": "a#b\nc"})
    assert script.exact == "  LOAD_LANE FAST=1 LANE='1' MY_NOTE='a#b c'"
    assert script.plain == "  LOAD_LANE FAST=1 LANE='1' MY_NOTE='a_b c'"
    assert Template("FOO # {a}").fill({"a": "1"}).exact == "FOO A='1'"


@settings(max_examples=300)
@given(
    st.sampled_from(["FOO", "foo A=1", "  FOO A='x y' ", "FOO A=1;c", 'FOO A="\\"" # it\'s', "FOO\r", "_X\t"]),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    st.sampled_from(VERSIONS),
)
def test_an_appended_context_adds_its_keys_and_nothing_else(
    text: str, context: dict[str, str], version: Version
) -> None:
    assert len(prove_appended(version, Template(text), context)) == 1


def test_an_unquoted_value_gets_quotes_only_where_it_needs_them() -> None:
    template = Template("FOO A={a} B='{a}' C=\"{a}\"")
    assert template.fill({"a": "12"}).exact == "FOO A=12 B='12' C=\"12\""
    assert template.fill({"a": 'x"\\y'}).exact == 'FOO A=\'x"\\y\' B=\'x"\\y\' C="x\\"\\\\y"'
    assert template.fill({"a": "#"}).plain == "FOO A=_ B='_' C=\"_\""


def test_a_key_that_the_context_lacks_is_named_with_those_that_it_has() -> None:
    template = Template("FOO A={lane} B={length}")
    with pytest.raises(CallError, match=r"needs \{length\}, the context holds lane, x"):
        template.fill({"lane": "1", "x": "2"})
    with pytest.raises(CallError, match=r"needs \{lane\}, the context holds nothing"):
        template.fill({})


def test_an_error_about_a_value_names_its_placeholder() -> None:
    with pytest.raises(CallError, match=r"\{temp\}: a traditional G-code takes a number, not 'hot'"):
        Template("M104 S{temp}").fill({"temp": "hot"})


# -- length --------------------------------------------------------------------------------------------------------


def test_a_gcode_over_the_limit_is_refused_with_its_length_and_the_limit() -> None:
    longest = "DO A='".ljust(MAX_GCODE_CHARACTERS - 1, "x") + "'"
    assert Template(longest).fill({}).exact == longest
    with pytest.raises(CallError, match=f"gcode of {MAX_GCODE_CHARACTERS + 1} characters is too long, 16000 are"):
        Template(longest + ";")


def test_thousands_of_placeholders_are_filled_each() -> None:
    line = "DO" + " A={a}" * 2600
    assert len(line) <= MAX_GCODE_CHARACTERS
    assert Template(line).fill({"a": "1"}).exact == "DO" + " A=1" * 2600


def calls_made_by(act: Callable[[], object]) -> int:
    """How many functions were called, or generators resumed: a measure of work that no clock disturbs."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "piece",
    [
        " A={a}",
        " A='{a}'",
        "\nDO A={a}",
        "\nM117 {a}",
        "\nG1 X{a}",
        "\n# {a}",
        " {1}",
        " \\\\",
        ' ""',
        "{{a:1}}=",
        "\n",
        " ",
    ],
)
def test_a_handler_is_read_in_steps_that_grow_no_faster_than_its_length(piece: str) -> None:
    few, many = (calls_made_by(lambda count=count: Template("DO B=" + piece * count)) for count in (100, 1600))  # type: ignore[misc]
    assert many <= 16 * few + 16


@pytest.mark.parametrize("text", ["DO" + " A={a}" * 2600, "M117 {a} {a}", "DO A='{a}{a}'"])
def test_a_long_value_in_many_placeholders_is_refused_before_it_fills_the_memory(text: str) -> None:
    with pytest.raises(CallError, match=f"too long, {MAX_FILLED_CHARACTERS} characters are the most"):
        Template(text).fill({"a": "x" * (MAX_FILLED_CHARACTERS // 2 + 1)})
