"""What others may do to a printer, as its ``[klippy NAME]`` says. Pure: each check raises CallError, or returns.

Others are the macros of other printers (by the printer's name) and the clients of the API socket and the gateway
(``clients``, ``gateway``). A printer may always do to itself what it likes: its macros could do so without us.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from fnmatch import translate

from klipper_router.config import KlippySection
from klipper_router.errors import CallError
from klipper_router.gcode import commands

# An endpoint that stops the machine is called only where it is named, not by way of a wildcard.
EMERGENCY_STOP = "emergency_stop"

# A script is checked while all printers wait: 7 ms for moves of this length, 0.2 s for the worst (an AMD EPYC).
MAX_CHECKED_CHARACTERS = 256 * 1024


def check_gcode(target: str, section: KlippySection, by: str, script: str) -> None:
    """May ``by`` run this G-code on ``target``? Every command in it must be allowed; a macro counts as one."""
    _check_from(target, "gcode_from", section.gcode_from, by)
    if section.allow_gcode is None and not section.deny_gcode:
        return
    if len(script) > MAX_CHECKED_CHARACTERS:
        raise CallError(
            f"a script of {len(script)} characters is too long to be checked by allow_gcode and deny_gcode of"
            f" [klippy {target}], {MAX_CHECKED_CHARACTERS} are the most"
        )
    is_allowed = _matcher(tuple(section.allow_gcode)) if section.allow_gcode is not None else None
    is_denied = _matcher(tuple(section.deny_gcode))
    for command in commands(script):
        if is_allowed and not is_allowed(command):
            raise CallError(f"{command} is not in allow_gcode of [klippy {target}]")
        if is_denied(command):
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
    return _matcher(tuple(patterns))(name.upper()) is not None


@functools.lru_cache(256)  # of the configuration's, so there are not many
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Whether a name in upper case is one of these, ``*`` and ``?`` standing for what they do in file names."""
    return re.compile("|".join(translate(pattern.upper()) for pattern in patterns) or r"(?!)").match
