"""What systemd is told: that the router is up, reloads, stops, and lives (man 3 sd_notify, a datagram of text).

Without systemd (NOTIFY_SOCKET is not set) all of it does nothing. The watchdog is fed from a task of the router's own
loop: when something blocks the loop, systemd kills the router with SIGABRT (faulthandler then logs where it stood)
and starts it again.
"""

from __future__ import annotations

import logging
import os
import socket
import time

import trio

log = logging.getLogger("klipper_router")


def notify(state: str) -> None:
    """Send ``state`` (lines of ``KEY=value``) to systemd; never raises, never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        # Making the socket fails, too: when the process has all the files open that it may.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
    except OSError as error:
        log.warning("systemd cannot be told %r: %s", state, error)


def reloading() -> str:
    """The state at the begin of a reload; ``READY=1`` ends it (Type=notify-reload wants the time, in µs)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_s() -> float | None:
    """Within how many seconds systemd wants a sign of life from this process; None: it does not."""
    try:
        limit_us = int(os.environ.get("WATCHDOG_USEC", ""))
        pid = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    return limit_us / 1e6 if limit_us > 0 and pid == os.getpid() else None


async def tell_watchdog() -> None:
    """Give the sign of life, for ever, twice as often as it is wanted."""
    limit_s = watchdog_s()
    if limit_s is None:
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(limit_s / 2)
