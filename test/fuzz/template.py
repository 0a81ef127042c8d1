"""Event templates: a handler's G-code that anybody may register, filled with a context that anybody may trigger.

Invariant: a template is refused by CallError, or whatever context it is filled with, both Klippers run the commands
and read the parameters that they would with harmless figures; nothing is added, nothing is lost.
Input: the template, and the values of ``a`` and ``b``, apart by 0x03.
"""

from __future__ import annotations

from klipper_router.errors import CallError
from klipper_router.template import Template
from test.unit.harmless import prove_appended, prove_harmless
from test.unit.klipper_model import VERSIONS

WORDS = (b"{a}", b"{b}", b"FOO", b"M117 ", b"G1 X", b" A=", b"'", b'"', b"\\", b"N5 ", b"\n", b"\x03", b"*", b"#", b";")


def one_input(data: bytes) -> None:
    text, *values = data.decode("utf-8", "ignore").split("\x03")
    pair = dict(zip("ab", [*values, "", ""], strict=False))
    try:
        template = Template(text)
        template.fill(pair)
    except CallError:
        return
    for version in VERSIONS:
        if "{" not in text and template.fill({"x": "1"}) != template.fill({}):
            prove_appended(version, template, dict(zip(values[::2], values[1::2], strict=False)))
        else:
            prove_harmless(version, template, pair)
