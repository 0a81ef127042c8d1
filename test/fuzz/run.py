"""Runs one fuzz target under atheris; `scripts/fuzz.sh` starts it, in an environment that has atheris.

    python -m test.fuzz.run TARGET [libFuzzer's options and folders]

A target is a module of this folder with ``one_input(data)``, which raises where its invariant does not hold, and
``WORDS`` for the dictionary. Where ``one_input`` is async it gets a trio of its own each time, with the clock and the
events that the router asks for; nothing ever waits. Every other change of an input keeps its JSON whole
(`json_mutator`), or its lines, of a target with ``LINES`` (`line_mutator`).
"""

from __future__ import annotations

import functools
import importlib
import logging
import random
import sys
import tempfile
from inspect import iscoroutinefunction as is_async
from typing import Any

import trio

from test.fuzz.json_mutator import JsonMutator
from test.fuzz.line_mutator import LineMutator

atheris: Any = importlib.import_module("atheris")  # no part of the environment in which mypy runs

INSTRUMENTED = ["klipper_router", "wsproto", "yaml"]
# A long input is a slow one, and seldom shows more.
MAX_BYTES = 1000


def dictionary(words: tuple[bytes, ...]) -> str:
    """In the form that libFuzzer reads."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"test.fuzz.{name}")
        rig = importlib.import_module("test.fuzz.rig")
    logger = logging.getLogger("klipper_router")
    logger.addHandler(rig.NoHiddenErrors())
    logger.propagate = False
    one_input = functools.partial(trio.run, target.one_input) if is_async(target.one_input) else target.one_input
    is_lines = getattr(target, "LINES", False)
    whole = LineMutator(target.WORDS) if is_lines else JsonMutator(target.WORDS)

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if (is_lines or b"{" in data) and chance.random() < 0.5:
            for _ in range(chance.randint(1, 3)):
                data = whole(data, chance)
            if len(data) <= max_bytes:
                return data
        return bytes(atheris.Mutate(data[:max_bytes], max_bytes))

    with tempfile.NamedTemporaryFile("w", suffix=".dict") as words:
        words.write(dictionary(target.WORDS))
        words.flush()
        atheris.Setup(
            [f"fuzz {name}", f"-dict={words.name}", f"-max_len={MAX_BYTES}", *options],
            one_input,
            custom_mutator=mutate,
        )
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
