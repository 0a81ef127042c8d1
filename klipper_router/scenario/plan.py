"""A scenario's folder, found, read and checked: which printers, which router, which steps.

Starts nothing and writes nothing.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from klipper_router import config
from klipper_router.config import Config, KlippySection, RouterSection
from klipper_router.errors import ConfigError
from klipper_router.scenario import schema
from klipper_router.scenario.document import Document
from klipper_router.scenario.schema import PrinterEntry, Scenario, WrittenStep

SCENARIO_FILE = "scenario.yaml"
_ROUTER_FILES = ("router.cfg", "router.yaml", "router.yml")
MAX_PRINTERS = 200


@dataclass(frozen=True)
class PlannedPrinter:
    """One printer of a scenario. ``append`` is configuration that follows that of ``config``."""

    name: str
    config: Path
    append: str
    starts: bool
    state: str


@dataclass(frozen=True)
class PlannedStep:
    """A step as it will be run. ``text`` says what it does in a line; ``timeout_s`` is in simulated seconds."""

    number: int
    kind: str
    body: schema.Body
    line: int
    text: str
    timeout_s: float


@dataclass(frozen=True)
class Plan:
    """A scenario without fault."""

    folder: Path
    file: Path
    scenario: Scenario
    printers: dict[str, PlannedPrinter]
    router: Config
    """The router's configuration; its sockets are placeholders."""
    steps: list[PlannedStep]

    @property
    def gcodes(self) -> Path:
        """Where the printers' virtual SD cards find their files."""
        return self.folder / "gcodes" if (self.folder / "gcodes").is_dir() else self.folder

    def names(self, wanted: schema.Printers) -> list[str]:
        """The printers that a step means."""
        return _names(wanted, self.printers)


def find(paths: Iterable[Path]) -> list[Path]:
    """The scenario folders at or below each path, in order. Raises ConfigError for a path without any."""
    found: dict[Path, None] = {}
    for path in paths:
        folder = path.parent if path.name == SCENARIO_FILE else path
        below = [folder] if (folder / SCENARIO_FILE).exists() else []
        if not below:
            below = sorted(each.parent for each in folder.rglob(SCENARIO_FILE))
        if not below:
            raise ConfigError(f"there is no {SCENARIO_FILE} in it or below it", file=path)
        found.update(dict.fromkeys(below))
    return list(found)


def load(folder: Path) -> Plan:
    """Read and check a scenario. Raises ConfigError."""
    file = folder / SCENARIO_FILE
    document = Document(file)
    scenario, written = schema.read(document)
    router_file = next((folder / name for name in _ROUTER_FILES if (folder / name).exists()), None)
    router = config.load(router_file) if router_file else None
    printers = _printers(folder, document, scenario, router)
    if router is None:
        sections = {name: KlippySection(sock=name) for name in printers}
        router = Config(router=RouterSection(), klippy=sections)
    elif missing := [name for name in router.klippy if name not in printers]:
        assert router_file is not None
        raise document.error(f"{router_file.name} has [klippy {missing[0]}], 'printers' here has none", "$.printers")
    _check_printers(document, written, printers)
    steps = [
        PlannedStep(
            number,
            step.kind,
            step.body,
            step.line,
            _summary(step),
            _timeout_s(step.body, scenario),
        )
        for number, step in enumerate(written, 1)
    ]
    return Plan(folder, file, scenario, printers, router, steps)


def _timeout_s(body: schema.Body, scenario: Scenario) -> float:
    match body:
        case schema.Silence(timeout=None):
            return scenario.timeout + body.for_s
        case schema.Wait():
            return scenario.timeout + body.seconds
    own: float | None = getattr(body, "timeout", None)
    return scenario.timeout if own is None else own


