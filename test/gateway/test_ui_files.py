"""Serving the directories of Mainsail and Fluidd: which file, for whom, and what a client may keep."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from klipper_router.gateway.http import Headers, HttpError, HttpRequest, HttpResponse
from klipper_router.gateway.ui import interface as interface_module
from klipper_router.gateway.ui import patches, release
from klipper_router.gateway.ui.shelf import Shelf
from klipper_router.gateway.ui.site import UserInterfaces
from test.gateway import releases

A, B = "/printers/a/mainsail", "/printers/b/mainsail"
SCRIPT = "/assets/index-AbCdEf12.js"
PLAIN = "/assets/plain-PlAiN000.js"
BIG_BYTES = 3 * interface_module.CHUNK_BYTES + 17


class Served:
    """A response with its body read to the end."""

    def __init__(self, response: HttpResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = Headers(response.headers)
        self.body = body

    def json(self) -> object:
        return json.loads(self.body)


class Client:
    """Asks the site as the gateway's routes do."""

    def __init__(self, root: Path) -> None:
        self.mainsail = releases.write(root / "mainsail", releases.MAINSAIL)
        self.fluidd = releases.write(root / "fluidd", releases.FLUIDD)
        self.site = UserInterfaces(mainsail=self.mainsail, fluidd=self.fluidd)

    async def get(self, prefix: str, path: str, method: str = "GET", **headers: str) -> Served:
        response = await self.begin(prefix, path, method, **headers)
        if isinstance(response.body, bytes):
            return Served(response, response.body)
        return Served(response, b"".join([chunk async for chunk in response.body]))

    async def begin(self, prefix: str, path: str, method: str = "GET", ui: str = "", **headers: str) -> HttpResponse:
        return await self.site.handle(
            HttpRequest(
                method=method,
                path=unquote(path.partition("?")[0]) or "/",
                prefix=prefix,
                ui=ui or prefix.rpartition("/")[2] or "mainsail",
                raw_target=(prefix + path).encode(),
                headers=Headers([(name.replace("_", "-"), value) for name, value in headers.items()]),
                origin="http://host:7180",
            )
        )

    async def refused(self, prefix: str, path: str, method: str = "GET") -> HttpError:
        with pytest.raises(HttpError) as caught:
            await self.get(prefix, path, method)
        return caught.value


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


async def test_each_printer_gets_its_own_page_from_the_same_files(client: Client) -> None:
    for prefix in (A, B):
        page = await client.get(prefix, "/")
        assert f'src="{prefix}{SCRIPT}"'.encode() in page.body
        assert f'window.klipperRouterPrefix="{prefix}"'.encode() in page.body
        assert page.headers.get("content-type") == "text/html; charset=utf-8"
        assert page.headers.get("cache-control") == "no-store"
    assert (await client.get(A, SCRIPT)).body == (await client.get(B, SCRIPT)).body


async def test_scripts_and_styles_are_patched_below_a_prefix_only(client: Client) -> None:
    assert b"base: window.klipperRouterPrefix+`/`" in (await client.get(A, SCRIPT)).body
    assert b"url(../fonts/a.woff2)" in (await client.get(A, "/assets/index-Zz_yXw34.css")).body
    assert (await client.get("", SCRIPT)).body.decode() == releases.BACKTICKS
    assert (await client.get("", "/assets/index-Zz_yXw34.css")).body.decode() == releases.STYLES


async def test_pages_of_mainsails_own_have_paths(client: Client) -> None:
    index = (await client.get(A, "/")).body
    for path in ("/console", "/config", "/settings/general", "/viewer?filename=a.gcode", "/index.html"):
        assert (await client.get(A, path)).body == index
    assert b"<title>" in (await client.get("", "/console")).body


async def test_a_file_that_is_missing_is_never_answered_with_a_page(client: Client) -> None:
    for path in ("/assets/gone-AbCdEf12.js", "/img/gone", "/favicon.ico", "/assets", "/img/"):
        assert (await client.refused(A, path)).status == 404
    assert (await client.refused("/printers/a/fluidd", "/console")).status == 404


async def test_fluidd_finds_its_printer_and_keeps_its_list_apart(client: Client) -> None:
    config = (await client.get("/printers/a/fluidd", "/config.json")).json()
    assert isinstance(config, dict)
    assert config["endpoints"] == ["http://host:7180/printers/a/fluidd"]
    script = (await client.get("/printers/a/fluidd", "/assets/actions-QwErTy56.js")).body
    assert b"KEY: window.klipperRouterPrefix+`appInstances`," in script


