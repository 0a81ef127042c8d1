"""What goes wrong: faults of printers, each by a plan of its own (the same for the same seed), and of the router.

A fault brackets what it breaks by `Machine.breaking`, so that the books know what may have been missed.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Iterator

import trio

from scripts.soak.books import Books
from scripts.soak.machines import BROKEN, OTHER, QUIET, REACHABLE, UNREACHABLE, Machine
from scripts.soak.router_process import RouterProcess

# name -> how often, against the others
FAULTS = {"restart": 3, "shutdown": 2, "stall": 2, "vanish": 3, "broken_config": 1, "other_macros": 1}
WORK = {"say": 12, "flood": 4, "sleep": 2}
# Known only to virtual printers, as G-code.
VIRTUAL_FAULTS = {"drop": 2, "cut": 3, "refuse": 1}
UNPLUGGED_AFTER = 3  # restarts that did not help
LONG_STALL_SHARE = 0.02
# The router gives a silent Klippy up after at most 20 s.
LONG_STALL_S = 24.0

NASTY = [
    "plain",
    "it's",
    '"quoted"',
    "; M112",
    "x#y*z",
    "{a} {% b %}",
    "= \\ = '",
    "\u00e9\U0001f600\u2028 end",
    "M112",
]
PLAIN = NASTY[:3]


def plan(seed: str, *, virtual: bool, spared: bool) -> Iterator[tuple[float, str]]:
    """For ever: how long to wait (as a share of the usual pause), and what to do then.

    One printer may be ``spared``: everything that is asked of it must come true, whatever happens to the others.
    """
    rng = random.Random(seed)
    weights = WORK if spared else FAULTS | WORK | (VIRTUAL_FAULTS if virtual else {})
    while True:
        yield rng.expovariate(1.0), rng.choices(list(weights), list(weights.values()))[0]


class Troubles:
    """What goes wrong with one printer. ``speed``: of a virtual printer's time; 0: it is a real one."""

    def __init__(
        self,
        machine: Machine,
        others: list[str],
        books: Books,
        seed: str,
        *,
        speed: float,
        reads_quotes: bool,
        spared: bool,
    ) -> None:
        self.name = machine.name
        self._machine = machine
        self._others = others
        self._books = books
        self._speed = speed
        self._plan = plan(f"{seed} {machine.name}", virtual=speed > 0, spared=spared)
        self._rng = random.Random(f"{seed} {machine.name} how")
        self._texts = NASTY if reads_quotes else PLAIN
        self._pause_s, self._restart_s = (2.0, 10.0) if speed else (3.0, 40.0)

    async def rage(self) -> None:
        """For ever."""
        for pause, name in self._plan:
            await trio.sleep(pause * self._pause_s)
            self._books.faults[name] += 1
            await getattr(self, f"_{name}")()
            if self._rng.random() < 0.8:  # else the next one meets it while it comes back
                await self.heal()

    async def heal(self) -> None:
        """Until it is ready, whatever it takes."""
        machine = self._machine
        restarts = 0
        while not await machine.until("ready", within_s=self._restart_s / 2):
            machine.configure()
            if await machine.until("shutdown", "error", within_s=0):
                restarts += 1
                async with machine.breaking():
                    if restarts % UNPLUGGED_AFTER == 0:
                        await machine.unplug()
                    await self._restarted("FIRMWARE_RESTART")
            elif not await machine.until("startup", "ready", within_s=self._restart_s / 4):
                async with machine.breaking():
                    await machine.kill()
                    machine.start()
                    await machine.until("startup", "ready", "error", within_s=self._restart_s)

    async def end_well(self) -> None:
        """With its own macros, ready."""
        self._machine.signal(signal.SIGCONT)
        await self.heal()
        await self._restart()
        await self.heal()

    async def _restarted(self, script: str) -> None:
        """Run a script that ends all connections; if it cannot be run, end them otherwise."""
        machine = self._machine
        ended = False
        if await machine.until(*REACHABLE, within_s=self._restart_s / 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.gcode, script, self._restart_s)
                ended = await machine.until(UNREACHABLE, within_s=self._restart_s)
                nursery.cancel_scope.cancel()
        if not ended:
            await machine.kill()
            machine.start()

    # -- faults --------------------------------------------------------------------------------------------------

    async def _restart(self) -> None:
        self._machine.configure()
        async with self._machine.breaking():
            await self._restarted(self._rng.choice(["RESTART", "FIRMWARE_RESTART"]))

    async def _other_macros(self) -> None:
        if self._rng.random() < 0.5:
            self._machine.configure(OTHER)
        else:
            self._machine.configure(follows=QUIET)
        async with self._machine.breaking():
            await self._restarted("RESTART")
        await self.heal()
        await trio.sleep(self._rng.uniform(0, 3))
        await self._restart()

    async def _shutdown(self) -> None:
        async with self._machine.breaking():
            await self._machine.gcode("M112")
            await trio.sleep(self._rng.uniform(0, 1.5))
            await self._restarted("FIRMWARE_RESTART")

    async def _broken_config(self) -> None:
        self._machine.configure(BROKEN)
        async with self._machine.breaking():
            await self._restarted("RESTART")
            await self._machine.until("error", within_s=self._restart_s)
            await trio.sleep(self._rng.uniform(0, 2))
            self._machine.configure()
            await self._restarted("FIRMWARE_RESTART")

    async def _stall(self) -> None:
        if self._rng.random() < LONG_STALL_SHARE and await self._machine.greeted(self._restart_s):
            async with self._machine.breaking():
                await self._stopped(LONG_STALL_S)
        else:
            await self._stopped(self._rng.uniform(0, 2))

    async def _stopped(self, how_long_s: float) -> None:
        with self._machine.hindered():
            self._machine.signal(signal.SIGSTOP)
            try:
                await trio.sleep(how_long_s)
            finally:
                self._machine.signal(signal.SIGCONT)

    async def _vanish(self) -> None:
        async with self._machine.breaking():
            await self._machine.kill()
            await self._machine.until(UNREACHABLE, within_s=5)
        await trio.sleep(self._rng.uniform(0, 2))
        self._machine.start()

    async def _drop(self) -> None:
        await self._disconnect("VIRTUAL_FAULT TYPE=drop")

    async def _cut(self) -> None:
        """The connections end in the middle of a frame."""
        await self._disconnect("VIRTUAL_FAULT TYPE=cut")

    async def _refuse(self) -> None:
        """The connections end, and for a while no new ones are accepted."""
        how_long_s = self._rng.uniform(0.2, 1.5)
        script = f"VIRTUAL_FAULT TYPE=drop\nVIRTUAL_FAULT TYPE=refuse DURATION={how_long_s * self._speed}"
        with self._machine.hindered():
            await self._disconnect(script)
            await trio.sleep(how_long_s)

    async def _disconnect(self, script: str) -> None:
        """End its connections, but not its life."""
        if not await self._machine.greeted(self._restart_s):
            return  # it may still run the greeting of its last connection, which would be taken for that of the next
        async with self._machine.breaking():
            await self._restarted(script)

    async def _sleep(self) -> None:
        """Its G-code is busy: whoever follows it, or is to be run on it, waits."""
        how_long_s = self._rng.uniform(0.2, 3)
        with self._machine.hindered():
            await self._machine.gcode(f"G4 P{how_long_s * 1000 * (self._speed or 1):.0f}")

    # -- work ----------------------------------------------------------------------------------------------------

    async def _say(self) -> None:
        """Change what others follow, once or faster than Klipper looks."""
        for _ in range(self._rng.choice([1, 1, 5])):
            await self.say(self._rng.choice(self._texts))

    async def say(self, text: str) -> bool:
        """Set a text that has not been there before."""
        number = next(self._books.jobs.numbers)
        self._books.statuses.plan(number, self._machine.name, f"{number} {text}")
        return await self._machine.gcode(f"SAID N={number}\nM117 {number} {text}")

    async def _flood(self) -> None:
        """One macro that calls the router many times at once."""
        jobs, name, count = self._books.jobs, self._machine.name, self._rng.randint(5, 60)
        target, at = self._rng.choice(self._others), trio.current_time()
        numbers = [jobs.script(name, target, at, caller=name, was_sent=False) for _ in range(count)]
        jobs.event(name, f"soak/{name}", at, caller=name)
        await self._machine.gcode(f"FLOOD FIRST={numbers[0]} COUNT={count} TARGET={target}")


