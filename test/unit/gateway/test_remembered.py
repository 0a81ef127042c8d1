"""What is remembered of what clients send is bounded in bytes, too: anyone may make up new and long ones for ever."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from klipper_router.gateway import heads, routes
from klipper_router.gateway.access import Access, canonical_ip
from klipper_router.gateway.values import Networks

LONG = 60_000
TIMES = 80
MOST_BYTES = 1_000_000

_behind_proxy = Access(trusted_proxies=Networks.of("10.0.0.1"))


def ask_head(number: int) -> None:
    heads.request(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: %d%s\r\n\r\n" % (number, b"x" * LONG))


def ask_forwarded(number: int) -> None:
    _behind_proxy.client("10.0.0.1", {b"x-forwarded-for": [b"%d%s" % (number, b"x" * LONG)]}, tls=False)


@pytest.mark.parametrize(
    "ask",
    [
        ask_head,
        ask_forwarded,
        lambda number: routes.route(b"/printers/%d/%s" % (number, b"x" * LONG), None),
        lambda number: routes.route(b"/%d/%s" % (number, b"x" * LONG), "main"),
        lambda number: canonical_ip(f"a{number}{'x' * LONG}"),
        lambda number: canonical_ip(f"fe80::{number}%{'x' * LONG}"),
        lambda number: canonical_ip(f"{' ' * LONG}10.0.0.{number}"),
    ],
)
def test_new_and_long_ones_fill_no_memory(ask: Callable[[int], object]) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(TIMES):
            ask(number)
        gc.collect()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < MOST_BYTES
