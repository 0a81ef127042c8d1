"""Who follows what on one printer: the union to ask Klipper for, and each follower's own changes.

Pure: no clock, no sockets. Klipper has one objects/subscribe per connection, so the union of all wants is asked
for, its answer is taken as a snapshot, and each subscription is offered what it wants of it. What it was given last
(`delivered`) decides what is a change, so a snapshot after a gap tells nobody anything twice.

Values are JSON texts as Klipper wrote them; equal values have equal texts, as one encoder wrote both. Only a dotted
field (``info.current_layer``) is looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

from klipper_router.errors import CallError
from klipper_router.messages import Objects, Status

Caller = TypeVar("Caller")

_INDEX = re.compile(r"[0-9]{1,9}")

# (object, field as wanted: dotted fields stay dotted) -> JSON text
Values = dict[tuple[str, str], bytes]

# A macro that makes up a new callback at each call must not fill the memory.
MAX_SUBSCRIPTIONS_PER_CALLER = 100

# The one object that exists in every state of Klipper.
WEBHOOKS = "webhooks"
OWN_WANTS: Objects = {WEBHOOKS: ["state", "state_message"]}


class Subscription(Generic[Caller]):
    """One follower's wants on one printer, what it was given, and what it is still to be given."""

    __slots__ = ("_delivered", "_pending", "callback", "caller", "live", "objects")

    def __init__(self, caller: Caller, callback: str, objects: Objects) -> None:
        self.caller = caller
        self.callback = callback
        self.objects = objects
        self.live = False  # updates count only after the first snapshot
        self._pending: Values = {}
        self._delivered: Values = {}

    @property
    def has_news(self) -> bool:
        return bool(self._pending)

    def take(self) -> Values:
        """The newest values that differ from what was taken before; they count as delivered from now on."""
        news = {key: value for key, value in self._pending.items() if self._delivered.get(key) != value}
        self._pending.clear()
        self._delivered.update(news)
        return news

    def forget(self) -> None:
        """The printer went away: everything is news again when it is back."""
        self.live = False
        self._pending.clear()
        self._delivered.clear()

    def offer(self, name: str, fields: Mapping[str, bytes]) -> bool:
        """Take note of new values of object ``name``; whether any of them is to be delivered."""
        wanted = self.objects[name]
        offered: Iterable[tuple[str, bytes]] = fields.items()
        if wanted is not None:
            offered = (
                (field, fields[base] if base == field else _pick(fields[base], field))
                for field in wanted
                if (base := _base(field)) in fields
            )
        for field, value in offered:
            key = (name, field)
            if key in self._pending or self._delivered.get(key) != value:
                self._pending[key] = value
        return self.has_news


