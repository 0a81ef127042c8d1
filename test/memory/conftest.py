"""Every test of this folder runs on a clock that jumps (as with pytest-trio's fixture autojump_clock)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
from trio.abc import Clock, Instrument
from trio.testing import MockClock

# No test takes longer, in the time of the clock that jumps; a printer's life would go on for ever.
TEST_WITHIN_S = 20_000


def _run(
    test: Callable[[], Awaitable[None]], *, clock: Clock | None = None, instruments: Sequence[Instrument] = ()
) -> None:
    async def in_time() -> None:
        with trio.fail_after(TEST_WITHIN_S):
            await test()

    trio.run(in_time, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (
            item.path.is_relative_to(Path(__file__).parent)
            and isinstance(item, pytest.Function)
            and inspect.iscoroutinefunction(item.obj)
        ):
            item.add_marker(pytest.mark.trio(run=_run), append=False)  # before that of pytest-trio's trio_mode
