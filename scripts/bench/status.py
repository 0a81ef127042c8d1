"""Cases: what a printer's status costs, to one follower and to many."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from scripts.bench import peers
from scripts.bench.cases import Effort, Figure, at_least, at_most, case
from scripts.bench.followed import Broadcast, Ring
from scripts.bench.machine import Measured, Remote, folder, remote
from scripts.bench.rounds import interleaved, ratios

SUBSCRIBERS = (1, 10, 50)
# As many as a Klippy that has a lot to say leaves in one read.
FLIGHT = 8


@case("status-fanout", "One status update of 30 fields to 1, 10 and 50 API clients")
def status_fanout(effort: Effort) -> Iterator[Figure]:
    """All fields change each time. At once: 8 updates under way; singly: the next when all have the last."""
    deliveries = effort.of(10_000, 2_000)

    def measure(load: Remote, process: Measured, subscribers: int, flight: int) -> Callable[[], tuple[float, float]]:
        updates = max(8, deliveries // subscribers)

        def measured() -> tuple[float, float]:
            before = process.cpu_s()
            elapsed = load("run", updates, flight)
            return updates / elapsed, (process.cpu_s() - before) / (updates * subscribers) * 1e6

        return measured

    with contextlib.ExitStack() as stack:
        measures = []
        for subscribers in SUBSCRIBERS:
            home = stack.enter_context(folder())
            load = stack.enter_context(remote(Broadcast, str(home)))
            process = stack.enter_context(peers.router(home, ["main"]))
            load("follow", subscribers)
            measures += [measure(load, process, subscribers, 1), measure(load, process, subscribers, FLIGHT)]
        results = interleaved(effort.rounds, *measures)
    singly, at_once = results[0::2], results[1::2]
    for subscribers, one, many in zip(SUBSCRIBERS, singly, at_once, strict=True):
        aim = at_least(2000) if subscribers == 50 else None
        yield Figure(f"updates to {subscribers}", "updates/s", [rate for rate, _ in many], aim)
        yield Figure(f"CPU per update and subscriber, of {subscribers}", "µs", [cpu for _, cpu in many])
        yield Figure(f"the same, updates coming singly, of {subscribers}", "µs", [cpu for _, cpu in one])
    few, some, most = ([cpu for _, cpu in of] for of in at_once)
    yield Figure("CPU per subscriber, 10 ÷ 1", "×", ratios(some, few), at_most(1.05))
    yield Figure("CPU per subscriber, 50 ÷ 10", "×", ratios(most, some), at_most(1.05))


@case("status-50-printers", "50 printers, each followed by another's macro at 4 Hz")
def status_50_printers(effort: Effort) -> Iterator[Figure]:
    """200 updates of 12 fields a second come in, 200 callbacks go out and are answered."""
    seconds = effort.of(5, 1)
    names = [f"p{number}" for number in range(50)]
    with folder() as home, remote(Ring, str(home), len(names)) as load, peers.router(home, names) as process:
        load("follow")

        def measured() -> float:
            before = process.cpu_s()
            callbacks = load("report", seconds, 4.0)
            cpu = process.cpu_s() - before
            if callbacks < 0.95 * seconds * 4 * len(names):
                raise RuntimeError(f"{callbacks} callbacks of {seconds * 4 * len(names)}")
            return 100 * cpu / seconds

        (busy,) = interleaved(min(effort.rounds, 5), measured)
        before = process.cpu_s()
        load("serve_for", seconds)
        idle = 100 * (process.cpu_s() - before) / seconds
    yield Figure("CPU of one core", "%", busy, at_most(5))
    yield Figure("per update and callback", "µs", [each / 100 / 200 * 1e6 for each in busy])
    yield Figure("idle, 50 silent printers", "%", [idle])
