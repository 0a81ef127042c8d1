"""What scenario.yaml may say, what is said of a wrong one, and what a folder becomes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings, strategies

from klipper_router.errors import ConfigError
from klipper_router.scenario import plan, printers, schema, show, steps
from klipper_router.scenario.document import Document
from klipper_router.scenario.run import Result, StepResult
from klipper_router.virtual import config_file

PRINTER = "[mcu]\nserial: /tmp/x\n[printer]\nkinematics: none\nmax_velocity: 1\nmax_accel: 1\n"


def folder_of(tmp_path: Path, scenario: str, *names: str) -> Path:
    for name in names or ("main",):
        (tmp_path / f"{name}.cfg").write_text(PRINTER)
    (tmp_path / "scenario.yaml").write_text(scenario)
    return tmp_path


def load_step(tmp_path: Path, step: str, *names: str) -> plan.PlannedStep:
    return plan.load(folder_of(tmp_path, f"description: x\nsteps:\n  - {step}\n", *names)).steps[0]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("gcod: {script: HI}", "there is no step 'gcod', did you mean 'gcode'?"),
        ("gcode: {scritp: HI}", "gcode has no key 'scritp', did you mean 'script'?"),
        ("gcode: {script: 12}", "'script': expected text, got number. Put it in quotes"),
        ("gcode: {}", "gcode lacks 'script'"),
        ("wait 2", "a step is a map with one key, such as `- wait: 2`"),
        ("wait: -1", "wait: a time is a number of seconds, not below 0"),
        ("wait: .nan", "'wait': expected number, got text"),
        ("wait: soon", "'wait': expected number, got text"),
        ("console: {}", "console: needs text or regex"),
        ("console: {printer: mian, text: a}", "there is no printer 'mian', did you mean 'main'?"),
        ("console: {text: a, regex: b}", "console: takes text or regex, not both"),
        ('console: {regex: "("}', "console: the regex is wrong: missing ), unterminated subpattern at position 0"),
        ("status: {object: a, field: b}", "status: needs either value, or above, below or both"),
        ("status: {object: a, field: b, value: 1, above: 1}", "status: needs either value, or above, below or both"),
        ("fault: {type: stal}", "'type': there is no type 'stal', did you mean 'stall'?"),
        ("fault: {type: restart, for: 3}", "fault: 'for' belongs to kill, stall and refuse, not to restart"),
        ("fault: {type: stall, message: x}", "fault: 'message' belongs to shutdown, not to stall"),
        ("state: {state: x}", "'state': there is no state 'x', known are: startup, ready, shutdown, error"),
        (
            "router: {state: gone}",
            "'state': there is no state 'gone', known are: startup, ready, shutdown, error, disconnected",
        ),
        ("state: ready", "'state': expected map, got text"),
        ("[wait: 1]", "a step is a map with one key, such as `- wait: 2`"),
        ("order: [{text: a}, {txt: b}]", "order has no key 'txt', did you mean 'text'?"),
        ("order: [{text: a}, {printer: x, text: b}]", "there is no printer 'x', did you mean 'main'?"),
        ("silence: {text: a}", "silence lacks 'for'"),
        ("router: {printer: main}", "router: needs connected, ready or state"),
        ("call: {method: x, params: [1]}", "'params': expected map, got list"),
        ("call: {method: x, result: 1, error: y}", "call: takes result or error, not both"),
        ("stop: mn", "there is no printer 'mn', did you mean 'main'?"),
        ("{wait: 1, say: x}", "a step is a map with one key, this one has wait and say"),
        ("{}", "a step is a map with one key, this one has nothing"),
    ],
)
def test_a_wrong_step_is_told_with_file_line_and_mend(tmp_path: Path, step: str, error: str) -> None:
    with pytest.raises(ConfigError) as info:
        load_step(tmp_path, step)
    assert str(info.value) == f"{tmp_path / 'scenario.yaml'}:3: {error}"


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("", 1, "the scenario lacks 'description'"),
        ("- wait: 1", 1, "a scenario is a map, with description and steps"),
        ("description: x\nsteps: {}\n", 2, "'steps': expected list, got map"),
        (
            "description: x\nprinters:\n- {name: main, state: redy}\n",
            3,
            "'state': there is no state 'redy', did you mean 'ready'?",
        ),
        ("description: x\nsteps: []\n", 2, "'steps' is empty: what is to be seen?"),
        ("description: x\nspeed: 0\nsteps: [{wait: 1}]", 2, "'speed' is a number above 0"),
        ("description: x\nspeed: fast\nsteps: 1", 2, "'speed': expected number, got text"),
        ("steps: []\ndescription: x\nsteps: []", 3, "'steps' is here twice. Remove one"),
        ("description: x\nstep: []", 2, "a scenario has no key 'step', did you mean 'steps'?"),
        ("description: x\nprinters:\n- {nam: a}\n", 3, "a printer has no key 'nam', did you mean 'name'?"),
        ("description: x\nsteps: [\n", 3, "this is not YAML: expected the node content, but found '<stream end>'"),
        (
            "description: x\nprinters: [{name: a/b, config: main.cfg}]\nsteps: [wait: 1]",
            2,
            "'a/b' is no name of a printer: letters, digits, _ and -",
        ),
        (
            "description: x\nprinters: [{name: a, config: main.cfg, count: 0}]\nsteps: [wait: 1]",
            2,
            "'count' is a number from 1 to 200",
        ),
    ],
)
def test_a_wrong_scenario_is_told_with_file_line_and_mend(tmp_path: Path, text: str, line: int, error: str) -> None:
    with pytest.raises(ConfigError) as info:
        plan.load(folder_of(tmp_path, text))
    assert str(info.value) == f"{tmp_path / 'scenario.yaml'}:{line}: {error}"


@pytest.mark.parametrize(
    ("step", "timeout_s"),
    [
        ("console: {text: a}", 60),
        ("console: {text: a, timeout: 5}", 5),
        ("wait: 100", 160),
        ("silence: {for: 100}", 160),
    ],
)
def test_a_step_has_its_own_time_and_the_scenarios(tmp_path: Path, step: str, timeout_s: float) -> None:
    assert load_step(tmp_path, step).timeout_s == timeout_s


TREES = strategies.recursive(
    strategies.sampled_from(["", "main", "a", "(", "ready", 1, -1.5, None, True, "*"]),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(
            strategies.sampled_from(
                [name for struct in schema.STRUCTS.values() for name in struct.__struct_encode_fields__]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(TREES, TREES)
def test_whatever_is_written_is_a_scenario_or_a_told_error(
    tmp_path_factory: pytest.TempPathFactory, step: object, some_printers: object
) -> None:
    folder = tmp_path_factory.mktemp("s")
    for whole in (
        {"description": "x", "steps": [step]},
        {"description": "x", "steps": [step], "printers": some_printers},
        step,
    ):
        told = f"{folder / 'scenario.yaml'}:1: "
        try:
            plan.load(folder_of(folder, json.dumps(whole)))
        except ConfigError as error:
            told = str(error)
        assert told.startswith(f"{folder / 'scenario.yaml'}:1: ")


def test_a_step_must_say_which_of_several_printers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":3: console: which 'printer'\? There are led, main"):
        load_step(tmp_path, "console: {text: a}", "main", "led")


def test_only_true_and_false_are_truth_values_and_dates_are_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: [yes, off, true, 2026-01-01, 1:30, 12, -1.5, 1e3, ~, null, 0x10, '12']")
    assert Document(file).value == {
        "a": ["yes", "off", True, "2026-01-01", "1:30", 12, -1.5, 1000.0, None, None, "0x10", "12"]
    }


def test_printers_are_those_of_the_router_configuration_or_every_cfg(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "description: x\nsteps: [wait: 1]", "main", "led", "extra")
    assert list(plan.load(folder).printers) == ["extra", "led", "main"]
    (folder / "router.cfg").write_text("[klippy main]\nsock: ~/m\non_connect: M118 hi\n[klippy led]\nsock: /tmp/l\n")
    loaded = plan.load(folder)
    assert list(loaded.printers) == ["main", "led"]
    assert loaded.router.klippy["main"].on_connect == "M118 hi"


def test_a_printer_of_the_router_configuration_without_a_file_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "description: x\nsteps: [wait: 1]")
    (folder / "router.cfg").write_text("[klippy main]\nsock: /tmp/m\n[klippy led]\nsock: /tmp/l\n")
    with pytest.raises(ConfigError, match=r"the printer led has no configuration: there is no .*led\.cfg"):
        plan.load(folder)


COUNTED = """\
description: x
printers:
  - {name: main}
  - {name: worker, config: main.cfg, count: 12, append: "[x]\\na: ${name} ${number}"}
