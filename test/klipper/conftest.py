"""The tests of this folder run against real Klippers: KLIPPER_DIR names one or, with colons between, several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from test.fleet import RealBackend

KLIPPER_DIRS = [Path(entry) for entry in os.environ.get("KLIPPER_DIR", "").split(":") if entry]


PARAMS: list[Path | None] = [*KLIPPER_DIRS] or [None]


@pytest.fixture(params=PARAMS, ids=lambda path: path.name if path else "no-klipper")
def backend(request: pytest.FixtureRequest) -> RealBackend:
    """A real Klipper, or the reason why the test is skipped."""
    if request.param is None:
        pytest.skip("KLIPPER_DIR is not set: see docs/development.md")
    return RealBackend(request.param)
