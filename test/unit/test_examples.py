"""Every router configuration in examples/ is one that the router accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from klipper_router.config import load

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUTER_CONFIGS = sorted([*EXAMPLES.rglob("router.cfg"), *EXAMPLES.rglob("router.yaml")])


@pytest.mark.parametrize("path", ROUTER_CONFIGS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_router_example_loads(path: Path) -> None:
    config = load(path)
    assert config.router.default_instance == "main"
    assert "main" in config.klippy


def test_both_writings_of_the_example_say_the_same() -> None:
    assert load(EXAMPLES / "router.cfg") == load(EXAMPLES / "router.yaml")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/router.cfg")), ids=lambda path: path.parent.name)
def test_every_printer_of_an_example_is_there_and_explained(path: Path) -> None:
    readme = (path.parent / "README.md").read_text()
    for printer, section in load(path).klippy.items():
        assert (path.parent / f"{printer}.cfg").exists()
        assert section.sock in readme