class Following(Generic[Caller]):
    """All subscriptions on one printer, and the values that the printer last reported."""

    def __init__(self) -> None:
        self._subscriptions: dict[tuple[Caller, str], Subscription[Caller]] = {}
        self._values: Status = {}
        self._asked: Objects = {}
        self._has_objects = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    def __iter__(self) -> Iterator[Subscription[Caller]]:
        return iter(self._subscriptions.values())

    def get(self, caller: Caller, callback: str) -> Subscription[Caller] | None:
        """The caller's subscription with this callback."""
        return self._subscriptions.get((caller, callback))

    def of(self, caller: Caller) -> list[Subscription[Caller]]:
        """The caller's subscriptions."""
        return [subscription for subscription in self if subscription.caller == caller]

    def subscribe(self, caller: Caller, callback: str, objects: Objects) -> Subscription[Caller]:
        """Add a subscription in the place of the caller's older one with this callback, if there is one.

        It has news at once when everything that it wants is known already; else `ask`.
        Raises CallError when the caller has too many.
        """
        if (caller, callback) not in self._subscriptions and len(self.of(caller)) >= MAX_SUBSCRIPTIONS_PER_CALLER:
            raise CallError(f"{MAX_SUBSCRIPTIONS_PER_CALLER} callbacks follow it already, the most per caller")
        self.unsubscribe(caller, callback)
        subscription = Subscription(caller, callback, objects)
        self._subscriptions[caller, callback] = subscription
        if self._covers(objects):
            self._offer_all(subscription)
        return subscription

    def unsubscribe(self, caller: Caller, callback: str | None = None) -> list[Subscription[Caller]]:
        """Remove the caller's subscription with this callback, or all of the caller's; return what was removed."""
        gone = [old for old in self.of(caller) if callback in (None, old.callback)]
        for subscription in gone:
            del self._subscriptions[caller, subscription.callback]
        return gone

    def union(self) -> Objects:
        """What to ask Klipper for, so that every want, and our own, is met."""
        wants: dict[str, dict[str, None] | None] = {}
        for objects in (OWN_WANTS, *(subscription.objects for subscription in self)):
            for name, fields in objects.items():
                have = wants.setdefault(name, {})
                if fields is None:
                    wants[name] = None
                elif have is not None:
                    have.update((_base(field), None) for field in fields)
        return {name: None if fields is None else list(fields) for name, fields in wants.items()}

    def ask(self) -> Objects:
        """The union, to be asked for now. Until the answer nothing is told from what was known before."""
        self._asked = {}
        return self.union()

    def snapshot(self, asked: Objects, status: Status, *, has_objects: bool) -> list[Subscription[Caller]]:
        """Klipper's answer to a subscription of ``asked``. Returns who has news.

        Until ``has_objects`` (Klipper is in startup or error) only webhooks is told: what is null or absent then is
        not the printer's status.
        """
        self._asked = asked
        self._values = status
        self._has_objects = has_objects
        return [subscription for subscription in self if self._offer_all(subscription)]

    def update(self, status: Status) -> list[Subscription[Caller]]:
        """Klipper's report of changed fields. Returns who has news."""
        news: dict[int, Subscription[Caller]] = {}
        for name, fields in status.items():
            self._values.setdefault(name, {}).update(fields)
            if name != WEBHOOKS and not self._has_objects:
                continue
            for subscription in self:
                if subscription.live and name in subscription.objects and subscription.offer(name, fields):
                    news[id(subscription)] = subscription
        return list(news.values())

    def objects_appear(self) -> None:
        """Klipper became ready: nothing is told until the next snapshot, which then is a full one."""
        self._asked = {}
        for subscription in self:
            subscription.live = False

    def lose(self) -> None:
        """The connection ended. Subscriptions stay; all that was known is forgotten."""
        self._values = {}
        self._asked = {}
        self._has_objects = False
        for subscription in self:
            subscription.forget()

    def _covers(self, objects: Objects) -> bool:
        """Whether a snapshot of a union that held all of ``objects`` is at hand."""
        return bool(self._asked) and all(
            name in self._asked
            and ((have := self._asked[name]) is None or (fields is not None and {*map(_base, fields)} <= {*have}))
            for name, fields in objects.items()
        )

    def _offer_all(self, subscription: Subscription[Caller]) -> bool:
        if not self._covers(subscription.objects):
            return False  # asked for after this snapshot was; the next one is its first
        subscription.live = True
        for name, wanted in subscription.objects.items():
            if name in self._values and (self._has_objects or name == WEBHOOKS):
                # Klipper gives null for a field that the object lacks, but leaves it out when another wants all fields.
                lacking = {} if wanted is None else {_base(field): b"null" for field in wanted}
                subscription.offer(name, lacking | self._values[name])
        return subscription.has_news


def _base(field: str) -> str:
    """The field that Klipper knows: the part before the first dot."""
    return field.partition(".")[0]


def _pick(value: bytes, field: str) -> bytes:
    """The JSON text of the part of ``value`` that the dots of ``field`` lead to; null where they lead nowhere."""
    try:
        part = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):  # 1e400, or nested too deep: valid as long as nobody looks into it
        return b"null"
    for step in field.split(".")[1:]:
        if isinstance(part, dict):
            part = part.get(step)
        elif isinstance(part, list) and _INDEX.fullmatch(step) and int(step) < len(part):
            part = part[int(step)]
        else:
            return b"null"
    return msgspec.json.encode(part)
