"""Cases: G-code from one printer to another, its latency and its throughput."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench import peers
from scripts.bench.cases import Effort, Figure, at_least, at_most, case
from scripts.bench.machine import Measured, Remote, folder, remote
from scripts.bench.pair import Pair
from scripts.bench.rounds import interleaved, ratios
from scripts.bench.statistics import quantile

# A printer's macros do not call in a tight loop; and what is left to do after one script is done by then.
PAUSE_S = 0.0003
# A macro that calls second after second is suspended as a loop; so there is a second without a call between rounds.
QUIET_S = 2.0


@case("gcode-latency", "G-code from A to B, latency")
def gcode_latency(effort: Effort) -> Iterator[Figure]:
    """From A's send to B's receive, one script at a time."""
    count = effort.of(800, 300)

    def measure(pair: Remote, parses: bool) -> Callable[[], tuple[float, float]]:
        quiet_from = 0.0

        def measured() -> tuple[float, float]:
            nonlocal quiet_from
            if parses:
                time.sleep(max(0.0, quiet_from + QUIET_S - time.monotonic()))
            samples = pair("latency", count, PAUSE_S, parses)
            quiet_from = time.monotonic()
            return quantile(samples, 0.5) * 1e6, quantile(samples, 0.99) * 1e6

        return measured

    with contextlib.ExitStack() as stack:
        home = stack.enter_context(folder())
        ours, _ = stack.enter_context(peers.pair_on_router(home / "r"))
        socat, _ = stack.enter_context(peers.pair_on_socat(home / "s"))
        bypass = _bypass(stack, home)
        router, theirs, load = interleaved(
            effort.rounds, measure(ours, True), measure(socat, False), measure(bypass, False)
        )
    for index, name, bound in ((0, "p50", 1.5), (1, "p99", 2.0)):
        mine, other = ([each[index] for each in of] for of in (router, theirs))
        yield Figure(f"router, {name}", "µs", mine)
        yield Figure(f"socat, {name}", "µs", other)
        yield Figure(f"router ÷ socat, {name}", "×", ratios(mine, other), at_most(bound))
    yield Figure("the load itself, p50", "µs", [each[0] for each in load], note="A and B joined directly")


@case("gcode-throughput", "G-code from A to B, throughput of small scripts")
def gcode_throughput(effort: Effort) -> Iterator[Figure]:
    """At most 160 scripts on their way; B answers each, but to the bare loop, which has no way back."""
    count = effort.of(12800, 3200)

    def measure(pair: Remote, process: Measured | None, answers: bool) -> Callable[[], tuple[float, float]]:
        def measured() -> tuple[float, float]:
            before = process.cpu_s() if process else 0.0
            elapsed = pair("throughput", count, answers)
            cpu = process.cpu_s() - before if process else 0.0
            return count / elapsed, cpu / count * 1e6

        return measured

    with contextlib.ExitStack() as stack:
        home = stack.enter_context(folder())
        ours, process = stack.enter_context(peers.pair_on_router(home / "r"))
        ours("connect", str(home / "r" / "router.sock"))
        results = interleaved(
            effort.rounds,
            measure(ours, process, True),
            measure(*stack.enter_context(peers.pair_on_script(home / "b", "bare_relay.py")), False),
            measure(*stack.enter_context(peers.pair_on_script(home / "m", "bare_relay.py", "batch")), False),
            measure(*stack.enter_context(peers.pair_on_script(home / "y", "asyncio_relay.py")), True),
            measure(*stack.enter_context(peers.pair_on_script(home / "q", "asyncio_relay.py", "queue")), True),
            measure(_bypass(stack, home), None, False),
        )
    rates = [[each[0] for each in of] for of in results]
    cpu = [[each[1] for each in of] for of in results]
    router, bare, batched, streams, queued, load = rates
    yield Figure("router", "scripts/s", router)
    yield Figure("bare loop: recv, decode, encode, send", "scripts/s", bare)
    yield Figure("bare loop, one send per recv", "scripts/s", batched, note="no aim: it batches without a queue")
    yield Figure("asyncio streams with json", "scripts/s", streams)
    yield Figure("the same with a queue, four under way", "scripts/s", queued, note="bounded as the router is")
    yield Figure("router ÷ bare loop", "×", ratios(router, bare), at_least(0.4))
    yield Figure("router ÷ asyncio", "×", ratios(router, streams), at_least(3))
    yield Figure("router ÷ asyncio with a queue", "×", ratios(router, queued))
    names = ("router", "bare loop", "bare loop, one send per recv", "asyncio", "asyncio with a queue")
    for name, of in zip(names, cpu, strict=False):
        yield Figure(f"CPU per script, {name}", "µs", of)
    yield Figure("the load itself", "scripts/s", load, note="A and B joined directly")


def _bypass(stack: contextlib.ExitStack, home: Path) -> Remote:
    (home / "bypass").mkdir()
    bypass = stack.enter_context(remote(Pair, str(home / "bypass")))
    bypass("join")
    return bypass
