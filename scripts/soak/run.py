"""One run: start everything, let things go wrong for a while, mend everything, and close the books."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from scripts.soak import clients, report
from scripts.soak.books import Books
from scripts.soak.machines import LOOK_EVERY_S, Machine
from scripts.soak.router_process import RouterProcess
from scripts.soak.troubles import RouterTroubles, Troubles
from test.fleet import Backend, RealBackend

if TYPE_CHECKING:
    from scripts.soak.web import WebSide

CLIENTS = 3
MEASURE_EVERY_S = 5.0
SETTLE_WITHIN_S = 90.0
TOLD_WITHIN_S = 20.0


# Connections that nobody needs any more are kept for a while: to a camera 5 s after its last viewer.
QUIET_AFTER_S = 8.0


class Worker(Protocol):
    """A client whose every request is in the books."""

    async def run(self) -> None: ...

    def finish(self) -> None: ...


def _web_side(names: list[str], folder: Path, books: Books, seed: str) -> WebSide | None:
    """None: the extra for the gateway is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("httptools", "wsproto")):
        print("The gateway takes no part: pip install 'klipper-router[gateway]'")
        return None
    from scripts.soak.web import WebSide

    return WebSide(names, folder, books, seed)


class VirtualBackend(Backend):
    """Virtual printers whose time runs faster."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def command(self, folder: Path, name: str) -> list[str]:
        return [*super().command(folder, name), "--speed", str(self.speed)]


class Soak:
    """Everything that takes part."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.books = Books()
        self.course = report.Course()
        backend = RealBackend(options.klipper.resolve()) if options.klipper else VirtualBackend(options.speed)
        seed, names = options.seed, [f"p{number}" for number in range(options.printers)]
        self.machines = [
            Machine(name, names[number - 1], folder, backend, self.books, number) for number, name in enumerate(names)
        ]
        self.web = _web_side(names, folder, self.books, seed)
        self.router = RouterProcess(folder, self.machines, self.books, self.web.gateway if self.web else None)
        self.troubles = [
            Troubles(
                machine,
                [name for name in names if name != machine.name],
                self.books,
                seed,
                speed=0 if options.klipper else options.speed,
                reads_quotes=backend.reads_quotes,
                spared=machine is self.machines[-1],
            )
            for machine in self.machines
        ]
        self.router_troubles = RouterTroubles(self.router, self.machines, self.books, seed)
        self.clients: list[Worker] = [
            clients.Client(f"client {number}", self.router, names, self.books, seed) for number in range(CLIENTS)
        ]
        if self.web:
            from scripts.soak.web_misdeeds import WebTroubles

            self.web.open(self.router)
            self.clients += self.web.workers
            self.router_troubles = WebTroubles(self.router, self.machines, self.books, seed)

    async def run(self) -> None:
        names = [machine.name for machine in self.machines]
        async with trio.open_nursery() as nursery:
            for machine in self.machines:
                machine.start()
                nursery.start_soon(machine.watch)
            nursery.start_soon(self._look)
            await self.router.start()
            nursery.start_soon(self.router.notice_crashes)
            nursery.start_soon(clients.follow, "follower", self.router, names, self.books)
            web_scope = trio.CancelScope()
            if self.web:
                nursery.start_soon(self._within, web_scope, self.web.run)
            await self._all_ready("at the start")
            async with trio.open_nursery() as at_work:
                for client in self.clients:
                    at_work.start_soon(client.run)
                await self._rage()
                await self._settle()
                for client in self.clients:
                    client.finish()
            await self._last_words()
            web_scope.cancel()
            await self._measure_beside_a_new_one()
            async with self.router.turn:
                await self.router.end(signal.SIGTERM)
            nursery.cancel_scope.cancel()
        for machine in self.machines:
            machine.end()
            machine.look()

    async def _within(self, scope: trio.CancelScope, run: Callable[[], Awaitable[None]]) -> None:
        with scope:
            await run()

    async def _measure_beside_a_new_one(self) -> None:
        """What the router holds, with next to no clients, after all that; and what one holds that has just begun."""
        await trio.sleep(QUIET_AFTER_S)
        self.course.end = await self.router.measure()
        async with self.router.turn:
            await self.router.end(signal.SIGTERM)
            await self.router.start()
        await self._all_ready("in a new life")
        await trio.sleep(QUIET_AFTER_S)
        self.course.new = await self.router.measure()

    async def _look(self) -> None:
        """For ever: read the printers' logs."""
        while True:
            for machine in self.machines:
                machine.look()
            await trio.sleep(LOOK_EVERY_S)

    async def _rage(self) -> None:
        """All that goes wrong; the router is ended in the first half only, so that its memory can be watched."""
        all_s = self.options.minutes * 60
        times = int(all_s / 2 // (self.options.kill_every * 60)) or 1
        with trio.move_on_after(all_s):
            async with trio.open_nursery() as nursery:
                for trouble in self.troubles:
                    nursery.start_soon(trouble.rage)
                for number in range(2):
                    seed = f"{self.options.seed} misbehave {number}"
                    nursery.start_soon(clients.misbehave, self.router, self.books, seed)
                if self.web:
                    nursery.start_soon(self.web.misbehave)
                if self.options.reload:
                    nursery.start_soon(self.router_troubles.reload_again_and_again)
                nursery.start_soon(self._end_and_measure, all_s / 2 / times, times)

    async def _end_and_measure(self, every_s: float, times: int) -> None:
        await self.router_troubles.end_again_and_again(every_s, times)
        self.course.start = await self.router.measure()
        while True:
            if self.router.up and (rss_kb := self.router.rss_kb()) is not None:
                self.course.rss_kb.append((trio.current_time(), rss_kb))
            await trio.sleep(MEASURE_EVERY_S)

    async def _settle(self) -> None:
        """Everybody back and well."""
        async with self.router.turn:
            if not self.router.up:
                await self.router.start()
            await self.router_troubles.add_all(reload=self.options.reload)
        async with trio.open_nursery() as nursery:
            for trouble in self.troubles:
                nursery.start_soon(trouble.end_well)
        await self._all_ready("at the end")

    async def _all_ready(self, when: str) -> None:
        """The router has every printer ready and greeted."""
        wanted = {machine.name for machine in self.machines}
        with trio.move_on_after(SETTLE_WITHIN_S):
            while await self.router.printers(ready=True) != wanted or self.books.breaks.open():  # noqa: ASYNC110
                await trio.sleep(0.1)
            return
        ready = await self.router.printers(ready=True)
        self.books.mishap("not recovered", f"{when}: {wanted - ready}, not greeted: {self.books.breaks.open()}")

    async def _last_words(self) -> None:
        """The newest value of each printer must come to all its followers."""
        for trouble in self.troubles:
            if not await trouble.say("the end"):
                self.books.mishap("last words not said", trouble.name)
        with trio.move_on_after(TOLD_WITHIN_S):
            while self.books.statuses.stale():  # noqa: ASYNC110 - told by the logs
                await trio.sleep(0.1)
        await trio.sleep(1)  # for what should not come

    def end_at_once(self) -> None:
        self.router.end_at_once()
        for machine in self.machines:
            machine.end()


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="scripts/soak.py",
        description="Chaos for a router, with an account of every script, event and status change. "
        "Exit code 0 when the books balance.",
    )
    result.add_argument("--minutes", type=float, default=1.0)
    result.add_argument("--printers", type=int, default=None, help="how many (default: 6 virtual, or 3 real ones)")
    result.add_argument(
        "--klipper",
        type=Path,
        metavar="DIR",
        help="a checkout of Klipper: real printers instead of virtual ones (as for the tests: KLIPPER_PYTHON, "
        "KLIPPER_MCU name its Python and the Linux-process MCU)",
    )
    result.add_argument("--speed", type=float, default=4.0, help="of the virtual printers' time (default: 4)")
    result.add_argument("--kill-every", type=float, default=3.0, help="minutes between ends of the router (first half)")
    result.add_argument("--no-reload", dest="reload", action="store_false", help="leave its configuration as it is")
    result.add_argument("--seed", default=None, help="the same plan of faults again (default: a new one, printed)")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the account there, too")
    result.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    return result


def main() -> int:
    options = parser().parse_args()
    if options.printers is None:
        options.printers = 3 if options.klipper else 6
    if options.printers < 2:
        parser().error("--printers: at least 2, as each follows another")
    if options.seed is None:
        options.seed = str(time.time_ns() % 1_000_000)
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    soak = Soak(options, folder)
    keep = True  # also when it fails in a way that nobody thought of
    try:
        trio.run(soak.run)
        setting: dict[str, object] = {
            "minutes": options.minutes,
            "printers": options.printers,
            "kind": "real" if options.klipper else "virtual",
            "seed": options.seed,
            "reload": options.reload,
        }
        code = report.report(soak.books, soak.course, soak.router.log, setting, options.json)
        keep = options.keep or code != 0
        return code
    finally:
        soak.end_at_once()
        if keep:
            print("kept:", folder)
        else:
            shutil.rmtree(folder)
