"""Who a client is behind proxies, by what X-Forwarded-For, X-Real-IP, Forwarded and X-Scheme say.

Invariant: never an exception; the address is a canonical literal, so is each of the X-Forwarded-For for an upstream,
and the last of these is the peer of our own connection. What is said counts only if a trusted proxy says it. A client
is trusted only if every one of the fields that are there leads to a trusted address, by trusted proxies alone; one
whose address cannot be known is nobody's.
Input: the first byte chooses who connects and which proxies are trusted; the rest are lines of a head.
"""

from __future__ import annotations

import ipaddress

from klipper_router.gateway import header_rules, heads
from klipper_router.gateway.access import UNKNOWN_IP, Access, Client
from klipper_router.gateway.heads import BadHead, RequestHead
from klipper_router.gateway.http import HttpError
from klipper_router.gateway.values import Networks

WORDS = (
    b"X-Forwarded-For: ",
    b"X-Real-IP: ",
    b"X_Real_IP: ",
    b"Forwarded: for=127.0.0.1",
    b"X-Scheme: https",
    b"X-Forwarded-Proto: http",
    b"127.0.0.1",
    b"::1",
    b"[::1]",
    b"::ffff:127.0.0.1",
    b"10.0.0.2",
    b"10.0.0.1",
    b"192.168.1.5",
    b"203.0.113.9",
    b"fd00::5",
    b"%eth0",
    b":80",
    b", ",
    b"\r\n",
    b"unknown",
    b"\t",
)

PROXIES = (
    Networks(),
    Networks.of("127.0.0.1, ::1"),
    Networks.of("10.0.0.1, 10.0.0.2"),
    Networks.of("0.0.0.0/0, ::/0"),
)
PEERS = ("127.0.0.1", "::1", "10.0.0.1", "192.168.1.5", "203.0.113.9", "fd00::5")
OUR_FIELDS = 5
TRUSTED = Networks.of("192.168.0.0/16, fd00::/8, 10.0.0.2")


def one_input(data: bytes) -> None:
    choice = data[0] if data else 0
    proxies, tls = PROXIES[choice & 3], bool(choice & 4)
    peer = PEERS[(choice >> 3) % len(PEERS)]
    try:
        head = heads.request(b"GET / HTTP/1.1\r\nHost: a\r\n" + data[1:] + b"\r\n\r\n")
    except BadHead:
        return
    access = Access(trusted_clients=TRUSTED, trusted_proxies=proxies)
    client = access.client(peer, head.special, tls=tls)
    assert access.client(peer, head.special, tls=tls) == client
    check_form(client, peer)
    check_trust(client, peer, proxies, Said(head), tls=tls)
    check_upstream(client, head)


class Said:
    """What a head says of its client; fields' values in order."""

    def __init__(self, head: RequestHead) -> None:
        self.chain = [hop for value in head.values(b"x-forwarded-for") for hop in value.split(b",")]
        self.real = head.values(b"x-real-ip")
        self.forwarded = head.values(b"forwarded")
        self.schemes = {*head.values(b"x-scheme"), *head.values(b"x-forwarded-proto")}

    def __bool__(self) -> bool:
        return bool(self.chain or self.real or self.forwarded)


def check_form(client: Client, peer: str) -> None:
    hops = client.forwarded_for.split(", ")
    for ip in (client.peer.ip, *hops):
        address = ipaddress.ip_address(ip)
        assert str(address) == ip
        assert "%" not in ip
        assert getattr(address, "ipv4_mapped", None) is None
    assert hops[-1] == peer or hops == [UNKNOWN_IP]
    assert client.scheme in ("http", "https")


def check_trust(client: Client, peer: str, proxies: Networks, said: Said, *, tls: bool) -> None:
    ip, trusted = client.peer
    assert trusted == is_trusted(ip)
    if not is_within(peer, proxies):
        assert client.scheme == ("https" if tls else "http")
        assert ip == (UNKNOWN_IP if said and ipaddress.ip_address(peer).is_loopback else peer)
        return
    if not said:
        assert ip == peer
        return
    wanted = []
    if said.chain:
        wanted.append(last_stranger(said.chain, proxies))
    if said.real:
        wanted.append(address_of(said.real[0]) if len(said.real) == 1 else None)
    known = [str(address) if address else UNKNOWN_IP for address in wanted] or [UNKNOWN_IP]
    assert ip in known
    assert trusted == all(map(is_trusted, known))
    if said.schemes <= {b"http"}:
        assert client.scheme == "http" or (tls and not said.schemes)


def last_stranger(chain: list[bytes], proxies: Networks) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address nearest to us that is no proxy's; the farthest where all are. None where a hop on the way is none."""
    address = None
    for hop in chain[::-1]:
        address = address_of(hop)
        if address is None or not any(address in network for network in proxies):
            break
    return address


def address_of(text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    bare = text.decode("latin-1").strip()
    if bare[:1] == "[" and bare[-1:] == "]":
        bare = bare[1:-1]
    try:
        address = ipaddress.ip_address(bare.split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(ip: str) -> bool:
    return ipaddress.ip_address(ip).is_loopback or is_within(ip, TRUSTED)


def is_within(ip: str, networks: Networks) -> bool:
    return any(ipaddress.ip_address(ip) in network for network in networks)


def check_upstream(client: Client, head: RequestHead) -> None:
    """The head for an upstream says it once, whatever the client said."""
    if len(head.fields) > heads.MAX_FIELDS - OUR_FIELDS:
        return  # no such head would be taken a second time
    try:
        told = heads.request(header_rules.request_head(head, b"/", client))
    except HttpError:
        return
    assert told.values(b"x-real-ip") == [client.peer.ip.encode()]
    assert told.values(b"x-forwarded-for") == [client.forwarded_for.encode()]
    assert told.values(b"forwarded") == []
