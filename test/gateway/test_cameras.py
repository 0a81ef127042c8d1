"""Cameras through the gateway, on real sockets: toy cameras at one end, clients that read bytes at the other."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from klipper_router.errors import ConfigError
from klipper_router.gateway.cameras.address import CameraUrl
from klipper_router.gateway.cameras.discovery import PROBE_S, STREAMERS, discover
from klipper_router.gateway.cameras.mjpeg import MAX_FRAME_BYTES
from klipper_router.gateway.cameras.registry import PrinterCameras
from klipper_router.gateway.cameras.site import CameraSite
from test.gateway.rig import WITHIN_S, Rig, Toy, Wire, free_port, running
from test.gateway.toy_camera import DIALECTS, ToyCamera, jpeg, page

PATH = "/printers/main/cameras/nozzle"


class Stage:
    """A gateway with one camera."""

    def __init__(self, rig: Rig, camera: ToyCamera) -> None:
        self.rig = rig
        self.camera = camera

    @contextlib.asynccontextmanager
    async def watching(self, path: str = PATH + "/stream") -> AsyncIterator[View]:
        async with self.rig.client() as wire:
            yield View(wire, path, self.rig.host)


class View:
    """A client that watches."""

    def __init__(self, wire: Wire, path: str, host: str) -> None:
        self.wire = wire
        self.request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    async def begin(self) -> bytes:
        await self.wire.send(self.request)
        with trio.fail_after(WITHIN_S):
            return await self.wire.head()

    async def picture(self) -> bytes:
        """The next part's content, as a reader that knows only RFC 2046 sees it."""
        with trio.fail_after(WITHIN_S):
            while (match := re.match(rb"(?:\r\n)?--frame\r\n((?:[^\r\n]+\r\n)+)\r\n", self.wire.buffer)) is None:
                assert await self.wire.more()
            length = re.search(rb"Content-Length: (\d+)\r\n", match[1])
            assert length is not None
            self.wire.buffer = self.wire.buffer[match.end() :]
            return await self.wire.exactly(int(length[1]))


def configuration(url: str, *, more: str = "") -> str:
    return f"""
        [gateway]
        listen: 127.0.0.1:0
        [klippy main]
        moonraker: none
        [camera main nozzle]
        url: {url}
        {more}
        """


