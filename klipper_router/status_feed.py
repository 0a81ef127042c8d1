"""What Klipper reports of one printer's objects: the one subscription of a connection, kept at the union of all wants.

Klipper replaces a connection's subscription by each new one, so one is asked for at a time, and when it is answered
the wants are looked at again. Knows `subscriptions.Following` and the link, not what the values mean.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from klipper_router import messages
from klipper_router.errors import LinkLost, ProtocolError, RouterError
from klipper_router.link import Answer, Link
from klipper_router.messages import Objects, Status
from klipper_router.subscriptions import Following, Subscription

log = logging.getLogger("klipper_router.printer")

Caller = TypeVar("Caller")

STATUS_METHOD = "router/objects/update"

_STATUS = msgspec.json.Decoder(messages.StatusParams)


class StatusFeed(Generic[Caller]):
    """Brings a printer's status to `following`.

    ``on_status`` sees each status before the followers do, and returns whether Klipper has its objects by now;
    ``on_news`` gets each subscription that has something to deliver.
    """

    def __init__(
        self, printer: str, on_status: Callable[[Status], bool], on_news: Callable[[Subscription[Caller]], None]
    ) -> None:
        self.following: Following[Caller] = Following()
        self.eventtime = 0.0  # Klipper's clock at the last status, in s
        self._printer = printer
        self._on_status = on_status
        self._on_news = on_news
        self._link: Link | None = None
        self._asking = False
        self._turn = 0
        self._acknowledged: Objects | None = None

    def open(self, link: Link) -> None:
        """A connection was made: ask for everything that is wanted."""
        self._link = link
        self.refresh()

    def close(self) -> None:
        """The connection is gone. Subscriptions stay."""
        self._link = None
        self._asking = False
        self._acknowledged = None
        self.following.lose()

    def refresh(self) -> None:
        """Ask Klipper for the union of all wants, unless that is what it was asked for already."""
        if self._link is None or self._asking or self.following.union() == self._acknowledged:
            return
        self._asking = True
        union = self.following.ask()
        turn = self._turn
        self._link.post(
            "objects/subscribe",
            {"objects": union, "response_template": {"method": STATUS_METHOD}},
            lambda answer: self._answered(union, turn, answer),
        )

    def objects_appeared(self) -> None:
        """Klipper became ready: a full snapshot is due; an answer that is under way does not count as one."""
        self.following.objects_appear()
        self._turn += 1
        self._acknowledged = None
        self.refresh()

    def update(self, params: bytes) -> None:
        """Klipper's report of changed fields."""
        try:
            status = self._read(params)
        except ProtocolError as error:
            log.error("%s: skipped a status update: %s", self._printer, error)
            return
        news = self.following.update(status)
        self._on_status(status)
        for subscription in news:
            self._on_news(subscription)

    def _answered(self, union: Objects, turn: int, answer: Answer) -> None:
        if isinstance(answer, LinkLost):
            return  # `close` follows
        try:
            if isinstance(answer, RouterError):
                raise answer
            status = self._read(answer)
        except RouterError as error:
            # No Klipper known refuses what is sent here; it is asked again at the next `refresh`, not at once for ever,
            # and then whatever is wanted: of what was asked for before, nothing is known any more (`Following.ask`).
            log.error("%s: objects/subscribe failed: %s", self._printer, error)
            self._asking = False
            self._acknowledged = None
            return
        has_objects = self._on_status(status)
        self._asking = False
        if turn == self._turn:
            self._acknowledged = union
            for subscription in self.following.snapshot(union, status, has_objects=has_objects):
                self._on_news(subscription)
        self.refresh()

    def _read(self, params: bytes) -> Status:
        """Raises ProtocolError."""
        decoded = messages.decode(params, _STATUS)
        self.eventtime = decoded.eventtime
        return {
            name: {field: bytes(value) for field, value in fields.items()} for name, fields in decoded.status.items()
        }
