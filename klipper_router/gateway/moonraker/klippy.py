"""One printer as Moonraker sees its Klippy (klippy_connection.py): states, endpoints, calls, and objects.

Knows no client: what happens is told to one observer. Objects are answered from what the router follows already;
what nobody follows is asked from Klippy, and followed for a while, as whoever asks once often asks again. The large
part of ``configfile`` never changes in one life of a Klippy: it is fetched once, when it is wanted, and not followed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
import trio
from msgspec import Raw

from klipper_router import gcode, messages
from klipper_router.callers import Caller
from klipper_router.errors import CallError, KlipperError, LinkLost, ProtocolError, RouterError
from klipper_router.events import FrameHandler
from klipper_router.gateway.moonraker.follower import Follower
from klipper_router.gateway.moonraker.rpc import ApiError, Reply
from klipper_router.link import Answer
from klipper_router.messages import Objects
from klipper_router.printer import Printer
from klipper_router.router import Router
from klipper_router.subscriptions import Subscription

log = logging.getLogger("klipper_router.gateway.moonraker")

# What was asked for is followed this long after it was asked for last.
FOLLOW_ASKED_S = 60.0
MAX_ASKED = 16

# These belong to a connection, and the router has one for all (Moonraker's RESERVED_ENDPOINTS, and the subscription).
RESERVED_ENDPOINTS = frozenset(
    {"list_endpoints", "gcode/subscribe_output", "register_remote_method", "objects/subscribe"}
)
# Klipper motion_report.py, adxl345.py …: these stream to the connection that asked, until it is closed.
STREAMS = re.compile(r"(?!bed_mesh/dump_mesh).*/dump_.*")
CONFIGFILE = "configfile"
STATIC_FIELDS = frozenset({"config", "settings"})

Status = dict[str, dict[str, Raw]]
Happening = Literal["ready", "shutdown", "disconnected"]

_ENDPOINTS = msgspec.json.Decoder(dict[str, list[str]])
_STATUS = msgspec.json.Decoder(messages.StatusParams)
# Klippy webhooks.py answers `{}` where a handler says nothing; Moonraker makes "ok" of all that is empty.
_EMPTY = frozenset({b"{}", b"[]", b'""', b"null", b"false", b"0"})


class Klippy(Follower):
    """The Klippy of ``printer``. ``observer`` is told what happens to it, after `state` has changed."""

    def __init__(self, router: Router, printer: Printer[Caller], observer: Callable[[Happening], None]) -> None:
        super().__init__(f"gateway: Moonraker API of {printer.name}")
        self.router = router
        self.printer = printer
        self.endpoints: frozenset[str] = frozenset()  # kept when the connection is lost, as Moonraker does
        self._observer = observer
        self._life = 0  # counts connections: answers of an earlier one are of no use
        self._started = False
        self._told = ""
        self._asked: dict[str, float] = {}  # callback of what is followed because it was asked for: until when
        self._configfile: dict[str, Raw] | None = None
        self._configfile_replies: list[Reply] = []

    # -- states --------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self.printer.state.connected

    @property
    def state(self) -> str:
        """As in ``server.info``: "startup" until all that is registered late by Klippy's modules is known, too."""
        return self.printer.state.state if self._started or not self.connected else "startup"

    def start(self) -> None:
        """Follow the printer's life."""
        for event in ("router/connected", "router/disconnected"):
            self.router.events.subscribe(self, event, None, FrameHandler({}))
        self.printer.follow(self, "state", {"webhooks": ["state"]})
        if self.connected:
            self._begin()

    def stop(self) -> None:
        self.router.drop(self)

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        if context.get("printer") != self.printer.name:
            return
        if event == "router/connected":
            self._begin()
        else:
            self._end()

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        if subscription.callback != "state":
            return  # followed to have it at hand
        subscription.take()
        now = target.state.state
        if now == "startup":
            return
        if not self._started:
            self._learn_endpoints(self._start)
        elif now != self._told:
            self._tell(now)

    def _begin(self) -> None:
        self._life += 1
        self._learn_endpoints(lambda: None)  # info and emergency_stop are there at once

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._told = self.printer.state.state
            if self._told == "ready":
                self._observer("ready")

    def _tell(self, state: str) -> None:
        self._told = state
        if state == "ready":
            self._observer("ready")
        elif state == "shutdown":
            self._observer("shutdown")

    def _end(self) -> None:
        self._life += 1
        self._started = False
        self._told = ""
        self._configfile = None
        waiting, self._configfile_replies = self._configfile_replies, []
        for reply in waiting:
            reply.fail(_disconnected())
        self._observer("disconnected")

    def _learn_endpoints(self, then: Callable[[], None]) -> None:
        life = self._life

        def learned(answer: Answer) -> None:
            if life != self._life or isinstance(answer, LinkLost):
                return
            try:
                if isinstance(answer, RouterError):
                    raise answer
                self.endpoints = frozenset(messages.decode(answer, _ENDPOINTS).get("endpoints", []))
            except RouterError as error:
                log.error("%s: list_endpoints: %s", self.printer.name, error)
            then()

        self.printer.call("list_endpoints", {}, learned)

    # -- calls ---------------------------------------------------------------------------------------------------

    def require_connected(self) -> None:
        """Raises ApiError."""
        if not self.connected:
            raise ApiError(503, "Klippy Host not connected")

    def ask(self, endpoint: str, params: Mapping[str, Any] | None = None) -> Reply:
        """What only reads: no policy is asked. Raises ApiError."""
        self.require_connected()
        reply, on_answer = _reply_to_answer()
        self.printer.call(endpoint, params or {}, on_answer)
        return reply

    def call(self, by: Follower, endpoint: str, params: Mapping[str, Any]) -> Reply:
        """Call an endpoint for a client, where the printer's policy lets the gateway. Raises ApiError."""
        self.require_connected()
        reply, on_answer = _reply_to_answer()
        try:
            self.router.call_endpoint(by, self.printer, endpoint, params, on_answer)
        except CallError as error:
            raise _refused(error) from None
        return reply

    def emergency_stop(self, by: Follower) -> Reply:
        """Stop the printer for the person at a client, past every queue. Raises ApiError."""
        try:
            self.router.gate.check_emergency_stop(by, self.printer)
        except CallError as error:
            raise _refused(error) from None
        return self.ask("emergency_stop")

    def run(self, by: Follower, script: str) -> Reply:
        """Run G-code for a client, in the printer's queue. Raises ApiError."""
        self.require_connected()
        reply = Reply()

        def done(error: RouterError | None) -> None:
            if error is None:
                reply.answer("ok")
            else:
                reply.fail(_api_error(error))

        try:
            self.router.run_gcode(by, self.printer, gcode.Script.of(script), done)
        except CallError as error:
            raise _refused(error) from None
        return reply

    # -- objects -------------------------------------------------------------------------------------------------

    def query(self, objects: Objects) -> Reply:
        """``{"eventtime", "status"}``; what there is none of is as Klipper has it. Raises ApiError."""
        self.require_connected()
        return self.with_configfile(objects, self._query)

    def with_configfile(self, objects: Objects, then: Callable[[Objects, Status], Reply]) -> Reply:
        """``then(what is left to ask for or follow, what is known of it already)``, once that is fetched."""
        fields = objects.get(CONFIGFILE, [])
        if not self._started or (fields is not None and not STATIC_FIELDS & {*fields}):
            return then(objects, {})
        result = Reply()

        def fetched(value: object, error: ApiError | None) -> None:
            if error is not None:
                result.fail(error)
                return
            known: dict[str, Raw] = self._configfile or {}
            wanted = known.keys() if fields is None else fields
            rest = objects | {CONFIGFILE: [field for field in wanted if field not in STATIC_FIELDS]}
            static = {field: known.get(field, Raw(b"null")) for field in wanted if field in STATIC_FIELDS}
            try:
                reply = then(rest, {CONFIGFILE: static})
            except ApiError as refused:
                result.fail(refused)
                return
            reply.then(lambda value, error: result.fail(error) if error is not None else result.answer(value))

        self._fetch_configfile().then(fetched)
        return result

    def forget_configfile(self) -> None:
        """Nobody is here to want it: it may be over 1 MB."""
        self._configfile = None

    def tick(self, now_s: float) -> None:
        """Once a second: what nobody asked for lately is followed no more."""
        for callback, until_s in list(self._asked.items()):
            if until_s < now_s:
                del self._asked[callback]
                self.printer.unfollow(self, callback)

    def _query(self, objects: Objects, known: Status) -> Reply:
        status = self._followed(objects)
        if status is not None:
            reply = Reply()
            reply.answer(status_answer(self.printer.feed.eventtime, objects, status, known))
            return reply
        if self.printer.state.has_objects:
            self._follow_asked(objects)
        result = Reply()

        def answered(value: object, error: ApiError | None) -> None:
            if error is not None:
                result.fail(error)
                return
            assert isinstance(value, Raw)
            try:
                told = messages.decode(bytes(value), _STATUS)
            except ProtocolError as unreadable:
                result.fail(ApiError(500, str(unreadable)))
                return
            result.answer(status_answer(told.eventtime, objects, told.status, known))

        self.ask("objects/query", {"objects": objects}).then(answered)
        return result

    def _followed(self, objects: Objects) -> Status | None:
        """The values, when all of them are followed by somebody and known; they are looked at by a subscription that
        ends at once, without Klipper hearing of it."""
        if not self.printer.state.has_objects:
            return None  # the router holds back what Klipper says of objects that it has not read yet
        following = self.printer.feed.following
        try:
            subscription = following.subscribe(self, "look", objects)
        except CallError:
            return None
        following.unsubscribe(self, "look")
        return group(subscription) if subscription.live else None

    def _follow_asked(self, objects: Objects) -> None:
        callback = "asked " + msgspec.json.encode(objects, order="deterministic").decode()
        if callback not in self._asked:
            if len(self._asked) >= MAX_ASKED or not objects:
                return
            try:
                self.printer.follow(self, callback, objects)
            except CallError:
                return
        self._asked[callback] = trio.current_time() + FOLLOW_ASKED_S

    def _fetch_configfile(self) -> Reply:
        reply = Reply()
        if self._configfile is not None:
            reply.answer(None)
            return reply
        self._configfile_replies.append(reply)
        if len(self._configfile_replies) == 1:
            life = self._life
            self.ask("objects/query", {"objects": {CONFIGFILE: None}}).then(
                lambda value, error: self._configfile_came(life, value, error)
            )
        return reply

    def _configfile_came(self, life: int, value: object, error: ApiError | None) -> None:
        if life != self._life:
            return
        if error is None:
            assert isinstance(value, Raw)
            try:
                fields = messages.decode(bytes(value), _STATUS).status.get(CONFIGFILE, {})
                self._configfile = {field: Raw(bytes(text)) for field, text in fields.items()}
            except ProtocolError as unreadable:
                error = ApiError(500, str(unreadable))
        waiting, self._configfile_replies = self._configfile_replies, []
        for reply in waiting:
            reply.answer(None) if error is None else reply.fail(error)


