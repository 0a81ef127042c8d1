"""A scenario's file, with the folder that it stands in.

Invariant: a plan whose steps and printers are what the file says, and can be shown; or a ConfigError that names the
file, and a line of it where one is at fault; nothing else, and soon.
Input: the first byte says which folder, that of a scenario with a router's configuration or without; the rest is
scenario.yaml.
"""

from __future__ import annotations

import atexit
import re
import tempfile
from pathlib import Path

from klipper_router.errors import ConfigError
from klipper_router.scenario import plan, schema

WORDS = (
    b"description: x\nsteps:\n",
    b"printers:\n- name: main\n",
    b"- name: worker\n  count: 3\n  config: led.cfg\n  append: '[gcode_macro ${name}]'\n",
    b"- gcode: {printer: main, script: G28}\n",
    b"- gcode:\n    printer: main\n    script: FOO\n    error: no\n",
    b"- wait: 2\n",
    b"- console: {printer: main, regex: '^ok'}\n",
    b"- silence: {printer: led, for: 2}\n",
    b"- status: {printer: main, object: toolhead, field: position.2, above: 1}\n",
    b"- command: {printer: led, text: M118}\n",
    b"- order:\n  - {printer: main, text: a}\n  - {printer: led, text: b}\n",
    b"- fault: {printer: main, type: kill, for: 3}\n",
    b"- state: {printer: main, state: ready}\n",
    b"- router: {printer: main, connected: true}\n",
    b"- call: {method: router/stats, result: {a: [1]}}\n",
    b"- stop: main\n",
    b"- start: [main, led]\n",
    b"- say: hello\n",
    b"speed: 10\n",
    b"timeout: 5\n",
    b"virtual_only: x\n",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!int ",
    b"!!float ",
    b"!!bool ",
    b"!!timestamp ",
    b"!!binary ",
    b"!!set ",
    b"\\ud800",
    b"\xff",
    b".inf",
    b"---\n",
)
LINES = True

_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-scenario-")
atexit.register(_FOLDER.cleanup)
FOLDERS = (Path(_FOLDER.name) / "with_router", Path(_FOLDER.name) / "without")
for _folder in FOLDERS:
    _folder.mkdir()
    for _name in ("main", "led"):
        (_folder / f"{_name}.cfg").write_text("[mcu]\nserial: /dev/virtual\n")
(FOLDERS[0] / "router.cfg").write_text("[klippy main]\nsock: main\n[klippy led]\nsock: led\n")

# What else is on this machine is nobody's business.
_ELSEWHERE = re.compile(rb"config[^\n]*[/\\]|config[^:]*$|\\x2f|\\u002f", re.MULTILINE)


def one_input(data: bytes) -> None:
    if not data or _ELSEWHERE.search(data):
        return
    folder = FOLDERS[data[0] % 2]
    file = folder / plan.SCENARIO_FILE
    file.write_bytes(data[1:])
    problem = None
    try:
        made = plan.load(folder)
    except ConfigError as error:
        problem = error
    if problem is None:
        check(made, data[1:])
        return
    assert Path(problem.file) == file
    assert problem.line <= len(data[1:].splitlines()) + 1
    assert str(problem).startswith(str(file))
    str(problem).encode()


def check(made: plan.Plan, text: bytes) -> None:
    assert made.printers
    for name, printer in made.printers.items():
        assert re.fullmatch(r"\w[\w-]*", name)
        assert printer.config.is_file()
    assert made.steps
    lines = text.splitlines()
    for step in made.steps:
        assert 0 < step.line <= len(lines)
        assert 0 <= step.timeout_s < float("inf")
        assert len(step.text) <= 150
        step.text.encode()
        for body, _ in schema.parts(step.body, ""):
            assert made.names(getattr(body, "printer", "")) or isinstance(body, schema.Call | schema.Wait | schema.Say)
