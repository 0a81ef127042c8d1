"""Changes files of lines so that most lines stay what they are: blind changes seldom get past the names of keys.

For targets with ``LINES``. One change is to replace a value, to indent a line, or to move, double, add or drop one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_VALUE = re.compile(rb"(?<=[:=])[ \t]*[^:\n]*")
_NUMBER = re.compile(rb"-?[0-9][0-9.]*")

VALUES = (
    *(b"", b"0", b"-1", b"1.5", b"0.000001", b"99999", b"1e400", b"nan", b"-inf", b"1,2", b"1,2\n 3,4", b"\n  1\n  2"),
    *(b"true", b"no", b"~", b"null", b"x", b"a b", b"'x'", b'"x"', b"[]", b"{}", b"[1, x]", b"{a: 1}", b"*a", b"&a x"),
    *(b"(?", b"%s", b"{", b"\xc3\xa9", b'"\\ud800"', b"0x1f", b"1_0", b"2021-01-01", b"!!int x", b"|", b"$", b"!^PA1"),
)


class LineMutator:
    """Changes data of a target that has this dictionary."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self._words = words

    def __call__(self, data: bytes, chance: random.Random) -> bytes:
        lines = data.split(b"\n")
        place = chance.randrange(len(lines))
        match chance.randrange(9):
            case 0:
                lines.insert(place, chance.choice(lines))
            case 1 if len(lines) > 1:
                del lines[place]
            case 2:
                lines.insert(chance.randrange(len(lines)), lines.pop(place))
            case 3:
                lines[place] = chance.choice((b" ", b"  ", b"- ")) + lines[place]
            case 4:
                lines.insert(place + 1, chance.choice(self._words).strip(b"\n"))
            case 5:
                lines[place] = _NUMBER.sub(lambda _: chance.choice(VALUES), lines[place], count=1)
            case 6:
                own = _VALUE.findall(data) or [b""]
                lines[place] = _VALUE.sub(lambda _: chance.choice(own), lines[place], count=1)
            case _:
                lines[place] = _VALUE.sub(lambda _: b" " + chance.choice(VALUES), lines[place], count=1)
        return b"\n".join(lines)
