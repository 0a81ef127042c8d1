"""Pytest collects scenario.yaml files: each is one test, run on virtual printers.

An entry point (pyproject.toml, pytest11), so every pytest run where the package is installed imports this: nothing
but pytest may be imported before there is a scenario.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from klipper_router.scenario.plan import Plan

_SCENARIO_FILE = "scenario.yaml"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A scenario.yaml beside printer configurations. Other tools have files of this name, too."""
    if file_path.name != _SCENARIO_FILE or not any(file_path.parent.glob("*.cfg")):
        return None
    if not re.search(rb"^steps:", file_path.read_bytes(), re.MULTILINE):
        return None
    file: ScenarioFile = ScenarioFile.from_parent(parent, path=file_path)
    return file


class ScenarioFile(pytest.File):
    """One scenario.yaml."""

    def collect(self) -> Iterable[pytest.Item]:
        """The scenario as one test. A wrong one is an error of collection."""
        from klipper_router.errors import ConfigError
        from klipper_router.scenario import plan

        try:
            loaded = plan.load(self.path.parent)
        except ConfigError as error:
            raise self.CollectError(str(error)) from None
        item: ScenarioItem = ScenarioItem.from_parent(self, name=self.path.parent.name, plan=loaded)
        yield item


class ScenarioFailed(Exception):
    """The report of a scenario that failed."""


class ScenarioItem(pytest.Item):
    """The run of a scenario."""

    # pytest-trio in trio_mode looks into every item's `obj`, whatever kind of item it is.
    obj = None

    def __init__(self, *, plan: Plan, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._plan = plan

    def runtest(self) -> None:
        """Run it; its progress is captured output. Raises ScenarioFailed."""
        import trio

        from klipper_router.scenario import run, show

        result = trio.run(run.run, self._plan, run.Options(), show.Progress())
        if not result.passed:
            raise ScenarioFailed(show.failure(result))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The report alone, without our own stack; a bug of ours with it."""
        if isinstance(excinfo.value, ScenarioFailed):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where, and what."""
        return self.path, 0, f"scenario {self.name}"
