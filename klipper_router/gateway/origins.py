"""The ports of printers' own origins: bound and given up as the configuration changes, while everything runs.

A change comes in two steps, so that one that cannot be followed changes nothing: `prepare` binds what is new, `change`
begins to accept there and closes what nobody wants any more.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import NamedTuple

import trio

from klipper_router.config import Config
from klipper_router.errors import ConfigError
from klipper_router.gateway import transport
from klipper_router.gateway.access import canonical_ip
from klipper_router.gateway.server import Listener, Server, listening
from klipper_router.gateway.values import Address


class Origin(NamedTuple):
    """One address of ``[klippy PRINTER] origin``."""

    printer: str
    address: Address


def of(config: Config) -> list[Origin]:
    """Every own port that a configuration wants."""
    return [Origin(name, address) for name, options in config.klippy.items() for address in options.origin or ()]


def place(config: Config, origin: Origin) -> str:
    """Where the configuration asks for it, for messages."""
    return config.told(f"klippy {origin.printer}", "origin", "origin")


def _check_is_no_name(config: Config, origin: Origin) -> None:
    """While everything runs nothing may wait for a name server, least of all the printers. Raises ConfigError."""
    host = origin.address.host
    if host != "localhost" and canonical_ip(host) is None:
        raise ConfigError(
            f"{place(config, origin)} {origin.address}: {host} is looked up at the start only; give an IP address, or"
            " start anew"
        )


class Origins:
    """Keeps the listeners of own origins as the configuration wants them. ``held``: those bound at the start."""

    def __init__(
        self, server: Server, tls: ssl.SSLContext | None, held: Iterable[tuple[Origin, socket.socket]]
    ) -> None:
        self._server = server
        self._tls = tls
        self._socks = dict(held)
        self._next = dict(self._socks)
        self._scopes: dict[Origin, trio.CancelScope] = {}

    def prepare(self, config: Config) -> None:
        """Bind what a configuration wants beyond what there is. Raises ConfigError, with nothing changed."""
        self._forget_prepared()
        wanted = of(config)
        moved = {origin.address: sock for origin, sock in self._socks.items() if origin not in wanted}
        self._next = {origin: sock for origin, sock in self._socks.items() if origin in wanted}
        try:
            for origin in [origin for origin in wanted if origin not in self._next]:
                if origin.address in moved:
                    self._next[origin] = moved.pop(origin.address)
                else:
                    _check_is_no_name(config, origin)
                    # 127.0.0.1:7181 becomes *:7181: the two overlap, and the old one is closed only by `change`.
                    overlaps = [sock for address, sock in moved.items() if address.port == origin.address.port]
                    self._next[origin] = listening(origin.address, place(config, origin), overlaps)
        except ConfigError:
            self._forget_prepared()
            raise

    def change(self) -> None:
        """Take on what was prepared last; clients who came before are served on."""
        for origin in [origin for origin in self._scopes if origin not in self._next]:
            self._scopes.pop(origin).cancel()
        given_up = [sock for sock in self._socks.values() if sock not in self._next.values()]
        self._socks = dict(self._next)
        for sock in given_up:
            transport.close(sock)
        for origin, sock in self._socks.items():
            if origin not in self._scopes:
                self._scopes[origin] = self._server.listen(Listener(sock, origin.printer, self._tls))

    def close(self) -> None:
        """The gateway ends."""
        self._forget_prepared()
        for sock in self._socks.values():
            transport.close(sock)

    def _forget_prepared(self) -> None:
        """A change that was prepared and did not come."""
        for sock in self._next.values():
            if sock not in self._socks.values():
                sock.close()
        self._next = dict(self._socks)
