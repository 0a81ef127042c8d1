"""What the gateway's options may be, and what is said of what they may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from klipper_router import config
from klipper_router.errors import ConfigError
from klipper_router.gateway.settings import CameraSection, ForwardSection, GatewaySection, KlippyOptions, Service
from klipper_router.gateway.values import (
    Address,
    Addresses,
    Destination,
    HostNames,
    Moonraker,
    Networks,
    Upstream,
    decode,
)


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "router.cfg"
    file.write_text(text)
    return config.load(file)


MAIN = "[klippy main]\nsock: /tmp/main.sock\n"


def test_without_its_section_there_is_no_gateway(tmp_path: Path) -> None:
    assert load(tmp_path, MAIN).gateway is None


def test_by_default_the_gateway_listens_on_loopback_only(tmp_path: Path) -> None:
    section = load(tmp_path, f"[gateway]\n{MAIN}").gateway
    assert section is not None
    assert section.listen == (Address("127.0.0.1", 7180),)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("7180", ["127.0.0.1:7180"]),
        ("*:80", ["0.0.0.0:80"]),
        ("0.0.0.0:80, [::]:80", ["0.0.0.0:80", "[::]:80"]),
        ("voron.local:7180", ["voron.local:7180"]),
    ],
)
def test_addresses(text: str, addresses: list[str]) -> None:
    assert [str(address) for address in Addresses.of(text)] == addresses


@pytest.mark.parametrize(
    "text", ["", "x", "1:2:3", "127.0.0.1:99999", "99999", "a b", "::1:80", "7180, 7180", "x/y:80"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".{10}"):
        Addresses.of(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:7125", "http://127.0.0.1:7125"),
        ("http://voron", "http://voron:7125"),
        ("https://voron/", "https://voron:7130"),
        ("http://[fe80::1]:80/a/b/", "http://[fe80::1]:80/a/b"),
        ("none", "none"),
        ("None", "none"),
    ],
)
def test_moonraker(text: str, shown: str) -> None:
    assert str(Moonraker.of(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:7125",
        "ftp://x",
        "http://",
        "http://x:y",
        "http://a:b@x",
        "http://x?a",
        "http://x y",
        "http://x\r\n",
        "http://x/a%zz",
        "http://x/a%20b",
        "http://x/a\\b",
        "http://x/a/../b",
        "http://x/.",
        "http://x//a",
    ],
)
def test_what_is_no_moonraker(text: str) -> None:
    with pytest.raises(ValueError, match="none"):
        Moonraker.of(text)


def test_the_other_forms() -> None:
    assert HostNames.of("A.example.org., *.b.example") == ("a.example.org", "*.b.example")
    assert [str(network) for network in Networks.of("10.0.0.0/8 fd00::/8 10.1.2.3")] == [
        "10.0.0.0/8",
        "fd00::/8",
        "10.1.2.3/32",
    ]
    assert str(Destination.of("[fe80::1]:80")) == "[fe80::1]:80"
    assert {Upstream.of("http://a"), Upstream.of("http://a:7125/")} == {Upstream.of("http://a")}
    assert decode(Destination, "a:1") == decode(Destination, ["a:1"])
    with pytest.raises(ValueError, match="this must be text"):
        decode(Destination, 1)
    with pytest.raises(NotImplementedError):
        decode(complex, "1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[gateway]\nlisten: x", "router.cfg:2: [gateway] has listen 'x': 'x' lacks a port"),
        (
            "[gateway]\ntrusted_clients: 192.168.1.5/24",
            "router.cfg:2: [gateway] has trusted_clients '192.168.1.5/24': '192.168.1.5/24' is an address within a"
            " network: write 192.168.1.0/24, or 192.168.1.5/32 for it alone",
        ),
        (
            "[gateway]\ntrusted_clients: fd00::5/64",
            "router.cfg:2: [gateway] has trusted_clients 'fd00::5/64': 'fd00::5/64' is an address within a network:"
            " write fd00::/64, or fd00::5/128 for it alone",
        ),
        (
            "[gateway]\ntrusted_clients: 192.168.1/24",
            "router.cfg:2: [gateway] has trusted_clients '192.168.1/24': '192.168.1/24' is no IP address or network:",
        ),
        ("[gateway]\ncors_domains: *", "router.cfg:2: [gateway] has cors_domains '*': '*' is no origin"),
        ("[gateway]\nhosts: http://x", "router.cfg:2: [gateway] has hosts"),
        (
            "[gateway]\nlisten: -a:80",
            "router.cfg:2: [gateway] has listen '-a:80': '-a' is no host name or IP address",
        ),
        (
            "[gateway]\n[klippy a]\nsock: /a\nhost: x\nmoonraker: none\n[klippy b]\nsock: /b\nhost: x\nmoonraker: none",
            "router.cfg:8: [klippy b]: x is the host of [klippy a] already",
        ),
        ("[gateway]\ntls_key: x.pem", "router.cfg:2: [gateway]: a key needs its certificate"),
        ("[gateway]\nlissen: 80", "router.cfg:2: [gateway] has no option 'lissen'. Did you mean 'listen'?"),
        ("[camera main bed]\nurl: http://x", "router.cfg:1: [camera main bed]: cameras are the gateway's"),
        (
            "[gateway]\n[camera x bed]\nurl: http://x",
            "router.cfg:2: [camera x bed]: there is no printer 'x'. There are",
        ),
        (
            "[gateway]\n[camera mian nozzle]\nurl: http://x",
            "router.cfg:2: [camera mian nozzle]: there is no printer 'mian'. Did you mean [camera main nozzle]?",
        ),
        ("[gateway]\n[klippy a/b]\nsock: /x", "router.cfg:2: [klippy a/b]: a name may not hold '/': it is a part of"),
        (
            "[gateway]\n[camera main]\nurl: http://x",
            "router.cfg:2: [camera main]: the camera needs a name, too, such as",
        ),
        (
            "[gateway]\n[camera nozzle]\nurl: http://x",
            "router.cfg:2: [camera nozzle]: write the printer and a name, such as [camera main nozzle]",
        ),
        (
            "[gateway]\n[camera main bed]\nurl: http://x\nstream_url: http://x",
            "router.cfg:4: [camera main bed] has no option 'stream_url'. Did you mean 'url'?",
        ),
        ("[gateway]\n[camera main bed]", "router.cfg:2: [camera main bed] lacks 'url': add a line such as 'url: http"),
        ("[forward abc]\nto: x:1", "router.cfg:1: [forward abc]: the name of a forward is the port"),
        ("[forward 80]\nto: x", "router.cfg:2: [forward 80] has to 'x': write host:port"),
        (
            "[gateway]\nlisten: 80\n[forward 80]\nto: x:1",
            "router.cfg:3: [forward 80]: 127.0.0.1:80 is taken by [gateway]",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_mend(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{text}\n{MAIN}")
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("origin: 81", "an own origin needs 'moonraker'"),
        ("moonraker: none\norigin: 7180", "127.0.0.1:7180 is taken by [gateway] already"),
        (
            "moonraker: none\norigin: *:7180",
            "0.0.0.0:7180 is taken by [gateway] already, which listens on 127.0.0.1:7180",
        ),
        ("moonraker: none\norigin: [::]:7180", "[::]:7180 is taken by [gateway] already, which listens on 127.0.0.1"),
        (
            "moonraker: none\norigin: *:7181, 127.0.0.1:7181",
            "127.0.0.1:7181 is taken by [klippy main] already, which listens on 0.0.0.0:7181",
        ),
        ("moonraker: none\nui: octoprint", "router.cfg:5: [klippy main] has ui 'octoprint': this is none of mainsail"),
        ("moonraker: none\nui: fluid", "has ui 'fluid': this is none of mainsail, fluidd. Did you mean 'fluidd'?"),
        ("moonraker: none\nui: fluidd", "router.cfg:5: [klippy main]: 'ui: fluidd' needs 'fluidd: DIRECTORY' in [gat"),
        (
            "moonraker: none\nallow: printer, server",
            "router.cfg:5: [klippy main]: 'allow' is for a printer with its own Moonraker; use gcode_from, allow_gcode,"
            " endpoints_from and allow_endpoints for this one",
        ),
        (
            "moonraker: http://localhost:7180",
            "router.cfg:4: [klippy main]: http://localhost:7180 is where [gateway] listens: write where this printer's"
            " Moonraker does, or none",
        ),
        (
            "origin: *:7181\nmoonraker: http://127.0.0.1:7181/printers/main",
            "router.cfg:5: [klippy main]: http://127.0.0.1:7181/printers/main is where [klippy main] listens",
        ),
        ("origin: 192.168.1.5:7181\nmoonraker: http://192.168.1.5:7181", "is where [klippy main] listens"),
        ("moonraker: none\nallow: server, mashine", "'mashine' is none of access, api, debug"),
    ],
)
def test_a_mistake_of_a_printer_is_told(tmp_path: Path, options: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[gateway]\n{MAIN}{options}\n")
    assert expected in str(caught.value)


def test_a_moonraker_beside_the_gateway_is_none_of_its_own_addresses(tmp_path: Path) -> None:
    for listen, url in (
        ("192.168.1.5:7125", "http://127.0.0.1:7125"),
        ("*:7180", "http://192.168.1.7:7180"),
        ("*:7180", "http://127.0.0.1:7125"),
    ):
        text = f"[gateway]\nlisten: {listen}\ntrusted_clients: 10.0.0.0/8\n{MAIN}moonraker: {url}\n"
        assert load(tmp_path, text).notes() == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("access_log: maybe", "has access_log 'maybe': write yes or no"),
        ("max_connections: many", "has max_connections 'many': write a whole number, 1 or more"),
        ("max_connections: 0", "has max_connections '0': write a whole number, 1 or more"),
        ("max_connections_per_client: 1.5", "has max_connections_per_client '1.5': write a whole number, 1 or more"),
    ],
)
def test_what_an_option_takes_is_said_in_plain_words(option: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[gateway]\n{option}\n{MAIN}")
    assert str(caught.value) == f"{tmp_path}/router.cfg:2: [gateway] {message}"


def test_only_services_that_the_gateway_can_show_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[gateway]\n[camera main bed]\nurl: http://x\nservice: mjpgstreamer\n{MAIN}")
    assert f"{tmp_path}/router.cfg:4: [camera main bed] has service 'mjpgstreamer'" in str(caught.value)
    assert str(caught.value).endswith(" Did you mean 'mjpegstreamer'?")
    page = (PAGE.parent / "cameras.md").read_text()
    assert all(f"`{service}`" in page for service in get_args(Service))


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            f"{MAIN}moonraker: http://a\nallow: server\nui: fluidd\n",
            "3: [klippy main] has moonraker, allow, ui, without effect as long as there is no section [gateway]",
        ),
        (
            f"[gateway]\nlisten: 7180, *:7181\n{MAIN}",
            "2: [gateway] listens for other machines, but lets none of them use the dashboard, or a printer with"
            " 'moonraker: none': add 'trusted_clients', or 'data' for an API key",
        ),
    ],
)
def test_what_is_no_mistake_but_may_not_be_meant_is_noted(text: str, note: str, tmp_path: Path) -> None:
    assert load(tmp_path, text).notes() == [f"{tmp_path}/router.cfg:{note}"]


@pytest.mark.parametrize(
    "options",
    ["listen: localhost:1, [::1]:1", "listen: *:1\ntrusted_clients: 10.0.0.0/8", "listen: *:1\ndata: data"],
)
def test_who_may_come_or_cannot_is_not_noted(options: str, tmp_path: Path) -> None:
    assert load(tmp_path, f"[gateway]\n{options}\n{MAIN}").notes() == []


@pytest.mark.parametrize("listen", ["127.0.0.2:7181", "*:7182", "[::1]:7181, 127.0.0.1:7181", "printers.local:7181"])
def test_addresses_that_do_not_overlap_may_be_listened_on(listen: str, tmp_path: Path) -> None:
    first = "*:7181" if listen.startswith("printers") else "127.0.0.3:7181"
    assert load(tmp_path, f"[gateway]\nlisten: {listen}\n{MAIN}moonraker: none\norigin: {first}\n").gateway


def test_paths_begin_at_the_configuration_or_at_home(tmp_path: Path) -> None:
    section = load(tmp_path, f"[gateway]\ndata: data\nmainsail: ~/mainsail\n{MAIN}").gateway
    assert section is not None
    assert (section.data, section.mainsail) == (str(tmp_path / "data"), str(Path.home() / "mainsail"))


def test_yaml_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(
        "gateway: {listen: ['127.0.0.1:1', '127.0.0.1:2'], access_log: yes}\n"
        "klippy main: {sock: /tmp/a, moonraker: none, origin: 7181}\n"
    )
    loaded = config.load(file)
    assert loaded.gateway is not None
    assert ([address.port for address in loaded.gateway.listen], loaded.gateway.access_log) == ([1, 2], True)
    assert loaded.klippy["main"].origin == (Address("127.0.0.1", 7181),)


PAGE = Path(__file__).parents[3] / "docs" / "gateway.md"


@pytest.mark.parametrize("example", re.findall(r"^```\n(\[.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
def test_the_examples_of_the_documentation_are_right(tmp_path: Path, example: str) -> None:
    assert load(tmp_path, example).klippy


@pytest.mark.parametrize("section", [GatewaySection, CameraSection, ForwardSection, KlippyOptions])
def test_every_option_is_documented(section: type[msgspec.Struct]) -> None:
    options = re.findall(
        r"`(\w+)`", "".join(line.split("|")[1] for line in PAGE.read_text().splitlines() if "|" in line)
    )
    assert {field.name for field in msgspec.structs.fields(section)} <= set(options)


def test_a_configuration_that_is_read_again_is_the_same(tmp_path: Path) -> None:
    text = f"""
        [gateway]
        trusted_clients: 10.0.0.0/8
        [forward 9443]
        to: 192.168.1.7:7125
        [klippy led]
        sock: /led.sock
        moonraker: none
        {MAIN}
        moonraker: http://127.0.0.1:7125
        origin: 7181
        """.replace("        ", "")
    assert load(tmp_path, text) == load(tmp_path, text)
    assert load(tmp_path, text) != load(tmp_path, text.replace("none", "http://127.0.0.1:7126"))
    assert load(tmp_path, text) != load(tmp_path, text.replace("192.168.1.7", "192.168.1.8"))
