"""One run of one scenario: printers, watches and the router are started, the steps are run, everything is cleaned up.

Knows the order and the time of it all; what a step does is in `steps`, what people see of it in `show`.
"""

from __future__ import annotations

import functools
import logging
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from klipper_router import app
from klipper_router.config import Config
from klipper_router.router import Router
from klipper_router.scenario import steps
from klipper_router.scenario.plan import Plan, PlannedPrinter, PlannedStep
from klipper_router.scenario.printers import Klipper, PrinterProcess, RealPrinter, Skipped, VirtualPrinter
from klipper_router.scenario.watch import Bell, ConsoleLine, ConsoleLog, Watch
from klipper_router.scenario.world import Missed, World

START_WITHIN_S = 15.0
START_REAL_WITHIN_S = 60.0
LOG_LINES_KEPT = 200
LOG_LINES_SHOWN = 8
# A Unix socket's path holds 107 bytes; the rest is for NAME.sock.
MAX_DIRECTORY_BYTES = 60


@dataclass(frozen=True)
class Options:
    """How to run. ``klipper`` None: virtual printers; ``speed`` None: the scenario's own (real ones know only 1).

    ``patience_s``: beyond its own simulated time a step has this long in real seconds, as redialling, for one, knows
    no simulated time.
    """

    klipper: Klipper | None = None
    speed: float | None = None
    keep: bool = False
    patience_s: float = 2.0


@dataclass(frozen=True)
class StepResult:
    """How a step ended. ``message``: why it was skipped, or what came instead of what it wants."""

    step: PlannedStep
    outcome: str
    """passed, failed or skipped"""
    seconds: float
    message: str = ""


@dataclass
class Result:
    """How a scenario ended. ``problem`` is a failure that belongs to no step: a printer did not start."""

    plan: Plan
    steps: list[StepResult] = field(default_factory=list)
    problem: str = ""
    skipped: str = ""
    """Why the scenario was not run at all."""
    seconds: float = 0.0

    @property
    def failed(self) -> StepResult | None:
        return next((each for each in self.steps if each.outcome == "failed"), None)

    @property
    def passed(self) -> bool:
        return not self.problem and self.failed is None


class Show(Protocol):
    """What is told of a run while it goes on. Times are simulated seconds since its beginning."""

    def begins(self, plan: Plan, directory: Path) -> None: ...
    def console(self, line: ConsoleLine) -> None: ...
    def router_log(self, at_s: float, record: logging.LogRecord) -> None: ...
    def state(self, at_s: float, printer: str, state: str) -> None: ...
    def step_begins(self, at_s: float, step: PlannedStep) -> None: ...
    def step_ended(self, result: StepResult) -> None: ...
    def ended(self, result: Result) -> None: ...


async def run(plan: Plan, options: Options, show: Show) -> Result:
    """Run a scenario; its failure is in the result. When this returns, or is cancelled, nothing is left behind."""
    result = Result(plan)
    begin = trio.current_time()
    if options.klipper is not None and plan.scenario.virtual_only:
        result.skipped = f"virtual printers only: {plan.scenario.virtual_only}"
        show.ended(result)
        return result
    with _temporary_directory(options.keep) as directory:
        show.begins(plan, directory)
        await _Run(plan, options, show, directory, result).run()
    result.seconds = trio.current_time() - begin
    show.ended(result)
    return result


