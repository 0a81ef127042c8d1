"""A headless Chromium, driven over its DevTools protocol: pages, what is on them, which WebSockets they opened.

Needs nothing but the browser: the protocol is JSON over a WebSocket. CHROMIUM names the program where it is not found
by itself.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage

START_WITHIN_S = 60.0
# A page of Mainsail's takes seconds to its first picture on a busy machine with two cores.
SHOWN_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.1

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def program() -> str | None:
    """The browser; None: there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def plain(text: str) -> str:
    """Mainsail shows a macro MY_MACRO as "My macro" or "MY MACRO", Fluidd as it is; both make names of sensors nice."""
    return text.lower().replace("_", " ")


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.sockets: list[str] = []
        """Addresses of the WebSockets it opened, in order."""
        self.failed: list[str] = []
        """Requests that were answered with an error, ``404 http://…``, or not at all."""
        self.exceptions: list[str] = []
        """What no script caught. The UIs have some of their own."""
        self.requests: list[str] = []
        """Addresses it asked for."""

    async def command(self, method: str, **params: Any) -> Any:
        return await self._browser.command(method, self._session, **params)

    async def go(self, url: str) -> None:
        """Open an address; returns when the browser has begun to show it."""
        result = await self.command("Page.navigate", url=url)
        assert not result.get("errorText"), f"{url}: {result['errorText']}"

    async def close(self) -> None:
        await self.command("Page.close")

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; raises RuntimeError with what it threw."""
        answer = await self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        return answer["result"].get("value")

    async def text(self) -> str:
        text = await self.evaluate("document.body ? document.body.innerText : ''")
        assert isinstance(text, str)
        return text

    async def shows(self, *texts: str) -> None:
        """Wait until all these texts are on the page; see `plain`."""
        missing = list(texts)
        with trio.move_on_after(SHOWN_WITHIN_S):
            while missing:
                with contextlib.suppress(RuntimeError):  # between two documents there is none
                    shown = plain(await self.text())
                    missing = [text for text in texts if plain(text) not in shown]
                if missing:
                    await trio.sleep(LOOK_AGAIN_S)
            return
        raise AssertionError(
            f"the page lacks {missing}; it shows {await self.text()!r}; {self.failed}, {self.exceptions}"
        )

    async def until(self, script: str, wanted: Any) -> None:
        """Wait until a JavaScript expression has this value."""
        value: Any = None
        with trio.move_on_after(SHOWN_WITHIN_S):
            while (value := await self.evaluate(script)) != wanted:  # noqa: ASYNC110 - only the page knows
                await trio.sleep(LOOK_AGAIN_S)
            return
        raise AssertionError(f"{value!r} where {wanted!r} was expected; {self.failed}, {self.exceptions}")

    async def picture(self, file: Path) -> None:
        """Save what the page looks like."""
        answer = await self.command("Page.captureScreenshot", format="png")
        await trio.Path(file).write_bytes(base64.b64decode(answer["data"]))

    def take(self, method: str, params: dict[str, Any]) -> None:
        """An event of the tab."""
        match method:
            case "Network.webSocketCreated":
                self.sockets.append(params["url"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.responseReceived" if params["response"]["status"] >= 400:
                self.failed.append(f"{params['response']['status']} {params['response']['url']}")
            case "Network.loadingFailed" if not params.get("canceled"):
                self.failed.append(f"{params['errorText']} ({params['type']})")
            case "Runtime.exceptionThrown":
                self.exceptions.append(json.dumps(params["exceptionDetails"])[:1500])


class Browser:
    """One browser with a profile of its own; all its tabs share cookies, storage and service workers."""

    def __init__(self, stream: trio.SocketStream, host: str, target: str) -> None:
        self._stream = stream
        self._websocket = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._request = Request(host, target)
        self._ids = itertools.count(1)
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._text = ""
        self._sending = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Speak with the browser until it is gone."""
        await self._send(self._request)
        while data := await self._stream.receive_some():
            self._websocket.receive_data(bytes(data))
            for event in self._websocket.events():
                match event:
                    case AcceptConnection():
                        task_status.started()
                    case TextMessage() | BytesMessage():
                        self._text += str(event.data)
                        if event.message_finished:
                            self._take(json.loads(self._text))
                            self._text = ""
                    case Ping():
                        await self._send(event.response())
                    case CloseConnection():
                        return

    async def _send(self, event: wsproto.events.Event) -> None:
        async with self._sending:
            await self._stream.send_all(self._websocket.send(event))

    def _take(self, message: dict[str, Any]) -> None:
        if waiting := self._waiting.pop(message.get("id", 0), None):
            waiting.send_nowait(message)
        elif page := self._pages.get(message.get("sessionId", "")):
            page.take(message["method"], message["params"])

    async def command(self, method: str, session: str | None = None, **params: Any) -> Any:
        """One call of the protocol; raises RuntimeError for its errors."""
        id_ = next(self._ids)
        message = {"id": id_, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._waiting[id_], answers = trio.open_memory_channel[dict[str, Any]](1)
        await self._send(TextMessage(json.dumps(message)))
        answer = await answers.receive()
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def tab(self, *, width: int = 1400, height: int = 900) -> Page:
        """A new, empty tab."""
        target = (await self.command("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.command("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Network", "Runtime"):
            await page.command(f"{domain}.enable")
        await page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        return page


class Process:
    """The browser's process, with a profile in a folder of its own."""

    def __init__(self, profile: Path) -> None:
        name = program()
        assert name is not None
        self._log = profile / "log"
        self._port_file = profile / "DevToolsActivePort"
        command = [name, *FLAGS, f"--user-data-dir={profile}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "HOME": str(profile)}, start_new_session=True
            )

    def port_and_target(self) -> tuple[int, str] | None:
        """Where it can be spoken with; None: not yet."""
        assert self._process.poll() is None, self._log.read_text()
        lines = self._port_file.read_text().splitlines() if self._port_file.exists() else []
        return (int(lines[0]), lines[1]) if len(lines) == 2 else None

    def stop(self) -> None:
        """It and its children."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                return


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser that nobody has used before; it and what it kept are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="krbrowser", ignore_cleanup_errors=True) as profile:
        process = Process(Path(profile))
        try:
            with trio.fail_after(START_WITHIN_S):
                while (place := process.port_and_target()) is None:  # noqa: ASYNC110 - another process
                    await trio.sleep(LOOK_AGAIN_S)
            port, target = place
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
                made = Browser(stream, f"127.0.0.1:{port}", target)
                await nursery.start(made.run)
                yield made
                nursery.cancel_scope.cancel()
        finally:
            process.stop()
