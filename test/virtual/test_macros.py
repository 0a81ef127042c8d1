"""Macros, delayed G-code, remote methods: what macro authors rely on."""

from __future__ import annotations

import pytest

from test.virtual.rig import BASE, virtual_klippy

MACROS = (
    BASE
    + """
[save_variables]
filename: {folder}/vars

[gcode_macro CALL]
gcode:
  G4 P2000
  {action_call_remote_method("test/method", value=params.VALUE|default("none"), fixed=1)}

[gcode_macro CALL_UNDEFINED]
gcode:
  {action_call_remote_method("test/method", value=params.NOPE)}

[gcode_macro NEST]
gcode:
  NEST

[gcode_macro FAIL]
gcode:
  M118 never
  {action_raise_error("no way")}

[gcode_macro STOP]
gcode:
  {action_emergency_stop("reasons")}

[gcode_macro TELL]
variable_number: 3
variable_map: {"x": [1, 2]}
gcode:
  {% set w = printer.webhooks %}
  M118 {number} {map.x[1]} {rawparams} {w.state} {'toolhead' in printer} {'nope' in printer}
  {action_respond_info("told")}

[gcode_macro M400]
rename_existing: M400.1
gcode:
  M118 waiting
  M400.1

[gcode_macro LATER]
gcode:
  UPDATE_DELAYED_GCODE ID=once DURATION={params.IN}

[delayed_gcode once]
gcode:
  M118 once

[delayed_gcode first]
initial_duration: 0.5
gcode:
  M118 first

[gcode_macro COUNT]
variable_n: 0
gcode:
  SET_GCODE_VARIABLE MACRO=COUNT VARIABLE=n VALUE={n + 1}
  M118 count {n}

[delayed_gcode repeat]
gcode:
  COUNT
  {% if printer["gcode_macro COUNT"].n < 3 %}
  UPDATE_DELAYED_GCODE ID=repeat DURATION=1
  {% endif %}
"""
)


async def test_a_macro_sees_its_variables_parameters_and_the_printer() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.api.script("tell A=1 b='2 3'")
        assert list(rig.klippy.console)[-2:] == ["// told", "echo: 3 2 A=1 b='2 3' ready True False"]


async def test_variables_are_set_as_literals_and_are_part_of_the_status() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.api.script("SET_GCODE_VARIABLE MACRO=TELL VARIABLE=number VALUE=\"[1, 'two', None, True]\"")
        assert (await rig.api.query("gcode_macro TELL", "number"))["number"] == [1, "two", None, True]
        line = "SET_GCODE_VARIABLE MACRO=TELL VARIABLE=number VALUE=word"
        message = await rig.api.error("gcode/script", {"script": line})
        assert message.startswith("Unable to parse 'word' as a literal: malformed node")
        assert message.endswith(f"in '{line}'")
        line = "SET_GCODE_VARIABLE MACRO=TELL VARIABLE=none VALUE=1"
        assert await rig.api.error("gcode/script", {"script": line}) == "Unknown gcode_macro variable 'none'"


async def test_a_macro_that_calls_itself_is_an_error() -> None:
    async with virtual_klippy(MACROS) as rig:
        assert await rig.api.error("gcode/script", {"script": "NEST"}) == "Macro NEST called recursively"


async def test_a_raised_error_is_wrapped_and_no_line_of_the_macro_runs() -> None:
    async with virtual_klippy(MACROS) as rig:
        message = await rig.api.error("gcode/script", {"script": "FAIL"})
        assert message == "Error evaluating 'gcode_macro FAIL:gcode': gcode.CommandError: no way\n"
        assert rig.klippy.console[-1] == f"!! {message.strip()}"
        assert "echo: never" not in rig.klippy.console


async def test_an_emergency_stop_in_a_macro_shuts_down() -> None:
    async with virtual_klippy(MACROS) as rig:
        # Even the empty lines of the rest of the macro are refused then.
        assert (await rig.api.error("gcode/script", {"script": "STOP"})).startswith("Shutdown due to reasons\n")
        assert rig.klippy.state == "shutdown"
        assert rig.klippy.state_message.startswith("Shutdown due to reasons\nOnce the underlying issue")


async def test_a_renamed_command_stays_callable() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.api.script("M400")
        assert rig.klippy.console[-1] == "echo: waiting"
        assert (await rig.api.call("gcode/help"))["M400.1"] == "Renamed builtin of 'M400'"


async def test_initial_delayed_gcode_runs_after_ready() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.wait_console("echo: first")
        assert list(rig.klippy.console).index("// Klipper state: Ready") == 0


