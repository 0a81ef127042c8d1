"""Real Klippers still say what test/transcripts holds; test/virtual/test_transcripts.py holds the virtual one to it."""

from __future__ import annotations

import functools
from functools import cache
from pathlib import Path

import pytest
import trio

from test.fleet import RealBackend
from test.klipper.comparison import difference, klippers, transcripts
from test.klipper.comparison.play import Transcript
from test.klipper.comparison.scenario import Scenario, load

SCENARIOS = load()


@cache
def _played(klipper_dir: Path) -> dict[str, Transcript]:
    wanted = [scenario for scenario in SCENARIOS if klippers.version_of(klipper_dir) in scenario.versions]
    start = klippers.real(klipper_dir)
    return trio.run(functools.partial(klippers.play_all, wanted, start, at_once=klippers.REAL_AT_ONCE))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def test_the_transcript_is_what_klipper_says(backend: RealBackend, scenario: Scenario) -> None:
    version = klippers.version_of(backend.klipper_dir)
    if version not in scenario.versions:
        pytest.skip(f"not compared with {version}")
    said = _played(backend.klipper_dir)[scenario.id]
    assert (reason := klippers.failure(said)) is None, reason
    changed = difference.differences(scenario.id, transcripts.read(version)[scenario.id], said)
    assert not changed, "\n".join(map(str, changed)).replace("virtual:", "transcript:")
