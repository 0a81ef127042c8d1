"""What scenario.yaml may say. The structs below are the reference of every key; docs/scenarios.md explains them.

Knows nothing of folders, printers and time. Times are simulated seconds.
"""

from __future__ import annotations

import difflib
import re
import typing
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from klipper_router.errors import ConfigError
from klipper_router.scenario.document import Document

# One name, a pattern of names (`worker*`), or several of these. Empty: the scenario's only printer.
Printers = str | list[str]
T = TypeVar("T")


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the steps. ``timeout``: how long this step may take, instead of the scenario's own."""

    timeout: float | None = None


class Line(Step, frozen=True, kw_only=True):
    """Names console lines, or commands: those that contain ``text``, or in which ``regex`` is found."""

    printer: Printers = ""
    text: str | None = None
    regex: str | None = None

    def matches(self, line: str) -> bool:
        if self.regex is not None:
            return re.search(self.regex, line) is not None
        return self.text is None or self.text in line

    def wanted(self) -> str:
        if self.regex is not None:
            return f"/{self.regex}/"
        return "any line" if self.text is None else f"'{self.text}'"


class Gcode(Step, frozen=True, kw_only=True):
    """Run G-code and wait for its end. ``error``: it must fail, with a message that contains this."""

    printer: Printers = ""
    script: str
    error: str | None = None
    background: bool = False


class Silence(Line, frozen=True, kw_only=True):
    """No such line after the last one that matched, up to ``for`` seconds from now."""

    for_s: float = msgspec.field(name="for")


class Status(Step, frozen=True, kw_only=True):
    """A field of a printer object has, or soon gets, a value. ``field`` may have dots: ``position.2``."""

    printer: Printers = ""
    object: str
    field_name: str = msgspec.field(name="field")
    value: Any = UNSET
    above: float | None = None
    below: float | None = None


class Fault(Step, frozen=True, kw_only=True):
    """Something breaks. ``for``: how long it lasts; without it, until it is mended."""

    printer: Printers = ""
    type: Literal[
        "mcu",
        "shutdown",
        "emergency_stop",
        "restart",
        "firmware_restart",
        "kill",
        "stall",
        "resume",
        "drop",
        "refuse",
        "accept",
    ]
    for_s: float | None = msgspec.field(name="for", default=None)
    message: str | None = None
    mcu: str = "mcu"


class State(Step, frozen=True, kw_only=True):
    """Klippy says of itself: startup, ready, shutdown or error."""

    printer: Printers = ""
    state: Literal["startup", "ready", "shutdown", "error"]


class RouterSays(Step, frozen=True, kw_only=True):
    """What the router says of a printer (router/printers/list)."""

    printer: Printers = ""
    connected: bool | None = None
    ready: bool | None = None
    state: Literal["startup", "ready", "shutdown", "error", "disconnected"] | None = None


class Call(Step, frozen=True, kw_only=True):
    """One call on the router's socket. ``result``: what the answer must at least hold."""

    method: str
    params: dict[str, Any] = {}
    result: Any = UNSET
    error: str | None = None


class Wait(Struct, frozen=True):
    """Nothing, for this long."""

    seconds: float


class Order(Struct, frozen=True):
    """These console lines come in this order, whichever printer says them."""

    lines: list[Line]


class Stop(Struct, frozen=True):
    """End a printer's process."""

    printer: Printers


class Start(Struct, frozen=True):
    """Start a printer's process."""

    printer: Printers


class Say(Struct, frozen=True):
    """Tell people something."""

    text: str


class AnyStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step as written: a map with exactly one of these keys."""

    gcode: Gcode | UnsetType = UNSET
    wait: float | UnsetType = UNSET
    console: Line | UnsetType = UNSET
    silence: Silence | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    command: Line | UnsetType = UNSET
    order: list[Line] | UnsetType = UNSET
    fault: Fault | UnsetType = UNSET
    state: State | UnsetType = UNSET
    router: RouterSays | UnsetType = UNSET
    call: Call | UnsetType = UNSET
    stop: Printers | UnsetType = UNSET
    start: Printers | UnsetType = UNSET
    say: str | UnsetType = UNSET


Body = Gcode | Line | Status | Fault | State | RouterSays | Call | Wait | Order | Stop | Start | Say
_SHORT: dict[str, type[Wait | Order | Stop | Start | Say]] = {
    "wait": Wait,
    "order": Order,
    "stop": Stop,
    "start": Start,
    "say": Say,
}


class PrinterEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A printer, or with ``count`` several of a kind: worker1, worker2, …

    ``append`` is configuration added to the file's; ``${name}`` and ``${number}`` in it are the printer's own.
    """

    name: str
    config: str | None = None
    count: int | None = None
    append: str = ""
    start: bool = True
    state: Literal["ready", "shutdown", "error"] = "ready"


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """scenario.yaml. ``virtual_only``: why real printers cannot show it; with them it is skipped."""

    description: str
    steps: list[AnyStep]
    speed: float = 10.0
    timeout: float = 60.0
    printers: list[PrinterEntry] | None = None
    virtual_only: str = ""


class WrittenStep(NamedTuple):
    """One step, what kind it is, and where it is written."""

    kind: str
    body: Body
    path: str
    line: int


# By the key in which they are written.
STRUCTS: dict[str, type[Struct]] = {
    "$": Scenario,
    "printers": PrinterEntry,
    "steps": AnyStep,
    "gcode": Gcode,
    "console": Line,
    "silence": Silence,
    "status": Status,
    "command": Line,
    "order": Line,
    "fault": Fault,
    "state": State,
    "router": RouterSays,
    "call": Call,
}
_TEXT_FOR_PEOPLE = {"object": "map", "array": "list", "str": "text", "int": "number", "float": "number", "null": "null"}


