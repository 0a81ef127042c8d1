"""One printer as the scenario sees it: its console and its status, read by an API connection of our own.

The same for virtual and real printers. Redialled for ever; the console that was read and the place up to which it
was matched stay over restarts. Knows nothing of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
import trio

from klipper_router.errors import KlipperError, LinkLost
from klipper_router.link import Link, dial_unix
from klipper_router.messages import FromKlippy

T = TypeVar("T")

REDIAL_S = 0.01
# What is asked for again and again (a router's answer, the commands of a virtual printer) is asked this often.
POLL_S = 0.02


class Bell:
    """Rung at every news; whoever waits for something then looks again."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = trio.Event()

    async def until(self, look: Callable[[], T | None]) -> T:
        """What ``look`` returns, as soon as it is not None."""
        while (found := look()) is None:
            with trio.move_on_after(POLL_S):
                await self._rung.wait()
        return found


class ConsoleLine(NamedTuple):
    """A line of a printer's console. ``serial`` counts the lines of all printers; ``at_s`` is simulated time."""

    serial: int
    at_s: float
    printer: str
    text: str


class ConsoleLog:
    """The consoles of all printers, in the order in which their lines came."""

    def __init__(self, clock: Callable[[], float], on_line: Callable[[ConsoleLine], None]) -> None:
        self.lines: list[ConsoleLine] = []
        self._clock = clock
        self._on_line = on_line

    def add(self, printer: str, message: str) -> list[ConsoleLine]:
        new = []
        for text in message.splitlines():
            new.append(ConsoleLine(len(self.lines), self._clock(), printer, text))
            self.lines.append(new[-1])
            self._on_line(new[-1])
        return new


class Watch:
    """A printer's console (``lines``, matched up to ``matched``), its state and the status that is followed."""

    def __init__(self, name: str, sock: str, bell: Bell, log: ConsoleLog, on_state: Callable[[str, str], None]) -> None:
        self.name = name
        self.lines: list[ConsoleLine] = []
        self.matched = 0
        """How many of the lines the steps have passed."""
        self.state = "gone"
        """Klippy's own, or "gone" when there is no connection."""
        self.state_message = ""
        self.lives = 0
        """How many connections there were."""
        self.last_command: tuple[float, str] | None = None
        """The newest command that a step has passed."""
        self._sock = sock
        self._bell = bell
        self._log = log
        self._on_state = on_state
        self._status: dict[str, dict[str, Any]] = {}
        self._followed: set[str] = {"webhooks"}
        self._link: Link | None = None

    async def run(self) -> None:
        """Keep connected, for ever."""
        while True:
            try:
                stream = await dial_unix(self._sock)
            except OSError:
                await trio.sleep(REDIAL_S)
                continue
            link = Link(self.name, stream, self._take)
            async with trio.open_nursery() as nursery:
                await nursery.start(link.run)
                await self._begin(link)
            self._link = None
            self._status.clear()
            self._note_state("gone", "")
            await trio.sleep(REDIAL_S)

    async def _begin(self, link: Link) -> None:
        try:
            await link.call("gcode/subscribe_output", {"response_template": {"method": "console"}})
            await self._subscribe(link)
        except (LinkLost, KlipperError):
            return
        self._link = link
        self.lives += 1
        self._bell.ring()

    async def _subscribe(self, link: Link) -> None:
        objects = dict.fromkeys(sorted(self._followed))
        template = {"method": "status"}
        answer = await link.call("objects/subscribe", {"objects": objects, "response_template": template})
        self._merge(msgspec.json.decode(answer))

    def _take(self, message: FromKlippy) -> None:
        if message.method == "console":
            text = msgspec.json.decode(message.params).get("response", "")
            self.lines += self._log.add(self.name, text)
        elif message.method == "status":
            self._merge(msgspec.json.decode(message.params))
        self._bell.ring()

    def _merge(self, update: dict[str, Any]) -> None:
        for name, fields in update.get("status", {}).items():
            self._status.setdefault(name, {}).update(fields)
        webhooks = self._status.get("webhooks", {})
        self._note_state(webhooks.get("state", "gone"), webhooks.get("state_message", ""))
        self._bell.ring()

    def _note_state(self, state: str, message: str) -> None:
        changed, self.state, self.state_message = state != self.state, state, message
        if changed:
            self._on_state(self.name, state)
            self._bell.ring()

    async def follow(self, name: str) -> None:
        """Follow one more object. Raises LinkLost."""
        if name in self._followed and name in self._status:
            return
        self._followed.add(name)
        if self._link is not None:
            await self._subscribe(self._link)

    def value(self, name: str, field: str) -> Any:
        """The newest value of a field (dots pick a value inside); UNSET while it is not known."""
        value: Any = self._status.get(name, msgspec.UNSET)
        fields = [field] if isinstance(value, dict) and field in value else field.split(".")
        for key in fields:
            if isinstance(value, dict):
                value = value.get(key, msgspec.UNSET)
            elif isinstance(value, list) and key.lstrip("-").isdigit() and -len(value) <= int(key) < len(value):
                value = value[int(key)]
            else:
                return msgspec.UNSET
        return value

    def known(self, name: str) -> dict[str, Any]:
        """All that is known of an object."""
        return self._status.get(name, {})

    async def call(self, method: str, params: dict[str, Any]) -> bytes:
        """One request. Raises KlipperError, LinkLost."""
        link = self._link
        if link is None:
            raise LinkLost(self.name, "it is not there now; wait by a step `state` until it is")
        return await link.call(method, params)

    async def until(self, look: Callable[[], T | None]) -> T:
        return await self._bell.until(look)

    def unmatched(self) -> list[ConsoleLine]:
        """The lines after the last one that matched."""
        return self.lines[self.matched :]

    def pass_line(self, line: ConsoleLine) -> None:
        """Everything up to this line is done with."""
        self.matched = self.lines.index(line, self.matched) + 1
