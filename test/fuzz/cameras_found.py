"""What is said of cameras: webcams' addresses in a Moonraker's list, and the answers of servers that are looked for.

Invariant: nothing escapes; each address that is made of one is on the printer's host, can stand in the head of a
request, and is read as the same one again; a camera that is found can be configured as it is, unless it is another
host's; of those that are found none is made up or comes twice.
Input: the first byte says who answers; the rest is the answer, that of Moonraker being a list of webcams.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from klipper_router.gateway.cameras import discovery
from klipper_router.gateway.cameras.address import CameraUrl, candidates, is_loopback
from klipper_router.gateway.cameras.discovery import Found, Probed, places_on, without_repeats
from klipper_router.gateway.cameras.webcams import configured_spec
from klipper_router.gateway.settings import CameraSection

WORDS = (
    b'[{"name":"a","service":"mjpegstreamer","stream_url":"/webcam/?action=stream"}]',
    b'"snapshot_url":"http://localhost:8080/?action=snapshot"',
    b'"stream_url":"//other/x"',
    b'"stream_url":"https://printer/x?a#b"',
    b'"stream_url":"/webcam2?a\\r\\nX: y"',
    b'"stream_url":"http://printer:99999/"',
    b'"stream_url":"http://[::1]/"',
    b'{"ok":true,"result":{}}',
    b'{"inputs":[{},{}]}',
    b'{"endpoints":{"webrtc":{"enabled":true},"stream":{"enabled":1},"snapshot":{"enabled":true}}}',
    b'{"garage":{"producers":[]}}',
    b'{"items":[{"name":"a/b"}]}',
    b"\xff\xd8",
    b"?",
    b"#",
    b"@",
    b"\\u0000",
    b"\\u00e9",
    b"%2e",
    b"../",
)

HOSTS = ("printer", "127.0.0.1", "::1")
PLACES = {host: places_on(host) for host in HOSTS}
# RFC 9112: what a request's target, and the value of Host, consist of.
IN_A_HEAD = re.compile(r"[!-~]+")


def one_input(data: bytes) -> None:
    choice = data[0] if data else 0
    host = HOSTS[choice % len(HOSTS)]
    body = data[1:]
    found = listed(body) if choice >> 7 else answered(host, choice // len(HOSTS), body)
    for each in found:
        for url in (each.url, each.snapshot_url):
            for made in candidates(url, host, 7125):
                check_address(made, host)
        check_options(each, host)
    kept = without_repeats(found, host)
    assert [each for each in found if each in kept] == kept or len({*found}) < len(found)
    assert {*kept} <= {*found}


def listed(body: bytes) -> list[Found]:
    """As Moonraker says it."""
    try:
        webcams: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return []
    listed = webcams if isinstance(webcams, list) else []
    return [Found(*discovery._of_moonraker(each), "moonraker") for each in listed if isinstance(each, dict)]


def answered(host: str, number: int, body: bytes) -> list[Found]:
    """As a server does that is asked."""
    root, probes = PLACES[host][number % len(PLACES[host])]
    server = "mediamtx" if number % 2 else ""
    found = [each for probe in probes for each in probe.judge(root, Probed(200, "application/json", server, body))]
    assert not any(probe.judge(root, Probed(404, "", "", body)) for probe in probes)
    for each in found:
        assert candidates(each.url, host), each
    return found


def check_address(made: CameraUrl, host: str) -> None:
    assert made.host == host or (is_loopback(made.host) and is_loopback(host))
    assert 0 < made.port < 65536
    for text in (made.target, made.authority, str(made)):
        assert IN_A_HEAD.fullmatch(text), text
    assert made.target.startswith("/")
    assert made.folder.endswith("/")
    assert CameraUrl.of(str(made)) == made._replace(login="")
    assert made.authorization is None or IN_A_HEAD.fullmatch(made.authorization.removeprefix("Basic "))


def check_options(each: Found, host: str) -> None:
    options = each.options(host)
    if options is None:
        assert not candidates(each.url, host)
        return
    configured_spec("x", msgspec.convert(options, CameraSection))
