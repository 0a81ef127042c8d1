"""Where a printer's web interfaces and cameras are, as the dashboard links them."""

from __future__ import annotations

from pathlib import Path

from klipper_router import config
from klipper_router.config import Config
from klipper_router.gateway.page import extras

BASE = "[gateway]\nmainsail: /srv/mainsail\nfluidd: /srv/fluidd\n[klippy main]\nsock: main.sock\n"


def made(tmp_path: Path, text: str) -> Config:
    (tmp_path / "router.cfg").write_text(text)
    return config.load(tmp_path / "router.cfg")


def test_a_printer_with_moonraker_has_both_interfaces(tmp_path: Path) -> None:
    links = extras.of(made(tmp_path, f"{BASE}moonraker: none\n"), "main", [])["links"]
    assert [(link["label"], link["path"]) for link in links] == [
        ("Mainsail", "printers/main/mainsail/"),
        ("Fluidd", "printers/main/fluidd/"),
    ]


def test_a_printer_without_moonraker_has_none(tmp_path: Path) -> None:
    assert extras.of(made(tmp_path, BASE), "main", [])["links"] == []


def test_own_origins_are_linked_by_port_and_by_name(tmp_path: Path) -> None:
    options = (
        "moonraker: none\nui: fluidd\norigin: *:7181, 192.168.1.4:7182\nhost: main.example.org, *.main.example.org\n"
    )
    links = extras.of(made(tmp_path, BASE + options), "main", [])["links"]
    assert links[2:] == [
        {"label": "Fluidd at :7181", "port": 7181},
        {"label": "Fluidd at :7182", "port": 7182, "host": "192.168.1.4"},
        {"label": "Fluidd at main.example.org", "host": "main.example.org"},
    ]


def test_cameras_have_addresses_below_their_printer(tmp_path: Path) -> None:
    cameras = extras.of(made(tmp_path, BASE), "main", ["nozzle", "a/b c"])["cameras"]
    assert [camera["name"] for camera in cameras] == ["nozzle", "a/b c"]
    assert cameras[0]["stream"] == "printers/main/cameras/nozzle/stream"
    assert cameras[1]["snapshot"] == "printers/main/cameras/a%2Fb%20c/snapshot"


def test_a_printer_that_is_gone_has_nothing(tmp_path: Path) -> None:
    assert extras.of(made(tmp_path, BASE), "gone", ["nozzle"]) == {"links": [], "cameras": []}