class RouterTroubles:
    """What goes wrong with the router itself, and with its configuration."""

    def __init__(self, router: RouterProcess, machines: list[Machine], books: Books, seed: str) -> None:
        self._router = router
        self._machines = machines
        self._books = books
        self._kill_rng = random.Random(f"{seed} router")
        self._reload_rng = random.Random(f"{seed} reload")

    async def end_again_and_again(self, every_s: float, times: int) -> None:
        """Kill it and stop it by turns."""
        for number in range(times):
            await trio.sleep(every_s)
            async with self._router.turn:
                self._books.faults["router killed" if number % 2 == 0 else "router stopped"] += 1
                await self._router.end(signal.SIGKILL if number % 2 == 0 else signal.SIGTERM)
                await trio.sleep(self._kill_rng.uniform(0, 2))
                await self._router.start()

    async def reload_again_and_again(self) -> None:
        """For ever: printers are removed, added and changed while it runs; and files that are wrong."""
        while True:
            await trio.sleep(self._reload_rng.uniform(2, 15))
            # The other printers' macros do not subscribe again when a printer is added.
            followed = [machine for machine in self._machines if self._resubscribed(machine)]
            machine = self._reload_rng.choice(followed)
            what = self._reload_rng.choice(self.changes())
            self._books.faults[f"reload: {what.__name__.strip('_')}"] += 1
            await what(machine)

    def changes(self) -> list[Callable[[Machine], Awaitable[None]]]:
        """What may be done to the configuration, each as often as it is there."""
        return [self._remove, self._remove, self._change, self._spoil]

    def _resubscribed(self, machine: Machine) -> bool:
        return all(other.resubscribes for other in self._machines if other.neighbour == machine.name)

    async def _remove(self, machine: Machine) -> None:
        async def take_out() -> bool:
            self._router.configure()
            return await self._router.reload()

        await self._away(machine, take_out, self.add_all)

    async def _away(
        self, machine: Machine, take_out: Callable[[], Awaitable[bool]], put_back: Callable[[], Awaitable[None]]
    ) -> None:
        """Without a printer for a while; ``take_out`` tells whether it is gone."""
        with machine.hindered(), self._router.editing(machine.name):
            async with self._router.turn:
                self._ends_link(machine)
                self._router.has.discard(machine.name)
                gone = await take_out()
                since = trio.current_time()
            await trio.sleep(self._reload_rng.uniform(0, 4))
            async with self._router.turn:
                if gone:
                    self._books.jobs.removed.append((machine.name, since, trio.current_time()))
                await put_back()

    async def add_all(self, *, reload: bool = True) -> None:
        """Every printer is in the configuration again, and nothing is laid over that."""
        names = {machine.name for machine in self._machines}
        with self._router.editing(*(names - self._router.has)):
            self._router.has = names
            self._router.configure()
            self._router.forget_changes()
            if reload:
                await self._router.reload()

    async def _change(self, machine: Machine) -> None:
        async with self._router.turn:
            with self._router.editing(machine.name):
                self._ends_link(machine)
                self._router.use_other_path(machine.name)
                self._router.configure()
                await self._router.reload()

    def _ends_link(self, machine: Machine) -> None:
        self._books.breaks.begins(machine.name, trio.current_time())
        self._router.regreet(machine)

    async def _spoil(self, machine: Machine) -> None:
        """A wrong file must change nothing."""
        async with self._router.turn:
            good = self._router.config.read_text()
            self._router.config.write_text(good + f"[klippy {machine.name}\nsock: nowhere\n")
            await self._router.reload("configuration: not reloaded")
            self._router.config.write_text(good)
