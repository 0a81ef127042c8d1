"""Changes frames of JSON so that they mostly stay JSON: blind changes seldom get past the decoder.

A frame is ended by 0x03. One change is to replace a value or a key by another, to add a key, or to move, double or
drop a frame. Words come from the target's dictionary, from the data itself, and from a few values that are always
worth a try.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

END = b"\x03"
_KEY = re.compile(rb'"(?:[^"\\\x03]|\\.)*"(?=\s*:)')
_VALUE = re.compile(
    rb'"(?:[^"\\\x03]|\\.)*"(?!\s*:)|-?[0-9][0-9.eE+-]*|true|false|null|\{\}|\[\]|\{[^{}]*\}|\[[^\[\]]*\]'
)

VALUES = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"1e400", b"NaN", b"99999999999999999999", b"[]", b"{}", b"[null]"),
    *(b'""', b'"1"', b'"x y"', b'"it\'s"', b'"\\""', b'"\\\\"', b'"#;*"', b'"\\n"', b'"\\r\\nM112"', b'"\\ud800"'),
    *(b'"\\u0000"', b'"\\u0003"', b'"\\u00df"', b'{"a":{"b":[1,"x",null]}}', b"[[[[]]]]", b'"{a}"', b'"a=1,b=2"'),
)


class JsonMutator:
    """Changes data of a target that has this dictionary."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self._keys = sorted({key for word in words for key in _KEY.findall(word)}) or [b'"id"']
        self._values = [*VALUES, *sorted({value for word in words for value in _VALUE.findall(word)})]

    def __call__(self, data: bytes, chance: random.Random) -> bytes:
        frames = data.split(END)
        place = chance.randrange(len(frames))
        match chance.randrange(8):
            case 0:
                frames.insert(place, chance.choice(frames))
            case 1 if len(frames) > 1:
                del frames[place]
            case 2:
                frames.insert(chance.randrange(len(frames)), frames.pop(place))
            case 3:
                frames[place] = self._replaced(_KEY, frames[place], self._keys, data, chance)
            case 4:
                added = b"{" + chance.choice(self._keys) + b":" + chance.choice(self._values) + b","
                frames[place] = _at_one_of(re.compile(rb"\{(?=\s*\")"), frames[place], added, chance)
            case _:
                frames[place] = self._replaced(_VALUE, frames[place], self._values, data, chance)
        return END.join(frames)

    def _replaced(
        self, kind: re.Pattern[bytes], frame: bytes, words: Sequence[bytes], data: bytes, chance: random.Random
    ) -> bytes:
        own = kind.findall(data)
        word = chance.choice(own) if own and chance.random() < 0.3 else chance.choice(words)
        return _at_one_of(kind, frame, word, chance)


def _at_one_of(kind: re.Pattern[bytes], frame: bytes, word: bytes, chance: random.Random) -> bytes:
    matches = [*kind.finditer(frame)]
    if not matches:
        return frame + word
    match = chance.choice(matches)
    return frame[: match.start()] + word + frame[match.end() :]