class _Run:
    def __init__(self, plan: Plan, options: Options, show: Show, directory: Path, result: Result) -> None:
        self._plan = plan
        self._show = show
        self._result = result
        self._begin = trio.current_time()
        self._patience_s = options.patience_s
        self._real = options.klipper is not None
        self._speed = 1.0 if self._real else options.speed or plan.scenario.speed
        self._bell = Bell()
        self._console = ConsoleLog(self._now, show.console)
        self._log: deque[str] = deque(maxlen=LOG_LINES_KEPT)
        self._printers = {
            each.name: _process(each, directory, plan, options.klipper, self._speed) for each in plan.printers.values()
        }
        self._watches = {
            name: Watch(
                name,
                str(printer.sock),
                self._bell,
                self._console,
                lambda who, state: show.state(self._now(), who, state),
            )
            for name, printer in self._printers.items()
        }
        self._router_config = _with_sockets(plan.router, directory, self._printers)

    def _now(self) -> float:
        return (trio.current_time() - self._begin) * self._speed

    async def run(self) -> None:
        with _router_log(self._on_log):
            try:
                async with trio.open_nursery() as nursery:
                    await self._in(nursery)
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    for printer in self._printers.values():
                        await printer.stop()

    async def _in(self, nursery: trio.Nursery) -> None:
        for watch in self._watches.values():
            nursery.start_soon(watch.run)
        try:
            await self._start(nursery)
        except Missed as problem:
            self._result.problem = f"{problem}{self._surroundings()}"
            return
        world = World(
            printers=self._printers,
            watches=self._watches,
            bell=self._bell,
            speed=self._speed,
            nursery=nursery,
            router_sock=self._router_config.router.sock,
            names=self._plan.names,
        )
        for step in self._plan.steps:
            self._show.step_begins(self._now(), step)
            result = await self._step(step, world)
            self._result.steps.append(result)
            self._show.step_ended(result)
            if result.outcome == "failed":
                return

    async def _start(self, nursery: trio.Nursery) -> None:
        """Until all printers are as the scenario wants them, and the router has announced those that are ready."""
        wanted = {name: each for name, each in self._plan.printers.items() if each.starts}
        limit_s = START_REAL_WITHIN_S if self._real else START_WITHIN_S
        with trio.move_on_after(limit_s) as limit:
            for name in wanted:
                await self._printers[name].start(nursery)
            for name in wanted:
                await self._bell.until(functools.partial(self._connected, name))
            router = await nursery.start(app.serve, self._router_config)
            for planned in wanted.values():
                await self._bell.until(functools.partial(self._as_wanted, planned, router))
        if limit.cancelled_caught:
            states = ", ".join(f"{name} is {self._watches[name].state}" for name in wanted)
            raise Missed(f"the printers did not start within {limit_s:g} s: {states}")

    def _connected(self, name: str) -> bool | None:
        if not self._printers[name].running:
            raise Missed(f"{name} ended while it started")
        return self._watches[name].lives > 0 or None

    def _as_wanted(self, planned: PlannedPrinter, router: Router) -> bool | None:
        watch = self._watches[planned.name]
        self._connected(planned.name)
        if watch.state in ("error", "shutdown") and watch.state != planned.state:
            raise Missed(f"{planned.name} started into {watch.state}: {watch.state_message.strip()}")
        known = router.printers[planned.name].state
        done = known.announced if planned.state == "ready" else known.state == planned.state == watch.state
        return done or None

    async def _step(self, step: PlannedStep, world: World) -> StepResult:
        begin = trio.current_time()
        outcome, message = "passed", ""
        limit = step.timeout_s / self._speed + self._patience_s
        try:
            with trio.move_on_after(limit) as scope:
                await steps.run(step, world)
            if scope.cancelled_caught:
                outcome, message = "failed", f"{steps.missed(step, world)}\n(waited {limit:.1f} s)"
            elif world.background:
                raise world.background[0]
        except Skipped as skipped:
            outcome, message = "skipped", str(skipped)
        except Missed as problem:
            outcome, message = "failed", str(problem)
        if outcome == "failed":
            message += self._surroundings()
        return StepResult(step, outcome, trio.current_time() - begin, message)

    def _surroundings(self) -> str:
        """What else helps to understand a failure."""
        states = ", ".join(f"{name} {watch.state}" for name, watch in self._watches.items())
        lines = list(self._log)[-LOG_LINES_SHOWN:]
        log = "".join(f"\n  {line}" for line in lines) or " none"
        words = "".join(f"\n{words}" for printer in self._printers.values() if (words := printer.last_words()))
        return f"\nstates: {states}{words}\nlast lines of the router's log:{log}"

    def _on_log(self, record: logging.LogRecord) -> None:
        at_s = self._now()
        if record.levelno >= logging.INFO:
            self._log.append(f"{at_s:7.2f} {record.levelname} {record.getMessage()}")
        self._show.router_log(at_s, record)


def _process(
    planned: PlannedPrinter, directory: Path, plan: Plan, klipper: Klipper | None, speed: float
) -> PrinterProcess:
    if klipper is None:
        return VirtualPrinter(planned, directory, plan.gcodes, speed)
    return RealPrinter(planned, directory, plan.gcodes, klipper)


def _with_sockets(config: Config, directory: Path, printers: dict[str, PrinterProcess]) -> Config:
    """The router's configuration with this run's sockets."""
    return msgspec.structs.replace(
        config,
        router=msgspec.structs.replace(config.router, sock=str(directory / "router.sock")),
        klippy={
            name: msgspec.structs.replace(section, sock=str(printers[name].sock))
            for name, section in config.klippy.items()
        },
    )


@contextmanager
def _temporary_directory(keep: bool) -> Iterator[Path]:
    base = tempfile.gettempdir()
    directory = Path(tempfile.mkdtemp(prefix="kr-", dir=base if len(base) < MAX_DIRECTORY_BYTES else "/tmp"))
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


class _Handler(logging.Handler):
    def __init__(self, take: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.DEBUG)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("klipper_router.virtual"):
            self._take(record)


@contextmanager
def _router_log(take: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """The router's log goes to ``take`` only, down to each route."""
    logger = logging.getLogger("klipper_router")
    handler, level, propagate = _Handler(take), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