def group(subscription: Subscription[Caller]) -> Status:
    """Take what a subscription has to deliver, in the shape of Klipper's status."""
    status: Status = {}
    for (name, field), value in subscription.take().items():
        status.setdefault(name, {})[field] = Raw(value)
    return status


def status_answer(
    eventtime: float, objects: Iterable[str], status: Mapping[str, Mapping[str, Raw]], known: Status
) -> dict[str, object]:
    """Every object that was asked for is in the answer, if only as ``{}``."""
    return {
        "eventtime": eventtime,
        "status": {name: {**status.get(name, {}), **known.get(name, {})} for name in objects},
    }


def _reply_to_answer() -> tuple[Reply, Callable[[Answer], None]]:
    reply = Reply()

    def on_answer(answer: Answer) -> None:
        if isinstance(answer, RouterError):
            reply.fail(_api_error(answer))
        else:
            reply.answer("ok" if answer in _EMPTY else Raw(answer))

    return reply, on_answer


def _api_error(error: RouterError) -> ApiError:
    if isinstance(error, KlipperError):
        return ApiError(400, str(error))
    return _disconnected() if isinstance(error, LinkLost) else ApiError(503, str(error))


def _disconnected() -> ApiError:
    return ApiError(503, "Klippy Disconnected")


def _refused(error: CallError) -> ApiError:
    """The gate says "refused" (policy); all else is a queue that is full, or a connection that is not there."""
    return ApiError(403 if str(error).startswith("refused") else 503, str(error))
