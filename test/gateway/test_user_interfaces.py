"""Mainsail and Fluidd in a browser, three printers open at once behind one gateway: each page drives its own printer.

Needs Chromium, the package moonraker, and releases of the UIs: MAINSAIL_DIR and FLUIDD_DIR are the directories. With
PICTURES set to a directory, what the pages look like is kept there. docs/web-uis.md says how to get all that.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import trio

from test.gateway import browser as browsers
from test.gateway.browser import Browser, Page
from test.gateway.world import NAMES, WITH_MOONRAKER, World, moonraker_is_installed, world

pytestmark = [
    pytest.mark.skipif(browsers.program() is None, reason="there is no chromium (CHROMIUM names one)"),
    pytest.mark.skipif(not moonraker_is_installed(), reason="the package moonraker is not installed"),
]


CLICK = """(() => {
  const named = (button) => button.innerText.trim().toLowerCase().replaceAll("_", " ") === "NAME";
  const button = [...document.querySelectorAll("button")].find(named);
  button?.click();
  return Boolean(button);
})()"""


def needs(ui: str) -> pytest.MarkDecorator:
    name = f"{ui.upper()}_DIR"
    return pytest.mark.skipif(name not in os.environ, reason=f"{name} is not set: the directory of a release of {ui}")


def directory(ui: str) -> Path:
    return Path(os.environ[f"{ui.upper()}_DIR"])


async def open_all(browser: Browser, addresses: Mapping[str, str], *, height: int = 900) -> dict[str, Page]:
    """Open every printer's page, all at the same time, each in its tab."""
    pages = {name: await browser.tab(height=height) for name in addresses}
    async with trio.open_nursery() as nursery:
        for name, page in pages.items():
            nursery.start_soon(page.go, addresses[name])
    return pages


async def shows_only_its_own_printer(name: str, page: Page, address: str) -> None:
    """What is to be seen is this printer's, and no socket ever went anywhere else."""
    await page.shows(f"Printer-{name}", f"{name} chamber", f"hello {name}")
    text = browsers.plain(await page.text())
    for other in set(NAMES) - {name}:
        assert f"{other} chamber" not in text
        assert f"hello {other}" not in text
    asked_only_for_what_is_below(page, address)


def asked_only_for_what_is_below(page: Page, address: str) -> None:
    """A page went nowhere but to its own printer and its own files, and got them all."""
    assert {socket.partition("?")[0] for socket in page.sockets} == {f"ws{address.removeprefix('http')}websocket"}
    requests = {request for request in page.requests if request.startswith("http")}
    assert {request for request in requests if not request.startswith(address)} == set()
    assert [failed for failed in page.failed if not is_expected(failed)] == []


def is_expected(failed: str) -> bool:
    """Mainsail asks whether there are a theme and notes of the user's, an older Fluidd for a key to show."""
    return failed.startswith("404 ") and ("/server/files/config/" in failed or failed.endswith("/access/api_key"))


async def keep_pictures(pages: Mapping[str, Page], title: str) -> None:
    if folder := os.environ.get("PICTURES"):
        await trio.Path(folder).mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            await page.picture(Path(folder) / f"{title}-{name}.png")


async def each_on_its_own_printer(browser: Browser, addresses: Mapping[str, str], title: str) -> dict[str, Page]:
    pages = await open_all(browser, addresses)
    for name, page in pages.items():
        await shows_only_its_own_printer(name, page, addresses[name])
    await keep_pictures(pages, title)
    return pages


async def drives(page: Page, printer: World, name: str, ui: str) -> None:
    """A click on the page runs a macro on this printer and on no other."""
    marks = {other: len(klippy.console.lines) for other, klippy in printer.fleet.klippys.items()}
    clicked = await page.evaluate(CLICK.replace("NAME", f"hello {name}"))
    assert clicked, f"{ui} shows no button for the macro of {name}"
    await printer.fleet.klippys[name].console.shows(f"hello from {name}", since=marks[name])
    for other in set(NAMES) - {name}:
        lines = printer.fleet.klippys[other].console.lines[marks[other] :]
        assert not any("hello" in line for line in lines)


def below_prefix(made: World, ui: str) -> dict[str, str]:
    return {name: f"{made.main_origin}/printers/{name}/{ui}/" for name in NAMES}


@pytest.mark.parametrize("ui", [pytest.param(ui, marks=needs(ui)) for ui in ("mainsail", "fluidd")])
async def test_three_printers_open_at_once_are_each_on_their_own(ui: str) -> None:
    async with world(ui, directory(ui)) as made, browsers.browser() as browser:
        addresses = below_prefix(made, ui)
        pages = await each_on_its_own_printer(browser, addresses, f"{ui}-prefix")
        for name, page in pages.items():
            await drives(page, made, name, ui)
        # One after the other in the same tab, and back: what one left in the browser must not lead to it again.
        tab = await browser.tab()
        for name in (*NAMES, *reversed(NAMES)):
            await tab.go("about:blank")  # the page before asks no more
            tab.sockets.clear()
            tab.requests.clear()
            await tab.go(addresses[name])
            await shows_only_its_own_printer(name, tab, addresses[name])
        own = {name: f"{made.origin(name)}/" for name in NAMES}
        pages = await each_on_its_own_printer(browser, own, f"{ui}-origin")
        for name, page in pages.items():
            await drives(page, made, name, ui)