async def test_mainsail_is_told_of_no_other_printer(client: Client) -> None:
    config = (await client.get(A, "/config.json")).json()
    assert isinstance(config, dict)
    assert (config["instancesDB"], config["hostname"]) == ("moonraker", None)


async def test_a_service_worker_of_an_earlier_visit_removes_itself(client: Client) -> None:
    for prefix in (A, "", "/printers/a/fluidd"):
        worker = await client.get(prefix, "/sw.js")
        assert b"registration.unregister()" in worker.body
        assert worker.headers.get("content-type") == "text/javascript; charset=utf-8"
        assert worker.headers.get("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("path", "to"), [("", f"{A}/"), ("?printer=1&a=%2F", f"{A}/?printer=1&a=%2F"), ("/", None), ("/?a", None)]
)
async def test_the_address_without_a_slash_leads_to_the_one_with_it(client: Client, path: str, to: str | None) -> None:
    response = await client.get(A, path)
    assert (response.status, response.headers.get("location")) == ((302, to) if to else (200, None))


async def test_a_compressed_file_is_the_file(client: Client) -> None:
    plain = await client.get(A, PLAIN)
    packed = await client.get(A, PLAIN, accept_encoding="gzip, br")
    assert (plain.headers.get("content-encoding"), packed.headers.get("content-encoding")) == (None, "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 10
    assert plain.headers.get("vary") == packed.headers.get("vary") == "Accept-Encoding"
    assert plain.headers.get("etag") != packed.headers.get("etag")


async def test_what_is_named_by_its_content_is_kept_for_ever_unless_it_may_be_patched(client: Client) -> None:
    for_ever = "public, max-age=31536000, immutable"
    assert (await client.get("", SCRIPT)).headers.get("cache-control") == for_ever
    assert (await client.get(A, "/assets/font-LmNoPq90.woff2")).headers.get("cache-control") == for_ever
    for path in (SCRIPT, PLAIN, "/img/icon.png"):
        assert (await client.get(A, path)).headers.get("cache-control") == "no-cache"


async def test_who_has_a_file_is_not_sent_it_again(client: Client) -> None:
    for prefix, encoding in ((A, "gzip"), (A, ""), ("", "gzip"), ("", "")):
        first = await client.get(prefix, SCRIPT, accept_encoding=encoding)
        etag = first.headers.get("etag") or ""
        again = await client.get(prefix, SCRIPT, accept_encoding=encoding, if_none_match=etag)
        assert (again.status, again.body, again.headers.get("etag")) == (304, b"", etag)
    own = (await client.get("", SCRIPT)).headers.get("etag") or ""
    assert (await client.get(A, SCRIPT, if_none_match=own)).status == 200


async def test_head_has_the_length_and_no_file(client: Client) -> None:
    for path, length in (("/img/icon.png", 7), ("/big.bin", BIG_BYTES)):
        (client.mainsail / "big.bin").write_bytes(bytes(BIG_BYTES))
        response = await client.begin(A, path, "HEAD")
        assert (response.status, dict(response.headers)["content-length"]) == (200, str(length))
        assert response.body == b""


async def test_other_methods_are_refused(client: Client) -> None:
    error = await client.refused(A, "/", "POST")
    assert (error.status, error.headers) == (405, [("allow", "GET, HEAD")])


async def test_a_big_file_is_sent_in_pieces(client: Client) -> None:
    content = os.urandom(BIG_BYTES)
    (client.mainsail / "big.bin").write_bytes(content)
    response = await client.begin("", "/big.bin")
    assert not isinstance(response.body, bytes)
    pieces = [piece async for piece in response.body]
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) == interface_module.CHUNK_BYTES
    assert dict(response.headers)["content-length"] == str(BIG_BYTES)


async def test_a_big_file_that_changes_while_it_is_sent_ends_short(client: Client) -> None:
    big = client.mainsail / "big.bin"
    big.write_bytes(bytes(BIG_BYTES))
    response = await client.begin("", "/big.bin")
    assert not isinstance(response.body, bytes)
    await anext(response.body)
    big.write_bytes(b"1" * BIG_BYTES)
    with pytest.raises(release.Changed):
        await anext(response.body)


# -- what lies outside ---------------------------------------------------------------------------------------------


