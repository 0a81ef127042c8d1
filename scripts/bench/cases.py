"""What a case is, what it yields, and the list of all: a module named in `MODULES` registers its cases by `case`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scripts.bench import statistics

Count = TypeVar("Count", int, float)

# In the order of the table. Each is imported by `all_cases`, and registers what it has.
MODULES = (
    "scripts.bench.relaying",
    "scripts.bench.calling",
    "scripts.bench.status",
    "scripts.bench.footprint",
    "scripts.bench.events",
    "scripts.bench.growth",
    "scripts.bench.gateway",
)


class Skipped(Exception):
    """A case cannot be measured here; the text says what is missing and how to get it."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: ``quick`` is a smoke test whose figures are rough."""

    quick: bool

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 7

    def of(self, full: Count, quick: Count) -> Count:
        """So many samples, seconds or whatever a case counts."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Aim:
    """A bound that a value must keep."""

    bound: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def at_most(bound: float) -> Aim:
    return Aim(bound)


def at_least(bound: float) -> Aim:
    return Aim(bound, at_least=True)


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``rounds``: the value of each round; ``value``, if not given, is their median."""

    what: str
    unit: str
    rounds: list[float]
    aim: Aim | None = None
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        return None if self.aim is None else self.aim.met_by(self.value)

    @property
    def spread_percent(self) -> float:
        return statistics.spread_percent(self.rounds)

    @property
    def is_noisy(self) -> bool:
        return self.spread_percent > statistics.NOISE_PERCENT


@dataclass(frozen=True)
class Curve:
    """How a value grows: ``points`` are (x, y)."""

    what: str
    x: str
    y: str
    points: list[tuple[float, float]]
    plot: str  # curves of one plot share it


Measured = Figure | Curve


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    run: Callable[[Effort], Iterable[Measured]]


@dataclass
class _Registry:
    cases: dict[str, Case] = field(default_factory=dict)


_REGISTRY = _Registry()


def case(name: str, title: str) -> Callable[[Any], Any]:
    """Register a function that measures and yields figures and curves; it may raise `Skipped`."""

    def register(run: Callable[[Effort], Iterable[Measured]]) -> Callable[[Effort], Iterable[Measured]]:
        if name in _REGISTRY.cases:
            raise ValueError(f"two cases of the name {name!r}")
        _REGISTRY.cases[name] = Case(name, title, run)
        return run

    return register


def all_cases() -> dict[str, Case]:
    """Every case by its name, in the order of the table."""
    for module in MODULES:
        importlib.import_module(module)
    return _REGISTRY.cases
