"""What others may do to a printer, as its ``[klippy NAME]`` says. Pure: each check raises CallError, or returns.

Others are the macros of other printers (by the printer's name) and the clients of the API socket and the gateway
(``clients``, ``gateway``). A printer may always do to itself what it likes: its macros could do so without us.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from klipper_router.config import KlippySection
from klipper_router.errors import CallError
from klipper_router.gcode import commands

# An endpoint that stops the machine is called only where it is named, not by way of a wildcard.
EMERGENCY_STOP = "emergency_stop"


def check_gcode(target: str, section: KlippySection, by: str, script: str) -> None:
    """May ``by`` run this G-code on ``target``? Every command in it must be allowed; a macro counts as one."""
    _check_from(target, "gcode_from", section.gcode_from, by)
    if section.allow_gcode is None and not section.deny_gcode:
        return
    for command in commands(script):
        if section.allow_gcode is not None and not _matches(command, section.allow_gcode):
            raise CallError(f"{command} is not in allow_gcode of [klippy {target}]")
        if _matches(command, section.deny_gcode):
            raise CallError(f"{command} is in deny_gcode of [klippy {target}]")


def check_endpoint(target: str, section: KlippySection, by: str, endpoint: str) -> None:
    """May ``by`` call this Klippy endpoint of ``target``?"""
    _check_from(target, "endpoints_from", section.endpoints_from, by)
    allowed = section.allow_endpoints
    if endpoint == EMERGENCY_STOP:
        if EMERGENCY_STOP not in (allowed or ()):
            raise CallError(f"emergency_stop is not in allow_endpoints of [klippy {target}], where it must be named")
    elif allowed is not None and not _matches(endpoint, allowed):
        raise CallError(f"{endpoint} is not in allow_endpoints of [klippy {target}]")


def check_emergency_stop(target: str, section: KlippySection, by: str) -> None:
    """May ``by``, a person at a page that shows ``target``, stop it? ``allow_endpoints`` need not name that."""
    _check_from(target, "endpoints_from", section.endpoints_from, by)


def check_event(target: str, section: KlippySection, by: str) -> None:
    """May events that ``by`` triggers run handlers on ``target``?"""
    _check_from(target, "events_from", section.events_from, by)


def check_everything(target: str, section: KlippySection, by: str) -> None:
    """May ``by`` have a connection to ``target`` on which nobody looks at what is said?"""
    _check_from(target, "gcode_from", section.gcode_from, by)
    _check_from(target, "endpoints_from", section.endpoints_from, by)
    options = {
        "allow_gcode": section.allow_gcode is not None,
        "deny_gcode": bool(section.deny_gcode),
        "allow_endpoints": section.allow_endpoints is not None,
    }
    if option := next((name for name, is_set in options.items() if is_set), None):
        raise CallError(f"{option} of [klippy {target}] could not be kept")


def _check_from(target: str, option: str, allowed: list[str] | None, by: str) -> None:
    if allowed is not None and by not in allowed:
        raise CallError(f"{by} is not in {option} of [klippy {target}]")


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)
