"""Cameras in Mainsail and Fluidd behind one gateway: each printer's page shows that printer's camera, and only it.

Needs what `test_user_interfaces` needs. The toy cameras send real JPEGs of different sizes, so that a page can say
which one it shows.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
import trio

from test.gateway import browser as browsers
from test.gateway.browser import Page
from test.gateway.test_user_interfaces import directory, needs
from test.gateway.toy_camera import ToyCamera, page
from test.gateway.world import WITH_MOONRAKER, moonraker_is_installed, world

pytestmark = [
    pytest.mark.skipif(browsers.program() is None, reason="there is no chromium (CHROMIUM names one)"),
    pytest.mark.skipif(not moonraker_is_installed(), reason="the package moonraker is not installed"),
]

SHOWN_WITHIN_S = 60.0
FRAMES_EVERY_S = 0.1

# One colour each; 32 x 24 and 48 x 24 pixels.
PICTURES = {
    32: base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62r"
        "Z4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
        "pKT/wAARCAAYACADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFgEBAQEAAAAA"
        "AAAAAAAAAAAAAAQF/8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8AhATtgAAAAAB//9k="
    ),
    48: base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62r"
        "Z4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
        "pKT/wAARCAAYADADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAX/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFgEBAQEAAAAA"
        "AAAAAAAAAAAAAAMF/8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8AkANhMAAAAAAAAAB//9k="
    ),
}
WIDTHS = dict(zip(WITH_MOONRAKER, PICTURES, strict=True))

# Mainsail draws MJPEG on a canvas, everything else is an image.
WIDTHS_SHOWN = """
[...document.images].map((image) => image.naturalWidth)
  .concat([...document.querySelectorAll("canvas")].map((canvas) => canvas.width))
  .filter((width) => [32, 48].includes(width))
"""


async def film(camera: ToyCamera, picture: bytes) -> None:
    """Send it again and again."""
    while True:
        await camera.give(picture, patient=True)
        await trio.sleep(FRAMES_EVERY_S)


async def shows_a_camera(tab: Page, width: int) -> None:
    with trio.fail_after(SHOWN_WITHIN_S):
        while set(await tab.evaluate(WIDTHS_SHOWN)) != {width}:  # noqa: ASYNC110 (a page tells of nothing)
            await trio.sleep(FRAMES_EVERY_S)


@pytest.mark.parametrize("service", ["mjpegstreamer", "mjpegstreamer-adaptive"])
@pytest.mark.parametrize("ui", [pytest.param(ui, marks=needs(ui)) for ui in ("mainsail", "fluidd")])
async def test_each_page_shows_the_camera_of_its_printer(ui: str, service: str) -> None:
    async with (
        ToyCamera().running() as main,
        ToyCamera().running() as afc,
        world(ui, directory(ui)) as made,
        browsers.browser() as browser,
        trio.open_nursery() as nursery,
    ):
        cameras = dict(zip(WITH_MOONRAKER, (main, afc), strict=True))
        for name, camera in cameras.items():
            assert isinstance(camera, ToyCamera)
            picture = PICTURES[WIDTHS[name]]
            camera.pages[b"/shot"] = page(picture, b"image/jpeg")
            nursery.start_soon(film, camera, picture)
            webcam = {
                "name": "nozzle",
                "service": service,
                "stream_url": f"{camera.url}/?action=stream",
                "snapshot_url": f"{camera.url}/shot",
            }
            await made.ask(f"/printers/{name}/server/webcams/item", webcam)
        for kind, base in (
            ("prefix", {name: f"{made.main_origin}/printers/{name}/{ui}/" for name in cameras}),
            ("origin", {name: f"{made.origin(name)}/" for name in cameras}),
        ):
            for name, address in base.items():
                tab = await browser.tab()
                await tab.go(address)
                await shows_a_camera(tab, WIDTHS[name])
                if folder := os.environ.get("PICTURES"):
                    await trio.Path(folder).mkdir(parents=True, exist_ok=True)
                    await tab.picture(Path(folder) / f"camera-{ui}-{service}-{kind}-{name}.png")
                await tab.go("about:blank")
        for camera in cameras.values():
            assert isinstance(camera, ToyCamera)
            assert camera.streams <= 1
            # No browser was led to the camera itself.
            assert camera.received.count(b"GET ") == camera.received.count(b"User-Agent: klipper-router") > 0
        nursery.cancel_scope.cancel()
