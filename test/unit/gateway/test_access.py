"""Who is behind a connection, which web pages are foreign, whose keys count."""

from __future__ import annotations

from pathlib import Path

import pytest

from klipper_router.errors import ConfigError
from klipper_router.gateway.access import UNKNOWN_IP, Access, canonical_ip
from klipper_router.gateway.http import HttpError, Peer
from klipper_router.gateway.keys import load_api_key
from klipper_router.gateway.values import Networks, Origins


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.168.1.7", "192.168.1.7"),
        (" 192.168.1.7 ", "192.168.1.7"),
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("FE80::1%eth0", "fe80::1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("192.168.1.7:80", None),
        ("192.168.001.7", None),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
    ],
)
def test_an_address_has_one_way_to_be_written(text: str, canonical: str | None) -> None:
    assert canonical_ip(text) == canonical


TRUSTED = Networks.of("192.168.0.0/16, fd00::/8")
PROXIES = Networks.of("10.0.0.1, 10.0.0.2")


@pytest.mark.parametrize(
    ("ip", "fields", "peer", "forwarded_for"),
    [
        # No proxy: what a client says of itself counts for nothing.
        ("192.168.1.7", {}, "192.168.1.7", "192.168.1.7"),
        ("192.168.1.7", {"x-real-ip": "127.0.0.1"}, "192.168.1.7", "192.168.1.7"),
        ("203.0.113.9", {"x-forwarded-for": "127.0.0.1"}, "203.0.113.9", "203.0.113.9"),
        # A proxy on this machine that nobody configured: its clients are nobody.
        ("127.0.0.1", {"x-forwarded-for": "192.168.1.7"}, UNKNOWN_IP, UNKNOWN_IP),
        ("127.0.0.1", {"x-real-ip": "127.0.0.1"}, UNKNOWN_IP, UNKNOWN_IP),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, UNKNOWN_IP, UNKNOWN_IP),
        # A trusted proxy: what it saw, not what its client claims.
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.9"}, "203.0.113.9", "203.0.113.9, 10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "127.0.0.1, 203.0.113.9"}, "203.0.113.9", "127.0.0.1, 203.0.113.9, 10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.9, 10.0.0.2"}, "203.0.113.9", "203.0.113.9, 10.0.0.2, 10.0.0.1"),
        ("10.0.0.1", {"x-real-ip": "203.0.113.9"}, "203.0.113.9", "203.0.113.9, 10.0.0.1"),
        ("10.0.0.1", {"x-real-ip": "::ffff:192.168.1.7"}, "192.168.1.7", "192.168.1.7, 10.0.0.1"),
        ("10.0.0.1", {"x-real-ip": "unknown"}, UNKNOWN_IP, f"{UNKNOWN_IP}, 10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "192.168.1.7, garbage"}, UNKNOWN_IP, "192.168.1.7, 10.0.0.1"),
        ("10.0.0.1", {"forwarded": "for=127.0.0.1"}, UNKNOWN_IP, f"{UNKNOWN_IP}, 10.0.0.1"),
        # A proxy that sets one and passes the other on as its client sent it: the one with less trust counts.
        (
            "10.0.0.1",
            {"x-real-ip": "127.0.0.1", "x-forwarded-for": "203.0.113.9"},
            "203.0.113.9",
            "203.0.113.9, 10.0.0.1",
        ),
        (
            "10.0.0.1",
            {"x-real-ip": "203.0.113.9", "x-forwarded-for": "127.0.0.1"},
            "203.0.113.9",
            "127.0.0.1, 10.0.0.1",
        ),
        # The proxy itself asks.
        ("10.0.0.1", {}, "10.0.0.1", "10.0.0.1"),
    ],
)
def test_the_client_behind_a_connection(ip: str, fields: dict[str, str], peer: str, forwarded_for: str) -> None:
    access = Access(trusted_clients=TRUSTED, trusted_proxies=PROXIES)
    special = {name.encode(): [value.encode()] for name, value in fields.items()}
    client = access.client(ip, special, tls=False)
    assert client.peer == Peer(peer, peer.startswith(("192.168.", "127.")))
    assert client.forwarded_for == forwarded_for


def test_only_a_trusted_proxy_says_how_it_was_reached() -> None:
    access = Access(trusted_proxies=PROXIES)
    fields = {b"x-scheme": [b"https"]}
    assert access.client("10.0.0.1", fields, tls=False).scheme == "https"
    assert access.client("10.0.0.1", {b"x-forwarded-proto": [b"https"]}, tls=False).scheme == "https"
    assert access.client("10.0.0.1", {b"x-scheme": [b"javascript"]}, tls=False).scheme == "http"
    assert access.client("192.168.1.7", fields, tls=False).scheme == "http"
    assert access.client("192.168.1.7", {}, tls=True).scheme == "https"