def _printers(folder: Path, document: Document, scenario: Scenario, router: Config | None) -> dict[str, PlannedPrinter]:
    if scenario.printers is not None:
        entries = scenario.printers
    elif router is not None:
        entries = [PrinterEntry(name=name) for name in router.klippy]
    else:
        entries = [PrinterEntry(name=path.stem) for path in sorted(folder.glob("*.cfg"))]
    if not entries:
        raise document.error("there is no printer: no NAME.cfg in this folder", "$")
    printers: dict[str, PlannedPrinter] = {}
    for index, entry in enumerate(entries):
        path = f"$.printers[{index}]" if scenario.printers is not None else "$"
        file = folder / (entry.config or f"{entry.name}.cfg")
        if not _is_file(file):
            raise document.error(f"the printer {entry.name} has no configuration: there is no {file}", path)
        if entry.count is not None and not 0 < entry.count <= MAX_PRINTERS:
            raise document.error(f"'count' is a number from 1 to {MAX_PRINTERS}", f"{path}.count", "count")
        for number in range(1, (entry.count or 1) + 1):
            name = entry.name if entry.count is None else f"{entry.name}{number}"
            if not re.fullmatch(r"\w[\w-]*", name):
                raise document.error(f"'{name}' is no name of a printer: letters, digits, _ and -", path, "name")
            if name in printers:
                raise document.error(f"there are two printers {name}", path, "name")
            append = entry.append.replace("${name}", name).replace("${number}", str(number))
            printers[name] = PlannedPrinter(name, file, append, entry.start, entry.state)
    return printers


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long
        return False


def _names(wanted: schema.Printers, printers: dict[str, PlannedPrinter]) -> list[str]:
    if not wanted:
        return list(printers) if len(printers) == 1 else []
    patterns = [wanted] if isinstance(wanted, str) else wanted
    return list(dict.fromkeys(name for each in patterns for name in printers if fnmatch.fnmatchcase(name, each)))


def _check_printers(document: Document, steps: list[WrittenStep], printers: dict[str, PlannedPrinter]) -> None:
    for step in steps:
        for body, path in schema.parts(step.body, step.path):
            if isinstance(body, schema.Call | schema.Wait | schema.Order | schema.Say):
                continue
            if not body.printer and len(printers) > 1:
                raise document.error(f"{step.kind}: which 'printer'? There are {', '.join(printers)}", path, "printer")
            for each in [body.printer] if isinstance(body.printer, str) else body.printer:
                if each and not _names(each, printers):
                    near = difflib.get_close_matches(each, printers, 1) or list(printers)
                    where = path if step.kind in ("stop", "start") else f"{path}.printer"
                    raise document.error(f"there is no printer '{each}', did you mean '{near[0]}'?", where, "printer")


def _summary(step: WrittenStep) -> str:
    """What a step does, in one line."""
    body = step.body
    of = _of(getattr(body, "printer", ""))
    match body:
        case schema.Gcode():
            script = body.script.strip().replace("\n", " | ")
            text = f"gcode{of}: {script}" + (" (in the background)" if body.background else "")
            text += f", which fails with '{body.error}'" if body.error is not None else ""
        case schema.Silence():
            text = f"silence{of}: {body.wanted().replace('any line', 'no line')} for {body.for_s:g} s"
        case schema.Line():
            text = f"{step.kind}{of}: {body.wanted()}"
        case schema.Status():
            text = f"status{of}: {body.object} {body.field_name} {comparison(body)}"
        case schema.Fault():
            text = f"fault{of}: {body.type}" + (f" for {body.for_s:g} s" if body.for_s else "")
        case schema.State():
            text = f"state{of}: {body.state}"
        case schema.RouterSays():
            given = {name: getattr(body, name) for name in ("connected", "ready", "state")}
            text = f"router{of}: " + ", ".join(f"{k} {_json(v)}" for k, v in given.items() if v is not None)
        case schema.Call():
            text = f"call {body.method} {_json(body.params)}"
        case schema.Order():
            text = "order: " + ", ".join(f"{_of(line.printer).strip()} {line.wanted()}" for line in body.lines)
        case schema.Wait():
            text = f"wait {body.seconds:g} s"
        case schema.Stop() | schema.Start():
            text = f"{step.kind}{of}"
        case schema.Say():
            text = body.text
    return text if len(text) <= 150 else text[:149] + "…"


def _of(printer: schema.Printers) -> str:
    return f" {printer if isinstance(printer, str) else ', '.join(printer)}" if printer else ""


def comparison(body: schema.Status) -> str:
    """What a status step wants of its field, for people."""
    if body.value is not msgspec.UNSET:
        return f"is {_json(body.value)}"
    wanted = [f"above {body.above:g}"] if body.above is not None else []
    return " and ".join(wanted + ([f"below {body.below:g}"] if body.below is not None else []))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
