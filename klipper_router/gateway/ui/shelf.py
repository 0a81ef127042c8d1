"""Files that are expensive to make, kept in memory: compressed and patched ones, the least used one goes first.

One is made at a time, and by one request: a browser asks for thirty of them at once, and a weak board has other things
to do. While it is made the others wait, in order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import trio

# The scripts that both UIs load at their start take about half of it.
MAX_BYTES = 4 * 1024 * 1024


class Shelf:
    """Bounded in bytes; what is larger than a quarter of it is made anew each time."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._making = trio.Lock()
        self.size_bytes = 0

    async def take(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What is kept under a key, or else made by ``make``, in a thread; what it raises passes through."""
        if (kept := self._find(key)) is not None:
            return kept
        async with self._making:
            if (kept := self._find(key)) is not None:
                return kept
            made = await trio.to_thread.run_sync(make)
            if len(made) <= self._max_bytes // 4:
                self._keep(key, made)
            return made

    def _find(self, key: Hashable) -> bytes | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: Hashable, made: bytes) -> None:
        self._kept[key] = made
        self.size_bytes += len(made)
        while self.size_bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.size_bytes -= len(dropped)
