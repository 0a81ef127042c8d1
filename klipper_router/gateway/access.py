"""Who may do what: known hosts, real addresses behind proxies, foreign web pages, trusted clients; and `keys`.

No socket and no clock of its own (`now` is handed in), one object for the whole gateway. Printers with a Moonraker
of their own keep Moonraker's rules, which see the real address by X-Real-IP; for everything that the gateway answers
itself the rules are Moonraker's too (components/authorization.py): trusted_clients, X-Api-Key, oneshot tokens.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from klipper_router.gateway.http import HttpError, Peer
from klipper_router.gateway.keys import Keys
from klipper_router.gateway.remembered import remembered
from klipper_router.gateway.values import Networks, Origins

log = logging.getLogger("klipper_router.gateway.access")

# An address of RFC 5737, for clients whose own is not known: nobody's, so nobody trusts it. Moonraker takes a client
# without a valid X-Real-IP for the gateway, which it does trust.
UNKNOWN_IP = "192.0.2.1"

# What is remembered is keyed by what anyone may make up. So it is bounded in its length, too: hosts by their grammar
# (`heads`), addresses by being canonical, and what may be one by this: no IPv6 address with its zone is longer.
MAX_REMEMBERED = 1024
MAX_REMEMBERED_CHARACTERS = 64

_NOBODY = Networks()
_NO_ORIGINS = Origins()

Special = Mapping[bytes, list[bytes]]
"""Header fields by their name in lower case, as `heads.RequestHead.special` has them."""


class Client(NamedTuple):
    """Who sent a request, all proxies considered."""

    peer: Peer
    scheme: str
    """``http`` or ``https``: how the client reached the outermost proxy that is trusted."""

    forwarded_for: str
    """X-Forwarded-For for an upstream: complete, the peer of our own connection included."""


class Access(Keys):
    """The rules of one ``[gateway]`` section."""

    def __init__(
        self,
        *,
        hosts: Iterable[str] = (),
        trusted_clients: Networks = _NOBODY,
        trusted_proxies: Networks = _NOBODY,
        cors_domains: Origins = _NO_ORIGINS,
        api_key: str | None = None,
        save_api_key: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(api_key=api_key, save_api_key=save_api_key, now=now)
        self.know_hosts(hosts)
        self._trusted_clients = trusted_clients
        self._trusted_proxies = trusted_proxies
        self._cors = [re.compile(_pattern(origin)) for origin in cors_domains]
        self._warned = False
        self.trusts = functools.lru_cache(MAX_REMEMBERED)(self._trusts)
        self._plain_client = functools.lru_cache(MAX_REMEMBERED)(self._make_plain_client)
        self.is_proxy = functools.lru_cache(MAX_REMEMBERED)(lambda ip: _within(ip, trusted_proxies))

    # -- hosts -----------------------------------------------------------------------------------------------------

    def know_hosts(self, hosts: Iterable[str]) -> None:
        """From now on these are our names, beside those that every host has."""
        self._host_names = frozenset(name for name in hosts if not name.startswith("*."))
        self._host_endings = tuple(name[1:] for name in hosts if name.startswith("*."))
        self.knows_host = functools.lru_cache(MAX_REMEMBERED)(self._knows_host)

    def check_host(self, host: bytes) -> None:
        """Refuse names that are not ours: a web page whose name was rebound to our address. Raises HttpError (421)."""
        if not self.knows_host(host):
            name = host_name(host)
            message = f"this gateway is not {name}; if it should be, add {name} to 'hosts' in [gateway]"
            raise HttpError(421, message)

    def _knows_host(self, host: bytes) -> bool:
        name = host_name(host)
        if name in ("localhost", *self._host_names) or name.endswith((".local", ".localhost", *self._host_endings)):
            return True
        return canonical_ip(name) is not None

    # -- addresses -------------------------------------------------------------------------------------------------

    def client(self, ip: str, special: Special, *, tls: bool) -> Client:
        """Who is behind a connection from ``ip``."""
        told = special.get(b"x-real-ip") or special.get(b"x-forwarded-for") or special.get(b"forwarded")
        if self.is_proxy(ip):
            return self._behind_proxy(ip, special, tls=tls)
        if told and _is_loopback(ip):
            # A proxy on this machine that nobody told us of. To take its clients for local ones would trust them all.
            if not self._warned:
                self._warned = True
                log.warning(
                    "a proxy on this machine (%s) speaks for others; its clients are not trusted until [gateway] has"
                    " 'trusted_proxies: 127.0.0.1, ::1'",
                    ip,
                )
            return Client(Peer(UNKNOWN_IP, False), "https" if tls else "http", UNKNOWN_IP)
        return self._plain_client(ip, tls)

    def _make_plain_client(self, ip: str, tls: bool) -> Client:
        return Client(Peer(ip, self.trusts(ip)), "https" if tls else "http", ip)

    def _behind_proxy(self, ip: str, special: Special, *, tls: bool) -> Client:
        hops = [hop.strip() for value in special.get(b"x-forwarded-for", ()) for hop in _text(value).split(",")]
        candidates = []
        if hops:
            candidates.append(self._first_stranger(hops))
        if real := special.get(b"x-real-ip"):
            literal = canonical_ip(_text(real[0])) if len(real) == 1 else None
            candidates.append(literal or UNKNOWN_IP)
        if not candidates and special.get(b"forwarded"):
            candidates.append(UNKNOWN_IP)  # RFC 7239: none of the usual proxies speaks it, so it is not understood
        # Some proxies set one of the two and pass the client's own other one on: the one with less trust counts.
        if not candidates:
            return Client(Peer(ip, self.trusts(ip)), self._scheme(special, tls=tls), ip)
        real_ip = min(candidates, key=self.trusts)
        before = [literal for hop in hops if (literal := canonical_ip(hop))]
        forwarded_for = ", ".join([*before, ip] if hops else [real_ip, ip])
        return Client(Peer(real_ip, self.trusts(real_ip)), self._scheme(special, tls=tls), forwarded_for)

    def _scheme(self, special: Special, *, tls: bool) -> str:
        said = next((_text(special[name][0]) for name in (b"x-scheme", b"x-forwarded-proto") if name in special), "")
        return said if said in ("http", "https") else "https" if tls else "http"

    def _first_stranger(self, hops: list[str]) -> str:
        """From the right: what the last proxy saw, and while that is a trusted proxy too, what it saw."""
        for hop in reversed(hops):
            literal = canonical_ip(hop)
            if literal is None:
                return UNKNOWN_IP
            if not self.is_proxy(literal):
                return literal
        return canonical_ip(hops[0]) or UNKNOWN_IP

    def _trusts(self, ip: str) -> bool:
        return _is_loopback(ip) or _within(ip, self._trusted_clients)

    # -- web pages -------------------------------------------------------------------------------------------------

    def allows_origin(self, origin: str) -> bool:
        """Whether ``cors_domains`` has a page's origin."""
        return any(pattern.fullmatch(origin.lower()) for pattern in self._cors)

    def is_foreign(self, special: Special, host: bytes, *, other_ports: bool = False) -> bool:
        """Whether a web page that is none of ours, nor one of ``cors_domains``, makes this request.

        ``other_ports``: pages from other ports of the same host are not foreign.
        """
        if origins := special.get(b"origin"):
            if len(origins) > 1:
                return True
            origin = _text(origins[0])
            own = _text(host).lower()
            _, _, theirs = origin.lower().partition("://")
            if other_ports:
                own, theirs = host_name(own.encode()), host_name(theirs.encode("latin-1", "replace"))
            return theirs != own and not self.allows_origin(origin)
        return special.get(b"sec-fetch-site") == [b"cross-site"]

    def hides_its_page(self, special: Special, host: bytes) -> bool:
        """Whether a browser makes this GET and does not say that a page of this host, or its user, wants it.

        To addresses such as http://192.168.1.5 browsers send no Sec-Fetch-Site (they are not "potentially
        trustworthy"), and a picture has no Origin, so that of a GET without a Referer nothing is known. ``same-site``
        may be another port of this host, or another host of its domain.
        """
        sites = special.get(b"sec-fetch-site")
        if special.get(b"origin") or sites in ([b"same-origin"], [b"none"]):
            return False
        if not sites and not any(agent.startswith(b"Mozilla/") for agent in special.get(b"user-agent", ())):
            return False  # no browser
        referers = special.get(b"referer", ())
        origin = "/".join(_text(referers[0]).split("/", 3)[:3]) if len(referers) == 1 else ""
        theirs = origin.partition("://")[2].encode("latin-1", "replace")
        return not theirs or (host_name(theirs) != host_name(host) and not self.allows_origin(origin))