async def test_delayed_gcode_is_armed_cancelled_and_repeats_itself() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.api.script("LATER IN=0.2")
        await rig.wait_console("echo: once")
        mark = rig.klippy.console_mark
        await rig.api.script("LATER IN=2\nLATER IN=0\nUPDATE_DELAYED_GCODE ID=repeat DURATION=1")
        await rig.wait_console("echo: count 3")
        assert "echo: once" not in list(rig.klippy.console)[mark:]
        message = await rig.api.error("gcode/script", {"script": "UPDATE_DELAYED_GCODE ID=nope DURATION=1"})
        assert message.startswith("The value 'nope' is not valid for ID")


async def test_saved_variables_survive_a_restart() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.api.script("SAVE_VARIABLE VARIABLE=list VALUE=\"['a', {'b': 2}]\"")
        expected = {"variables": {"list": ["a", {"b": 2}]}}
        assert await rig.api.query("save_variables") == expected
        await rig.api.send("gcode/restart")
        await rig.api.end()
        await rig.wait_state("ready")
        assert await (await rig.connect()).query("save_variables") == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SAVE_VARIABLE VARIABLE=A VALUE=1", "VARIABLE must not contain upper case"),
        ("SAVE_VARIABLE VARIABLE=a VALUE=word", "Unable to parse 'word' as a literal"),
        ("RESPOND TYPE=nope", "RESPOND TYPE 'nope' is invalid. Must be one of 'echo', 'command', or 'error'"),
    ],
)
async def test_wrong_values_are_errors(line: str, message: str) -> None:
    async with virtual_klippy(MACROS) as rig:
        assert await rig.api.error("gcode/script", {"script": line}) == message


async def test_a_handler_that_fails_unexpectedly_shuts_the_printer_down() -> None:
    async with virtual_klippy(MACROS) as rig:
        # Klipper catches only ValueError here; a SyntaxError gets through.
        await rig.api.error("gcode/script", {"script": "SAVE_VARIABLE VARIABLE=a VALUE='[1,'"})
        assert rig.klippy.state_message.startswith('Internal error on command:"SAVE_VARIABLE"\nOnce')


# Remote methods


async def test_a_remote_call_comes_when_the_macro_is_rendered_before_any_of_its_lines() -> None:
    async with virtual_klippy(MACROS, speed=1.0) as rig:
        await rig.api.call("register_remote_method", {"remote_method": "test/method", "response_template": {"m": 1}})
        script = await rig.api.send("gcode/script", {"script": "CALL VALUE='a b'"})
        assert await rig.api.note() == {"params": {"value": "a b", "fixed": 1}, "m": 1}
        assert script not in rig.api.answers


async def test_the_template_wins_over_the_parameters() -> None:
    async with virtual_klippy(MACROS) as rig:
        template = {"method": "x", "params": "mine"}
        await rig.api.call("register_remote_method", {"remote_method": "test/method", "response_template": template})
        await rig.api.script("CALL")
        assert await rig.api.note() == template


async def test_a_remote_call_goes_to_every_connection_and_again_replaces_the_template() -> None:
    async with virtual_klippy(MACROS) as rig:
        other = await rig.connect()
        for api, number in ((rig.api, 1), (other, 2), (rig.api, 3)):
            await api.call(
                "register_remote_method", {"remote_method": "test/method", "response_template": {"n": number}}
            )
        await rig.api.script("CALL")
        assert (await rig.api.note())["n"] == 3
        assert (await other.note())["n"] == 2
        assert len(rig.api.notes) == 1


async def test_an_unregistered_or_abandoned_method_is_silent() -> None:
    async with virtual_klippy(MACROS, log=True) as rig:
        console = list(rig.klippy.console)
        await rig.api.script("CALL")
        assert [line for line in list(rig.klippy.console)[len(console) :] if line != "echo: first"] == []
        assert "Remote method 'test/method' not registered" in (rig.folder / "log").read_text()


async def test_an_undefined_value_to_a_registered_method_shuts_the_printer_down() -> None:
    async with virtual_klippy(MACROS) as rig:
        await rig.api.script("CALL_UNDEFINED")  # nobody listens: nothing is encoded
        assert rig.klippy.state_message == "Printer is ready"
        await rig.api.call("register_remote_method", {"remote_method": "test/method", "response_template": {}})
        await rig.api.error("gcode/script", {"script": "CALL_UNDEFINED"})
        assert rig.klippy.state_message.startswith("json encoding error: ")
        assert rig.klippy.state == "shutdown"


async def test_methods_registered_during_startup_stay_into_ready() -> None:
    async with virtual_klippy(MACROS, ready=False) as rig:
        await rig.api.call("register_remote_method", {"remote_method": "test/method", "response_template": {"m": 1}})
        await rig.wait_state("ready")
        await rig.api.script("CALL")
        assert (await rig.api.note())["m"] == 1
