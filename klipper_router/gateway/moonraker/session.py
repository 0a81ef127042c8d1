"""One WebSocket client of a printer's API: who it is, and the one subscription that Moonraker gives a connection.

Status goes out when the client takes it: a slow one gets fewer updates with the newest values, and grows no memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import NoReturn

import msgspec
import trio

from klipper_router.callers import Caller
from klipper_router.errors import CallError
from klipper_router.gateway.http import MAX_MESSAGE_BYTES, MAX_STRANGERS_MESSAGE_BYTES, Peer, WebSocket
from klipper_router.gateway.moonraker import rpc
from klipper_router.gateway.moonraker.follower import Follower
from klipper_router.gateway.moonraker.klippy import Klippy, Status, group, status_answer
from klipper_router.gateway.moonraker.rpc import ApiError, Reply
from klipper_router.messages import Objects
from klipper_router.printer import Printer
from klipper_router.subscriptions import WEBHOOKS, Subscription

# Moonraker gives Klippy as long to answer a subscription.
SUBSCRIBE_WITHIN_S = 20.0
# Requests of one client that are not answered yet: scripts may wait for hours, but not any number of them.
MAX_REQUESTS_UNDER_WAY = 100

# A stranger, who may open a WebSocket to say who it is, has this long to do so.
IDENTIFY_WITHIN_S = 10.0

_STATUS = "status"
_numbers = itertools.count(1)


class Identity(msgspec.Struct):
    """What a client says of itself."""

    name: str
    version: str
    type: str
    url: str


class Session(Follower):
    """A client at its WebSocket, to be served within ``scope``, which ends what a stranger may have of it."""

    def __init__(self, klippy: Klippy, socket: WebSocket, *, authorized: bool, base: str, peer: Peer) -> None:
        self.id = next(_numbers)
        super().__init__(f"gateway: client {self.id} of {klippy.printer.name}")
        self.scope = trio.CancelScope()
        self.authorized = True
        self.identity: Identity | None = None
        self.base = base
        self.peer = peer
        self.under_way = 0
        self._klippy = klippy
        self._socket = socket
        self._wanted: Objects = {}
        self._known: Status = {}
        self._subscribing: Reply | None = None
        self._subscribing_until_s = 0.0
        self._news = trio.Event()
        self._closed = False
        self.let_in(authorized)

    def let_in(self, authorized: bool) -> None:
        """What it may do from now on; who is trusted no more has time to identify itself anew."""
        if authorized:
            self.scope.deadline = math.inf
        elif self.authorized:
            self.scope.deadline = trio.current_time() + IDENTIFY_WITHIN_S
        self.authorized = authorized
        self._socket.max_message_bytes = MAX_MESSAGE_BYTES if authorized else MAX_STRANGERS_MESSAGE_BYTES

    def send(self, message: bytes) -> None:
        self._socket.post(message.decode())

    def close(self) -> None:
        """It is gone: nothing is followed for it any more."""
        self._closed = True
        self._subscribing = None
        self._klippy.router.drop(self)

    # -- the subscription ----------------------------------------------------------------------------------------

    def subscribe(self, objects: Objects) -> Reply:
        """Follow ``objects`` instead of what was followed before; ``{}`` ends it. Raises ApiError."""
        self._klippy.require_connected()
        return self._klippy.with_configfile(objects, self._follow)

    def _follow(self, objects: Objects, known: Status) -> Reply:
        """Answered by the first snapshot; that always has news, as webhooks is always in it."""
        self._klippy.require_connected()
        if self._closed:
            raise ApiError(503, "the client is gone")
        self._answer({})  # a subscription that this one overtakes
        reply = Reply()
        self._wanted, self._known = objects, known
        if not objects:
            self._klippy.printer.unfollow(self)
            reply.answer(status_answer(self._klippy.printer.feed.eventtime, objects, {}, known))
            return reply
        webhooks = objects.get(WEBHOOKS, [])
        followed = objects | {WEBHOOKS: None if webhooks is None else [*{*webhooks, "state"}]}
        self._subscribing = reply
        self._subscribing_until_s = trio.current_time() + SUBSCRIBE_WITHIN_S
        try:
            self._klippy.printer.follow(self, _STATUS, followed)
        except CallError as error:
            self._subscribing = None
            raise ApiError(503, str(error)) from None
        return reply

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        if self._subscribing is not None:
            self._answer(self._take(subscription))
        else:
            self._news.set()

    def klippy_lost(self) -> None:
        """As with Moonraker, a client subscribes anew when Klippy is back."""
        reply, self._subscribing = self._subscribing, None
        self._klippy.printer.unfollow(self)
        if reply is not None:
            reply.fail(ApiError(503, "Klippy Disconnected"))

    def tick(self, now_s: float) -> None:
        """Once a second."""
        if self._subscribing is not None and now_s > self._subscribing_until_s:
            reply, self._subscribing = self._subscribing, None
            reply.fail(ApiError(500, "Klippy request timed out"))

    async def write_status(self, send: Callable[[str], Awaitable[None]]) -> NoReturn:
        """Send what changes, for ever; while ``send`` waits, changes are merged. Raises what ``send`` raises."""
        feed = self._klippy.printer.feed
        while True:
            await self._news.wait()
            self._news = trio.Event()
            subscription = feed.following.get(self, _STATUS)
            if subscription is None or self._subscribing is not None:
                continue
            if status := self._take(subscription):
                await send(rpc.notification("status_update", status, feed.eventtime).decode())

    def _take(self, subscription: Subscription[Caller]) -> Status:
        status = group(subscription)
        webhooks = self._wanted.get(WEBHOOKS, [])
        if webhooks is not None and WEBHOOKS in status:
            shown = {field: value for field, value in status.pop(WEBHOOKS).items() if field in webhooks}
            if shown:
                status[WEBHOOKS] = shown
        return status

    def _answer(self, status: Status) -> None:
        reply, self._subscribing = self._subscribing, None
        if reply is not None:
            reply.answer(status_answer(self._klippy.printer.feed.eventtime, self._wanted, status, self._known))
