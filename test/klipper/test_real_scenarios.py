"""Every scenario that virtual printers show, real Klippers show as well."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import trio

from klipper_router.scenario import command, plan, run, show

from .conftest import KLIPPER_DIRS

ROOT = Path(__file__).parents[2]
FOLDERS = plan.find([ROOT / "examples", ROOT / "test" / "print_stats", ROOT / "test" / "scenarios"])
PARAMS: list[Path | None] = [*KLIPPER_DIRS] if KLIPPER_DIRS else [None]


@pytest.fixture(params=PARAMS, ids=lambda path: path.name if path else "no-klipper")
def options(request: pytest.FixtureRequest) -> run.Options:
    if request.param is None:
        pytest.skip("KLIPPER_DIR is not set: see docs/development.md")
    python, mcu = (
        Path(given) if (given := os.environ.get(name)) else None for name in ("KLIPPER_PYTHON", "KLIPPER_MCU")
    )
    return run.Options(klipper=command.klipper(argparse.Namespace(klipper=request.param, python=python, mcu=mcu)))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_scenario_on_a_real_klipper(folder: Path, options: run.Options) -> None:
    result = trio.run(run.run, plan.load(folder), options, show.Quiet())
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.passed, show.failure(result)
