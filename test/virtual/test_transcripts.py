"""The virtual Klippy says what real Klippers said: every scenario of test/klipper/comparison against test/transcripts.

All scenarios are played once, side by side; each is a test of its own.
"""

from __future__ import annotations

import functools
from functools import cache
from pathlib import Path

import pytest
import trio

from test.klipper.comparison import difference, klippers, transcripts
from test.klipper.comparison.difference import Difference
from test.klipper.comparison.play import Transcript
from test.klipper.comparison.scenario import VERSIONS, Scenario, load

CASES = [(version, scenario) for version in VERSIONS for scenario in load() if version in scenario.versions]
DOCS = Path(__file__).parents[2] / "docs/virtual.md"


@cache
def _virtual(version: str) -> dict[str, Transcript]:
    wanted = [scenario for of_version, scenario in CASES if of_version == version]
    return trio.run(
        functools.partial(klippers.play_all, wanted, klippers.virtual(version), at_once=klippers.VIRTUAL_AT_ONCE)
    )


@cache
def _real(version: str) -> dict[str, Transcript]:
    return transcripts.read(version)


def _differences(version: str, scenario: Scenario) -> list[Difference]:
    virtual = _virtual(version)[scenario.id]
    assert (reason := klippers.failure(virtual)) is None, reason
    return difference.differences(scenario.id, virtual, _real(version)[scenario.id])


@pytest.mark.parametrize(
    ("version", "scenario"), CASES, ids=[f"{version}/{scenario.id}" for version, scenario in CASES]
)
def test_the_virtual_klippy_says_what_the_real_one_said(version: str, scenario: Scenario) -> None:
    unknown = difference.unknown(_differences(version, scenario))
    assert not unknown, "\n".join(map(str, unknown))


def test_every_known_difference_still_exists() -> None:
    found = [found for version, scenario in CASES for found in _differences(version, scenario)]
    gone = [each.what for each in difference.known() if not any(each.where.search(one.where) for one in found)]
    assert not gone


def test_every_transcript_belongs_to_a_scenario_and_its_steps() -> None:
    for version, scenario in CASES:
        recorded = [entry["step"] for entry in _real(version)[scenario.id]]
        assert recorded == [step.label for step in scenario.steps if step.kind != "begin"], scenario.id


def test_the_docs_tell_every_known_difference() -> None:
    assert difference.table() in DOCS.read_text(), "docs/virtual.md: put this in:\n" + difference.table()
