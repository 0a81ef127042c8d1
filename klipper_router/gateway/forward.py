"""``[forward PORT]``: TCP as it is from a port of this machine to a host and port, each way at its receiver's speed.

Knows no HTTP and checks nobody: what it opens is open to whoever reaches the port. Either side may end its sending and
still receive (a half-close passes through), but under TLS, where Python's ssl has none.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from typing import NamedTuple

import trio

from klipper_router.gateway import transport
from klipper_router.gateway.transport import RECEIVE_BYTES, Transport
from klipper_router.gateway.values import Destination

log = logging.getLogger("klipper_router.gateway.forward")

MAX_CONNECTIONS = 256
GOODBYE_S = 2.0


class Forward(NamedTuple):
    """A bound socket and where its connections lead."""

    sock: socket.socket
    to: Destination
    tls: ssl.SSLContext | None


async def serve(forward: Forward) -> None:
    """Forward every connection, for ever."""
    connections = trio.CapacityLimiter(MAX_CONNECTIONS)
    async with trio.open_nursery() as nursery:
        async for sock, ip in transport.accepted(forward.sock):
            try:
                connections.acquire_on_behalf_of_nowait(sock)
            except trio.WouldBlock:
                log.warning("%s: refused, %d connections are forwarded to %s already", ip, MAX_CONNECTIONS, forward.to)
                sock.close()
                continue
            nursery.start_soon(_serve_one, forward, sock, ip, connections)


async def _serve_one(forward: Forward, sock: socket.socket, ip: str, connections: trio.CapacityLimiter) -> None:
    try:
        with sock:
            transport.prepare(sock)
            client: Transport
            if forward.tls:
                client = await transport.server_tls(sock, forward.tls)
            else:
                client = transport.SocketTransport(sock)
            target = await transport.dial(forward.to.host, forward.to.port)
            try:
                await both_ways(client, target)
            finally:
                target.close()
    except OSError as error:
        log.warning("%s → %s: %s", ip, forward.to, error)
    finally:
        connections.release_on_behalf_of(sock)


async def both_ways(one: Transport, other: Transport) -> None:
    """Copy until both have ended their sending, or either connection breaks."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_one_way, one, other, nursery.cancel_scope)
        nursery.start_soon(_one_way, other, one, nursery.cancel_scope)
    for each in (one, other):
        with contextlib.suppress(OSError), trio.move_on_after(GOODBYE_S):
            await each.end()


async def _one_way(source: Transport, sink: Transport, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(RECEIVE_BYTES):
            await sink.send_all(data)
        if sink.half_close:
            await sink.end()
        else:
            scope.cancel()
    except OSError:
        scope.cancel()
