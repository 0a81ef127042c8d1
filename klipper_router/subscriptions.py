"""Who follows what on one printer: the union to ask Klipper for, and each follower's own changes.

Pure: no clock, no sockets. Klipper has one objects/subscribe per connection, so the union of all wants is asked
for, its answer is taken as a snapshot, and each subscription is told what it wants of it. What it was told last
decides what is a change, so a snapshot after a gap tells nobody anything twice. Those who want the same share a
`_View` of it; a follower's own is only what changed since it took its news (`_missed`, mostly shared as well).

Values are JSON texts as Klipper wrote them; equal values have equal texts, as one encoder wrote both. Only a dotted
field (``info.current_layer``) is looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from klipper_router.errors import CallError
from klipper_router.messages import Objects, Status

Caller = TypeVar("Caller")

_INDEX = re.compile(r"[0-9]{1,9}")

# (object, field as wanted: dotted fields stay dotted) -> JSON text
Values = dict[tuple[str, str], bytes]
# Values that changed since a follower was told of them -> what it was told then; None: nothing yet
Missed = dict[tuple[str, str], bytes | None]

# A macro that makes up a new callback at each call must not fill the memory.
MAX_SUBSCRIPTIONS_PER_CALLER = 100
# Of the objects and fields of one, as JSON: those of a large printer, all by name, are a quarter of it.
MAX_OBJECTS_BYTES = 64 * 1024

# The one object that exists in every state of Klipper.
WEBHOOKS = "webhooks"
OWN_WANTS: Objects = {WEBHOOKS: ["state", "state_message"]}


class _View:
    """What one set of wants shows: the values that all who want the same are told, so that each is looked at once."""

    def __init__(self, objects: Objects, values: Values) -> None:
        self.objects = objects
        self.values = values
        self.live = True  # updates count; not between the end of startup and the next snapshot
        self.followers: list[Subscription[Any]] = []
        self._fields = {
            name: None if fields is None else [((name, field), _base(field)) for field in fields]
            for name, fields in objects.items()
        }
        self._missed: Missed = {}
        self._news: Values = {}
        self._encoded = b""

    def absorb(self, name: str, fields: Mapping[str, bytes], changed: Missed) -> None:
        """Take on new values of object ``name``; what of them changed is added to ``changed``."""
        wanted = self._fields[name]
        for key, base in [((name, field), field) for field in fields] if wanted is None else wanted:
            value = fields.get(base)
            if value is None:
                continue
            if wanted is not None and key[1] is not base and key[1] != base:
                value = _pick(value, key[1])
            old = self.values.get(key)
            if old != value:
                changed[key] = old
                self.values[key] = value

    def tell(self, changed: Missed) -> None:
        """Every follower is to be told of these."""
        self._missed = {}
        for follower in self.followers:
            follower.miss(changed)

    def news(self, missed: Missed) -> Values:
        """The newest values that differ from those told before. Followers that missed the same share it: read only."""
        if missed is not self._missed:
            values = self.values
            self._missed, self._encoded = missed, b""
            self._news = {key: values[key] for key, told in missed.items() if values[key] != told}
        return self._news

    def encoded(self, missed: Missed, encode: Callable[[Values], bytes]) -> bytes:
        news = self.news(missed)
        if news and not self._encoded:
            self._encoded = encode(news)
        return self._encoded


class Subscription(Generic[Caller]):
    """One follower's wants on one printer, and which values changed since it was told of them."""

    __slots__ = ("_missed", "callback", "caller", "objects", "view")

    def __init__(self, caller: Caller, callback: str, objects: Objects) -> None:
        self.caller = caller
        self.callback = callback
        self.objects = objects
        self.view: _View | None = None  # none before the first snapshot
        self._missed: Missed = {}

    @property
    def live(self) -> bool:
        """Whether it had its first snapshot, so that updates count."""
        return self.view is not None and self.view.live

    @property
    def has_news(self) -> bool:
        return bool(self._missed)

    def take(self) -> Values:
        """The newest values that differ from what was taken before; they count as delivered from now on. Read only."""
        missed, self._missed = self._missed, {}
        return self.view.news(missed) if self.view is not None else {}

    def take_encoded(self, encode: Callable[[Values], bytes]) -> bytes:
        """What ``encode`` makes of what `take` would give, empty for nothing; made once for all who are told the same.

        So ``encode`` must give the same for every subscription on this printer.
        """
        missed, self._missed = self._missed, {}
        return self.view.encoded(missed, encode) if self.view is not None else b""

    def begin(self, view: _View) -> None:
        """The first snapshot: everything is news."""
        self.view = view
        view.followers.append(self)
        self._missed = dict.fromkeys(view.values)

    def miss(self, changed: Missed) -> None:
        """Take note of changes. ``changed`` is shared with other followers, so it is not added to."""
        if not self._missed:
            self._missed = changed
            return
        self._missed = dict(self._missed)
        for key, told in changed.items():
            self._missed.setdefault(key, told)

    def forget(self) -> None:
        """The printer went away: everything is news again when it is back."""
        self.view = None
        self._missed = {}


