"""The dashboard in a real browser: it shows the printers, asks before it acts, and fits a phone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from test.gateway.browser import Page, browser, program
from test.gateway.page_rig import HOTEND, KLIPPY, Rig, rig

pytestmark = pytest.mark.skipif(program() is None, reason="no chromium here: apt install chromium, or set CHROMIUM")

CONFIG = """
trusted_proxies: 127.0.0.1
[klippy main]
sock: main.sock
moonraker: none
[klippy led]
sock: led.sock
[camera main nozzle]
url: http://127.0.0.1:8080/?action=stream
"""
WITHIN_S = 40.0


async def until(page: Page, script: str) -> Any:
    """Wait until an expression is true on the page."""
    value = None
    with trio.move_on_after(WITHIN_S):
        while not (value := await page.evaluate(script)):  # noqa: ASYNC110 - another process
            await trio.sleep(0.05)
        return value
    raise AssertionError(f"never true: {script}; errors: {page.exceptions}; the page shows {await page.text()!r}")


async def press(page: Page, label: str) -> None:
    await until(page, f"document.querySelector('button[aria-label=\"{label}\"]') !== null")
    await page.evaluate(f"document.querySelector('button[aria-label=\"{label}\"]').click()")


def card(printer: str, selector: str = "") -> str:
    return f"document.querySelector('[data-printer={printer}] {selector}')"


async def start_print(made: Rig) -> None:
    moves = "\n".join(f"G1 X{number % 2 * 50} E{number} F600" for number in range(400))
    (made.folder / "part.gcode").write_text(f"SET_KINEMATIC_POSITION X=0 Y=0 Z=0\n{moves}\n")
    await made.klippys["main"].run_gcode("SDCARD_PRINT_FILE FILENAME=part.gcode")


async def opened(page: Page, made: Rig) -> None:
    await page.go(f"{made.origin}/")
    await until(page, "document.querySelector('#connection')?.dataset.state === 'open'")


async def test_the_dashboard_shows_printers_and_acts_only_when_it_is_confirmed() -> None:
    async with rig(CONFIG, {"main": KLIPPY + HOTEND}) as made, browser() as chromium:
        page = await chromium.tab(width=390, height=844)
        await start_print(made)
        await opened(page, made)
        await page.shows("main", "Printing", "part.gcode", "extruder", "led", "Disconnected")
        await until(page, f"{card('main', '.camera img')}?.naturalWidth > 0")

        await press(page, "Emergency stop: main")
        assert await until(page, "document.querySelector('#confirm').open")
        assert await page.evaluate("document.activeElement.id") == "confirm-no"
        await page.evaluate("document.querySelector('#confirm-no').click()")
        await press(page, "Pause: main")
        await page.evaluate("document.querySelector('#confirm-yes').click()")
        await until(page, f"{card('main')}.dataset.print === 'paused'")
        assert made.klippys["main"].state == "ready"

        await press(page, "Emergency stop: main")
        await page.evaluate("document.querySelector('#confirm-yes').click()")
        await made.klippys["main"].wait_state("shutdown")
        await until(page, f"{card('main')}.dataset.state === 'shutdown'")
        assert await page.evaluate(f"{card('main', '.message')}.textContent.length > 10")

        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        unnamed = (
            "[...document.querySelectorAll('button, a')].filter(e => !(e.ariaLabel || e.textContent.trim())).length"
        )
        assert await page.evaluate(unnamed) == 0
        assert page.exceptions == []
        elsewhere = [url for url in page.requests if not url.startswith((made.origin, "blob:"))]
        assert (elsewhere, page.sockets) == ([], [f"{made.origin.replace('http', 'ws')}/router/websocket"])


async def test_a_printer_is_added_on_the_page_and_a_mistake_is_explained() -> None:
    async with rig(CONFIG) as made, browser() as chromium:
        page = await chromium.tab()
        await opened(page, made)
        await page.evaluate("document.querySelector('#manage').click()")
        await page.shows("Printers and cameras", "from the configuration")
        fill = """(sock) => {
            document.querySelector('#editor [name=name]').value = 'mmu';
            document.querySelector('#editor [name=sock]').value = sock;
            document.querySelector('#editor .primary').click();
        }"""
        await page.evaluate("document.querySelector('#manager-add').click()")
        await page.evaluate(f"({fill})('main.sock')")
        await page.shows("which is the sock of [klippy main]: give each its own")
        await page.evaluate(f"({fill})('mmu.sock')")
        await until(page, f"{card('mmu')} !== null")
        assert list(made.router.printers) == ["main", "led", "mmu"]
        await press(page, "Remove mmu")
        await page.evaluate("document.querySelector('#confirm-yes').click()")
        await until(page, f"{card('mmu')} === null")


async def test_texts_of_printers_are_shown_as_text() -> None:
    async with rig(CONFIG, {"main": KLIPPY}) as made, browser() as chromium:
        page = await chromium.tab()
        await opened(page, made)
        await made.klippys["main"].run_gcode("M117 <img src=x onerror=alert(1)>")
        made.klippys["main"].invoke_shutdown("<b>it's</b> broken & burnt")
        await page.shows("<b>it's</b> broken & burnt")
        assert page.exceptions == []


@contextlib.asynccontextmanager
async def proxy(origin: str, ip: str) -> AsyncIterator[str]:
    """A proxy on this machine, which says of every request that it is from ``ip``; yields its origin."""
    port = int(origin.rpartition(":")[2])

    async def pass_on(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:

            async def answers() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    async for data in server:
                        await client.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(answers)
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in client:
                    await server.send_all(bytes(data).replace(b"\r\nHost:", f"\r\nX-Real-IP: {ip}\r\nHost:".encode()))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, pass_on, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_a_stranger_is_asked_for_the_key_and_then_sees_everything() -> None:
    async with (
        rig(CONFIG, {"main": KLIPPY + HOTEND}) as made,
        proxy(made.origin, "203.0.113.9") as origin,
        browser() as chromium,
    ):
        page = await chromium.tab()
        await page.go(f"{origin}/")
        give = """(key) => {
            document.querySelector('#key-input').value = key;
            document.querySelector('#key-form button').click();
        }"""
        await until(page, "document.querySelector('#key')?.open")
        assert "main" not in await page.text()
        await page.evaluate(f"({give})('wrong')")
        await page.shows("That is not the key.")
        await page.evaluate(f"({give})('{made.access.api_key()}')")
        await page.shows("Standby", "extruder")
        await until(page, f"{card('main', '.camera img')}?.naturalWidth > 0")


async def test_it_comes_back_when_the_connection_was_lost() -> None:
    async with rig(CONFIG, {"main": KLIPPY}) as made, browser() as chromium:
        page = await chromium.tab()
        await opened(page, made)
        for connection in list(made.server.connections):
            connection.scope.cancel()
        await until(page, "document.body.classList.contains('stale')")
        await until(page, "document.querySelector('#connection').dataset.state === 'open'")
        assert len(page.sockets) == 2
        await made.klippys["main"].run_gcode("M117 back again")
        await page.shows("back again")
