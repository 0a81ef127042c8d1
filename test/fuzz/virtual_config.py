"""A virtual printer's configuration, with includes and what SAVE_CONFIG wrote, up to the printer's start.

Invariant: the printer is made, connects, and what its objects then say of themselves can be sent, and compared with
what they say again; or ConfigError, with a text; or what Klipper, too, has an internal error for: a macro that is no
template, a number that is none or without end, a NUL in a path. Nothing runs, nothing is written.
Input: the first byte says which sections stand before it; the rest is the file's end. It can include ``more.cfg``.
"""

from __future__ import annotations

import atexit
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import trio

from klipper_router.virtual import wire
from klipper_router.virtual.clock import Clock
from klipper_router.virtual.config_file import SAVE_CONFIG_MARK
from klipper_router.virtual.errors import CommandError, ConfigError
from klipper_router.virtual.extras import SimulatedModules
from klipper_router.virtual.printer import HasStatus, Printer, StartArgs
from klipper_router.virtual.reactor import Reactor
from test.virtual.rig import BASE, CARTESIAN

WORDS = (
    b"[gcode_macro A]\ngcode: G28\n",
    b"variable_a: {'b': 1}\n",
    b"rename_existing: B\n",
    b"{% if params.A %}",
    b"[delayed_gcode d]\ninitial_duration: 1\ngcode:\n",
    b"[include more.cfg]\n",
    SAVE_CONFIG_MARK.encode(),
    b"\n#*# [extruder]\n#*# control = pid\n",
    b"[heater_generic h]\n",
    b"[fan]\npin: PA9\n",
    b"[output_pin p]\npin: !PA9\nvalue: 0.5\n",
    b"[temperature_sensor t]\nsensor_type: temperature_host\n",
    b"[bed_mesh]\nmesh_min: 10,10\nmesh_max: 90,90\nprobe_count: 3,3\n",
    b"[probe]\npin: PC1\nz_offset: 1\n",
    b"[neopixel n]\npin: PC2\nchain_count: 3\n",
    b"[filament_switch_sensor f]\nswitch_pin: ^PC3\n",
    b"[mcu m]\nserial: /dev/m\n",
    b"[extruder1]\n",
    b"[printer]\nkinematics: corexy\n",
    b"[stepper_x]\nposition_max: ",
    b"nan",
    b"inf",
    b"1e400",
    b"-1",
    b"\n  ",
    b";",
    b"#",
    b"\r\n",
    b"%",
    b"DEFAULT",
)

LINES = True

_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-virtual-")
atexit.register(_FOLDER.cleanup)
_PATH = Path(_FOLDER.name)
(_PATH / "more.cfg").write_text("[gcode_macro MORE]\ngcode: M118 more\n[include less.cfg]\n")
(_PATH / "less.cfg").write_text("[idle_timeout]\ntimeout: 5\n")
BASES = ("", BASE, CARTESIAN)

# What else is on this machine is nobody's business; and a mesh of millions of points takes its time with Klipper, too.
_ELSEWHERE = re.compile(rb"include[^\n]*[/~\\*?\[]|save_variables|(?:count|pps)[^\[]*[0-9][0-9_]{2}")

_AS_KLIPPER = re.compile(rb"inf|nan|e[+-]?[0-9]|\x00", re.IGNORECASE)

_LOG = logging.getLogger("fuzz.virtual")
_LOG.setLevel(logging.CRITICAL + 1)


async def one_input(data: bytes) -> None:
    if not data or _ELSEWHERE.search(data.replace(b"[include", b"include")):
        return
    path = _PATH / "printer.cfg"
    path.write_bytes(BASES[data[0] % len(BASES)].encode() + data[1:])
    reactor = Reactor(Clock(1.0), cast(trio.Nursery, None))
    start_args = StartArgs(path, None, None, "v0.13", "startup", "v0.13", "none")
    printer = Printer(reactor, start_args, _LOG, SimulatedModules())
    problem = None
    try:
        printer._read_config()
        for handler in printer._handlers.get("klippy:connect", []):
            handler()
    except (ConfigError, CommandError) as error:
        problem = str(error)
    except (OverflowError, ValueError) as error:
        if not _AS_KLIPPER.search(data):
            raise
        problem = str(error)
    if problem is not None:
        assert problem.strip()
        problem.encode()
        return
    status = dict(statuses(printer))
    assert wire.encode(status) == wire.encode(dict(statuses(printer)))


def statuses(printer: Printer) -> Iterator[tuple[str, Any]]:
    for name, item in printer.objects.items():
        if isinstance(item, HasStatus) and name != "system_stats":
            yield name, item.get_status(1.0)
