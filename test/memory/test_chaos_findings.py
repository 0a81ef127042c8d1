"""What the chaos run (scripts/soak.py) and the review of it found, each as small as it could be made."""

from __future__ import annotations

import trio

from klipper_router.config import Config, KlippySection
from test.memory.bench import Bench, settle


async def test_a_changed_socket_counts_also_while_the_old_one_has_not_answered_yet(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "moved")
    old, new = bench
    old.stopped = True
    await bench.start()
    assert bench.state("main") == "disconnected"
    sections = {"main": KlippySection(sock="moved")}
    bench.router.reconfigure(Config(router=bench.router.config.router, klippy=sections))
    await settle()
    old.stopped = False
    assert await bench.until_state("main", "ready", within_s=2) < 2
    assert old.connections == []
    assert len(new.connections) == 1


async def test_a_printer_that_is_removed_before_it_began_is_never_connected(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "late")
    main, late = bench
    await bench.start()
    without = Config(router=bench.router.config.router, klippy={"main": KlippySection(sock="main")})
    bench.router.reconfigure(without)
    await settle()
    before = len(late.dials)
    bench.router.reconfigure(
        Config(router=without.router, klippy={**without.klippy, "late": KlippySection(sock="late")})
    )
    bench.router.reconfigure(without)
    await settle()
    await trio.sleep(5)
    assert len(late.dials) == before
    assert len(main.connections) == 1