@pytest.mark.parametrize(
    ("cors", "origin", "allowed"),
    [
        ("*.local", "http://voron.local", True),
        ("*.local", "https://a.b.local", True),
        ("*.local", "http://voron.local:8080", False),
        ("*.local:*", "http://voron.local:8080", True),
        ("*.local", "http://evil.example/.local", False),
        ("*.local", "http://evil.example?.local", False),
        ("*.local", "http://evil.example:80@x.local", False),
        ("http://my.mainsail.xyz", "http://my.mainsail.xyz", True),
        ("http://my.mainsail.xyz", "https://my.mainsail.xyz", False),
        ("http://my.mainsail.xyz", "http://myxmainsail.xyz", False),
        ("http://my.mainsail.xyz", "http://my.mainsail.xyz,http://evil.local", False),
        ("*.local", "null", False),
    ],
)
def test_cors_domains_name_whole_origins(cors: str, origin: str, allowed: bool) -> None:
    assert Access(cors_domains=Origins.of(cors)).allows_origin(origin) is allowed


@pytest.mark.parametrize(
    ("fields", "other_ports", "foreign"),
    [
        ({}, False, False),
        ({"origin": ["http://voron:7180"]}, False, False),
        ({"origin": ["HTTP://VORON:7180"]}, False, False),
        ({"origin": ["http://voron"]}, False, True),
        ({"origin": ["http://voron"]}, True, False),
        ({"origin": ["http://other"]}, True, True),
        ({"origin": ["null"]}, True, True),
        ({"origin": [""]}, True, True),
        ({"origin": ["http://voron:7180", "http://voron:7180"]}, False, True),
        ({"sec-fetch-site": ["cross-site"]}, False, True),
        ({"sec-fetch-site": ["same-site"]}, False, False),
    ],
)
def test_a_page_is_foreign_by_its_origin(fields: dict[str, list[str]], other_ports: bool, foreign: bool) -> None:
    special = {name.encode(): [value.encode() for value in values] for name, values in fields.items()}
    assert Access().is_foreign(special, b"voron:7180", other_ports=other_ports) is foreign


BROWSER = "Mozilla/5.0 (X11; Linux x86_64)"


@pytest.mark.parametrize(
    ("fields", "hides"),
    [
        ({}, False),  # curl, a slicer
        ({"user-agent": ["OrcaSlicer/2.3"]}, False),
        ({"user-agent": [BROWSER]}, True),
        ({"user-agent": [BROWSER], "referer": ["http://voron:7180/printers/main/mainsail/"]}, False),
        ({"user-agent": [BROWSER], "referer": ["http://voron/"]}, False),
        ({"user-agent": [BROWSER], "referer": ["http://voron:7180/", "http://evil.example/"]}, True),
        ({"user-agent": [BROWSER], "referer": ["http://evil.example/http://voron:7180/"]}, True),
        ({"user-agent": [BROWSER], "referer": ["http://ui.example/page"]}, False),
        ({"user-agent": [BROWSER], "referer": ["about:blank"]}, True),
        ({"user-agent": [BROWSER], "sec-fetch-site": ["same-origin"]}, False),
        ({"user-agent": [BROWSER], "sec-fetch-site": ["none"]}, False),  # the user typed it
        ({"user-agent": [BROWSER], "sec-fetch-site": ["same-site"]}, True),
        ({"sec-fetch-site": ["same-site"], "referer": ["http://voron:7181/"]}, False),
        ({"user-agent": [BROWSER], "origin": ["http://voron:7180"]}, False),  # judged by that
    ],
)
def test_a_browser_says_whose_page_wants_a_get_that_acts(fields: dict[str, list[str]], hides: bool) -> None:
    special = {name.encode(): [value.encode() for value in values] for name, values in fields.items()}
    access = Access(cors_domains=Origins.of("http://ui.example"))
    assert access.hides_its_page(special, b"voron:7180") is hides


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_lasts_five_seconds_and_one_request() -> None:
    clock = Clock()
    access = Access(now=clock)
    peer = Peer("203.0.113.9", False)
    early, late = access.oneshot_token(peer.ip), access.oneshot_token(peer.ip)
    assert len(early) == 32
    clock.now += 4.9
    assert access.authorized(peer, None, early)
    clock.now += 0.2
    assert not access.authorized(peer, None, late)


def test_tokens_are_bounded_and_the_oldest_go() -> None:
    access = Access()
    peer = Peer("203.0.113.9", False)
    tokens = [access.oneshot_token(peer.ip) for _ in range(1001)]
    assert not access.authorized(peer, None, tokens[0])
    assert access.authorized(peer, None, tokens[1])


def test_an_attacker_is_refused_for_a_minute_and_forgotten() -> None:
    clock = Clock()
    access = Access(api_key="right" * 4, now=clock)
    peer = Peer("203.0.113.9", False)
    for _ in range(10):
        assert not access.authorized(peer, "wrong", None)
    with pytest.raises(HttpError) as caught:
        access.authorized(peer, "right" * 4, None)
    assert (caught.value.status, caught.value.headers) == (429, [("retry-after", "61")])
    clock.now += 61
    assert access.authorized(peer, "right" * 4, None)


def test_a_new_key_ends_the_old_one(tmp_path: Path) -> None:
    saved: list[str] = []
    access = Access(api_key="old", save_api_key=saved.append)
    new = access.new_api_key()
    assert saved == [new]
    assert (access.check_api_key("old"), access.check_api_key(str(new))) == (False, True)


def test_without_a_key_none_is_right() -> None:
    assert not Access().check_api_key("")
    assert Access().new_api_key() is None


def test_a_key_file_that_holds_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "api_key"
    file.write_text("short")
    with pytest.raises(ConfigError, match="remove it, and one is made"):
        load_api_key(file)
