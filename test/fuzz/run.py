"""Runs one fuzz target under atheris; `scripts/fuzz.sh` starts it, in an environment that has atheris.

    python -m test.fuzz.run TARGET [libFuzzer's options and folders]

A target is a module of this folder with ``one_input(data)``, which raises where its invariant does not hold, and
``WORDS`` for the dictionary. All of it happens within trio (whose clock and events the router asks for), but nothing
ever waits.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from typing import Any

import trio

atheris: Any = importlib.import_module("atheris")  # no part of the environment in which mypy runs

INSTRUMENTED = ["klipper_router", "yaml"]


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
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as words:
        words.write(dictionary(target.WORDS))
        words.flush()
        atheris.Setup([f"fuzz {name}", f"-dict={words.name}", *options], target.one_input)

        async def fuzz() -> None:
            atheris.Fuzz()  # ends the process

        trio.run(fuzz)


if __name__ == "__main__":
    main()