@contextlib.asynccontextmanager
async def stage(folder: Path, camera: ToyCamera, *, more: str = "") -> AsyncIterator[Stage]:
    async with camera.running():
        text = configuration(f"{camera.url}/?action=stream", more=more.replace("CAMERA", camera.url))
        async with running(folder, text) as rig:
            yield Stage(rig, camera)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_camera_of_every_dialect_is_shown(tmp_path: Path, dialect: str) -> None:
    async with (
        stage(tmp_path, ToyCamera(DIALECTS[dialect])) as it,
        it.watching() as view,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(it.camera.give, jpeg(1, 200_000))
        if dialect == "spyglass":  # its parts have a length, so the first is complete without a second
            assert b"Content-Length" in it.camera.dialect.part(b"")
        head = await view.begin()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: multipart/x-mixed-replace;boundary=frame\r\n" in head
        assert b"set-cookie" not in head.lower()
        assert b"chunked" not in head
        assert await view.picture() == jpeg(1, 200_000)
        for number in range(2, 5):
            await it.camera.give(jpeg(number))
            assert await view.picture() == jpeg(number)
        assert it.camera.asked == [b"/?action=stream"]


async def test_twenty_viewers_cost_one_upstream_stream(tmp_path: Path) -> None:
    async with stage(tmp_path, ToyCamera()) as it, contextlib.AsyncExitStack() as stack:
        views = [await stack.enter_async_context(it.watching()) for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for view in views:
                nursery.start_soon(view.begin)
            await it.camera.until(lambda: it.camera.streams == 1)
            await it.camera.give(jpeg("all"))
        for view in views:
            assert await view.picture() == jpeg("all")
        assert it.camera.asked == [b"/?action=stream"]


async def test_a_viewer_that_does_not_read_skips_frames_and_holds_up_nobody(tmp_path: Path) -> None:
    async with stage(tmp_path, ToyCamera()) as it, it.watching() as fast:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(("127.0.0.1", it.rig.port))
            sock.setblocking(False)
            slow = View(
                Wire(trio.SocketStream(trio.socket.from_stdlib_socket(sock.dup()))), PATH + "/stream", it.rig.host
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow.begin)
                nursery.start_soon(fast.begin)
                await it.camera.give(jpeg(0, 100_000))
            for number in range(1, 80):
                await it.camera.give(jpeg(number, 100_000))
                while await fast.picture() != jpeg(number, 100_000):
                    pass
            seen = [await slow.picture()]
            while seen[-1] != jpeg(79, 100_000):
                seen.append(await slow.picture())
            await slow.wire.stream.aclose()
        assert len(seen) < 20
        assert seen[0] == jpeg(0, 100_000)


async def test_viewers_keep_their_response_when_the_camera_dies_and_get_frames_again(tmp_path: Path) -> None:
    async with stage(tmp_path, ToyCamera()) as it, it.watching() as view, trio.open_nursery() as nursery:
        nursery.start_soon(it.camera.give, jpeg("before"))
        await view.begin()
        assert await view.picture() == jpeg("before")
        await it.camera.hang_up()
        await it.camera.give(jpeg("after"))
        assert await view.picture() == jpeg("after")
        assert len(it.camera.wires) == 2


async def test_a_vanished_viewer_frees_its_place(tmp_path: Path) -> None:
    async with stage(tmp_path, ToyCamera()) as it:
        async with it.watching() as view, trio.open_nursery() as nursery:
            nursery.start_soon(it.camera.give, jpeg("one"))
            await view.begin()
            camera = await cameras_of(it.rig).find("nozzle")
            assert camera is not None
            feed = camera.feed
            assert feed.viewers == 1
        with trio.fail_after(WITHIN_S):
            while feed.viewers:  # noqa: ASYNC110 (nothing tells of it)
                await trio.sleep(0.05)
        assert feed.running


def cameras_of(rig: Rig) -> PrinterCameras:
    site = rig.gateway.sites.cameras
    assert isinstance(site, CameraSite)
    cameras = site.of("main")
    assert cameras is not None
    return cameras


async def test_a_huge_frame_is_refused(tmp_path: Path) -> None:
    camera = ToyCamera(
        DIALECTS["ustreamer"]._replace(part=lambda picture: b"Content-Length: 9000000\r\n\r\n" + picture)
    )
    async with stage(tmp_path, camera) as it, trio.open_nursery() as nursery:
        nursery.start_soon(camera.give, b"\xff\xd8")
        status, _, body = await it.rig.get(PATH + "/stream")
        assert status == 502
        assert f"a frame of 9000000 bytes, over the limit of {MAX_FRAME_BYTES}" in body.decode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (page(b"", status=b"404 Not Found"), "answers with 404 Not Found"),
        (page(b"", status=b"401 Unauthorized"), "wants a login (401)"),
        (page(b"", status=b"302 Found", more=b"Location: http://else/\r\n"), "redirects to http://else/"),
        (page(b"<html>"), "answers with 'text/html', which is no MJPEG stream"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n\r\nnonsense\r\n", "no multipart"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the head of the response is malformed"),
        (b"", "what is no HTTP response"),
    ],
)
async def test_the_viewer_is_told_what_is_wrong_with_the_camera(tmp_path: Path, answer: bytes, why: str) -> None:
    camera = ToyCamera()
    camera.pages[b"/"] = answer
    async with stage(tmp_path, camera) as it:
        status, _, body = await it.rig.get(PATH + "/stream")
        assert status == 502
        message = json.loads(body)["error"]["message"]
        assert message.startswith("camera nozzle: http://127.0.0.1:")
        assert why in message


async def test_an_absent_camera_is_a_bad_gateway(tmp_path: Path) -> None:
    async with running(tmp_path, configuration(f"http://127.0.0.1:{free_port()}/")) as rig:
        status, _, body = await rig.get(PATH + "/stream")
        assert (status, b"cannot be reached: " in body) == (502, True)
        status, _, body = await rig.get(PATH + "/snapshot")
        assert (status, b"cannot be reached: " in body) == (502, True)


