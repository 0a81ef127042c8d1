"""A Klippy without a printer: the whole klippy.py of one machine, simulated, for tests, the demo and macro authors.

It shares no code with the router: what the two agree on is what Klipper really says.

    async with trio.open_nursery() as nursery:
        klippy = VirtualKlippy("printer.cfg", apiserver="/tmp/klippy.sock")
        await nursery.start(klippy.run)      # the API socket listens now
        await klippy.wait_state("ready")
        await klippy.run_gcode("M118 hello")
        await klippy.wait_console("hello")
"""

from __future__ import annotations

from .errors import CommandError, ConfigError
from .klippy import VirtualKlippy
from .printer import Dialect, State

__all__ = ["CommandError", "ConfigError", "Dialect", "State", "VirtualKlippy"]
