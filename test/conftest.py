"""Fixtures for tests that run whole processes: which Klippy is run is the folder's choice (fixture ``backend``)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from test.fleet import Backend, Fleet, fleet


@pytest.fixture
def backend() -> Backend:
    """Virtual printers, unless a folder's conftest says otherwise."""
    return Backend()


@pytest.fixture
async def crew(backend: Backend) -> AsyncIterator[Fleet]:
    """An empty fleet."""
    async with fleet(backend) as made:
        yield made
