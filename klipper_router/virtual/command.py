"""The command line, with klippy.py's own flags where they make sense."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

import trio

from .klippy import VirtualKlippy


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="klipper-router virtual", description="A simulated klippy.py: one printer without hardware."
    )
    result.add_argument("config", type=Path, help="the printer's configuration file")
    result.add_argument("-a", "--api-server", metavar="SOCKET", type=Path, help="API server's unix socket")
    result.add_argument("-l", "--logfile", metavar="LOG", type=Path, help="write the log there instead of stderr")
    result.add_argument("-I", "--input-tty", metavar="PTY", type=Path, help="make a serial console (a link to a pty)")
    result.add_argument("-v", "--verbose", action="store_true", help="accepted as by klippy.py")
    result.add_argument("--speed", type=_positive, default=1.0, help="simulated seconds per second (default 1)")
    result.add_argument(
        "--gcode-dialect",
        choices=("v0.13", "v0.12"),
        default="v0.13",
        help="v0.12: read G-code as Klipper did before 2024-11-26",
    )
    return result


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise ValueError(text)
    return value


def main(argv: list[str]) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when the socket or the log cannot be opened."""
    options = parser().parse_args(argv)
    if options.logfile is None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    klippy = VirtualKlippy(
        options.config,
        apiserver=options.api_server,
        log_file=options.logfile,
        input_tty=options.input_tty,
        speed=options.speed,
        gcode_dialect=options.gcode_dialect,
    )
    problems: list[OSError] = []
    try:
        trio.run(_run_until_signal, klippy)
    except* OSError as group:
        problems += _leaves(group)
    for problem in problems:
        what = f"{problem.filename}: {problem.strerror}" if problem.filename else problem
        print(f"klipper-router virtual: {what}", file=sys.stderr)
    return 1 if problems else 0


def _leaves(group: BaseExceptionGroup[OSError]) -> list[OSError]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


async def _run_until_signal(klippy: VirtualKlippy) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(klippy.run)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
