"""`klipper-router test FOLDER…`: what it is told, and what it answers."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from klipper_router.errors import ConfigError
from klipper_router.scenario import plan, run, show
from klipper_router.scenario.printers import Klipper

INTERRUPTED = 130


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `klipper-router test`."""
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path, help="a folder with, or above, scenario.yaml"
    )
    add_klipper_options(parser)
    parser.add_argument("--speed", metavar="N", type=_above_0, help="simulated seconds per second (virtual printers)")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write the results as JUnit XML")
    parser.add_argument("--consoles", action="store_true", help="show what the printers say while the steps run")
    parser.add_argument("--console-dir", metavar="DIR", type=Path, help="write NAME.console files and router.log there")
    parser.add_argument("--keep", action="store_true", help="keep each run's temporary directory, with logs")
    parser.add_argument("--list", action="store_true", help="only list the scenarios with their printers")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the router's log, each route as well")


def add_klipper_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose real printers."""
    parser.add_argument("--klipper", metavar="DIR", type=Path, help="run on this real Klipper, not on virtual printers")
    parser.add_argument("--python", metavar="P", type=Path, help="its Python (default: DIR/../klippy-env/bin/python)")
    parser.add_argument("--mcu", metavar="ELF", type=Path, help="its Linux process MCU (default: DIR/out/klipper.elf)")


def klipper(options: argparse.Namespace) -> Klipper | None:
    """The real Klipper that is asked for. Raises ConfigError when a part of it is missing."""
    if options.klipper is None:
        if options.python or options.mcu:
            raise ConfigError("--python and --mcu belong to --klipper DIR")
        return None
    directory = options.klipper.expanduser().absolute()
    default = directory.parent / "klippy-env" / "bin" / "python"
    python = options.python or (default if default.exists() else Path(sys.executable))
    mcu = options.mcu or directory / "out" / "klipper.elf"
    for file, mend in (
        (directory / "klippy" / "klippy.py", "--klipper is the directory of a Klipper checkout"),
        (python, "give --python"),
        (mcu, "build it (make menuconfig: Linux process; make), or give --mcu"),
    ):
        if not file.exists():
            raise ConfigError(f"there is no {file}: {mend}")
    # Not resolved: the python of a virtual environment is a link, and knows its environment by where the link is.
    return Klipper(directory, python.absolute(), mcu.absolute())


def main(options: argparse.Namespace) -> int:
    """Run the scenarios. Returns 0 when all passed, else 1. Raises ConfigError for a wrong scenario."""
    plans = [plan.load(folder) for folder in plan.find(options.folders)]
    if options.list:
        for each in plans:
            print(f"{each.folder}: {' '.join(each.printers)}")
        return 0
    shows: list[run.Show] = [show.Progress(keep=options.keep)]
    if options.consoles or options.verbose:
        shows.append(show.Consoles(console=options.consoles, routes=True, debug=options.verbose))
    if options.console_dir:
        shows.append(show.ConsoleFiles(options.console_dir))
    how = run.Options(klipper(options), options.speed, options.keep)
    results = run_plans(plans, how, show.Several(shows))
    if options.junit:
        show.junit(results).write(options.junit, encoding="utf-8", xml_declaration=True)
    if len(results) < len(plans):
        print(f"interrupted: {len(results)} of {len(plans)} scenarios were run", file=sys.stderr)
        return INTERRUPTED
    failed = [each for each in results if not each.passed]
    if len(results) > 1:
        skipped = sum(bool(each.skipped) for each in results)
        more = f", {skipped} skipped" if skipped else ""
        print(f"{len(results) - len(failed) - skipped} of {len(results)} scenarios passed{more}")
    return 1 if failed else 0


def run_plans(plans: Sequence[plan.Plan], options: run.Options, to: run.Show) -> list[run.Result]:
    """Run one after the other; returns those that were run. Raises BrokenPipeError when nobody reads what is shown."""
    try:
        return trio.run(run_all, plans, options, to)
    except* BrokenPipeError:
        raise BrokenPipeError from None


async def run_all(plans: Sequence[plan.Plan], options: run.Options, to: run.Show) -> list[run.Result]:
    """Run one after the other; SIGINT, SIGTERM or SIGHUP cleans up and ends it. Returns those that were run."""
    results: list[run.Result] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at, signals, nursery.cancel_scope)
            for each in plans:
                results.append(await run.run(each, options, to))  # noqa: PERF401 what was run before a Ctrl-C stays
            nursery.cancel_scope.cancel()
    return results


async def _cancel_at(signals: object, scope: trio.CancelScope) -> None:
    async for _ in signals:  # type: ignore[attr-defined]
        scope.cancel()


def _above_0(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value
