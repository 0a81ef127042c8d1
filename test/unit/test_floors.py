"""The house plan (DESIGN.md, Floors): a file imports only from lower floors, and every file has one."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import klipper_router

PACKAGE = Path(klipper_router.__file__).parent
NAME = "klipper_router"

# From the ground up: floor, and the modules on it, each line above all lines before it. A package of ours is one name.
PLAN: tuple[tuple[int, str], ...] = (
    (0, "__init__ errors log"),
    (0, "framing gcode"),
    (0, "template"),
    (1, "gateway.values"),
    (1, "gateway.settings"),
    (1, "gateway.problems"),
    (1, "messages config_text console printer_state script_queue events"),
    (1, "config subscriptions counters loop_guard"),
    (1, "policy"),
    (2, "unix_stream"),
    (2, "link"),
    (3, "status_feed"),
    (3, "printer"),
    (4, "callers"),
    (4, "gate"),
    (4, "router"),
    (4, "stats"),
    (4, "prometheus"),
    (4, "remote_methods"),
    (5, "api_socket listening"),
    (5, "gateway"),
    (6, "lean"),
    (6, "shipped client virtual supervision crash_report"),
    (6, "app status"),
    (6, "scenario"),
    (6, "demo"),
    (6, "cli"),
    (6, "__main__"),
)
FLOOR = {module: floor for floor, modules in PLAN for module in modules.split()}
LINE = {module: number for number, (_, modules) in enumerate(PLAN) for module in modules.split()}

LOWEST_FLOOR_WITH_IO = 2
IO = {"trio", "asyncio", "socket", "select", "selectors", "time", "threading", "subprocess", "random"}

# Who may start virtual printers. Everybody else talks to whatever listens on the socket.
USES_VIRTUAL = {"virtual", "scenario", "demo", "cli"}

FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(file.relative_to(PACKAGE)) for file in FILES]


def module_of(file: Path) -> str:
    """The name by which a file is in the plan."""
    return named(".".join(file.relative_to(PACKAGE).with_suffix("").parts))


def named(path: str) -> str:
    """A module, or the package that it is in; of a package on two floors what the plan tells apart."""
    return path if path in FLOOR else path.partition(".")[0]


def imports(file: Path) -> Iterator[str]:
    """The full name of everything that a file imports, wherever in the file it does so."""
    parents = (NAME, *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*parents[: len(parents) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def imports_of_ours(file: Path) -> set[str]:
    """The modules of the plan that a file imports, without its own."""
    names = set()
    for name in imports(file):
        package, _, rest = name.partition(".")
        if package == NAME:
            parts = rest.split(".")
            module = named(".".join(parts[:2]))
            names.add(module if module in FLOOR else "__init__")
    return names - {module_of(file)}


def test_every_module_has_a_floor_and_every_name_of_the_plan_is_a_module() -> None:
    assert {module_of(file) for file in FILES} == set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_file_imports_only_from_below(file: Path) -> None:
    own = LINE[module_of(file)]
    assert {name for name in imports_of_ours(file) if LINE[name] >= own} == set()


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_there_is_no_clock_no_socket_and_no_trio_in_the_pure_floors(file: Path) -> None:
    if FLOOR[module_of(file)] < LOWEST_FLOOR_WITH_IO:
        assert {name.partition(".")[0] for name in imports(file)} & IO == set()


@pytest.mark.parametrize("file", [file for file in FILES if module_of(file) == "virtual"], ids=lambda file: file.name)
def test_the_virtual_klippy_shares_no_code_with_the_router(file: Path) -> None:
    assert imports_of_ours(file) == set()


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_only_tools_start_virtual_printers(file: Path) -> None:
    if module_of(file) not in USES_VIRTUAL:
        assert not imports_of_ours(file) & {"virtual", "scenario"}


def test_a_running_router_has_loaded_nothing_that_only_tools_need() -> None:
    program = "import sys, klipper_router.app; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "klipper_router.router" in loaded
    tools = {"jinja2", "rich", "pytest", "klipper_router.virtual", "klipper_router.scenario", "klipper_router.cli"}
    assert tools & set(loaded) == set()