async def test_symbolic_links_lead_nowhere_outside(client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text("secret")
    (client.mainsail / "img/link.txt").symlink_to(tmp_path / "secret.txt")
    (client.mainsail / "img/up").symlink_to(tmp_path / "secrets")
    (client.mainsail / "img/same.png").symlink_to("icon.png")
    (client.mainsail / "img/broken").symlink_to("nowhere")
    for path in ("/img/link.txt", "/img/up/key", "/img/broken"):
        assert (await client.refused("", path)).status == 404
    assert (await client.get("", "/img/same.png")).body == b"picture"


async def test_a_link_put_in_the_place_of_a_file_is_not_followed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("picture")
    assert (await client.get("", "/img/icon.png")).body == b"picture"
    (client.mainsail / "img/icon.png").unlink()
    (client.mainsail / "img/icon.png").symlink_to(tmp_path / "secret.txt")
    assert (await client.refused("", "/img/icon.png")).status == 404


async def test_a_folder_swapped_for_a_link_is_not_followed(client: Client, tmp_path: Path) -> None:
    releases.write(tmp_path / "elsewhere", {"icon.png": "secrets"})
    assert (await client.get("", "/img/icon.png")).body == b"picture"
    (client.mainsail / "img").rename(client.mainsail / "old")
    (client.mainsail / "img").symlink_to(tmp_path / "elsewhere")
    assert (await client.refused("", "/img/icon.png")).status == 404


async def test_hidden_files_and_pipes_are_not_served(client: Client) -> None:
    releases.write(client.mainsail, {".env": "secret", ".git/config": "secret"})
    os.mkfifo(client.mainsail / "img/pipe")
    for path in ("/.env", "/img/pipe"):
        assert (await client.refused("", path)).status == 404
    assert b"secret" not in (await client.get("", "/.git/config")).body


SEGMENTS = st.one_of(
    st.sampled_from(["..", ".", "", "secret.txt", "assets", "img", "mainsail", "%2e%2e", "%00", "~", "*", "C:"]),
    st.text(max_size=5),
)


def test_no_path_leads_out_of_the_directory(tmp_path: Path) -> None:
    client = Client(tmp_path)
    (tmp_path / "secret.txt").write_text("secret")

    async def ask(path: str) -> None:
        for prefix in ("", A, "/printers/a/fluidd"):
            with contextlib.suppress(HttpError):
                assert b"secret" not in (await client.get(prefix, "/" + path)).body

    @settings(max_examples=100, deadline=None)
    @given(st.lists(SEGMENTS, max_size=6).map("/".join))
    def any_path(path: str) -> None:
        trio.run(ask, path)

    any_path()


# -- releases that change, or are none -----------------------------------------------------------------------------


async def test_an_update_is_seen_with_the_next_page(client: Client) -> None:
    assert SCRIPT.encode() in (await client.get(A, "/")).body
    client.mainsail.rename(client.mainsail.with_name("old"))
    page = releases.PAGE.replace("AbCdEf12", "New00000")
    new = {path.replace("AbCdEf12", "New00000"): content for path, content in releases.MAINSAIL.items()}
    releases.write(client.mainsail, {**new, "index.html": page})
    assert b"/assets/index-New00000.js" in (await client.get(A, "/console")).body
    assert b"klipperRouterPrefix" in (await client.get(A, "/assets/index-New00000.js")).body
    assert (await client.refused(A, SCRIPT)).status == 404


async def test_an_edited_configuration_is_seen_at_once(client: Client) -> None:
    await client.get(A, "/")
    (client.mainsail / "config.json").write_text('{"defaultTheme": "klipper"}')
    config = (await client.get(A, "/config.json")).json()
    assert isinstance(config, dict)
    assert config["defaultTheme"] == "klipper"


async def test_while_a_release_is_missing_the_answer_says_so_and_comes_back_with_it(
    client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    away = client.mainsail.with_name("away")
    client.mainsail.rename(away)
    for path in ("/", SCRIPT):
        error = await client.refused(A, path)
        assert (error.status, dict(error.headers)["retry-after"]) == (503, "5")
        assert str(client.mainsail) in error.message
        assert "unpack a release of Mainsail" in error.message
    away.rename(client.mainsail)
    await trio.sleep(interface_module.READ_AGAIN_S)
    assert (await client.get(A, "/")).status == 200


def no_head(files: dict[str, str]) -> None:
    files["index.html"] = "<p>none</p>"


def no_page(files: dict[str, str]) -> None:
    del files["index.html"]


def huge_page(files: dict[str, str]) -> None:
    files["index.html"] += " " * release.MAX_PAGE_BYTES


@pytest.mark.parametrize(
    ("spoil", "message"), [(no_head, "has no <head>"), (no_page, "index.html"), (huge_page, "is too large")]
)
def test_a_directory_that_is_no_release_is_told_from_one(
    tmp_path: Path, spoil: Callable[[dict[str, str]], None], message: str
) -> None:
    files = dict(releases.MAINSAIL)
    spoil(files)
    with pytest.raises(release.ReleaseError, match=message):
        release.read(patches.MAINSAIL, releases.write(tmp_path / "ui", files))


async def test_an_unknown_release_is_shown_at_own_origins_only(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    (client.mainsail / "assets/helper-QwErTy56.js").write_text("var e=function(e){return u(e)}")
    with caplog.at_level(logging.INFO):
        await client.site.run()
    error = await client.refused(A, "/")
    assert error.status == 501
    assert "Mainsail v2.99.0 is unknown to this router: the modules it loads later: 0 places" in error.message
    assert "give the printer an origin of its own" in error.message
    assert (await client.get("", "/")).status == (await client.get("", SCRIPT)).status == 200
    told = [record.levelname for record in caplog.records if "the modules it loads later" in record.getMessage()]
    assert told == ["WARNING"]
    assert any("Fluidd v1.99.0 from" in record.getMessage() for record in caplog.records)


async def test_both_ways_to_write_a_release_are_served(client: Client) -> None:
    releases.write(client.mainsail, releases.MAINSAIL_IN_QUOTES)
    assert b'base: window.klipperRouterPrefix+"/"' in (await client.get(A, SCRIPT)).body


async def test_without_a_directory_the_answer_names_the_option(client: Client) -> None:
    site = UserInterfaces(mainsail=None, fluidd=client.fluidd)
    for ui, option in (("mainsail", "'mainsail: DIRECTORY'"), (None, "'mainsail: DIRECTORY' or 'fluidd: DIRECTORY'")):
        with pytest.raises(HttpError, match=option) as caught:
            await site.handle(HttpRequest("GET", "/", ui=ui))
        assert caught.value.status == 404
    await site.run()
    assert (await site.handle(HttpRequest("GET", "/", ui="fluidd"))).status == 200


# -- what is kept --------------------------------------------------------------------------------------------------


async def test_what_is_expensive_is_made_once_for_all_who_ask_at_the_same_time() -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return b"made"

    shelf = Shelf()
    taken: list[bytes] = []

    async def take() -> None:
        taken.append(await shelf.take("key", make))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(take)
    assert (taken, made) == ([b"made"] * 20, [1])


async def test_the_shelf_is_bounded_and_gives_up_the_least_used() -> None:
    made: list[int] = []

    def maker(key: int, size_bytes: int) -> Callable[[], bytes]:
        def make() -> bytes:
            made.append(key)
            return bytes(size_bytes)

        return make

    shelf = Shelf(max_bytes=1000)
    for key in range(8):
        await shelf.take(key, maker(key, 200))
        await shelf.take(0, maker(0, 200))
        assert shelf.size_bytes <= 1000
    assert made == list(range(8))
    await shelf.take(1, maker(1, 200))
    assert made[-1] == 1
    await shelf.take("large", maker(99, 251))
    await shelf.take("large", maker(99, 251))
    assert made[-2:] == [99, 99]


async def test_a_maker_that_fails_leaves_the_shelf_usable() -> None:
    def fail() -> bytes:
        raise release.Changed("a.js")

    shelf = Shelf()
    with pytest.raises(release.Changed):
        await shelf.take("key", fail)
    assert await shelf.take("key", lambda: b"made") == b"made"


# -- real releases -------------------------------------------------------------------------------------------------


def real(name: str) -> Any:
    variable = f"{name.upper()}_DIR"
    reason = f"{variable} is not set: the directory of a release of {name}"
    return pytest.param(name, marks=pytest.mark.skipif(variable not in os.environ, reason=reason))


@pytest.mark.parametrize("name", [real("mainsail"), real("fluidd")])
async def test_a_real_release_can_be_shown_below_a_prefix(name: str) -> None:
    directory = Path(os.environ[f"{name.upper()}_DIR"])
    site = UserInterfaces(mainsail=directory, fluidd=directory)
    interface = site.interfaces[name]
    await interface.load()
    assert interface.prefix_problem is None
    assert interface.version
