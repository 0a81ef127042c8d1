"""Makes a target's committed corpus: the fewest and shortest inputs that reach all lines and branches ever reached.

    python -m test.fuzz.distil TARGET FOLDER…      from these folders and what is committed already

Inputs whose name does not begin with ``seed`` stay: typical ones, and findings of the past.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import trio

CORPUS = Path(__file__).parent / "corpus"
# Of one target: some dozens of short inputs, quick to replay and small to clone.
MAX_BYTES = 20_000

Jump = tuple[str, int, int]


def jumps_of(one_input: Callable[[bytes], Any], data: bytes) -> set[Jump]:
    """From which line to which line of the product the input led."""
    jumps: set[Jump] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if "klipper_router" not in file:
            return None
        before = -frame.f_code.co_firstlineno

        def in_frame(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            jumps.add((file, before, frame.f_lineno))
            before = frame.f_lineno
            return in_frame

        return in_frame

    sys.settrace(trace)
    try:
        if inspect.iscoroutinefunction(one_input):
            trio.run(one_input, data)
        else:
            one_input(data)
    finally:
        sys.settrace(None)
    return jumps


def distil(target: str, folders: list[Path]) -> None:
    one_input = importlib.import_module(f"test.fuzz.{target}").one_input
    kept = CORPUS / target
    found = {file.read_bytes() for folder in (kept, *folders) for file in folder.iterdir()}
    past = [file for file in kept.iterdir() if not file.name.startswith("seed")]
    reached: set[Jump] = set()
    for file in past:
        reached |= jumps_of(one_input, file.read_bytes())
    chosen: list[bytes] = []
    for data in sorted(found, key=lambda data: (len(data), data)):
        if more := jumps_of(one_input, data) - reached:
            reached |= more
            chosen.append(data)
    size_bytes = sum(map(len, chosen))
    while size_bytes > MAX_BYTES:
        size_bytes -= len(chosen.pop())
    for file in {*kept.iterdir()} - {*past}:
        file.unlink()
    for data in chosen:
        (kept / f"seed_{hashlib.sha1(data).hexdigest()[:10]}").write_bytes(data)
    print(f"{target}: {len(chosen)} of {len(found)} inputs, {size_bytes} bytes, {len(reached)} jumps")


if __name__ == "__main__":
    distil(sys.argv[1], [Path(folder) for folder in sys.argv[2:]])
