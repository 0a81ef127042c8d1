"""The temperatures of one printer: which sensors it has, their newest values, and the store of the last 20 minutes.

Sensors are those of Klipper's object ``heaters``, followed from the moment the printer is ready.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from klipper_router import messages
from klipper_router.callers import Caller
from klipper_router.errors import CallError, ProtocolError, RouterError
from klipper_router.gateway.moonraker.follower import Follower
from klipper_router.gateway.moonraker.stores import MAX_SENSORS, SENSOR_FIELDS, TemperatureStore
from klipper_router.link import Answer
from klipper_router.messages import Objects
from klipper_router.printer import Printer
from klipper_router.subscriptions import Subscription

log = logging.getLogger("klipper_router.gateway.moonraker")


class _Heaters(msgspec.Struct):
    available_sensors: list[str] = []
    available_monitors: list[str] = []


_Status = dict[str, dict[str, Any]]


class _Queried(msgspec.Struct):
    status: _Status


_QUERIED = msgspec.json.Decoder(_Queried)


class Sensors(Follower):
    """The sensors of ``printer``; `ready` and `lost` say when to look for them, `sample` is called once a second."""

    def __init__(self, printer: Printer[Caller]) -> None:
        super().__init__(f"gateway: temperatures of {printer.name}")
        self.store = TemperatureStore()
        self._printer = printer
        self._now: dict[str, dict[str, Any]] = {}
        self._life = 0

    def ready(self) -> None:
        """Klipper has its configuration: ask what sensors there are, and what they show."""
        self._life += 1
        life = self._life

        def heaters(answer: Answer) -> None:
            told = self._status(answer, life)
            if told is None:
                return
            try:
                found = msgspec.convert(told.get("heaters", {}), _Heaters)
            except msgspec.ValidationError as error:
                log.error("%s: heaters: %s", self._printer.name, error)
                return
            names = [*found.available_sensors, *found.available_monitors][:MAX_SENSORS]
            wanted: Objects = dict.fromkeys(names)
            self._printer.call("objects/query", {"objects": wanted}, lambda answer: values(found, answer))

        def values(found: _Heaters, answer: Answer) -> None:
            told = self._status(answer, life)
            if told is None:
                return
            self._now = {
                name: {field: value for field, value in fields.items() if field in SENSOR_FIELDS}
                for name, fields in told.items()
            }
            self.store.configure(self._now, found.available_monitors)
            self._follow({name: [*fields] for name, fields in self._now.items() if fields})

        self._printer.call("objects/query", {"objects": {"heaters": None}}, heaters)

    def lost(self) -> None:
        """The connection is gone; the store goes on with the last values, as Moonraker's does."""
        self._life += 1
        self._printer.unfollow(self)

    def sample(self) -> None:
        self.store.sample(self._now)

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        for (name, field), value in subscription.take().items():
            self._now.setdefault(name, {})[field] = _decoded(value)

    def _status(self, answer: Answer, life: int) -> _Status | None:
        """Klipper's answer to a query; None: it is of no use (any more)."""
        if life != self._life or isinstance(answer, RouterError):
            return None
        try:
            return messages.decode(answer, _QUERIED).status
        except ProtocolError as error:
            log.error("%s: temperatures: %s", self._printer.name, error)
            return None

    def _follow(self, wanted: Objects) -> None:
        try:
            if wanted:
                self._printer.follow(self, "temperatures", wanted)
            else:
                self._printer.unfollow(self)
        except CallError as error:
            log.error("%s: temperatures: %s", self._printer.name, error)


def _decoded(value: bytes) -> Any:
    """None for a number that no one can read: this is called in Klippy's reader, and must not fail."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None