async def test_an_address_whose_host_is_no_name_is_a_bad_gateway(tmp_path: Path) -> None:
    async with running(tmp_path, configuration("http://prin..ter/")) as rig:
        for what in ("stream", "snapshot"):
            status, _, body = await rig.get(f"{PATH}/{what}")
            assert (status, b"'prin..ter' is no host name" in body) == (502, True)


async def test_a_login_in_the_address_is_sent_and_never_shown(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/"] = page(b"", status=b"401 Unauthorized")
    async with camera.running():
        async with running(tmp_path, configuration(f"http://user:secret@127.0.0.1:{camera.port}/")) as rig:
            _, _, body = await rig.get(PATH + "/stream")
        assert b"Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in camera.received
        assert b"secret" not in body


async def test_a_snapshot_of_a_camera_nobody_watches_is_fetched_once_for_all(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/shot"] = page(jpeg("shot"), b"image/jpeg")
    async with stage(tmp_path, camera, more="snapshot_url: CAMERA/shot?now") as it:
        answers = []

        async def ask() -> None:
            answers.append(await it.rig.get(PATH + "/snapshot"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert [(status, fields.get("content-type"), body) for status, fields, body in answers] == [
            (200, "image/jpeg", jpeg("shot"))
        ] * 2
        assert answers[0][1].get("cache-control") == "no-store"
        assert camera.asked == [b"/shot?now"]


async def test_a_snapshot_of_a_camera_somebody_watches_is_its_newest_frame(tmp_path: Path) -> None:
    async with stage(tmp_path, ToyCamera()) as it, it.watching() as view, trio.open_nursery() as nursery:
        nursery.start_soon(it.camera.give, jpeg("newest"))
        await view.begin()
        assert await view.picture() == jpeg("newest")
        for _ in range(6):
            status, _, body = await it.rig.get(PATH + "/snapshot?bypassCache=1")
            assert (status, body) == (200, jpeg("newest"))
        assert it.camera.asked == [b"/?action=stream"]


async def test_who_asks_for_many_snapshots_gets_them_from_the_stream(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/shot"] = page(jpeg("shot"), b"image/jpeg")
    async with stage(tmp_path, camera, more="snapshot_url: CAMERA/shot") as it, trio.open_nursery() as nursery:
        for _ in range(2):
            assert (await it.rig.get(PATH + "/snapshot"))[2] == jpeg("shot")
        nursery.start_soon(camera.give, jpeg("frame"))
        for _ in range(5):
            assert (await it.rig.get(PATH + "/snapshot"))[2] == jpeg("frame")
        assert camera.asked == [b"/shot", b"/?action=stream"]


async def test_a_snapshot_without_an_address_is_the_first_frame_of_the_stream(tmp_path: Path) -> None:
    camera = ToyCamera()
    async with camera.running(), running(tmp_path, configuration(f"{camera.url}/video.mjpg")) as rig:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(camera.give, jpeg("first"))
            assert (await rig.get(PATH + "/snapshot"))[2] == jpeg("first")
        await camera.until(lambda: camera.open == 0)


@pytest.mark.parametrize(
    "path", ["/printers/main/cameras/", "/printers/main/cameras/bed/stream", PATH, PATH + "/x", PATH + "/"]
)
async def test_what_is_no_camera_is_not_found(tmp_path: Path, path: str) -> None:
    async with stage(tmp_path, ToyCamera()) as it:
        status, _, _ = await it.rig.get(path)
        assert status == 404
        assert it.camera.asked == []


async def test_a_picture_can_only_be_read(tmp_path: Path) -> None:
    async with stage(tmp_path, ToyCamera()) as it:
        status, fields, _ = await it.rig.get(
            PATH + "/stream", "Content-Type: application/json", method="POST", body=b"{}"
        )
        assert (status, fields.get("allow")) == (405, "GET, HEAD")


async def test_an_address_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"router\.cfg:\d+: \[camera main nozzle\] 'rtsp://x' is no camera's address"):
        async with running(tmp_path, configuration("rtsp://x")):
            pass


async def test_two_cameras_of_one_name_in_addresses_are_refused_at_the_start(tmp_path: Path) -> None:
    text = configuration("http://127.0.0.1:8080/stream")
    for name in ("a b", "a-b"):
        text += f"\n[camera main {name}]\nurl: http://127.0.0.1:8080/stream\n"
    with pytest.raises(ConfigError, match=r"\[camera main a-b\] and \[camera main a b\] are both 'a-b' in addresses"):
        async with running(tmp_path, text):
            pass


# -- what is passed through ----------------------------------------------------------------------------------------


GO2RTC = "service: webrtc-go2rtc"
SLUG = "/printers/main/cameras/rtc"


@contextlib.asynccontextmanager
async def passing(folder: Path, camera: Toy, path: str, service: str = "webrtc-go2rtc") -> AsyncIterator[Rig]:
    async with camera.running():
        url = f"http://127.0.0.1:{camera.port}{path}"
        text = configuration("http://127.0.0.1:1/", more=f"[camera main rtc]\nurl: {url}\nservice: {service}")
        async with running(folder, text) as rig:
            yield rig


async def test_a_foreign_page_is_in_a_sandbox_and_its_cookies_stay_out(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/go/stream.html"] = page(b"<html>", more=b"Set-Cookie: a=b\r\nX-Kept: yes\r\n")
    async with passing(tmp_path, camera, "/go/stream.html?src=cam") as rig:
        status, fields, body = await rig.get(
            f"{SLUG}/stream.html?src=c%20m&x=%2F", "Cookie: session=1", "X-Api-Key: 5", "Authorization: Bearer t"
        )
        assert (status, body, fields.get("x-kept")) == (200, b"<html>", "yes")
        assert fields.get("content-security-policy") == "sandbox allow-scripts"
        assert fields.get("set-cookie") is None
        assert camera.asked == [b"/go/stream.html?src=c%20m&x=%2F"]
        for secret in (b"session", b"X-Api-Key", b"Bearer"):
            assert secret not in camera.received


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "OPTIONS"])
async def test_signalling_passes_as_it_is(tmp_path: Path, method: str) -> None:
    camera = ToyCamera()
    camera.pages[b"/cam/whep"] = page(
        b"v=0", b"application/sdp", b"201 Created", b"Location: /cam/whep/42\r\nETag: *\r\n"
    )
    async with passing(tmp_path, camera, "/cam", "webrtc-mediamtx") as rig:
        status, fields, body = await rig.get(
            f"{SLUG}/whep", "Content-Type: application/sdp", 'If-Match: "1"', method=method, body=b"offer"
        )
        assert (status, body) == (201, b"v=0")
        assert fields.get("location") == f"{SLUG}/whep/42"
        assert fields.get("etag") == "*"
        assert b"%b /cam/whep HTTP/1.1\r\n" % method.encode() in camera.received
        assert b'If-Match: "1"\r\n' in camera.received
        assert camera.received.endswith(b"\r\n\r\noffer")


async def test_signalling_by_plain_text_passes_but_not_from_another_page(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/webrtc"] = page(b"{}", b"application/json")
    async with passing(tmp_path, camera, "/webrtc", "webrtc-camerastreamer") as rig:
        plain = "Content-Type: text/plain;charset=UTF-8"
        status, _, _ = await rig.get(f"{SLUG}/webrtc", plain, f"Origin: http://{rig.host}", method="POST", body=b"{}")
        assert status == 200
        status, _, _ = await rig.get(f"{SLUG}/webrtc", plain, "Origin: http://evil.example", method="POST", body=b"{}")
        assert status == 403
        assert camera.asked == [b"/webrtc"]


HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def test_a_cameras_websocket_passes(tmp_path: Path) -> None:
    async def echo(wire: Wire) -> None:
        await wire.head()
        await wire.send(SWITCH)
        while await wire.more():
            await wire.send(wire.buffer)
            wire.buffer = b""

    camera = Toy(echo)
    async with passing(tmp_path, camera, "/stream.html?src=cam") as rig, rig.client() as wire:
        await wire.send(f"GET {SLUG}/api/ws?src=cam&media=video HTTP/1.1\r\nHost: {rig.host}\r\n".encode())
        await wire.send(f"Origin: http://{rig.host}\r\n".encode() + HANDSHAKE + b"\r\n")
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        await wire.send(b"\x81\x02hi")
        assert await wire.exactly(4) == b"\x81\x02hi"
        assert camera.received.startswith(b"GET /api/ws?src=cam&media=video HTTP/1.1\r\n")


async def test_nothing_above_the_cameras_folder_is_reached(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages = {b"/secret": page(b"secret"), b"/go//secret": page(b"below")}
    async with passing(tmp_path, camera, "/go/stream.html") as rig:
        for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "//secret"):
            status, _, body = await rig.get(SLUG + path)
            assert b"secret" not in body or status >= 400
        assert all(target.startswith(b"/go/") for target in camera.asked)


# -- Moonraker's webcams ---------------------------------------------------------------------------------------------


class ToyMoonraker(Toy):
    """Knows its webcams, over HTTP and over a WebSocket that says what it hears and what it is told to say."""

    def __init__(self, webcams: list[dict[str, Any]]) -> None:
        super().__init__(self._answer)
        self.webcams = webcams
        self.posted: list[Any] = []
        self.heard: list[str] = []

    async def _answer(self, wire: Wire) -> None:
        while True:
            head, body = await wire.message()
            if b"Upgrade: websocket" in head:
                await wire.send(SWITCH)
                await self._talk(wire)
                return
            if body:
                self.posted.append(json.loads(body))
            result = {"webcam": self.posted[-1]} if body else {"webcams": self.webcams}
            await wire.send(page(json.dumps({"result": result}).encode(), b"application/json"))

    async def _talk(self, wire: Wire) -> None:
        socket = Connection(ConnectionType.SERVER)
        while await wire.more():
            socket.receive_data(wire.buffer)
            wire.buffer = b""
            for event in socket.events():
                if isinstance(event, TextMessage):
                    self.heard.append(event.data)
                    notice = {"method": "notify_webcams_changed", "params": [{"webcams": self.webcams}]}
                    for text in ("status", json.dumps(notice), event.data):
                        await wire.send(socket.send(TextMessage(text)))


def webcam(name: str, url: str, service: str = "mjpegstreamer") -> dict[str, Any]:
    return {"name": name, "service": service, "stream_url": url, "snapshot_url": "", "uid": f"uid-{name}"}


@contextlib.asynccontextmanager
async def with_moonraker(folder: Path, *webcams: dict[str, Any]) -> AsyncIterator[tuple[Rig, ToyMoonraker]]:
    moonraker = ToyMoonraker(list(webcams))
    async with moonraker.running():
        text = f"[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: http://127.0.0.1:{moonraker.port}"
        async with running(folder, text) as rig:
            yield rig, moonraker


async def test_a_webcam_of_moonrakers_is_found_without_anybody_having_listed_it(tmp_path: Path) -> None:
    async with ToyCamera().running() as camera:
        assert isinstance(camera, ToyCamera)
        async with with_moonraker(tmp_path, webcam("nozzle", f"{camera.url}/?action=stream")) as (rig, _):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(camera.give, jpeg("found"))
                status, _, body = await rig.get(PATH + "/snapshot")
            assert (status, body) == (200, jpeg("found"))


async def test_a_webcam_on_another_host_is_never_connected_to(tmp_path: Path) -> None:
    async with ToyCamera().running() as camera:
        assert isinstance(camera, ToyCamera)
        url = f"http://127.0.0.1.nip.example:{camera.port}/?action=stream"
        async with with_moonraker(tmp_path, webcam("nozzle", url)) as (rig, _):
            status, _, _ = await rig.get(PATH + "/snapshot")
            assert status == 404
        assert camera.wires == []


@pytest.mark.parametrize("prefix", ["/printers/main", "/printers/main/mainsail"])
async def test_http_answers_lead_through_the_gateway_and_what_is_saved_does_not(tmp_path: Path, prefix: str) -> None:
    nozzle = webcam("nozzle", "/webcam/?action=stream")
    async with with_moonraker(tmp_path, nozzle) as (rig, moonraker):
        _, _, body = await rig.get(prefix + "/server/webcams/list")
        (shown,) = json.loads(body)["result"]["webcams"]
        assert shown["stream_url"] == f"http://{rig.host}{PATH}/stream"
        kind = "Content-Type: application/json"
        _, _, body = await rig.get(
            prefix + "/server/webcams/item", kind, method="POST", body=json.dumps(shown | {"rotation": 90}).encode()
        )
        assert moonraker.posted == [nozzle | {"rotation": 90}]
        assert json.loads(body)["result"]["webcam"]["stream_url"] == f"http://{rig.host}{PATH}/stream"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_over_the_websocket_as_well_by_the_scheme_of_the_page(tmp_path: Path, scheme: str) -> None:
    nozzle = webcam("nozzle", "/webcam/?action=stream")
    async with with_moonraker(tmp_path, nozzle) as (rig, moonraker), rig.client() as wire:
        await wire.send(f"GET /printers/main/fluidd/websocket HTTP/1.1\r\nHost: {rig.host}\r\n".encode())
        offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        await wire.send(f"Origin: {scheme}://{rig.host}\r\n".encode() + HANDSHAKE + offer + b"\r\n")
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        assert b"permessage-deflate" not in moonraker.received
        client = Connection(ConnectionType.CLIENT)
        url = f"{scheme}://{rig.host}{PATH}/stream"

        async def say(text: str) -> list[str]:
            await wire.send(client.send(TextMessage(text)))
            texts: list[str] = []
            with trio.fail_after(WITHIN_S):
                while len(texts) < 3:
                    assert await wire.more()
                    client.receive_data(wire.buffer)
                    wire.buffer = b""
                    texts += [event.data for event in client.events() if isinstance(event, TextMessage)]
            return texts

        status, notice, echo = await say("hello")
        assert (status, echo) == ("status", "hello")
        assert json.loads(notice)["params"] == [
            {"webcams": [nozzle | {"stream_url": url, "snapshot_url": url[:-6] + "snapshot"}]}
        ]
        save = {"method": "server.webcams.post_item", "params": {"name": "nozzle", "stream_url": url}}
        await say(json.dumps(save))
        assert json.loads(moonraker.heard[-1])["params"]["stream_url"] == "/webcam/?action=stream"


# -- discovery -------------------------------------------------------------------------------------------------------


async def never(wire: Wire) -> None:
    """Takes a request and says nothing."""
    while await wire.more():
        pass


async def test_a_look_around_asks_moonraker_and_the_servers_of_its_host_in_parallel(tmp_path: Path) -> None:
    camera, silent = ToyCamera(), Toy(never)
    camera.pages = {
        b"/state": page(b"{}", status=b"404 Not Found"),
        b"/program.json": page(json.dumps({"inputs": [{}]}).encode(), b"application/json"),
    }
    away = webcam("away", "http://192.0.2.1/")
    async with with_moonraker(tmp_path, away) as (rig, _), camera.running(), silent.running():
        cameras = cameras_of(rig)
        places = [
            (CameraUrl.of(f"http://127.0.0.1:{port}/"), STREAMERS) for port in (silent.port, camera.port, free_port())
        ]
        began = trio.current_time()
        report = await discover(cameras, places, within_s=0.5)
        assert trio.current_time() - began < PROBE_S
        assert (report.host, report.problem) == ("127.0.0.1", None)
        assert [(found.source, found.url) for found in report.found] == [
            ("moonraker", "http://192.0.2.1/"),
            ("mjpg-streamer", f"{camera.url}/?action=stream"),
        ]
        assert camera.asked == [b"/state", b"/program.json"]


async def test_a_look_around_says_why_moonraker_could_not_be_asked(tmp_path: Path) -> None:
    text = f"[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: http://127.0.0.1:{free_port()}"
    async with running(tmp_path, text) as rig:
        report = await discover(cameras_of(rig), [])
        assert report.found == []
        assert report.problem is not None
        assert "cannot be reached" in report.problem
