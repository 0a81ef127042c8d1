"""Scenarios as users run them: examples pass, a failure is told so that it can be mended, nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from klipper_router import cli, demo
from klipper_router.scenario import plan, run, schema, show

ROOT = Path(__file__).parents[2]
# Those below test/ are collected by our own pytest plugin.
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/scenario.yaml"))

PRINTER = """\
[mcu]
serial: /tmp/x
[printer]
kinematics: none
max_velocity: 100
max_accel: 1000
[gcode_macro HI]
gcode:
  {action_respond_info("hello from " ~ params.FROM|default("here"))}
[gcode_macro FAIL]
gcode:
  {action_raise_error("no luck")}
"""


@pytest.fixture
def own_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runs put their files: short, as sockets' paths are, and empty again afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="krt-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def scenario(folder: Path, steps: str, head: str = "") -> Path:
    for name in ("main", "led"):
        (folder / f"{name}.cfg").write_text(PRINTER)
    (folder / "scenario.yaml").write_text(f"description: a test\n{head}steps:\n{steps}")
    return folder


async def run_steps(folder: Path, steps: str, head: str = "timeout: 1\nspeed: 20\n") -> run.Result:
    return await run.run(plan.load(scenario(folder, steps, head)), run.Options(patience_s=0.3), show.Quiet())


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
async def test_every_example_shows_what_its_scenario_says(folder: Path) -> None:
    result = await run.run(plan.load(folder), run.Options(), show.Quiet())
    assert result.passed, show.failure(result)


def test_the_tool_passes_and_leaves_nothing_behind(own_temp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", str(ROOT / "test/print_stats"), "--speed", "20", "--consoles"]) == 0
    out = capsys.readouterr().out
    assert "led     // shows: printing (blue)" in out
    assert "passed: " in out
    assert not any(own_temp.iterdir())
    own_temp.rmdir()


def test_a_failure_is_told_with_its_line_and_what_came_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = "  - gcode: {printer: led, script: HI}\n  - console: {printer: led, text: goodbye}\n  - wait: 100\n"
    scenario(tmp_path, steps, "timeout: 1\n")
    assert cli.main(["test", str(tmp_path), "--junit", str(tmp_path / "out.xml")]) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path}/scenario.yaml:5: console led: 'goodbye'" in out
    assert "no such line came; led said since the last line that matched:" in out
    assert "      // hello from here\n" in out
    assert "states: led ready, main ready" in out
    assert re.search(r"INFO led: ready and registered", out)
    assert f"FAILED: {tmp_path}, 2 of 3 steps" in out
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()[0]
    assert suite.attrib["tests"] == "2"
    assert suite.attrib["failures"] == "1"
    assert "hello from here" in (suite[1][0].text or "")


def test_a_wrong_scenario_is_exit_code_2_and_starts_nothing(
    tmp_path: Path, own_temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario(tmp_path, "  - gcod: {}\n")
    assert cli.main(["test", str(tmp_path)]) == 2
    assert f"{tmp_path}/scenario.yaml:3: there is no step 'gcod', did you mean 'gcode'?" in capsys.readouterr().err
    own_temp.rmdir()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            "gcode: {printer: led, script: FAIL}",
            "led answered with an error: Error evaluating 'gcode_macro FAIL:gcode'",
        ),
        ("gcode: {printer: led, script: FAIL, error: other}", "led answered with another error: "),
        ("gcode: {printer: led, script: HI, error: any}", "led ran it without an error"),
        ("gcode: {printer: led, script: G4 P60000}", "the script did not end"),
        ("gcode: {printer: led, script: FAIL, background: true}\n  - wait: 1", "gcode led: FAIL (in the background): "),
        ("silence: {printer: led, text: Klipper state, for: 1}", "'// Klipper state: Ready' came; led said since"),
        ("status: {printer: led, object: toolhead, field: max_velocity, above: 200}", "is 100.0, wanted: above 200"),
        ("status: {printer: led, object: fan, field: speed, value: 1}", "led has no object fan (it is ready)"),
        ("status: {printer: led, object: webhooks, field: speed, value: 1}", 'has no field speed; it has {"state"'),
        ("command: {printer: led, text: HO}", "led ran no command since the last one that matched"),
        ("state: {printer: led, state: shutdown}", "led is ready: Printer is ready"),
        ("router: {printer: led, ready: false}", "it did not come about"),
        ("stop: led\n  - fault: {printer: led, type: stall}", "led does not run: `start` it first"),
        ("stop: led\n  - gcode: {printer: led, script: HI}", "it is not there now; wait by a step `state`"),
        ("call: {method: no/such}", "the router answered with an error: "),
        ("call: {method: info, error: any}", "the router answered without an error: {"),
        ("call: {method: info, result: {state: error}}", 'the router answered {"state":"ready"'),
        (
            "gcode: {printer: led, script: HI}\n  - order: [{printer: led, text: hello}, {printer: led, text: Go}]",
            "led 'Go' did not come after led '// hello",
        ),
    ],
)
async def test_each_step_says_why_it_failed(tmp_path: Path, step: str, message: str) -> None:
    result = await run_steps(tmp_path, f"  - {step}\n")
    assert result.failed is not None
    assert message in result.failed.message


async def test_each_step_sees_what_it_waits_for(tmp_path: Path) -> None:
    result = await run_steps(
        tmp_path,
        """\
  - console: {printer: "*", text: "Klipper state: Ready"}
  - gcode: {printer: [main, led], script: HI}
  - order: [{printer: led, text: hello}]
  - order: [{printer: main, text: hello}]
  - silence: {printer: "*", text: hello, for: 1}
  - command: {printer: led, regex: "^HI$"}
  - gcode: {printer: main, script: FAIL, error: no luck}
  - gcode: {printer: main, script: FAIL, error: no luck, background: true}
  - status: {printer: led, object: toolhead, field: position.0, value: 0}
  - gcode: {printer: led, script: G1 X7 F6000}
  - status: {printer: led, object: toolhead, field: position.0, above: 6, below: 8}
  - call: {method: router/gcode/script, params: {target: led, script: HI FROM=router}, result: {}}
  - console: {printer: led, regex: from router$}
  - call: {method: router/gcode/script, params: {target: nobody, script: HI}, error: nobody}
  - fault: {printer: led, type: shutdown, message: on purpose}
  - state: {printer: led, state: shutdown}
  - status: {printer: led, object: webhooks, field: state, value: shutdown}
  - router: {printer: led, connected: true, ready: false, state: shutdown}
  - fault: {printer: led, type: firmware_restart}
  - router: {printer: led, ready: true}
  - stop: led
  - router: {printer: led, connected: false, state: disconnected}
  - start: led
  - state: {printer: led, state: ready}
