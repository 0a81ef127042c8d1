"""Every printer configuration in examples/ and includes/ runs on a virtual Klippy, and so does each of its macros."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
import trio

from klipper_router.virtual import VirtualKlippy

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PRINTER_CONFIGS = sorted(path for path in EXAMPLES.glob("*/*.cfg") if path.name != "router.cfg")

# Parameters that a macro gets when its example runs. A macro that is not named here is run without any.
SAMPLES: dict[str, list[str]] = {
    "ROUTER_GCODE_SCRIPT": ['TARGET=led SCRIPT="M118 hello" WAIT=5 CALLBACK=A ERROR_CALLBACK=B'],
    "ROUTER_EVENT_SUBSCRIBE": ["EVENT=a/b GCODE=A", "EVENT=a/b GCODE=pause_resume/pause CALLBACK_TYPE=webhook"],
    "ROUTER_EVENT_TRIGGER": ["EVENT=a/b", 'EVENT=a/b CONTEXT="lane=1,length=50"'],
    "ROUTER_EVENT_UNSUBSCRIBE": ["EVENT=a/b"],
    "ROUTER_PRINTERS_RESPONSE": ["PRINTERS='main,led' MAIN_CONNECTED='True' MAIN_STATE='ready' LED_CONNECTED='False'"],
    "ROUTER_OBJECTS_LIST_RESPONSE": ["OBJECTS='[\"toolhead\", \"led x\"]'"],
    "ROUTER_OBJECTS_QUERY": ['TARGET=main OBJECTS="print_stats:state,toolhead"'],
    "ROUTER_OBJECTS_QUERY_RESPONSE": ["PRINT_STATS_STATE='printing'", ""],
    "ROUTER_OBJECTS_SUBSCRIBE": ['TARGET=main OBJECTS="toolhead" CALLBACK=A'],
    "ROUTER_CALL": ["TARGET=main METHOD=info", 'METHOD=a/b PARAMS="a=1,b=x,c=true,d=null,e=1.5"'],
    "ROUTER_ON_CONNECTED": ["PRINTER=main", "PRINTER=mmu", "PRINTER=dryer", ""],
    "ROUTER_ON_DISCONNECTED": ["PRINTER=main", "PRINTER=mmu", "PRINTER=dryer", ""],
    "ROUTER_ON_STATE": ["PRINTER=main STATE=ready", "PRINTER=mmu STATE=error", "PRINTER=dryer STATE=shutdown", ""],
    "ON_STATUS_UPDATE": ["PRINT_STATS_STATE='printing' HEATER_BED_TARGET='60.0'", "PAUSE_RESUME_IS_PAUSED='True'", ""],
    "LOAD_LANE": ["LANE=2 LENGTH=50 TIMEOUT=1000"],
    "LANE_FAILED": ["LANE=2 REASON='it is \"empty\" {}'"],
    "LANE_LOADED": ["LANE=2 LENGTH=50", ""],
    "MMU_LOAD": ["LANE=1 LENGTH=5", "LANE=3", "LANE=9", ""],
}  # fmt: skip


def sample_lines(config: Path) -> list[str]:
    """One G-code line for each macro of a printer and each sample of its parameters."""
    macros: dict[str, None] = {}
    _macros_of(config, macros)
    return [f"{name} {parameters}".strip() for name in macros for parameters in SAMPLES.get(name, [""])]


def _macros_of(path: Path, macros: dict[str, None]) -> None:
    for line in path.read_text().splitlines():
        header = configparser.RawConfigParser.SECTCRE.match(line)
        kind, _, name = header["header"].partition(" ") if header else ("", "", "")
        if kind == "include":
            for included in sorted(path.parent.glob(name)):
                _macros_of(included, macros)
        elif kind == "gcode_macro":
            macros[name] = None


async def run_every_macro(config: Path, apiserver: Path) -> list[str]:
    """Load ``config``, run `sample_lines`; return all that the console said."""
    klippy = VirtualKlippy(config, apiserver=apiserver, speed=100)
    async with trio.open_nursery() as nursery:
        await nursery.start(klippy.run)
        with trio.fail_after(20):
            await klippy.wait_state("ready")
            for line in sample_lines(config):
                await klippy.run_gcode(line)
        nursery.cancel_scope.cancel()
    return list(klippy.console)


def complaints(console: list[str]) -> list[str]:
    return [line for line in console if line.startswith("!!") or "Unknown command" in line]


@pytest.mark.parametrize("config", PRINTER_CONFIGS, ids=lambda path: str(path.relative_to(EXAMPLES)))
async def test_every_macro_of_every_example_runs_without_complaint(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    console = await run_every_macro(config, tmp_path / "k.sock")
    assert not complaints(console)


async def test_router_api_needs_nothing_but_itself(tmp_path: Path) -> None:
    config = tmp_path / "printer.cfg"
    config.write_text(
        "[mcu]\nserial: /tmp/klipper_host_x\n[printer]\nkinematics: none\nmax_velocity: 1\nmax_accel: 1\n"
        + (ROOT / "includes" / "router_api.cfg").read_text()
    )
    console = await run_every_macro(config, tmp_path / "k.sock")
    assert not complaints(console)
    assert "// Printers of the router:\n// main: ready\n// led: not connected" in console
    assert "// Objects:\n// toolhead\n// led x" in console
    assert "// Status:\n// PRINT_STATS_STATE = printing" in console
