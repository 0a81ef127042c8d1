"""What the tests of the gateway share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from test.gateway.rig import Toy


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    """An upstream that answers everything."""
    async with Toy().running() as made:
        yield made
