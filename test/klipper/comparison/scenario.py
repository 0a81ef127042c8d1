"""What is played: files of scenarios, as data.

A step is a G-code script (a plain text) or a mapping with one of these keys:

    gcode: SCRIPT              a script, with `via: CONNECTION` for another connection than "main"; with
                               `until: PATTERN` what it sets going is awaited too
    call: METHOD               one request, `params: {...}`; its answer is awaited
    frame: TEXT                these bytes and the end of a frame, as they are
    begin: NAME                as `call` (keys `method`, `params`), but nobody waits for the answer
    finish: [NAME, ...]        wait for the answers to these; they are shown in the order they came
    until: PATTERN             wait for a console line
    update: {object: {...}}    wait for a status update that holds these values
    reached: {object: {...}}   wait until a query says so (on a connection of its own)
    listed: OBJECT             wait until objects/list names it
    open: NAME                 one more connection
    close: NAME
    type: LINE                 on the serial console; the lines up to its "ok" are shown
    lose_mcu: true
    eof: true                  wait for the end of the connection
    state: STATE               wait until `info` says so, then connect anew ("settled": any but startup)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
VERSIONS = ("v0.13", "v0.12")


@dataclass(frozen=True)
class Step:
    label: str
    kind: str
    value: Any
    options: dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """`printer` names a file of `printers`; `{macros}` stands for what is added to it, `{folder}` for its folder."""

    file: str
    name: str
    printer: str
    macros: str
    steps: tuple[Step, ...]
    versions: tuple[str, ...]
    await_state: str
    files: dict[str, str] = field(default_factory=dict)
    hide: tuple[str, ...] = ()  # patterns in texts that are not compared
    hide_fields: tuple[str, ...] = ()
    speed: float | None = None  # of the virtual printer, where the usual one is too fast
    mcu: bool = True  # False: startup never ends
    live: bool = False  # needs a micro-controller and real time; others run in Klippy's batch mode (klippers.py)

    @property
    def id(self) -> str:
        return f"{self.file}/{self.name}"

    def config(self, folder: Path) -> str:
        text = (HERE / "printers" / f"{self.printer}.cfg").read_text() + self.macros
        return text.replace("{folder}", str(folder))

    def config_files(self) -> dict[str, str]:
        return {"gcodes/.keep": "", **self.files}


def load() -> list[Scenario]:
    """All scenarios, in the order of their files."""
    return [scenario for path in sorted((HERE / "scenarios").glob("*.yaml")) for scenario in _read(path)]


def _read(path: Path) -> list[Scenario]:
    document = yaml.safe_load(path.read_text())
    common = {key: value for key, value in document.items() if key != "scenarios"}
    return [_scenario(path.stem, {**common, **entry}, common) for entry in document["scenarios"]]


def _scenario(file: str, entry: dict[str, Any], common: dict[str, Any]) -> Scenario:
    macros = "\n".join(text for text in (common.get("macros", ""), entry.get("config", "")) if text)
    return Scenario(
        file=file,
        name=entry["name"],
        printer=entry["printer"],
        macros="\n" + macros,
        steps=tuple(_steps(entry["steps"])),
        versions=tuple(entry.get("versions", VERSIONS[:1])),
        await_state=entry.get("await", "ready"),
        files=entry.get("files", {}),
        hide=tuple(entry.get("hide", ())),
        hide_fields=tuple(entry.get("hide_fields", ())),
        live=entry.get("live", False),
        speed=entry.get("speed"),
        mcu=entry.get("mcu", True),
    )


def _steps(entries: list[Any]) -> list[Step]:
    steps: list[Step] = []
    seen: dict[str, int] = {}
    for entry in entries:
        options = {"gcode": entry} if isinstance(entry, str) else dict(entry)
        kind = next(iter(options))
        value = options.pop(kind)
        label = _label(kind, value, options)
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > 1:
            label += f" ({seen[label]})"
        steps.append(Step(label, kind, value, options))
    return steps


def _label(kind: str, value: Any, options: dict[str, Any]) -> str:
    if kind == "gcode":
        text = str(value).replace("\n", "\\n")
    elif kind in ("call", "begin"):
        text = f"{kind} {value} {options or ''}".rstrip()
    else:
        text = f"{kind} {value}"
    return text if len(text) <= 120 else text[:117] + "..."
