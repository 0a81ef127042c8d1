"""What open dashboards are shown: one card per printer, and the log; a snapshot first, then only what changed.

Only while a dashboard is open are the printers' objects followed: the board's time belongs to the print. Klipper
reports four times a second; dashboards are told once a second, by one text that is made once for all of them. What
changes in between is merged by the subscription itself, so a slow dashboard costs no memory here.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import Raw

from klipper_router import stats
from klipper_router.callers import Caller, Parameters, Request
from klipper_router.errors import CallError, ProtocolError, RouterError
from klipper_router.gateway.page.activity import ActivityLog
from klipper_router.gateway.page.rpc import GROUP, notification
from klipper_router.link import Answer
from klipper_router.messages import Objects, ObjectsSubscribeParams, decode
from klipper_router.printer import Printer
from klipper_router.router import Activity, Router
from klipper_router.subscriptions import Subscription

UPDATE_METHOD = "router/dashboard/update"
UPDATE_EVERY_S = 1.0
# A state or an error is told sooner, but a storm of them no faster than this.
UPDATE_AT_MOST_EVERY_S = 0.1
STATS_EVERY_S = 5.0
# By this name the dashboards follow printers: they are nothing to look at.
NAME = "dashboard"
# A printer with a hundred sensors would fill every phone; which ones matter nobody can tell.
MAX_SENSORS = 24

_TEMPERATURE = ["temperature", "target"]
_FIELDS: dict[str, list[str]] = {
    "print_stats": ["state", "filename", "message", "print_duration", "total_duration", "info"],
    "virtual_sdcard": ["progress"],
    "display_status": ["progress", "message"],
    "pause_resume": ["is_paused"],
    "heater_bed": _TEMPERATURE,
}
_SENSOR = re.compile(r"extruder\d*|(heater_generic|temperature_sensor|temperature_fan|tmc240|temperature_probe) .+")

_OBJECTS_LIST = msgspec.json.Decoder(dict[str, list[str]])


def objects_of_interest(names: list[str]) -> Objects:
    """What a dashboard follows of the objects that a printer has."""
    sensors = [name for name in names if _SENSOR.fullmatch(name)][:MAX_SENSORS]
    objects: Objects = {name: fields for name, fields in _FIELDS.items() if name in names}
    objects.update(dict.fromkeys(sensors, _TEMPERATURE))
    return objects


class _Card:
    """One printer as dashboards know it."""

    def __init__(self, printer: Printer[Caller]) -> None:
        self.printer = printer
        self.asked = False  # whether it was asked for its objects, in this life
        self.shown: dict[str, Any] = {}
        self.status: dict[str, dict[str, Raw]] = {}

    def facts(self) -> dict[str, Any]:
        printer = self.printer
        return {
            "state": printer.state.state,
            "message": printer.state.message,
            "connected": printer.state.connected,
            "ready": printer.state.announced,
            "queue": len(printer.scripts),
            "subscriptions": sum(each.caller.group != GROUP for each in printer.feed.following),
        }


def _router_facts(router: Router) -> dict[str, Any]:
    report = stats.report(router)
    return {
        "version": report.version,
        "hostname": socket.gethostname(),
        "uptime_s": report.uptime_s,
        "rss_kb": report.rss_kb,
        "suspended": report.suspended,
    }


class Live:
    """The source of all dashboards of a gateway; run `keep_updating` in its nursery.

    ``site_of`` tells what else belongs on a printer's card: links and cameras, as JSON.
    """

    def __init__(self, router: Router, site_of: Callable[[str], dict[str, Any]]) -> None:
        self.log = ActivityLog()
        self._router = router
        self._site_of = site_of
        self._dashboards: set[Callable[[str], None]] = set()
        self._cards: dict[str, _Card] = {}
        self._dirty: set[str] = set()
        self._told = 0  # number of the last entry of the log that was told
        self._router_facts: dict[str, Any] = {}
        self._facts_due_at = 0.0
        self._wake = trio.Event()

    # -- what the router reports ---------------------------------------------------------------------------------

    def on_activity(self, activity: Activity) -> None:
        """Take note of a route or an event (`Router.on_activity`)."""
        if activity.target == NAME:
            return
        self.log.add(activity.kind, activity.source, activity.target, activity.text, time.time())
        if activity.kind == "state":
            if activity.text == "ready":
                self.log.forget_errors(activity.source)
            card = self._cards.get(activity.source)
            if card and not card.printer.state.has_objects:
                card.asked = False  # it may be back before the next update
            self._wake.set()

    def on_error(self, line: str) -> None:
        """Take note of an error or a warning of the router's log."""
        self.log.add_error(line, self._router.printers, time.time())
        self._wake.set()

    def on_change(self) -> None:
        """Printers, cameras or links were added, changed or removed."""
        self._facts_due_at = 0.0
        self._wake.set()

    # -- dashboards ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def dashboard(self, tell: Callable[[str], None]) -> Iterator[None]:
        """``tell`` is called with each update, while this is open. It must not wait."""
        self._dashboards.add(tell)
        if len(self._dashboards) == 1:
            self._collect()  # what happened while nobody watched is part of the snapshot
        self._wake.set()
        try:
            yield
        finally:
            self._dashboards.discard(tell)
            if not self._dashboards:
                self._router.drop(self)
                self._cards.clear()
                self._dirty.clear()

    def snapshot(self) -> dict[str, Any]:
        """All that a dashboard shows; what changes later comes as updates."""
        return {
            "time": time.time(),
            "router": self._router_facts,
            "order": list(self._cards),
            "printers": {name: {**card.shown, "status": card.status} for name, card in self._cards.items()},
            "log": self.log.since(0)[: self._told - self.log.last_number or None],
        }

    async def keep_updating(self) -> None:
        """Take note of what the router reports, and tell the dashboards what changed, for ever."""
        with (
            _observing(self._router.on_activity, self.on_activity),
            _observing(self._router.on_change, self.on_change),
            _hearing_errors(self.on_error),
        ):
            await self._keep_updating()

    async def _keep_updating(self) -> None:
        while True:
            if not self._dashboards:
                await self._wake.wait()
            with trio.move_on_after(UPDATE_EVERY_S):
                await self._wake.wait()
            self._wake = trio.Event()
            if self._dashboards and (update := self._collect()):
                text = notification(UPDATE_METHOD, {"time": time.time(), **update})
                for tell in list(self._dashboards):
                    tell(text)
            await trio.sleep(UPDATE_AT_MOST_EVERY_S)

    def _collect(self) -> dict[str, Any]:
        """What changed since the last time; the cards are brought up to it."""
        update: dict[str, Any] = {}
        before = list(self._cards)
        printers: dict[str, Mapping[str, Any]] = {}
        for name in [name for name, card in self._cards.items() if self._router.printers.get(name) is not card.printer]:
            self._cards.pop(name).printer.unfollow(self)
        # In the order of the configuration, whatever was added since.
        self._cards = {name: self._cards.get(name) or _Card(printer) for name, printer in self._router.printers.items()}
        if list(self._cards) != before:
            update["order"] = list(self._cards)
            self.log.keep_only(self._cards)
        for name, card in self._cards.items():
            if changed := self._collect_card(name, card):
                printers[name] = changed
        if printers:
            update["printers"] = printers
        if entries := self.log.since(self._told):
            update["log"] = entries
        self._told = self.log.last_number
        if (now := trio.current_time()) >= self._facts_due_at:
            self._facts_due_at = now + STATS_EVERY_S
            facts = _router_facts(self._router)
            if facts != self._router_facts:
                update["router"] = self._router_facts = facts
        return update

    def _collect_card(self, name: str, card: _Card) -> dict[str, Any]:
        facts = {**card.facts(), **self._site_of(name), "errors": self.log.errors(name)}
        changed = {key: value for key, value in facts.items() if key not in card.shown or card.shown[key] != value}
        card.shown = facts
        has_objects = card.printer.state.has_objects
        if card.status and not (has_objects and card.asked):
            card.status = {}
            changed["status"] = None  # what a new life reports follows in the next update
        elif has_objects and (status := self._take_status(card)):
            changed["status"] = status
        card.asked = card.asked and has_objects
        if has_objects and not card.asked:
            self._ask_objects(card)
        return changed

    # -- following -----------------------------------------------------------------------------------------------

    def _ask_objects(self, card: _Card) -> None:
        """Which objects it has depends on its configuration, which a restart may change."""
        card.asked = True

        def listed(answer: Answer) -> None:
            if self._cards.get(card.printer.name) is not card:
                return
            if isinstance(answer, RouterError):
                card.asked = False
                return
            with contextlib.suppress(ProtocolError, CallError):
                objects = objects_of_interest(decode(answer, _OBJECTS_LIST).get("objects", []))
                following = card.printer.feed.following.get(self, UPDATE_METHOD)
                if objects and (following is None or following.objects != objects):
                    card.printer.follow(self, UPDATE_METHOD, objects)

        card.printer.call("objects/list", {}, listed)

    def _take_status(self, card: _Card) -> dict[str, dict[str, Raw]]:
        name = card.printer.name
        subscription = card.printer.feed.following.get(self, UPDATE_METHOD)
        if name not in self._dirty or subscription is None:
            return {}
        self._dirty.discard(name)
        news: dict[str, dict[str, Raw]] = {}
        for (of, field), value in subscription.take().items():
            news.setdefault(of, {})[field] = Raw(value)
        for of, fields in news.items():
            card.status.setdefault(of, {}).update(fields)
        return news

    # -- callers.Caller: it follows, and does nothing else ---------------------------------------------------------

    @property
    def name(self) -> str:
        return NAME

    @property
    def own_printer(self) -> str | None:
        return None

    @property
    def group(self) -> str:
        return GROUP

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        self._dirty.add(target.name)
        card = self._cards.get(target.name)
        if card and not card.status:
            self._wake.set()  # the first values: somebody has just opened the page

    def tell(self, text: str) -> None:
        """Errors reach the dashboards by the log."""

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        raise NotImplementedError("the dashboards call nothing by this caller")

    def failed(self, request: Request, error: RouterError) -> None:
        raise NotImplementedError("the dashboards call nothing by this caller")

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> None:
        raise NotImplementedError("the dashboards call nothing by this caller")

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        raise NotImplementedError("the dashboards handle no event")


Observer = TypeVar("Observer")


@contextlib.contextmanager
def _observing(observers: list[Observer], observer: Observer) -> Iterator[None]:
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)


@contextlib.contextmanager
def _hearing_errors(hear: Callable[[str], None]) -> Iterator[None]:
    handler = _ErrorHandler(hear)
    logger = logging.getLogger("klipper_router")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _ErrorHandler(logging.Handler):
    """Hands on what is logged in the router's own thread; what a helper thread logs is in the log only."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._hear = hear
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if threading.get_ident() == self._thread:
            self._hear(record.getMessage())
