"""Each example does what its README says: virtual printers and the router, on real sockets, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from klipper_router.app import serve
from klipper_router.config import Config, KlippySection, RouterSection, load
from klipper_router.router import Router
from klipper_router.virtual import VirtualKlippy

EXAMPLES = Path(__file__).parents[2] / "examples"


def complaints(klippy: VirtualKlippy) -> list[str]:
    return [line for line in klippy.console if line.startswith("!!") or "Unknown command" in line]


def is_paused(klippy: VirtualKlippy) -> bool:
    status = klippy.printer.status_of("pause_resume", 0.0)
    return status is not None and status["is_paused"] is True


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - neither side has an event for it
        await trio.sleep(0.05)


class Shop:
    """The printers of one example and a router, all in this process, until the block ends."""

    def __init__(self, example: str, directory: Path, **configs: str) -> None:
        self.directory = directory
        whole = load(EXAMPLES / example / "router.cfg")
        printers = {name: KlippySection(sock=str(directory / f"{name}.sock")) for name in whole.klippy}
        router = RouterSection(sock=str(directory / "router.sock"), default_instance=whole.router.default_instance)
        self.config = Config(router=router, klippy=printers)
        self.files = {name: EXAMPLES / example / configs.get(name, f"{name}.cfg") for name in printers}
        self.klippys: dict[str, VirtualKlippy] = {}
        self._running: dict[str, trio.CancelScope] = {}

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[dict[str, VirtualKlippy]]:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for name in self.files:
                await self.start(name)
            self.router: Router = await nursery.start(serve, self.config)
            with trio.fail_after(30):
                yield self.klippys
            nursery.cancel_scope.cancel()

    async def start(self, name: str) -> None:
        self.klippys[name] = VirtualKlippy(self.files[name], apiserver=self.directory / f"{name}.sock", speed=4)
        await self._nursery.start(self._run, name)
        await self.klippys[name].wait_state("ready")

    async def _run(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self._running[name]:
            await self.klippys[name].run(task_status=task_status)

    def kill(self, name: str) -> None:
        self._running[name].cancel()


async def test_led_follower_shows_what_its_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES / "led_follower")
    shop = Shop("led_follower", tmp_path, main="main_with_heaters.cfg")
    async with shop() as printers:
        main, led = printers["main"], printers["led"]
        await led.wait_console("LED ready")
        for gcode, expected in (
            ("SET_HEATER_TEMPERATURE HEATER=heater_bed TARGET=60", "LED heating"),
            ("SET_HEATER_TEMPERATURE HEATER=heater_bed TARGET=0", "LED ready"),
            ("SDCARD_PRINT_FILE FILENAME=cube.gcode", "LED printing"),
            ("PAUSE", "LED paused"),
            ("RESUME", "LED printing"),
            ("CANCEL_PRINT", "LED cancelled"),
            ("SDCARD_PRINT_FILE FILENAME=cube.gcode", "LED complete"),
        ):
            since = led.console_mark
            await main.run_gcode(gcode)
            await led.wait_console(expected, since=since)
        since = led.console_mark
        shop.kill("main")
        await led.wait_console("LED disconnected", since=since)
        await shop.start("main")
        await led.wait_console("LED ready", since=since)
        shop.klippys["main"].invoke_shutdown("test")
        await led.wait_console("LED error", since=since)
        assert not complaints(led)


async def test_mmu_handoff_goes_on_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES / "mmu_handoff")
    shop = Shop("mmu_handoff", tmp_path)
    async with shop() as printers:
        main, mmu = printers["main"], printers["mmu"]
        await main.wait_console("The MMU is ready")
        await main.run_gcode("SDCARD_PRINT_FILE FILENAME=two_colors.gcode")
        await main.wait_console("Lane 1 is loaded, 120.0 mm")
        await main.wait_console("Lane 2 is loaded, 120.0 mm")
        await main.wait_console("Done printing file")
        await main.run_gcode("LOAD_LANE LANE=3")
        await main.wait_console("Lane 3 was not loaded: the lane is empty")
        await main.run_gcode("LOAD_LANE LANE=1 LENGTH=1000")
        await mmu.wait_console("Loading lane 1, 1000.0 mm")
        shop.kill("mmu")
        await main.wait_console("Lane 1 was not loaded: the MMU is disconnected")
        since = main.console_mark
        await main.run_gcode("LOAD_LANE LANE=2")
        await main.wait_console("Lane 2 was not loaded: the MMU is disconnected", since=since)
        await shop.start("mmu")
        await main.wait_console("The MMU is ready", since=since)
        await main.run_gcode("LOAD_LANE LANE=2")
        await main.wait_console("Lane 2 is loaded", since=since)
        assert not complaints(main)


@pytest.mark.parametrize("config", ["main.cfg", "main_webhook.cfg"])
@pytest.mark.parametrize("loss", ["fault", "shutdown", "disconnected"])
async def test_dryer_watchdog_pauses_the_print(
    loss: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES / "dryer_watchdog")
    shop = Shop("dryer_watchdog", tmp_path, main=config)
    async with shop() as printers:
        main, dryer = printers["main"], printers["dryer"]
        await main.run_gcode("SDCARD_PRINT_FILE FILENAME=cube.gcode")
        assert not is_paused(main)
        router = shop.router
        await until(lambda: bool(router.events.handlers("dryer/fault")) and router.printers["dryer"].state.ready)
        if loss == "fault":
            await dryer.run_gcode("DRYER_FAULT REASON=humid")
        elif loss == "shutdown":
            dryer.invoke_shutdown("test")
        else:
            shop.kill("dryer")
        await until(lambda: is_paused(main))
        assert not complaints(main)
