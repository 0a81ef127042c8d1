"""A request that comes in the moment in which a printer's API ends."""

from __future__ import annotations

import pytest
import trio

pytest.importorskip("wsproto")

from klipper_router.gateway.moonraker.api import PrinterApi
from klipper_router.gateway.moonraker.rpc import ApiError


async def test_what_is_answered_by_a_task_is_refused_when_there_can_be_none() -> None:
    api = PrinterApi.__new__(PrinterApi)
    async with trio.open_nursery() as api._nursery:
        pass
    with pytest.raises(ApiError, match="not served here any more"):
        api.later(trio.lowlevel.checkpoint)
