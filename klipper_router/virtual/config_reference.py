"""Which sections and options real Klipper documents (config_reference.txt, made from docs/Config_Reference.md).

A section that exists in Klipper but is not simulated is accepted with a warning; a documented option without effect
here is accepted; anything else is the error that Klipper reports.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


@cache
def _table() -> dict[str, tuple[re.Pattern[str], ...]]:
    table: dict[str, tuple[re.Pattern[str], ...]] = {}
    for line in files(__package__).joinpath("config_reference.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, options = line.partition(":")
            table[name] = tuple(re.compile(re.sub(r"<\w+>", ".+", option), re.IGNORECASE) for option in options.split())
    return table


def _key(section: str) -> str:
    module, _, own_name = section.partition(" ")
    if re.fullmatch(r"extruder\d+", module):
        return "extruder"
    return f"{module} *" if own_name else module


def is_klipper_section(section: str) -> bool:
    """True for a section that some module of Klipper's `extras` serves."""
    key = _key(section)
    return key in _table() and not re.match(r"stepper_|printer$|extruder", key)


def is_documented_option(section: str, option: str) -> bool:
    return any(pattern.fullmatch(option) for pattern in _table().get(_key(section), ()))
