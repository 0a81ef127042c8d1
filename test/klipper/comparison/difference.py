"""What differs between two transcripts, and which of it is known and accepted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .play import Transcript

KNOWN_FILE = Path(__file__).parent / "known_differences.yaml"


class _Missing:
    def __repr__(self) -> str:
        return "(nothing)"


MISSING = _Missing()


@dataclass(frozen=True)
class Difference:
    where: str  # scenario: step: path
    virtual: Any
    real: Any

    def __str__(self) -> str:
        return f"{self.where}\n    virtual: {self.virtual!r}\n    real:    {self.real!r}"


@dataclass(frozen=True)
class Known:
    """A difference that is meant to be. `where` is searched for in the place, `what` is told in docs/virtual.md."""

    where: re.Pattern[str]
    what: str
    reason: str


@cache
def known() -> list[Known]:
    entries = yaml.safe_load(KNOWN_FILE.read_text())
    return [Known(re.compile(entry["where"]), entry["what"], entry["reason"]) for entry in entries]


def differences(scenario: str, virtual: Transcript, real: Transcript) -> list[Difference]:
    found: list[Difference] = []
    by_step = {entry["step"]: entry for entry in virtual}
    for entry in real:
        step = entry["step"]
        where = f"{scenario}: {step}:"
        mine, theirs = dict(by_step.get(step, {})), dict(entry)
        found += [Difference(f"{where} {path}", a, b) for path, a, b in _compare(mine, theirs, "")]
    return found


def comparisons(transcript: Transcript) -> int:
    """How many single values were compared."""
    return sum(1 for _ in _leaves(transcript))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list) and value:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _compare(virtual: Any, real: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(virtual, dict) and isinstance(real, dict):
        for key in [*real, *(key for key in virtual if key not in real)]:
            yield from _compare(virtual.get(key, MISSING), real.get(key, MISSING), f"{path}/{key}")
    elif isinstance(virtual, list) and isinstance(real, list) and _are_names(real):
        # A set of names: say which are missing, not that all have moved.
        for name in sorted(set(virtual) ^ set(real)):
            yield f"{path}/{name}", name if name in virtual else MISSING, name if name in real else MISSING
    elif isinstance(virtual, list) and isinstance(real, list):
        for index in range(max(len(virtual), len(real))):
            a, b = (items[index] if index < len(items) else MISSING for items in (virtual, real))
            yield from _compare(a, b, f"{path}/{index}")
    elif isinstance(virtual, str) and isinstance(real, str) and "\n" in virtual and "\n" in real:
        yield from _compare_lines(virtual.split("\n"), real.split("\n"), path)
    elif type(virtual) is not type(real) or virtual != real:
        yield path, virtual, real


def _compare_lines(virtual: list[str], real: list[str], path: str) -> Iterator[tuple[str, Any, Any]]:
    """A long console message: only the lines that differ."""
    matcher = difflib.SequenceMatcher(None, virtual, real, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            mine, theirs = "\n".join(virtual[a:b]), "\n".join(real[c:d])
            yield f"{path}/line {c + 1} {theirs or mine}", mine or MISSING, theirs or MISSING


def _are_names(items: list[Any]) -> bool:
    """objects/list and list_endpoints: long, sorted, all different."""
    texts = all(isinstance(item, str) for item in items)
    return texts and len(items) > 5 and items == sorted(set(items))


def unknown(found: list[Difference]) -> list[Difference]:
    """Those that nobody has accepted."""
    accepted = known()
    return [each for each in found if not any(one.where.search(each.where) for one in accepted)]


def table() -> str:
    """The known differences as docs/virtual.md shows them."""
    rows = [f"| {one.what} | {one.reason} |" for one in known()]
    return "\n".join(["| what differs | why |", "| --- | --- |", *rows])
