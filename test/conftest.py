"""What all tests share: the same examples in every run, and fleets of processes.

Which Klippy a fleet is made of is the folder's choice (fixture ``backend``). HYPOTHESIS_PROFILE=explore tries new
examples instead, many of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from test.fleet import Backend, Fleet, fleet

# A busy machine is no fault of a test.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# Who is started in the background of a script has Ctrl-C ignored, and so have its children; the tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def backend() -> Backend:
    """Virtual printers, unless a folder's conftest says otherwise."""
    return Backend()


@pytest.fixture
async def crew(backend: Backend) -> AsyncIterator[Fleet]:
    """An empty fleet."""
    async with fleet(backend) as made:
        yield made
