"""Case: how cost grows with the printers, the subscribers and the size of a frame; drawn in docs/performance.md."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from scripts.bench import peers
from scripts.bench.cases import Curve, Effort, Figure, Skipped, at_most, case
from scripts.bench.followed import Broadcast, Ring
from scripts.bench.machine import folder, remote
from scripts.bench.pair import call_frame
from scripts.bench.statistics import median, slope

PRINTERS = (1, 10, 25, 50, 100, 200)
SUBSCRIBERS = (1, 2, 5, 10, 25, 50, 100, 200)
CLIENTS = 100  # the router takes no more; with more subscribers, each client has two
FRAME_BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 5_000_000)
HZ = 4.0


@case("growth", "Growth with printers, subscribers and frame size")
def growth(effort: Effort) -> Iterator[Figure | Curve]:
    """The curves of docs/performance.md; the figures say how straight they are."""
    yield from _printers(PRINTERS[:2] if effort.quick else PRINTERS, effort)
    yield from _subscribers(SUBSCRIBERS[:2] if effort.quick else SUBSCRIBERS, effort)
    yield from _frames(FRAME_BYTES[:2] if effort.quick else FRAME_BYTES, effort)


def _printers(counts: tuple[int, ...], effort: Effort) -> Iterator[Figure | Curve]:
    rss: list[tuple[float, float]] = []
    start: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    seconds = effort.of(3, 1)
    for count in counts:
        names = [f"p{number}" for number in range(count)]
        with folder() as home, remote(Ring, str(home), count) as load, peers.router(home, names) as process:
            time.sleep(0.2)
            rss.append((count, process.rss_mb()))
            start.append((count, max(load("registered_at").values()) - process.started_at))
            load("follow")
            load("report", 1, HZ)
            before = process.cpu_s()
            load("report", seconds, HZ)
            cpu.append((count, 100 * (process.cpu_s() - before) / seconds))
    yield Curve("resident memory", "printers", "MB", rss, "memory")
    yield Curve("process start to methods registered on all", "printers", "s", start, "start")
    yield Curve("CPU of one core, each printer followed by another at 4 Hz", "printers", "%", cpu, "following")
    yield Figure(f"memory per printer, 1 … {counts[-1]}", "KB", [slope(*zip(*rss, strict=True)) * 1e3], at_most(60))
    yield Figure(f"start per printer, 1 … {counts[-1]}", "ms", [slope(*zip(*start, strict=True)) * 1e3])
    yield Figure(f"CPU per printer followed at 4 Hz, 1 … {counts[-1]}", "%", [slope(*zip(*cpu, strict=True))])


def _subscribers(counts: tuple[int, ...], effort: Effort) -> Iterator[Figure | Curve]:
    deliveries = effort.of(6000, 1000)
    singly: list[tuple[float, float]] = []
    at_once: list[tuple[float, float]] = []
    with folder() as home, remote(Broadcast, str(home)) as load, peers.router(home, ["main"]) as process:
        for count in counts:
            load("follow", count, 1 if count <= CLIENTS else 2)
            updates = max(8, deliveries // count)
            for points, flight in ((singly, 1), (at_once, 8)):
                load("run", updates, flight)
                before = process.cpu_s()
                load("run", updates, flight)
                points.append((count, (process.cpu_s() - before) / (updates * count) * 1e6))
    yield Curve("updates of 30 fields, singly", "subscribers", "CPU per delivery, µs", singly, "subscribers")
    yield Curve("8 updates at once", "subscribers", "CPU per delivery, µs", at_once, "subscribers")


def _frames(sizes: tuple[int, ...], effort: Effort) -> Iterator[Figure | Curve]:
    empty = len(call_frame(""))
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(folder())
        pairs = {"router": (stack.enter_context(peers.pair_on_router(home / "r"))[0], True)}
        with contextlib.suppress(Skipped):
            pairs["socat"] = (stack.enter_context(peers.pair_on_socat(home / "s"))[0], False)
        points: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
        for size in sizes:
            count = 60 if size < 100_000 else effort.of(20, 7)
            for name, (pair, parses) in pairs.items():
                samples = pair("latency", count, 0.0005, parses, "M" * max(1, size - empty))
                points[name].append((size, median(samples[2:]) * 1e6))
    for name, of in points.items():
        yield Curve(name, "bytes of the frame", "latency, µs", of, "frames")
    biggest = points["router"][-1]
    if sizes[-1] >= 1_000_000:
        yield Figure(f"{biggest[0] / 1e6:g} MB from A to B", "MB/s", [biggest[0] / biggest[1]])