steps:
  - console: {printer: "worker1*", text: a}
  - console: {printer: [main, worker2], text: a}
"""


def test_one_configuration_makes_many_printers_and_a_pattern_names_them(tmp_path: Path) -> None:
    loaded = plan.load(folder_of(tmp_path, COUNTED))
    assert list(loaded.printers) == ["main", *(f"worker{number}" for number in range(1, 13))]
    assert loaded.printers["worker12"].append == "[x]\na: worker12 12"
    assert loaded.names("worker1*") == ["worker1", "worker10", "worker11", "worker12"]
    assert loaded.names(["main", "worker2"]) == ["main", "worker2"]


def test_folders_are_found_below_and_one_without_a_scenario_is_told(tmp_path: Path) -> None:
    for name in ("b", "a/c"):
        (tmp_path / name).mkdir(parents=True)
        folder_of(tmp_path / name, "description: x\nsteps: [wait: 1]")
    assert plan.find([tmp_path]) == [tmp_path / "a/c", tmp_path / "b"]
    assert plan.find([tmp_path / "b/scenario.yaml", tmp_path]) == [tmp_path / "b", tmp_path / "a/c"]
    (tmp_path / "d").mkdir()
    with pytest.raises(ConfigError, match=r"there is no scenario\.yaml in it or below it"):
        plan.find([tmp_path / "d"])


def test_a_printer_runs_on_its_file_with_places_overridden(tmp_path: Path) -> None:
    saved = config_file.SAVE_CONFIG_MARK + "#*# [extruder]\n#*# a = 1\n"
    (tmp_path / "main.cfg").write_text(
        PRINTER + "[mcu two]\nserial: /tmp/y\n[virtual_sdcard]\npath: x\n[save_variables]\nfilename: v.txt\n" + saved
    )
    (tmp_path / "v.txt").write_text("kept")
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    planned = plan.PlannedPrinter("main", tmp_path / "main.cfg", "[more]", True, "ready")
    file, mcus = printers.write_config(planned, run_folder, tmp_path, real=True)
    text = file.read_text()
    assert mcus == ["mcu", "mcu two"]
    assert text.startswith(f"[include {tmp_path / 'main.cfg'}]\n[virtual_sdcard]\npath: {tmp_path}\n")
    assert f"[mcu two]\nserial: {run_folder / 'main.mcu.two'}\nrestart_method: command\n" in text
    assert "[more]" in text
    assert "#*# [extruder]\n#*# a = 1\n" in text
    assert (run_folder / "main.variables").read_text() == "kept"


@pytest.mark.parametrize(
    ("line", "matches"),
    [
        (schema.Line(text="a (b"), True),
        (schema.Line(text="A (b"), False),
        (schema.Line(regex=r"^// a \(b\)$"), True),
        (schema.Line(regex=r"^a"), False),
        (schema.Silence(for_s=1), True),
    ],
)
def test_text_is_contained_and_a_regex_is_found(line: schema.Line, matches: bool) -> None:
    assert line.matches("// a (b)") is matches


@pytest.mark.parametrize(
    ("wanted", "value", "holds"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}, True),
        ({"a": None}, {}, False),
        ([1], [1, 2], False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
        (1, 1.0, True),
        ("1", 1, False),
        ({}, [], False),
    ],
)
def test_an_answer_may_hold_more_than_is_wanted(wanted: object, value: object, holds: bool) -> None:
    assert steps.holds(wanted, value) is holds


def test_junit_has_a_case_for_each_step_with_its_failure(tmp_path: Path) -> None:
    loaded = plan.load(folder_of(tmp_path, "description: x\nsteps:\n- wait: 1\n- say: <b>\n- console: {text: a}\n"))
    outcomes = [("passed", ""), ("skipped", "no \x1b[1m"), ("failed", "first\nsecond & \x00")]
    results = [
        StepResult(step, outcome, 0.5, message) for step, (outcome, message) in zip(loaded.steps, outcomes, strict=True)
    ]
    file = tmp_path / "out.xml"
    show.junit([Result(loaded, results, seconds=2.0), Result(loaded, problem="did not start")]).write(file)
    suites = list(ElementTree.parse(file).getroot())
    assert [suite.attrib | {"name": ""} for suite in suites] == [
        {"name": "", "tests": "3", "failures": "1", "errors": "0", "skipped": "1", "time": "2.000"},
        {"name": "", "tests": "1", "failures": "1", "errors": "0", "skipped": "0", "time": "0.000"},
    ]
    passed, skipped, failed = list(suites[0])
    assert passed.attrib["name"] == "1: wait 1 s"
    assert passed.attrib["line"] == "3"
    assert skipped[0].attrib["message"] == "no \ufffd[1m"
    assert failed[0].attrib["message"] == "first"
    assert failed[0].text == "first\nsecond & \ufffd"
    assert suites[1][0][0].text == "did not start"
