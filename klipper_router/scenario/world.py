"""All that the steps of one run act on: printers, their watches, the router's socket, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from klipper_router.errors import LinkLost, RouterError
from klipper_router.link import Answer, Link, dial_unix
from klipper_router.scenario import schema
from klipper_router.scenario.printers import PrinterProcess
from klipper_router.scenario.watch import Bell, Watch

# What only asking tells is asked this often, in real seconds.
ASK_ROUTER_EVERY_S = 0.02


class Missed(Exception):
    """A step did not show what it wants; the text says what came instead."""


class Lost(Missed):
    """The printer went away while its script ran."""


@dataclass
class World:
    """All that steps act on."""

    printers: dict[str, PrinterProcess]
    watches: dict[str, Watch]
    bell: Bell
    speed: float
    nursery: trio.Nursery
    router_sock: str
    names: Callable[[schema.Printers], list[str]]
    background: list[Missed] = field(default_factory=list)
    """Failures of what runs in the background."""

    async def sleep(self, simulated_s: float) -> None:
        await trio.sleep(simulated_s / self.speed)

    async def ask_router(self, method: str, params: dict[str, Any]) -> Any:
        """One call on the router's socket. Raises KlipperError (the router's error), LinkLost, OSError."""
        link = Link("the router", await dial_unix(self.router_sock), lambda message: None)
        answers: list[Answer] = []

        def on_answer(answer: Answer) -> None:
            answers.append(answer)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            link.post(method, params, on_answer)
        if not answers:
            raise LinkLost("the router", "closed without an answer")
        if isinstance(answers[0], RouterError):
            raise answers[0]
        return msgspec.json.decode(answers[0])

    async def router_printers(self) -> dict[str, dict[str, Any]]:
        """What the router says of each printer."""
        listed = await self.ask_router("router/printers/list", {})
        return {each["name"]: each for each in listed["printers"]}
