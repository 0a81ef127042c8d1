"""The micro-controller: a clock that starts at 0, a version, and nothing behind its pins (klippy/mcu.py)."""

from __future__ import annotations

from .config import Section
from .errors import ConfigError
from .pins import Pins
from .printer import Printer, Status

CLOCK_HZ = 50_000_000


class Mcu:
    def __init__(self, section: Section) -> None:
        self.printer: Printer = section.printer
        self.name = section.name.removeprefix("mcu ")
        self._start = self.printer.reactor.now()
        if section.get("canbus_uuid", None) is not None:
            section.get("canbus_interface", "can0")
        else:
            section.get("serial")
            section.getint("baud", 250000, minval=2400)
        if section.has("restart_method"):
            section.getchoice("restart_method", ("arduino", "cheetah", "command", "rpi_usb"))
        self.printer.lookup(Pins, "pins").register_chip(self.name)

    def estimated_print_time(self, eventtime: float) -> float:
        return eventtime - self._start

    def get_status(self, eventtime: float) -> Status:
        return {
            "mcu_version": self.printer.start_args.software_version,
            "mcu_build_versions": "virtual",
            "mcu_constants": {"CLOCK_FREQ": CLOCK_HZ, "MCU": "virtual"},
            "last_stats": {
                "mcu_awake": 0.001,
                "mcu_task_avg": 0.000005,
                "mcu_task_stddev": 0.000005,
                "bytes_write": 0,
                "bytes_read": 0,
                "bytes_retransmit": 0,
                "bytes_invalid": 0,
                "send_seq": 0,
                "receive_seq": 0,
                "retransmit_seq": 0,
                "srtt": 0.001,
                "rttvar": 0.0,
                "rto": 0.025,
                "ready_bytes": 0,
                "upcoming_bytes": 0,
                "freq": CLOCK_HZ,
            },
        }


def load(section: Section) -> Mcu:
    if section.name == "mcu" and not section.config.has_section("mcu"):
        raise ConfigError("Option 'serial' in section 'mcu' must be specified")
    return Mcu(section)
