"""Kept connections to one upstream: dialled when there is none, the most recently used first.

A kept connection may have been closed by the upstream (restart, idle too long) without anybody having read that. Who
can send a request again takes one as it is and retries; who cannot has it looked at before.
"""

from __future__ import annotations

import select
import ssl

from klipper_router.gateway.transport import Transport, dial

MAX_IDLE = 32
IDLE_SWEEPS = 55  # less than what common upstreams allow (nginx 75 s, Node 65 s)


class Pool:
    """Connections to one host and port."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: list[tuple[Transport, int]] = []  # with the sweep since which; the longest idle first
        self._sweeps = 0
        self._closed = False

    async def fresh(self) -> Transport:
        """A new connection. Raises OSError."""
        return await dial(self._host, self._port, self._tls)

    def take(self, *, checked: bool) -> Transport | None:
        """A kept connection, or None. ``checked``: one that, to the kernel's knowledge, is still good."""
        while self._idle:
            transport, _ = self._idle.pop()
            if not checked or not has_news([transport]):
                return transport
            transport.close()
        return None

    def give(self, transport: Transport) -> None:
        """Keep a connection whose last response was read to its end."""
        if self._closed or len(self._idle) >= MAX_IDLE:
            transport.close()
        else:
            self._idle.append((transport, self._sweeps))

    def sweep(self) -> None:
        """To be called about every second: closes what is idle too long or was closed by the upstream."""
        self._sweeps += 1
        if not self._idle:
            return
        stale = has_news([transport for transport, _ in self._idle])
        kept = []
        for transport, since in self._idle:
            if transport in stale or self._sweeps - since > IDLE_SWEEPS:
                transport.close()
            else:
                kept.append((transport, since))
        self._idle = kept

    def close(self) -> None:
        """Close what is idle, keep nothing from now on; what is under way ends as it would."""
        self._closed = True
        for transport, _ in self._idle:
            transport.close()
        self._idle.clear()

    def __len__(self) -> int:
        return len(self._idle)


def has_news(transports: list[Transport]) -> list[Transport]:
    """Those of which nothing is expected, and yet there is something to read: the end, or bytes nobody asked for."""
    poll = select.poll()
    by_fd = {transport.sock.fileno(): transport for transport in transports}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(0)]
