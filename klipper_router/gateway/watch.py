"""Looks after the printers' Moonrakers: whether each answers, whom it trusts, and which webcams it has.

A Moonraker that does not answer is told of once, and stands on the printer's card until it does. One that ignores
X-Real-IP, or trusts every network, takes each client of the gateway for a trusted one; that is told once, too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import trio

from klipper_router.gateway import heads, relay
from klipper_router.gateway.access import UNKNOWN_IP
from klipper_router.gateway.proxy import Proxy
from klipper_router.gateway.transport import RECEIVE_BYTES

log = logging.getLogger("klipper_router.gateway")

AGAIN_S = 10.0
ANSWER_S = 10.0
# So often in a row before the log tells: Moonraker may start after us, or be restarted.
TOLD_AFTER = 2


class _Result(msgspec.Struct):
    trusted: bool


class _Info(msgspec.Struct):
    result: _Result


class Unanswered(Exception):
    """A Moonraker did not answer, or as none does; the text says why."""


class Watch:
    """``proxies`` of now; ``greet`` is called with a printer's name whenever its Moonraker begins to answer."""

    def __init__(self, proxies: Callable[[], Iterable[Proxy]], greet: Callable[[str], Awaitable[None]]) -> None:
        self._proxies = proxies
        self._greet = greet
        self._failures: dict[Proxy, int] = {}
        self._problems: dict[Proxy, str] = {}
        self._told: set[Proxy] = set()  # of their trust

    def problem(self, printer: str) -> str:
        """Why a printer's Moonraker does not answer; empty: it does, or was not asked yet."""
        return next((text for proxy, text in self._problems.items() if proxy.printer == printer), "")

    async def run(self) -> None:
        """Look at every proxy there is and every one that comes, for ever."""
        while True:
            now = set(self._proxies())
            self._told &= now
            self._failures = {proxy: count for proxy, count in self._failures.items() if proxy in now}
            self._problems = {proxy: text for proxy, text in self._problems.items() if proxy in now}
            async with trio.open_nursery() as nursery:
                for proxy in now:
                    nursery.start_soon(self._look_at, proxy)
            await trio.sleep(AGAIN_S)

    async def _look_at(self, proxy: Proxy) -> None:
        try:
            trusting = await trusts_strangers(proxy)
        except Unanswered as problem:
            self._problems[proxy] = str(problem)
            failures = self._failures[proxy] = self._failures.get(proxy, 0) + 1
            if failures == TOLD_AFTER:
                log.warning("%s: its Moonraker %s does not answer: %s", proxy.printer, proxy.upstream, problem)
            return
        failures = self._failures.get(proxy, -1)  # -1: it was not asked yet
        self._failures[proxy] = 0
        self._problems.pop(proxy, None)
        if failures >= TOLD_AFTER:
            log.info("%s: its Moonraker %s answers again", proxy.printer, proxy.upstream)
        if failures:
            await self._greet(proxy.printer)
        if trusting and proxy not in self._told:
            self._told.add(proxy)
            log.warning(
                "%s: its Moonraker %s trusts every client of the gateway, also strangers: look at"
                " 'trusted_clients' in its [authorization], and whether a proxy between drops X-Real-IP",
                proxy.printer,
                proxy.upstream,
            )


async def trusts_strangers(proxy: Proxy) -> bool:
    """Whether a Moonraker trusts a client of an address that nobody has. Raises Unanswered."""
    asked = (
        f"GET {proxy.upstream.path}/access/info HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"X-Real-IP: {UNKNOWN_IP}\r\nX-Forwarded-For: {UNKNOWN_IP}\r\nConnection: close\r\n\r\n"
    ).encode()
    head = heads.request(asked)
    with trio.move_on_after(ANSWER_S):
        try:
            transport = await proxy.pool.fresh()
        except OSError as error:
            raise Unanswered(error.strerror or str(error)) from None
        try:
            await transport.send_all(asked)
            response, body, _ = await relay.whole_response(head, transport, await transport.receive_some(RECEIVE_BYTES))
        except OSError as error:
            raise Unanswered(error.strerror or str(error)) from None
        except relay.BadUpstream as problem:
            raise Unanswered(str(problem)) from None
        finally:
            transport.close()
        if response.status in (401, 403):
            return False
        try:
            return msgspec.json.decode(body, type=_Info).result.trusted
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unanswered(f"status {response.status}, and no word of whom it trusts") from None
    raise Unanswered(f"silence for {ANSWER_S:g} s")
