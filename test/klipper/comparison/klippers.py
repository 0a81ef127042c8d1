"""Plays scenarios: on virtual printers in this process, or on real ones.

A real Klipper runs in two ways. Live scenarios have Klipper's Linux micro-controller, which has no pins on a machine
without GPIO. All others use Klippy's batch mode (docs/Debugging.md: `-o` and the data dictionary of a
micro-controller): the whole host software with its API and any pins, but moves take no time, endstops trigger where
they should, and nothing gets warm.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from klipper_router.virtual import Dialect
from test.fleet import Klippy, RealBackend, fleet
from test.virtual.rig import virtual_klippy

from .normal import normal
from .play import Player, Transcript
from .scenario import Scenario

# Faster than real where nobody has to be quick enough; much faster where the real one takes no time at all.
SPEED_LIVE = 10.0
SPEED_BATCH = 200.0

# Slow enough to stay in startup, as a real one does that does not find its micro-controller.
SPEED_STARTUP = 0.01

# Processes of real Klippers, and virtual printers in this process, that run side by side.
REAL_AT_ONCE = 3
VIRTUAL_AT_ONCE = 8


class LonelyBackend(RealBackend):
    """Klipper that looks for its micro-controller in vain."""

    def start_mcu(self, folder: Path, name: str) -> subprocess.Popen[bytes] | None:
        return None


class BatchBackend(LonelyBackend):
    """Klipper in its batch mode."""

    def command(self, folder: Path, name: str) -> list[str]:
        dictionary = str(self.klipper_dir / "out/klipper.dict")
        return [*super().command(folder, name), "-o", str(folder / f"{name}.serial"), "-d", dictionary]


FAILED = "(failed)"


@dataclass(frozen=True)
class Site:
    """A Klippy that was started."""

    folder: Path
    sock: Path
    tty: Path
    lose_mcu: Callable[[], None]


Start = Callable[[Scenario], AbstractAsyncContextManager[Site]]


def virtual(version: str) -> Start:
    """Starts virtual printers."""
    dialect: Dialect = "v0.12" if version == "v0.12" else "v0.13"

    @asynccontextmanager
    async def start(scenario: Scenario) -> AsyncIterator[Site]:
        speed = SPEED_STARTUP if not scenario.mcu else SPEED_LIVE if scenario.live else SPEED_BATCH
        speed = scenario.speed or speed
        config = scenario.config(Path("{folder}"))
        async with virtual_klippy(
            config, speed=speed, dialect=dialect, ready=False, files=scenario.config_files(), log=True, tty=True
        ) as rig:
            yield Site(rig.folder, rig.socket, rig.folder / "tty", rig.klippy.lose_mcu)

    return start


def real(klipper_dir: Path) -> Start:
    """Starts this Klipper."""

    @asynccontextmanager
    async def start(scenario: Scenario) -> AsyncIterator[Site]:
        kind = RealBackend if scenario.live and scenario.mcu else LonelyBackend if scenario.live else BatchBackend
        backend = kind(klipper_dir)
        async with fleet(backend) as made:
            klippy = made.klippys["printer"] = Klippy(made, "printer")
            for name, text in {**scenario.config_files(), "printer.cfg": scenario.config(made.folder)}.items():
                path = made.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            klippy.start()
            yield Site(made.folder, klippy.sock, made.folder / "printer.tty", lambda: _end(klippy.mcu))

    return start


def _end(process: subprocess.Popen[bytes] | None) -> None:
    assert process is not None
    process.kill()


def version_of(klipper_dir: Path) -> str:
    """Which transcripts a Klipper is compared with: what matters is how it reads G-code."""
    return "v0.13" if RealBackend(klipper_dir).reads_quotes else "v0.12"


async def play_all(scenarios: Iterable[Scenario], start: Start, *, at_once: int) -> dict[str, Transcript]:
    """The normal transcripts by scenario. One that fails holds the reason as its only step."""
    transcripts: dict[str, Transcript] = {}
    limit = trio.CapacityLimiter(at_once)

    async def play(scenario: Scenario) -> None:
        async with limit:
            try:
                transcripts[scenario.id] = await _play(scenario, start)
            except* AssertionError as group:
                transcripts[scenario.id] = [{"step": FAILED, "got": [repr(e) for e in group.exceptions]}]

    async with trio.open_nursery() as nursery:
        for scenario in scenarios:
            nursery.start_soon(play, scenario)
    return transcripts


def failure(transcript: Transcript) -> str | None:
    """Why the scenario could not be played to its end."""
    return str(transcript[0]["got"]) if transcript and transcript[0]["step"] == FAILED else None


async def _play(scenario: Scenario, start: Start) -> Transcript:
    async with start(scenario) as site, trio.open_nursery() as nursery:
        transcript = await Player(site.sock, site.tty, site.lose_mcu, nursery).play(scenario)
        nursery.cancel_scope.cancel()
    shown: Transcript = normal(transcript, site.folder, scenario.hide, scenario.hide_fields)
    return shown