""",
        "timeout: 40\nspeed: 20\n",
    )
    assert result.passed, show.failure(result)


async def test_a_printer_that_does_not_start_is_told_in_klippers_words(tmp_path: Path) -> None:
    head = 'printers: [{name: main}, {name: led, append: "[fann]"}]\n'
    result = await run_steps(tmp_path, "  - wait: 1\n", head)
    assert not result.passed
    assert "led started into error: Section 'fann' is not a valid config section" in result.problem
    head = 'printers: [{name: main}, {name: led, append: "[fann]", state: error}]\n'
    result = await run_steps(tmp_path, "  - state: {printer: led, state: error}\n", head)
    assert result.passed, show.failure(result)


async def test_a_printer_may_come_later(tmp_path: Path) -> None:
    steps = "  - router: {printer: led, connected: false}\n  - start: led\n  - router: {printer: led, ready: true}\n"
    result = await run_steps(tmp_path, steps, "speed: 20\nprinters: [{name: main}, {name: led, start: false}]\n")
    assert result.passed, show.failure(result)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up(tmp_path: Path, own_temp: Path, number: signal.Signals) -> None:
    scenario(tmp_path, "  - wait: 1000\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "klipper_router", "test", str(tmp_path)],
        env=os.environ | {"TMPDIR": str(own_temp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not list(own_temp.glob("*/router.sock")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "interrupted: 0 of 1 scenarios were run" in err
    own_temp.rmdir()


def test_console_files_and_kept_files_are_for_other_tools(
    tmp_path: Path, own_temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario(tmp_path, "  - gcode: {printer: led, script: HI}\n  - console: {printer: led, text: hello}\n")
    assert cli.main(["test", str(tmp_path), "--console-dir", str(tmp_path / "out"), "--keep"]) == 0
    assert "// hello from here" in (tmp_path / "out" / "led.console").read_text()
    assert "led: ready and registered" in (tmp_path / "out" / "router.log").read_text()
    (kept,) = own_temp.iterdir()
    assert f"the files of this run are kept in {kept}" in capsys.readouterr().out
    assert (kept / "led.log").exists()


def test_scenarios_are_listed_with_their_printers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", "--list", str(ROOT / "test/print_stats")]) == 0
    assert capsys.readouterr().out == f"{ROOT / 'test/print_stats'}: main afc led\n"


def test_a_missing_klipper_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", str(ROOT / "test/print_stats"), "--klipper", str(tmp_path)]) == 2
    assert "--klipper is the directory of a Klipper checkout" in capsys.readouterr().err


def test_the_demo_tells_its_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(verbose=False, speed=10) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +\d+\.\d s  main    starts printing, asks afc for lane 1$", out, re.MULTILINE)
    shown = re.findall(r"led     shows: (\w+)", out)
    assert shown == ["standby", "printing", "complete"]
    assert "What to try next" in out


@pytest.mark.parametrize(
    ("python", "path", "expected"),
    [
        ("{here}/.venv-demo/bin/python", "/usr/bin", ".venv-demo/bin/klipper-router"),
        ("{here}/.venv-demo/bin/python", "{here}/.venv-demo/bin", "klipper-router"),
        ("{here}/a b/python", "/usr/bin", "'a b/python' -m klipper_router"),
    ],
)
def test_the_demo_names_itself_as_the_reader_can_type_it(
    python: str, path: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / ".venv-demo/bin/klipper-router"
    script.parent.mkdir(parents=True)
    script.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", python.format(here=tmp_path))
    monkeypatch.setenv("PATH", path.format(here=tmp_path))
    assert demo._program() == expected
    assert demo.OUTRO.replace("{program}", "").count("klipper-router") == 0


def test_a_reader_that_goes_away_is_no_crash(own_temp: Path) -> None:
    command = f"{sys.executable} -m klipper_router demo -v | head -n 9; echo code ${{PIPESTATUS[0]}}"
    environment = os.environ | {"TMPDIR": str(own_temp)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("code 1\n")
    assert done.stderr == ""
    own_temp.rmdir()


def test_pytest_collects_scenarios_and_tells_their_failures(tmp_path: Path) -> None:
    for name, text in (("good", "hello"), ("bad", "goodbye")):
        (tmp_path / name).mkdir()
        step = f"  - gcode: {{printer: led, script: HI}}\n  - console: {{printer: led, text: {text}}}\n"
        scenario(tmp_path / name, step, "timeout: 1\n")
    (tmp_path / "wrong").mkdir()
    scenario(tmp_path / "wrong", "  - gcod: {}\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "scenario.yaml").write_text("name: of another tool\nsteps: 1\n")
    plugin = "klipper_router.scenario.pytest_plugin"
    installed = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*installed, "-p", "no:klipper-router", "-p", plugin, "--continue-on-collection-errors", "-q", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"1 failed, 1 passed, 1 error", done.stdout), done.stdout + done.stderr
    assert "bad/scenario.yaml:5: console led: 'goodbye'" in done.stdout
    assert "wrong/scenario.yaml:3: there is no step 'gcod', did you mean 'gcode'?" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_pytest_plugin_loads_nothing_heavy_before_there_is_a_scenario() -> None:
    program = "import sys, klipper_router.scenario.pytest_plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"trio", "msgspec", "yaml", "jinja2", "klipper_router.virtual"} & set(loaded)


async def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text()
    main_cfg, led_cfg = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    (tmp_path / "router_api.cfg").write_text((ROOT / "includes" / "router_api.cfg").read_text())
    folder = tmp_path / "my_setup"
    folder.mkdir()
    (folder / "main.cfg").write_text(main_cfg)
    (folder / "led.cfg").write_text(led_cfg)
    steps = re.search(r"```yaml\n(# scenario.yaml.*?)```", text, re.DOTALL)
    assert steps is not None
    (folder / "scenario.yaml").write_text(steps[1])
    (folder / "cube.gcode").write_text("G4 P2000\nM400\n")
    result = await run.run(plan.load(folder), run.Options(), show.Quiet())
    assert result.passed, show.failure(result)


def test_every_key_and_step_of_the_schema_is_documented() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text()
    structs: set[type[msgspec.Struct]] = set(schema.STRUCTS.values())
    for struct in structs:
        for field in msgspec.structs.fields(struct):
            assert re.search(rf"\b{field.encode_name}\b", text), f"{struct.__name__}.{field.encode_name}"