# What a page shows, and its path; the 3D viewer needs a graphics card and is left out.
PAGES = {
    "mainsail": {"console": "console", "heightmap": "heightmap", "history": "statistics", "config": "config files"},
    "fluidd": {"#/console": "send", "#/jobs": "no files found", "#/settings": "thermal presets"},
}


@pytest.mark.parametrize("ui", [pytest.param(ui, marks=needs(ui)) for ui in PAGES])
async def test_every_page_can_be_opened_directly_and_reloaded(ui: str) -> None:
    async with world(ui, directory(ui)) as made, browsers.browser() as browser:
        for base in (f"{made.main_origin}/printers/afc/{ui}/", f"{made.origin('afc')}/"):
            for path, shown in PAGES[ui].items():
                page = await browser.tab()
                await page.go(base + path)
                await page.shows("Printer-afc", shown)
                await page.command("Page.reload")
                await page.shows("Printer-afc", shown)
                assert path in await page.evaluate("location.href")
                asked_only_for_what_is_below(page, base)
                await page.close()


COLOURS = {"main": "red", "afc": "lime", "led": "blue"}
# A picture of one colour as JPEG, made by the browser; and which colour the camera's picture on a page has.
PAINT = """(() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 48});
  const context = canvas.getContext("2d");
  context.fillStyle = "COLOUR";
  context.fillRect(0, 0, 64, 48);
  return canvas.toDataURL("image/jpeg", 0.9).split(",")[1];
})()"""
LOOK = """(() => {
  const named = {"1,0,0": "red", "0,1,0": "lime", "0,0,1": "blue"};
  const seen = [];
  for (const picture of document.querySelectorAll("img, canvas")) {
    if ((picture.naturalWidth ?? picture.width) !== 64) continue;
    const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 48});
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    seen.push(named[[...context.getImageData(32, 24, 1, 1).data.slice(0, 3)].map((part) => Math.round(part / 255))]);
  }
  return seen;
})()"""


async def stream_pictures(picture: bytes, stream: trio.SocketStream) -> None:
    """A camera, as mjpg-streamer speaks: answers any request with pictures for ever."""
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(picture), picture)
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n"
    with contextlib.suppress(trio.BrokenResourceError):
        async with stream:
            await stream.receive_some()
            await stream.send_all(head)
            while True:
                await stream.send_all(part)
                await trio.sleep(0.1)


@pytest.mark.parametrize("ui", [pytest.param(ui, marks=needs(ui)) for ui in PAGES])
async def test_each_page_shows_its_own_camera(ui: str) -> None:
    """Two that Moonraker knows, shown by a worker of the UI's; one that the gateway's configuration names."""
    async with trio.open_nursery() as nursery, browsers.browser() as browser:
        painter = await browser.tab()
        cameras = {}
        for name, colour in COLOURS.items():
            picture = base64.b64decode(await painter.evaluate(PAINT.replace("COLOUR", colour)))
            serve = partial(trio.serve_tcp, partial(stream_pictures, picture), 0, host="127.0.0.1")
            listener = (await nursery.start(serve))[0]
            cameras[name] = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/?action=stream"
        async with world(ui, directory(ui), {"led": cameras["led"]}) as made:
            for name in WITH_MOONRAKER:
                webcam = {"name": "nozzle", "service": "mjpegstreamer", "stream_url": cameras[name]}
                await made.ask(f"/printers/{name}/server/webcams/item", webcam)
            for title, addresses in (
                (f"{ui}-camera-prefix", below_prefix(made, ui)),
                (f"{ui}-camera-origin", {name: f"{made.origin(name)}/" for name in NAMES}),
            ):
                pages = await open_all(browser, addresses, height=2500)  # so that the camera is in sight
                for name, page in pages.items():
                    await page.shows(f"Printer-{name}")
                    await page.command("Page.bringToFront")  # Fluidd rests in a tab that nobody sees
                    await page.until(LOOK, [COLOURS[name]])
                    await keep_pictures({name: page}, title)
                for page in pages.values():
                    await page.close()
        nursery.cancel_scope.cancel()


@needs("mainsail")
async def test_no_service_worker_stays_behind() -> None:
    async with world("mainsail", directory("mainsail")) as made, browsers.browser() as browser:
        page = await browser.tab()
        await page.go(f"{made.main_origin}/printers/main/mainsail/")
        await page.shows("Printer-main")
        await page.go(f"{made.main_origin}/printers/main/mainsail/release_info.json")
        await page.shows("version")
        # As an earlier visit would have: this page is no UI, it can register one.
        count = "navigator.serviceWorker.getRegistrations().then((all) => all.length)"
        assert await page.evaluate(count) == 0
        register = "navigator.serviceWorker.register('/printers/main/mainsail/sw.js').then((r) => r.scope)"
        assert await page.evaluate(register) == f"{made.main_origin}/printers/main/mainsail/"
        with trio.fail_after(browsers.SHOWN_WITHIN_S):
            while await page.evaluate(count):  # noqa: ASYNC110 - only the browser knows
                await trio.sleep(browsers.LOOK_AGAIN_S)
