"""Runs one fuzz target under atheris; `scripts/fuzz.sh` starts it, in an environment that has atheris.

    python -m test.fuzz.run TARGET [libFuzzer's options and folders]

A target is a module of this folder with ``one_input(data)``, which raises where its invariant does not hold, and
``WORDS`` for the dictionary. Every other change of an input keeps its JSON whole (`json_mutator`). All of it happens
within trio (whose clock and events the router asks for), but nothing ever waits.
"""

from __future__ import annotations

import importlib
import logging
import random
import sys
import tempfile
from typing import Any

import trio

from test.fuzz.json_mutator import JsonMutator

atheris: Any = importlib.import_module("atheris")  # no part of the environment in which mypy runs

INSTRUMENTED = ["klipper_router", "yaml"]
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
    json_mutator = JsonMutator(target.WORDS)

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if b"{" in data and chance.random() < 0.5:
            for _ in range(chance.randint(1, 3)):
                data = json_mutator(data, chance)
            if len(data) <= max_bytes:
                return data
        return bytes(atheris.Mutate(data[:max_bytes], max_bytes))

    with tempfile.NamedTemporaryFile("w", suffix=".dict") as words:
        words.write(dictionary(target.WORDS))
        words.flush()
        atheris.Setup(
            [f"fuzz {name}", f"-dict={words.name}", f"-max_len={MAX_BYTES}", *options],
            target.one_input,
            custom_mutator=mutate,
        )

        async def fuzz() -> None:
            atheris.Fuzz()  # ends the process

        trio.run(fuzz)


if __name__ == "__main__":
    main()
