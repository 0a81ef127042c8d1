"""The G-code that others may run on a printer whose configuration says what is allowed and what is denied.

Invariant: a script that passes runs, on either Klipper, no command that is denied and none that is not allowed.
Input: the first byte chooses the lists; the rest is the script.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from klipper_router import policy
from klipper_router.config import KlippySection
from klipper_router.errors import CallError
from test.unit.klipper_model import VERSIONS, Klipper

WORDS = (
    b"M112",
    b"m112",
    b"M117 ",
    b"SET_PIN",
    b"N5 ",
    b"N1N",
    b"*",
    b"/",
    b";",
    b"\n",
    b" A='",
    b"\xc4\xb1",
    b"\xc5\xbf",
)

ALLOWED: tuple[list[str] | None, ...] = (None, ["M117", "SET_*", "G1"], ["*"], [])
DENIED: tuple[list[str], ...] = ([], ["M112", "SET_PIN"], ["m1*"], ["G[01]", "?112"])


def one_input(data: bytes) -> None:
    choice = data[0] if data else 0
    script = data[1:].decode("utf-8", "ignore")
    allowed, denied = ALLOWED[choice % 4], DENIED[choice // 4 % 4]
    section = KlippySection(sock="/led", allow_gcode=allowed, deny_gcode=denied)
    try:
        policy.check_gcode("led", section, "main", script)
    except CallError:
        return
    for version in VERSIONS:
        for ran in Klipper(version).run(script).ran:
            assert not any(fnmatchcase(ran.command, pattern.upper()) for pattern in denied)
            assert allowed is None or any(fnmatchcase(ran.command, pattern) for pattern in allowed)
