"""Long random lives of three printers that follow each other: whatever happened, in the end each knows the truth.

The seed makes the story; a failing one can be run again.
"""

from __future__ import annotations

from random import Random

import pytest
import trio

from test.memory.bench import Bench, settle
from test.memory.scripted_klippy import ScriptedKlippy

STEPS = 150
NAMES = ("main", "led", "afc")


class Life:
    """One printer's macros: it follows the others from ROUTER_ON_READY on, and notes all that it is told."""

    def __init__(self, klippy: ScriptedKlippy) -> None:
        self.klippy = klippy
        self.told: dict[str, dict[str, str]] = {}  # target -> parameters, the newest of each
        self.present: list[str] = []  # the others, as ROUTER_ON_CONNECTED and ROUTER_ON_DISCONNECTED tell
        self.counts: list[int] = []
        self.problems: list[str] = []
        klippy.objects = {"counter": {"value": 0, "text": ""}, "other": {"value": 0}}
        klippy.define("ROUTER_ON_READY", act=self._ready)
        klippy.define("ROUTER_ON_CONNECTED", act=self._connected)
        klippy.define("ROUTER_ON_DISCONNECTED", act=self._disconnected)
        klippy.define("COUNT", act=lambda parameters: self.counts.append(int(parameters["N"])))
        for name in NAMES:
            klippy.define(f"ON_{name.upper()}", act=self.told.setdefault(name, {}).update)

    def _ready(self, parameters: dict[str, str]) -> None:
        self.present.clear()
        for name in NAMES:
            objects = {"counter": None, "other": ["value"], "missing": ["x"]}
            callback = f"ON_{name.upper()}"
            self.klippy.call_remote("router/objects/subscribe", target=name, objects=objects, gcode_callback=callback)

    def _connected(self, parameters: dict[str, str]) -> None:
        if parameters["PRINTER"] in self.present:
            self.problems.append(f"{parameters['PRINTER']} connected twice")
        self.present.append(parameters["PRINTER"])

    def _disconnected(self, parameters: dict[str, str]) -> None:
        if parameters["PRINTER"] in self.present:
            self.present.remove(parameters["PRINTER"])


class Story:
    """What may happen, by chance."""

    def __init__(self, seed: int, bench: Bench) -> None:
        self.random = Random(seed)
        self.bench = bench
        self.lives = {klippy.name: Life(klippy) for klippy in bench}
        self.number = 0

    async def step(self) -> None:
        klippy = self.random.choice(list(self.bench))
        alive = klippy.refuses is None
        match self.random.randrange(13):
            case 0 | 1 | 2 | 3:
                self.number += 1
                klippy.change("counter", value=self.number, text=self.random.choice(["", "# it's ; *", "\n", "é"]))
                klippy.change("other", value=self.number % 3)
            case 4 if alive:
                klippy.die()
            case 5 | 6 if not alive:
                klippy.live(self.random.choice(["ready", "startup", "error"]))
            case 7 if alive:
                # No state of Klipper but startup leads to ready, and nothing leads back to startup but a new life.
                states = {"startup": ["ready", "error"], "ready": ["shutdown"]}.get(klippy.state, [klippy.state])
                klippy.become(self.random.choice(states))
            case 8:
                klippy.hold(self.random.choice(["gcode/script", "objects/subscribe", "gcode/help", "info"]))
            case 9 | 10:
                self.let_all_go(klippy)
            case 11 if alive:
                klippy.stop()
            case 12:
                klippy.go_on()
        if self.random.random() < 0.8:
            await settle()
        await trio.sleep(self.random.choice([0, 0, 0.05, 3]))

    @staticmethod
    def let_all_go(klippy: ScriptedKlippy) -> None:
        for method in ("gcode/script", "objects/subscribe", "gcode/help", "info"):
            if method in klippy._held:
                klippy.release(method)

    async def happy_end(self) -> None:
        for klippy in self.bench:
            klippy.go_on()
            self.let_all_go(klippy)
            if klippy.refuses is None and klippy.state in ("shutdown", "error"):
                klippy.die()
            if klippy.refuses is not None:
                klippy.live()
            klippy.become("ready")
        await trio.sleep(30)


@pytest.mark.parametrize("seed", range(30))
async def test_after_any_story_every_printer_knows_the_truth_and_nothing_is_left(
    nursery: trio.Nursery, seed: int
) -> None:
    bench = Bench(nursery, *NAMES)
    story = Story(seed, bench)
    await bench.start()
    for _ in range(STEPS):
        await story.step()
    await story.happy_end()
    for name, life in story.lives.items():
        assert bench.state(name) == "ready"
        assert life.problems == []
        assert sorted(life.present) == sorted(set(NAMES) - {name})
        assert len(life.klippy.connections) == 1
        assert len(bench.router.printers[name].scripts) == 0
        for target in bench:
            counter, other = target.objects["counter"], target.objects["other"]
            assert life.told[target.name] == {
                "COUNTER_VALUE": str(counter["value"]),
                "COUNTER_TEXT": counter["text"].replace("\n", " "),
                "OTHER_VALUE": str(other["value"]),
                "MISSING_X": "None",
            }
        assert [line for line in life.klippy.console if "Unknown command" in line] == []


@pytest.mark.parametrize("seed", range(10))
async def test_through_any_disturbance_of_the_others_scripts_to_one_printer_keep_their_order(
    nursery: trio.Nursery, seed: int
) -> None:
    bench = Bench(nursery, *NAMES)
    story = Story(seed, bench)
    await bench.start()
    main, led, afc = bench
    for number in range(200):
        main.call_remote("router/gcode/script", target="led", script=f"COUNT N={number}", error_callback="NONE")
        if story.random.random() < 0.3:
            led.hold("gcode/script") if story.random.random() < 0.5 else story.let_all_go(led)
        if story.random.random() < 0.2:
            afc.restart()
        await trio.sleep(story.random.choice([0, 0.2]))
    story.let_all_go(led)
    await settle()
    assert story.lives["led"].counts == list(range(200))