class Following(Generic[Caller]):
    """All subscriptions on one printer, and the values that the printer last reported."""

    def __init__(self) -> None:
        self._subscriptions: dict[tuple[Caller, str], Subscription[Caller]] = {}
        self._views: list[_View] = []
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
        Raises CallError when the caller has too many, or wants too much.
        """
        if (size_bytes := len(msgspec.json.encode(objects))) > MAX_OBJECTS_BYTES:
            raise CallError(f"objects of {size_bytes} bytes are too many to follow, {MAX_OBJECTS_BYTES} are the most")
        if (caller, callback) not in self._subscriptions and len(self.of(caller)) >= MAX_SUBSCRIPTIONS_PER_CALLER:
            raise CallError(f"{MAX_SUBSCRIPTIONS_PER_CALLER} callbacks follow it already, the most per caller")
        self.unsubscribe(caller, callback)  # its view must forget it, too
        subscription = Subscription(caller, callback, objects)
        self._subscriptions[caller, callback] = subscription
        if self._covers(objects):
            self._begin(subscription)
        return subscription

    def unsubscribe(self, caller: Caller, callback: str | None = None) -> list[Subscription[Caller]]:
        """Remove the caller's subscription with this callback, or all of the caller's; return what was removed."""
        gone = [old for old in self.of(caller) if callback in (None, old.callback)]
        for subscription in gone:
            del self._subscriptions[caller, subscription.callback]
            if (view := subscription.view) is not None:
                view.followers.remove(subscription)
                if not view.followers:
                    self._views.remove(view)
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
        covered = {view for view in self._views if self._covers(view.objects)}
        for view in covered:
            view.live = True
            changed: Missed = {}
            for name, fields in self._reported(view.objects):
                view.absorb(name, fields, changed)
            view.tell(changed)
        news = []
        for subscription in self:
            if subscription.view is None and self._covers(subscription.objects):
                self._begin(subscription)
            elif subscription.view not in covered:
                continue  # asked for after this snapshot was; the next one is its first
            if subscription.has_news:
                news.append(subscription)
        return news

    def update(self, status: Status) -> list[Subscription[Caller]]:
        """Klipper's report of changed fields. Returns who has news."""
        for name, fields in status.items():
            self._values.setdefault(name, {}).update(fields)
        if not self._has_objects:
            status = {name: fields for name, fields in status.items() if name == WEBHOOKS}
        news: list[Subscription[Caller]] = []
        for view in self._views:
            names = status.keys() & view.objects.keys()
            if not names or not view.live:
                continue
            changed: Missed = {}
            for name in status:
                if name in names:
                    view.absorb(name, status[name], changed)
            if changed:
                view.tell(changed)
            news += [follower for follower in view.followers if follower.has_news]
        return news

    def objects_appear(self) -> None:
        """Klipper became ready: nothing is told until the next snapshot, which then is a full one."""
        self._asked = {}
        for view in self._views:
            view.live = False

    def lose(self) -> None:
        """The connection ended. Subscriptions stay; all that was known is forgotten."""
        self._views = []
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

    def _begin(self, subscription: Subscription[Caller]) -> None:
        """Show a subscription what is known; in the view of others who want and know the same, if there is one."""
        view = _View(subscription.objects, {})
        for name, fields in self._reported(subscription.objects):
            view.absorb(name, fields, {})
        for other in self._views:
            if other.live and other.objects == view.objects and other.values == view.values:
                view = other
                break
        else:
            self._views.append(view)
        subscription.begin(view)

    def _reported(self, objects: Objects) -> Iterator[tuple[str, Mapping[str, bytes]]]:
        """What is known of each of these objects, by its name."""
        for name, wanted in objects.items():
            if name in self._values and (self._has_objects or name == WEBHOOKS):
                # Klipper gives null for a field that the object lacks, but leaves it out when another wants all fields.
                lacking = {} if wanted is None else {_base(field): b"null" for field in wanted}
                yield name, lacking | self._values[name]


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
