"""The files of a UI that are made for each printer."""

from __future__ import annotations

import html.parser
import json
import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway.ui import pages
from test.gateway import releases

PAGE = releases.PAGE.encode()
NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


class Seen(html.parser.HTMLParser):
    """The addresses of a page, and what its inline script says."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.script = ""
        self._in_script = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        self._in_script = tag == "script" and not any(name == "src" for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        self.script += data if self._in_script else ""


def test_the_addresses_of_a_page_are_below_the_prefix() -> None:
    seen = Seen(pages.index(PAGE, "/printers/main/mainsail"))
    assert seen.addresses == [
        "/printers/main/mainsail/img/icon.png",
        "img/tab.svg",
        "/printers/main/mainsail/assets/index-AbCdEf12.js",
        "/printers/main/mainsail/assets/index-Zz_yXw34.css",
        "//example.org/help",
        "/printers/main/mainsail/manifest.webmanifest",
    ]
    assert b'content="/printers/main/mainsail/img/icons/tile.png"' in pages.index(PAGE, "/printers/main/mainsail")
    assert b'content="Control it"' in pages.index(PAGE, "/printers/main/mainsail")


def test_a_page_tells_its_scripts_the_prefix_before_any_of_them_runs() -> None:
    page = pages.index(PAGE, "/printers/main/mainsail")
    assert page.index(b'window.klipperRouterPrefix="/printers/main/mainsail";') < page.index(b"assets/index")


def test_a_page_registers_no_service_worker_neither_below_a_prefix_nor_at_an_own_origin() -> None:
    for prefix in ("", "/printers/main/mainsail"):
        assert "delete Navigator.prototype.serviceWorker;" in Seen(pages.index(PAGE, prefix)).script


def test_at_an_own_origin_a_page_is_the_releases_but_for_one_script() -> None:
    page = pages.index(PAGE, "")
    assert re.sub(rb"<script>.*?</script>", b"", page, count=1) == PAGE


@given(NAMES)
def test_no_name_of_a_printer_breaks_out_of_the_page(name: str) -> None:
    prefix = f"/printers/{name}/mainsail"
    seen = Seen(pages.index(PAGE, prefix))
    assert seen.addresses[0] == pages.url_path(prefix) + "/img/icon.png"
    assigned = re.fullmatch(r'delete .*?;window\.klipperRouterPrefix=(".*");', seen.script)
    assert assigned is not None
    assert json.loads(assigned[1]) == pages.url_path(prefix)


def test_a_page_without_a_head_is_a_problem() -> None:
    assert pages.index_problem(b"<html></html>") is not None
    assert pages.index_problem(b"<html><header></header></html>") is not None
    assert pages.index_problem(b'<html><head lang="en"></head>') is None


def test_mainsail_is_never_told_of_another_printer() -> None:
    made = pages.mainsail_config(releases.MAINSAIL["config.json"].encode(), "/printers/a/mainsail", "http://h:1")
    assert json.loads(made) == {
        "defaultTheme": "mainsail",
        "instancesDB": "moonraker",
        "instances": [],
        "hostname": None,
        "port": None,
        "path": None,
    }


def test_fluidd_is_told_of_one_printer_and_tries_no_other_address_of_the_host() -> None:
    release = releases.FLUIDD["config.json"].encode()
    made = json.loads(pages.fluidd_config(release, "/printers/a b/fluidd", "http://host:7180"))
    assert made["endpoints"] == ["http://host:7180/printers/a%20b/fluidd"]
    assert made["blacklist"] == ["fluidd.xyz", "host"]
    assert made["themePresets"] == [{"name": "A"}]
    assert json.loads(pages.fluidd_config(release, "", "https://host"))["endpoints"] == ["https://host"]
    assert json.loads(pages.fluidd_config(release, "", "http://[fe80::1]:80"))["blacklist"][-1] == "[fe80::1]"


def test_a_configuration_that_is_missing_or_broken_is_made_from_nothing() -> None:
    for release in (b"", b"[1]", b"{", b"\xff", b"[" * 100_000):
        assert json.loads(pages.fluidd_config(release, "", "http://h"))["endpoints"] == ["http://h"]
        assert json.loads(pages.mainsail_config(release, "", "http://h"))["instancesDB"] == "moonraker"


def test_a_manifest_names_the_printers_page() -> None:
    made = json.loads(pages.manifest(releases.MAINSAIL["manifest.webmanifest"].encode(), "/printers/a/mainsail"))
    assert made == {
        "start_url": "/printers/a/mainsail/",
        "scope": "/printers/a/mainsail/",
        "icons": [{"src": "/printers/a/mainsail/img/icon.png"}],
        "name": "Stand-in",
    }
    relative = releases.FLUIDD["manifest.webmanifest"].encode()
    assert json.loads(pages.manifest(relative, "/printers/a/fluidd")) == msgspec.json.decode(relative)
    assert pages.manifest(b"any bytes", "") == b"any bytes"
