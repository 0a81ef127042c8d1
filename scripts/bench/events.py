"""Case: events with many handlers, and whether their cost is linear and their memory flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scripts.bench import peers
from scripts.bench.cases import Effort, Figure, at_most, case
from scripts.bench.followed import Ring
from scripts.bench.machine import folder, remote
from scripts.bench.rounds import interleaved, ratios

PRINTERS = 3
RATES_HZ = (50.0, 100.0, 200.0)


@case("events", "An event with 10 handlers on 3 printers, triggered by a client")
def events(effort: Effort) -> Iterator[Figure]:
    """Linear: four times the events cost four times the CPU, ten handlers ten times what one does, or less."""
    seconds = effort.of(3.0, 0.5)
    names = [f"p{number}" for number in range(PRINTERS)]
    with folder() as home, remote(Ring, str(home), PRINTERS) as load, peers.router(home, names) as process:

        def run(hz: float, handlers: int, seconds: float) -> float:
            before = process.cpu_s()
            done = load("trigger", seconds, hz)
            if done != round(seconds * hz) * handlers:
                raise RuntimeError(f"{done} handlers ran, not {round(seconds * hz) * handlers}")
            return 100 * (process.cpu_s() - before) / seconds

        def measure(hz: float, handlers: int) -> Callable[[], float]:
            return lambda: run(hz, handlers, seconds)

        load("subscribe_event", 1)
        (single,) = interleaved(effort.of(3, 1), measure(RATES_HZ[-1], 1))
        load("unsubscribe_event")
        load("subscribe_event", 10)
        by_rate = interleaved(effort.of(3, 1), *(measure(hz, 10) for hz in RATES_HZ))
        for hz, of in zip(RATES_HZ, by_rate, strict=True):
            yield Figure(f"CPU at {hz:g} events/s", "%", of)
        yield Figure("CPU per event with 10 handlers", "µs", [each / 100 / RATES_HZ[-1] * 1e6 for each in by_rate[-1]])
        yield Figure("CPU per event with 1 handler", "µs", [each / 100 / RATES_HZ[-1] * 1e6 for each in single])
        growth = [ratio / (RATES_HZ[-1] / RATES_HZ[0]) for ratio in ratios(by_rate[-1], by_rate[0])]
        yield Figure("CPU at 200/s ÷ 4 × that at 50/s", "×", growth, at_most(1.1))

        long = effort.of(60, 1)
        run(RATES_HZ[-1], 10, effort.of(10.0, 0.5))  # what is allocated once is by now
        before = process.rss_mb()
        busy = run(RATES_HZ[-1], 10, long)
        yield Figure(f"CPU at 200 events/s for {long} s", "%", [busy])
        yield Figure(f"memory grown in these {long} s", "MB", [process.rss_mb() - before], at_most(0.2))