def read(document: Document) -> tuple[Scenario, list[WrittenStep]]:
    """Convert and check what can be checked without the folder. Raises ConfigError at the first problem."""
    try:
        scenario = msgspec.convert(document.value if document.value is not None else {}, Scenario)
    except msgspec.ValidationError as error:
        raise _explained(str(error), document) from None
    for name in ("speed", "timeout"):
        if not 0 < getattr(scenario, name) < float("inf"):
            raise document.error(f"'{name}' is a number above 0", f"$.{name}", name)
    steps = [_written(document, step, f"$.steps[{index}]") for index, step in enumerate(scenario.steps)]
    if not steps:
        raise document.error("'steps' is empty: what is to be seen?", "$.steps", "steps")
    return scenario, steps


def _written(document: Document, step: AnyStep, path: str) -> WrittenStep:
    given = [(name, getattr(step, name)) for name in step.__struct_fields__ if getattr(step, name) is not UNSET]
    if len(given) != 1:
        kinds = " and ".join(name for name, _ in given) or "nothing"
        raise document.error(f"a step is a map with one key, this one has {kinds}", path)
    kind, given_body = given[0]
    body: Body = _SHORT[kind](given_body) if kind in _SHORT else given_body
    where = f"{path}.{kind}"
    for each, its_path in parts(body, where):
        if problem := _problem(each):
            raise document.error(f"{kind}: {problem}", its_path, kind)
    return WrittenStep(kind, body, where, document.line(path))


def parts(body: Body, path: str) -> list[tuple[Body, str]]:
    """A step's parts, each with its path: the lines of an order, else the step itself."""
    if isinstance(body, Order):
        return [(each, f"{path}[{index}]") for index, each in enumerate(body.lines)]
    return [(body, path)]


def _problem(body: Body) -> str:
    """What is wrong with a step that has the right keys."""
    times = [getattr(body, name, None) for name in ("for_s", "timeout", "seconds")]
    if any(each is not None and not 0 <= each < float("inf") for each in times):
        return "a time is a number of seconds, not below 0"
    match body:
        case Line(text=None, regex=None) if not isinstance(body, Silence):
            return "needs text or regex"
        case Line(text=str(), regex=str()):
            return "takes text or regex, not both"
        case Line(regex=str(regex)):
            try:
                re.compile(regex)
            except re.error as error:
                return f"the regex is wrong: {error}"
        case Status(value=value, above=above, below=below):
            if (value is UNSET) == (above is None and below is None):
                return "needs either value, or above, below or both"
        case Fault(type=kind, for_s=float() | int()) if kind not in ("kill", "stall", "refuse"):
            return f"'for' belongs to kill, stall and refuse, not to {kind}"
        case Fault(type=kind, message=str()) if kind != "shutdown":
            return f"'message' belongs to shutdown, not to {kind}"
        case RouterSays(connected=None, ready=None, state=None):
            return "needs connected, ready or state"
        case Call(result=result, error=str()) if result is not UNSET:
            return "takes result or error, not both"
    return ""


def _explained(message: str, document: Document) -> ConfigError:
    """msgspec's message in the words of someone who writes scenarios, at its line."""
    what, _, path = message.partition(" - at `")
    path = path.rstrip("`") or "$"
    owner = _owner(path)
    struct = STRUCTS[owner]
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        key = match[1]
        known = [each.encode_name for each in msgspec.structs.fields(struct)]
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"
        whose = {"$": "a scenario has", "steps": "there is", "printers": "a printer has"}.get(owner, f"{owner} has")
        noun = "step" if owner == "steps" else "key"
        return document.error(f"{whose} no {noun} '{key}', {hint}", f"{path}.{key}", key)
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        whose = {"$": "the scenario", "printers": "the printer"}.get(owner, owner)
        return document.error(f"{whose} lacks '{match[1]}'", path, match[1])
    if path == "$":
        return document.error("a scenario is a map, with description and steps", path)
    if re.search(r"steps\[\d+\]$", path):
        return document.error("a step is a map with one key, such as `- wait: 2`", path)
    key = path.rpartition(".")[2]
    if match := re.fullmatch(r"Invalid enum value '(.*)'", what, re.DOTALL):
        return document.error(f"'{key}': there is no {key} '{match[1]}', {_choices(struct, key, match[1])}", path, key)
    for theirs, ours in _TEXT_FOR_PEOPLE.items():
        what = re.sub(rf"`([^`]*)\b{theirs}\b([^`]*)`", rf"`\1{ours}\2`", what)
    in_quotes = re.search(r"Expected `text", what) and re.search(r"got `(number|bool)`", what)
    hint = ". Put it in quotes" if in_quotes else ""
    return document.error(f"'{key}': {what[:1].lower() + what[1:].replace('`', '')}{hint}", path, key)


def _owner(path: str) -> str:
    """Under which key of STRUCTS the value at this path, or the map that holds it, is described."""
    keys = re.sub(r"\[[^]]*\]", "", path).split(".")
    if keys[1:2] == ["steps"] and len(keys) > 2 and keys[2] in STRUCTS:
        return keys[2]
    return keys[1] if keys[1:2] in (["steps"], ["printers"]) else "$"


def _choices(struct: type[Struct], key: str, given: str) -> str:
    """The values that a key may have, or the one that was probably meant."""
    kind = next(each.type for each in msgspec.structs.fields(struct) if each.encode_name == key)
    literals = [kind, *typing.get_args(kind)]
    known = [str(value) for each in literals if typing.get_origin(each) is Literal for value in typing.get_args(each)]
    near = difflib.get_close_matches(given, known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"
