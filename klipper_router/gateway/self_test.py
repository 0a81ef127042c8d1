"""Asks each printer's Moonraker whether it would trust a stranger whose address the gateway tells it.

A Moonraker that ignores X-Real-IP, or trusts every network, takes each client of the gateway for a trusted one; that
is told once, when it can be reached.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec
import trio

from klipper_router.gateway import heads, relay
from klipper_router.gateway.access import UNKNOWN_IP
from klipper_router.gateway.proxy import Proxy
from klipper_router.gateway.transport import RECEIVE_BYTES

log = logging.getLogger("klipper_router.gateway")

AGAIN_S = 10.0
ANSWER_S = 10.0


class _Result(msgspec.Struct):
    trusted: bool


class _Info(msgspec.Struct):
    result: _Result


async def run(proxies: Callable[[], Iterable[Proxy]]) -> None:
    """Test every proxy there is and every one that comes, each until it has answered; for ever."""
    tested: set[Proxy] = set()
    while True:
        now = set(proxies())
        tested &= now
        for proxy in now - tested:
            if (trusting := await trusts_strangers(proxy)) is not None:
                tested.add(proxy)
                if trusting:
                    log.warning(
                        "%s: its Moonraker %s trusts every client of the gateway, also strangers: look at"
                        " 'trusted_clients' in its [authorization], and whether a proxy between drops X-Real-IP",
                        proxy.printer,
                        proxy.upstream,
                    )
        await trio.sleep(AGAIN_S)


async def trusts_strangers(proxy: Proxy) -> bool | None:
    """Whether a Moonraker trusts a client of an address that nobody has. None: it did not say."""
    asked = (
        f"GET {proxy.upstream.path}/access/info HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"X-Real-IP: {UNKNOWN_IP}\r\nX-Forwarded-For: {UNKNOWN_IP}\r\nConnection: close\r\n\r\n"
    ).encode()
    head = heads.request(asked)
    with trio.move_on_after(ANSWER_S):
        try:
            transport = await proxy.pool.fresh()
        except OSError:
            return None
        try:
            await transport.send_all(asked)
            response, body, _ = await relay.whole_response(head, transport, await transport.receive_some(RECEIVE_BYTES))
        except (OSError, relay.BadUpstream):
            return None
        finally:
            transport.close()
        if response.status in (401, 403):
            return False
        try:
            return msgspec.json.decode(body, type=_Info).result.trusted
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    return None
