"""The printer's own time: real time multiplied by `speed`. Everything that waits in a printer waits on this clock."""

from __future__ import annotations

import time

import trio

NEVER = 9999999999999999.0  # Klipper's own value (klippy/reactor.py), visible to nobody but ours


class Clock:
    """Must be made inside a trio run. Its origin is the host's monotonic time, as Klipper's eventtime is."""

    def __init__(self, speed: float) -> None:
        if not speed > 0.0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self._origin = time.monotonic()
        self._real_origin = trio.current_time()

    def now(self) -> float:
        return self._origin + (trio.current_time() - self._real_origin) * self.speed

    def real(self, when: float) -> float:
        """The trio time at which this clock will show `when`."""
        if when >= NEVER:
            return float("inf")
        return self._real_origin + (when - self._origin) / self.speed

    async def sleep_until(self, when: float) -> None:
        await trio.sleep_until(self.real(when))
