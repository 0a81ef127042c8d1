"""Sections that only describe hardware: nothing of them shows from outside, so they are read and that is all."""

from __future__ import annotations

from ..config import Section


class Passive:
    def __init__(self, section: Section) -> None:
        for option in section.options():
            if option == "pins":
                section.getlist(option)
            else:
                section.get(option)


def load(section: Section) -> Passive:
    return Passive(section)
