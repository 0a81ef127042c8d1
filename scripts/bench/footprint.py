"""Cases: memory, and the time from a process's start to its methods on every printer."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from scripts.bench import peers
from scripts.bench.cases import Effort, Figure, Skipped, at_most, case
from scripts.bench.machine import Measured, folder, measured, remote, until
from scripts.bench.rounds import interleaved
from scripts.bench.standin import Klippys

FEW, MANY = 3, 53
# What `klipper_router.cli` imports for a plain run, in its order.
PLAIN_RUN = (
    "from klipper_router import cli, lean; lean.without_openssl(); "
    "import trio; from klipper_router import app, config, log"
)
METHODS_WITHIN_S = 20.0


@case("memory", "Resident memory, idle and connected")
def memory(effort: Effort) -> Iterator[Figure]:
    """Shared libraries included; 1 MB is 1e6 bytes."""
    rounds = effort.of(3, 1)
    few, many = interleaved(rounds, lambda: _rss_mb(FEW), lambda: _rss_mb(MANY))
    yield Figure("router with 3 printers", "MB", few, at_most(32))
    each = [(b - a) * 1e3 / (MANY - FEW) for a, b in zip(few, many, strict=True)]
    yield Figure("per further printer", "KB", each, at_most(60))
    yield Figure("Python alone", "MB", [_idle_rss_mb("") for _ in range(rounds)])
    yield Figure("Python with trio and msgspec", "MB", [_idle_rss_mb("import trio, msgspec; ") for _ in range(rounds)])
    with folder() as home, peers.virtual_klippy(home, "main"):
        try:
            with peers.moonraker(home, "main") as (process, _):
                time.sleep(1)
                theirs = process.rss_mb()
        except Skipped as skipped:
            yield Figure("Moonraker with one printer", "MB", [0.0], note=str(skipped))
            return
    yield Figure("Moonraker with one printer", "MB", [theirs])
    yield Figure("router with 3 ÷ Moonraker with one", "×", [each / theirs for each in few], at_most(0.6))


def _rss_mb(printers: int) -> float:
    names = [f"p{number}" for number in range(printers)]
    with folder() as home, remote(Klippys, str(home), names), peers.router(home, names) as process:
        time.sleep(0.3)
        return process.rss_mb()


def _idle_rss_mb(imports: str) -> float:
    with folder() as home:
        done = home / "done"
        code = f"import time; {imports}open({str(done)!r}, 'w').close(); time.sleep(60)"
        with measured([sys.executable, "-c", code], home / "out") as process:
            until(done.exists, "Python imported")
            return process.rss_mb()


@case("start", "From process start to the methods registered on 3 ready printers")
def start(effort: Effort) -> Iterator[Figure]:
    started, imports, python = interleaved(
        effort.rounds, _start_s, lambda: _python_s(PLAIN_RUN)[1], lambda: _python_s("pass")[0]
    )
    yield Figure("start", "s", started, at_most(0.35))
    yield Figure("of it, Python itself, end included", "s", python)
    yield Figure("of it, imports", "s", imports)


def _start_s() -> float:
    names = ["p0", "p1", "p2"]
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(folder())
        load = stack.enter_context(remote(Klippys, str(home), names))
        process = stack.enter_context(measured(peers.router_command(home, names), home / "router.log"))
        load("serve_for", 0.2)
        until(lambda: peers.all_ready(process, home), "every printer ready")
        registered: dict[str, float] = load("registered_at")
        return max(registered.values()) - process.started_at


def _python_s(code: str) -> tuple[float, float]:
    """Seconds that a Python takes for this from its start to its end, and those that it takes for the code itself."""
    timed = f"import time; begun = time.perf_counter(); {code}; print(time.perf_counter() - begun)"
    with folder() as home:
        process = Measured([sys.executable, "-c", timed], home / "out")
        process.process.wait()
        whole_s = time.perf_counter() - process.started_at
        return whole_s, float(process.output.read_text())
