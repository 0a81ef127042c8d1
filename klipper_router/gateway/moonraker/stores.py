"""What a UI shows of the time before it was opened: console lines and temperatures. Bounded, pure, no clock.

Shapes and sizes are those of Moonraker's data_store.py, which keeps 1000 lines and 1200 samples at 1 Hz by default.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

GCODE_STORE_LINES = 1000
# A response may be long (HELP, a list of objects): the oldest go when all of them are this long together.
GCODE_STORE_BYTES = 512 * 1024
TEMPERATURE_STORE_SAMPLES = 1200
MAX_SENSORS = 100

SENSOR_FIELDS = ("temperature", "target", "power", "speed")


class Line(NamedTuple):
    """One entry of ``server.gcode_store``. ``time``: seconds since the epoch."""

    message: str
    time: float
    type: Literal["command", "response"]


class GcodeStore:
    """The newest console lines; the oldest goes first."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=GCODE_STORE_LINES)
        self._size_bytes = 0

    def add(self, message: str, time: float, kind: Literal["command", "response"]) -> None:
        if len(self._lines) == GCODE_STORE_LINES:
            self._drop_oldest()
        message = message[:GCODE_STORE_BYTES]
        self._lines.append(Line(message, time, kind))
        self._size_bytes += len(message)
        while self._size_bytes > GCODE_STORE_BYTES:
            self._drop_oldest()

    def newest(self, count: int | None = None) -> list[dict[str, Any]]:
        """The last ``count`` lines, oldest first; None: all. Sliced as Moonraker does: 0 is all, too."""
        lines = list(self._lines)
        return [line._asdict() for line in (lines if count is None else lines[-count:])]

    def _drop_oldest(self) -> None:
        self._size_bytes -= len(self._lines.popleft().message)


class TemperatureStore:
    """Samples of each sensor's fields; 8 bytes each, so a printer with ten sensors costs some 300 kB."""

    def __init__(self) -> None:
        self.monitors: frozenset[str] = frozenset()  # sensors that are shown only on demand (Klipper heaters.py)
        self._samples: dict[str, dict[str, array[float]]] = {}

    @property
    def sensors(self) -> list[str]:
        return list(self._samples)

    def configure(self, now: Mapping[str, Mapping[str, Any]], monitors: Iterable[str] = ()) -> None:
        """The sensors that there are, with their values of now; what is known of those that stay is kept."""
        self.monitors = frozenset(monitors)
        old, self._samples = self._samples, {}
        for name in list(now)[:MAX_SENSORS]:
            fields = [field for field in SENSOR_FIELDS if field in now[name]]
            if fields:
                known = old.get(name, {})
                self._samples[name] = {field: known.get(field, array("d")) for field in fields}
        self.sample(now)

    def sample(self, now: Mapping[str, Mapping[str, Any]]) -> None:
        """Take one sample of everything; a field that ``now`` lacks is as it was."""
        for name, fields in self._samples.items():
            values = now.get(name, {})
            for field, samples in fields.items():
                last = samples[-1] if samples else math.nan
                samples.append(_number(values[field]) if field in values else last)
                if len(samples) > TEMPERATURE_STORE_SAMPLES:
                    del samples[0]

    def shown(self, *, include_monitors: bool) -> dict[str, dict[str, list[float | None]]]:
        """``{sensor: {temperatures, targets, powers, speeds}}``, oldest first."""
        return {
            name: {
                f"{field}s": [None if math.isnan(value) else value for value in samples]
                for field, samples in fields.items()
            }
            for name, fields in self._samples.items()
            if include_monitors or name not in self.monitors
        }


def _number(value: object) -> float:
    """Rounded as Moonraker does; what is no number (null, before a sensor was read) is NaN here, null outside."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return round(float(value), 2)
    except OverflowError:  # JSON's integers have no end, and this is called in Klippy's reader
        return math.nan
