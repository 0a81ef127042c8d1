"""Cases: one Klippy call through the router's API socket, on Klippy's own socket, and through Moonraker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from scripts.bench import peers
from scripts.bench.caller import Caller
from scripts.bench.cases import Effort, Figure, at_most, case
from scripts.bench.machine import Remote, folder, remote
from scripts.bench.rounds import interleaved, ratios
from scripts.bench.standin import Klippys
from scripts.bench.statistics import quantile

PAUSE_S = 0.0005
THROUGH_ROUTER = ("router/call", {"target": "main", "method": "info", "params": {}})


def _measure(caller: Remote, name: str, count: int) -> Callable[[], tuple[float, float]]:
    def measured() -> tuple[float, float]:
        samples = caller("latency", name, count, PAUSE_S)
        return quantile(samples, 0.5) * 1e6, quantile(samples, 0.99) * 1e6

    return measured


@case("call-latency", "A Klippy call (`info`) through the router's API socket")
def call_latency(effort: Effort) -> Iterator[Figure]:
    """Against the same call on Klippy's own socket: a stand-in that answers at once, and the virtual Klippy."""
    count = effort.of(800, 200)
    with contextlib.ExitStack() as stack:
        caller = stack.enter_context(remote(Caller))
        measures: list[Callable[[], tuple[float, float]]] = []
        relayed: list[Callable[[], tuple[float, float]]] = []
        for name in ("standin", "virtual"):
            home = peers.made(stack.enter_context(folder()) / "k")
            if name == "standin":
                stack.enter_context(remote(Klippys, str(home), ["main"]))
            else:
                stack.enter_context(peers.virtual_klippy(home, "main"))
            stack.enter_context(peers.router(home, ["main"]))
            caller("connect", f"{name}, own", str(home / "main.sock"), "info", {})
            caller("connect", f"{name}, routed", str(home / "router.sock"), *THROUGH_ROUTER)
            measures += [_measure(caller, f"{name}, own", count), _measure(caller, f"{name}, routed", count)]
            if name == "standin" and stack.enter_context(peers.socat_between(home)):
                caller("connect", "socat", str(home / "socat.sock"), "info", {})
                relayed = [_measure(caller, "socat", count)]
        results = interleaved(effort.rounds, *measures, *relayed)
    standin, standin_routed, virtual, virtual_routed, *socat = ([p50 for p50, _ in of] for of in results)
    yield Figure("stand-in's own socket, p50", "µs", standin)
    yield Figure("through the router, p50", "µs", standin_routed)
    yield Figure("through the router, p99", "µs", [p99 for _, p99 in results[1]])
    added = [routed - own for routed, own in zip(standin_routed, standin, strict=True)]
    yield Figure("added by the router, p50", "µs", added, at_most(60))
    if socat:
        least = [relayed - own for relayed, own in zip(socat[0], standin, strict=True)]
        yield Figure("added by socat, p50", "µs", least, note="the floor: it does not even parse")
        mine = ratios(standin_routed, socat[0])
        yield Figure("through the router ÷ through socat, p50", "×", mine)
    yield Figure("virtual Klippy's own socket, p50", "µs", virtual)
    yield Figure("through the router to it, p50", "µs", virtual_routed)
    yield Figure("through the router ÷ own socket, p50", "×", ratios(virtual_routed, virtual), at_most(2.5))


@case("call-moonraker", "The same call (`info`) through a real Moonraker's websocket")
def call_moonraker(effort: Effort) -> Iterator[Figure]:
    """Both on one virtual Klippy."""
    count = effort.of(600, 150)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(folder())
        stack.enter_context(peers.virtual_klippy(home, "main"))
        _, port = stack.enter_context(peers.moonraker(home, "main"))
        stack.enter_context(peers.router(home, ["main"]))
        caller = stack.enter_context(remote(Caller))
        caller("connect", "router", str(home / "router.sock"), *THROUGH_ROUTER)
        caller("connect_websocket", "moonraker", port, "printer.info")
        router, moonraker = interleaved(
            effort.rounds, _measure(caller, "router", count), _measure(caller, "moonraker", count)
        )
    for index, name in enumerate(("p50", "p99")):
        yield Figure(f"router, {name}", "µs", [each[index] for each in router])
        yield Figure(f"Moonraker's websocket, {name}", "µs", [each[index] for each in moonraker])
    ratio = ratios([p50 for p50, _ in router], [p50 for p50, _ in moonraker])
    yield Figure("router ÷ Moonraker, p50", "×", ratio, at_most(round(1 / 3, 3)))