@remembered(MAX_REMEMBERED, up_to=MAX_REMEMBERED_CHARACTERS)
def canonical_ip(text: str) -> str | None:
    """The one way to write an address, or None: no zone, no IPv4 address mapped into IPv6, no brackets but around it.

    Moonraker takes a zone for an invalid address, and a mapped one for nobody's.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def host_name(host: bytes) -> str:
    """Host without its port and the dot at the end, in lower case."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0][1:]
    return text.partition(":")[0].rstrip(".")


@functools.lru_cache(MAX_REMEMBERED)
def _is_loopback(ip: str) -> bool:
    return canonical_ip(ip) is not None and ipaddress.ip_address(ip).is_loopback


def _within(ip: str, networks: Networks) -> bool:
    if canonical_ip(ip) is None:
        return False
    address = ipaddress.ip_address(ip)
    return any(address in network for network in networks)


def _pattern(origin: str) -> str:
    """A regular expression for an origin with ``*`` for any text, as Moonraker's cors_domains have it.

    Where Moonraker lets ``*`` stand for anything, here it stays within the host, so that ``*.local`` is not
    ``evil.example/.local``.
    """
    return re.escape(origin.lower()).replace(r"\*", r"[a-z0-9._-]*")


def _text(value: bytes) -> str:
    return value.decode("latin-1")
