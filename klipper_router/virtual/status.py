"""objects/list, objects/query and objects/subscribe (klippy/webhooks.py: QueryStatusHelper).

One timer takes the status of everybody's objects, 0.25 s apart while it has something to do; it ends by itself. A query
on an idle printer is answered at once, otherwise at the next tick.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import trio

from .clock import NEVER
from .errors import WebRequestError
from .printer import HasStatus, Printer, Status
from .reactor import Timer
from .server import Client
from .webhooks import WebHooks, WebRequest

TICK_S = 0.25
# However fast the simulated time runs, more than this many real ticks a second would only burn CPU.
TICK_MIN_REAL_S = 0.01

Wanted = dict[str, list[str] | None]


class _Query:
    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.answer: dict[str, Any] = {}
        self.answered = trio.Event()


class _Subscription:
    def __init__(self, wanted: Wanted, template: dict[str, Any]) -> None:
        self.wanted = wanted
        self.template = template


class StatusEndpoints:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self._subscriptions: dict[Client, _Subscription] = {}
        self._queries: list[_Query] = []
        self._unsettled = 0  # answers on their way: no tick may come between an answer and the subscription it begins
        self._timer: Timer | None = None
        self._last: dict[str, Status] = {}
        self._tick_s = max(TICK_S, TICK_MIN_REAL_S * printer.reactor.clock.speed)
        webhooks = printer.lookup(WebHooks, "webhooks")
        webhooks.register("objects/list", self._list)
        webhooks.register("objects/query", lambda request: self._query(request, subscribe=False))
        webhooks.register("objects/subscribe", lambda request: self._query(request, subscribe=True))

    def _list(self, request: WebRequest) -> None:
        request.send({"objects": [n for n, item in self.printer.objects.items() if isinstance(item, HasStatus)]})

    def _query(self, request: WebRequest, *, subscribe: bool) -> Awaitable[None]:
        wanted: Wanted = request.get_dict("objects")
        for fields in wanted.values():
            if fields is not None and not (isinstance(fields, list) and all(type(f) is str for f in fields)):
                raise WebRequestError("Invalid argument")
        template = request.get_dict("response_template", {})
        if subscribe:
            self._subscriptions.pop(request.client, None)  # the old one ends before the answer
        query = _Query(wanted)
        self._queries.append(query)
        if self._timer is None:
            self._timer = self.printer.reactor.register_timer(self._tick, self.printer.reactor.now())
        return self._answer(request, query, template if subscribe else None)

    async def _answer(self, request: WebRequest, query: _Query, template: dict[str, Any] | None) -> None:
        await self.printer.reactor.wait(query.answered)
        self._unsettled -= 1
        request.send(query.answer)
        if template is not None and not request.client.closed:
            self._subscriptions[request.client] = _Subscription(query.wanted, template)

    def _tick(self, eventtime: float) -> float:
        if self._unsettled:
            return eventtime + self._tick_s
        last, self._last = self._last, {}
        queries, self._queries = self._queries, []
        for query in queries:
            query.answer = {
                "eventtime": eventtime,
                "status": {name: self._pick(name, query.wanted, eventtime) for name in query.wanted},
            }
            self._unsettled += 1
            query.answered.set()
        for client, subscription in list(self._subscriptions.items()):
            if client.closed:
                del self._subscriptions[client]
                continue
            changed: dict[str, Status] = {}
            for name in subscription.wanted:
                before = last.get(name, {})
                now = self._pick(name, subscription.wanted, eventtime)
                # `!=`, so that False -> 0 is no change
                fields = {field: value for field, value in now.items() if value != before.get(field)}
                if fields:
                    changed[name] = fields
            if changed:
                client.send({**subscription.template, "params": {"eventtime": eventtime, "status": changed}})
        if not self._last:
            self._timer = None
            return NEVER
        return eventtime + self._tick_s

    def _pick(self, name: str, wanted: Wanted, eventtime: float) -> Status:
        """The wanted fields of one object, taken once per tick. Unknown object: nothing. Unknown field: None."""
        if name not in self._last:
            self._last[name] = self.printer.status_of(name, eventtime) or {}
        status = self._last[name]
        fields = wanted[name]
        if fields is None:
            fields = list(status)
            if fields:
                wanted[name] = fields  # "all" is fixed at the first answer
        return {field: status.get(field) for field in fields}
