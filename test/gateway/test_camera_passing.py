"""What is passed through to a camera's own server: who may, and a server that is away or talks nonsense."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest
import trio

from klipper_router import config
from klipper_router.gateway.access import UNKNOWN_IP
from klipper_router.gateway.cameras.site import CameraSite
from klipper_router.gateway.routes import Kind, Route
from test.gateway.rig import WITHIN_S, Rig, Toy, Wire, free_port, running
from test.gateway.test_cameras import SLUG, configuration, passing, stage, webcam, with_moonraker
from test.gateway.test_tls_and_forwards import certificate as certificate  # the fixture
from test.gateway.toy_camera import ToyCamera, jpeg, page


def reset(wire: Wire) -> None:
    """Close with an RST, as a server that is killed does."""
    assert isinstance(wire.stream, trio.SocketStream)
    wire.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.stream.socket.close()


def message_of(body: bytes) -> str:
    message = json.loads(body)["error"]["message"]
    assert isinstance(message, str)
    return message


def site_of(rig: Rig) -> CameraSite:
    site = rig.gateway.sites.cameras
    assert isinstance(site, CameraSite)
    return site


async def test_a_stranger_reaches_a_cameras_server_with_a_key_or_a_token_only(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/page"] = page(b"a page")
    async with camera.running():
        text = configuration("http://127.0.0.1:1/", more=f"[camera main rtc]\nurl: {camera.url}/\nservice: iframe")
        text = text.replace("[klippy", f"data: {tmp_path}/data\n        [klippy")
        afar = "X-Forwarded-For: 203.0.113.9"
        async with running(tmp_path, text) as rig:
            access = rig.gateway.access
            for query, fields in (("", []), ("?x=1&token=wrong", []), ("", ["X-Api-Key: wrong"])):
                assert (await rig.get(f"{SLUG}/page{query}", afar, *fields))[0] == 401
            assert camera.asked == []
            assert (await rig.get(f"{SLUG}/page", afar, f"X-Api-Key: {access.api_key()}"))[0] == 200
            token = access.oneshot_token(UNKNOWN_IP)
            for status in (200, 401):
                assert (await rig.get(f"{SLUG}/page?x=1&token={token}", afar))[0] == status


async def test_an_upload_that_is_still_coming_reaches_the_cameras_server_whole(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/whip"] = page(b"taken", status=b"201 Created")
    content = b"0123456789abcdef" * 65536
    async with passing(tmp_path, camera, "/") as rig, rig.client() as client:
        head = f"POST {SLUG}/whip HTTP/1.1\r\nHost: {rig.host}\r\nContent-Length: {len(content)}\r\n\r\n"
        await client.send(head.encode())
        await camera.until(lambda: camera.open == 1)  # it is asked before the body has come
        await client.send(content)
        answer, body = await client.message()
        assert (answer[9:12], body) == (b"201", b"taken")
        assert camera.received.endswith(b"\r\n\r\n" + content)
        await client.send(f"GET {SLUG}/whip HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        assert (await client.message())[1] == b"taken"


async def test_a_cameras_server_that_is_away_is_a_bad_gateway(tmp_path: Path) -> None:
    port = free_port()
    text = configuration(
        "http://127.0.0.1:1/", more=f"[camera main rtc]\nurl: http://127.0.0.1:{port}/\nservice: iframe"
    )
    async with running(tmp_path, text) as rig:
        status, _, body = await rig.get(f"{SLUG}/page")
        assert status == 502
        assert message_of(body).startswith(f"the camera cannot be reached: 127.0.0.1:{port}: ")
        assert message_of(body).endswith("Connection refused")


@pytest.mark.parametrize("service", ["iframe", "mjpegstreamer"])
async def test_a_cameras_certificate_that_nobody_vouches_for_is_refused(
    certificate: Path, tmp_path: Path, service: str
) -> None:
    async with ToyCamera().running() as camera:
        front = f"[forward 0]\nto: 127.0.0.1:{camera.port}\ntls_certificate: {certificate}\n[klippy main]"
        (tmp_path / "front").mkdir()
        async with running(tmp_path / "front", front) as tls:
            url = f"https://localhost:{tls.ready.forwards[0].sock.getsockname()[1]}/"
            text = configuration("http://127.0.0.1:1/", more=f"[camera main rtc]\nurl: {url}\nservice: {service}")
            async with running(tmp_path, text) as rig:
                status, _, body = await rig.get(f"{SLUG}/stream")
        assert status == 502
        assert "certificate verify failed" in message_of(body)
        assert camera.received == b""


async def test_the_login_of_the_address_is_sent_instead_of_the_clients(tmp_path: Path) -> None:
    camera = ToyCamera()
    camera.pages[b"/page"] = page(b"a page")
    async with camera.running():
        url = f"http://user:secret@127.0.0.1:{camera.port}/"
        text = configuration("http://127.0.0.1:1/", more=f"[camera main rtc]\nurl: {url}\nservice: iframe")
        async with running(tmp_path, text) as rig:
            assert (await rig.get(f"{SLUG}/page", "Authorization: Basic eDp5"))[0] == 200
        assert camera.received.count(b"uthorization") == 1
        assert b"Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in camera.received


@pytest.mark.parametrize("killed", [False, True])
async def test_a_cameras_server_that_answers_nothing_is_a_bad_gateway(tmp_path: Path, killed: bool) -> None:
    async def leave(wire: Wire) -> None:
        await wire.head()
        if killed:
            reset(wire)

    async with passing(tmp_path, Toy(leave), "/") as rig:
        status, _, body = await rig.get(f"{SLUG}/page")
        assert (status, message_of(body)) == (502, "the camera closed the connection without an answer")


async def test_what_is_no_http_is_a_bad_gateway(tmp_path: Path) -> None:
    async def greet(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with passing(tmp_path, Toy(greet), "/") as rig:
        status, _, body = await rig.get(f"{SLUG}/page")
        assert status == 502
        assert message_of(body).startswith("the camera sent what is no HTTP response: ")


async def test_a_cameras_answer_that_breaks_off_is_not_made_to_look_whole(tmp_path: Path) -> None:
    async def break_off(wire: Wire) -> None:
        await wire.head()
        await wire.send(page(b"half of it")[:-5])

    async with passing(tmp_path, Toy(break_off), "/") as rig, rig.client() as client:
        await client.send(f"GET {SLUG}/page HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        assert b"Content-Length: 10\r\n" in await client.head()
        assert await client.rest() == b"half "


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("http://127.0.0.1:PORT/go/a?b", f"{SLUG}/a?b"),
        ("/go/a", f"{SLUG}/a"),
        ("a", "a"),
        ("/elsewhere", "/elsewhere"),
        ("http://else.example/go/a", "http://else.example/go/a"),
        ("//else.example/go/", "//else.example/go/"),
    ],
)
async def test_a_redirect_below_the_cameras_folder_leads_through_the_gateway(
    tmp_path: Path, location: str, shown: str
) -> None:
    camera = ToyCamera()
    async with passing(tmp_path, camera, "/go/page.html", "iframe") as rig:
        field = f"Location: {location}\r\n".replace("PORT", str(camera.port)).encode()
        camera.pages[b"/go/page.html"] = page(b"", status=b"302 Found", more=field)
        status, fields, _ = await rig.get(f"{SLUG}/page.html")
        assert (status, fields.get("location")) == (302, shown)
        assert camera.asked == [b"/go/page.html"]


# -- as nginx has it -------------------------------------------------------------------------------------------------

# A host that nobody is: that nothing answers is certain without asking for a port that may be taken here.
NOWHERE = "[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: http://prin..ter:7125\n"


@pytest.mark.parametrize(
    "path", ["webcam/?action=stream", "webcam2/?action=snapshot", "webcam3/stream", "webcam4/snapshot"]
)
async def test_the_paths_of_nginx_are_pictures_of_the_printers_host(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, NOWHERE) as rig:
        status, _, body = await rig.get(f"/printers/main/{path}")
        assert status == 502
        name = path.partition("/")[0]
        assert message_of(body).startswith(f"camera {name}: ")
        assert "'prin..ter' is no host name" in message_of(body)


async def test_what_else_a_cameras_server_has_below_the_paths_of_nginx_is_passed(tmp_path: Path) -> None:
    async with running(tmp_path, NOWHERE) as rig:
        status, _, body = await rig.get("/printers/main/webcam2/control.htm?x=1")
        assert (status, message_of(body)[:35]) == (502, "the camera cannot be reached: prin.")
        route = Route(Kind.CAMERAS, "main", b"/printers/main", b"/webcam2/control.htm")
        passed = await site_of(rig).passed(route, b"x=1")
        assert passed is not None
        assert [str(url) for url in passed.servers] == [
            "http://prin..ter:8081/control.htm?x=1",
            "http://prin..ter/webcam2/control.htm?x=1",
        ]
        assert (passed.folder, passed.prefix) == ("/", "/printers/main/webcam2/")


async def test_a_printer_that_is_gone_has_no_cameras(tmp_path: Path) -> None:
    async with running(tmp_path, NOWHERE) as rig:
        site = site_of(rig)
        assert await site.passed(Route(Kind.CAMERAS, "gone", b"/printers/gone", b"/webcam/x"), b"") is None
        assert (site.names("gone"), site.webcams("gone", ""), await site.discover("gone")) == ([], [], [])
        assert (site.for_webcams("gone", ""), site.for_websocket("gone", "")) == (None, None)
        with trio.fail_after(WITHIN_S):
            assert (await rig.get("/printers/gone/cameras/nozzle/stream"))[0] == 404


# -- the list for the page of the router, and printers that go --------------------------------------------------------


async def test_the_cameras_of_a_printer_are_listed_as_moonraker_would(tmp_path: Path) -> None:
    async with running(tmp_path, configuration("http://127.0.0.1:8080/?action=stream")) as rig:
        site = site_of(rig)
        assert site.names("main") == ["nozzle"]
        (listed,) = site.webcams("main", "http://here/printers/main")
        assert (listed["name"], listed["service"]) == ("nozzle", "mjpegstreamer")
        assert listed["stream_url"] == "http://here/printers/main/cameras/nozzle/stream"
        assert listed["snapshot_url"] == "http://here/printers/main/cameras/nozzle/snapshot"


async def test_a_look_around_gives_the_options_of_cameras_on_the_printers_host_only(tmp_path: Path) -> None:
    here, away = webcam("here", "http://prin..ter:81/?action=stream"), webcam("away", "http://192.0.2.1/")
    async with running(tmp_path, NOWHERE) as rig:
        site = site_of(rig)
        cameras = site.of("main")
        assert cameras is not None
        assert list(cameras.learn([here, away], True)) == ["here"]
        assert await site.discover("main") == []  # its Moonraker cannot be asked, and nobody answers there
    async with with_moonraker(tmp_path, webcam("here", "http://127.0.0.1:81/?action=stream"), away) as (rig, _):
        found = {name: (options["url"], shown) for name, options, shown in await site_of(rig).discover("main")}
        assert found["here"] == ("http://127.0.0.1:81/?action=stream", True)
        assert "away" not in found


@pytest.mark.parametrize("moves", [False, True])
async def test_the_viewers_of_a_printer_that_goes_or_moves_are_ended(tmp_path: Path, moves: bool) -> None:
    async with stage(tmp_path, ToyCamera()) as it, it.watching() as view, trio.open_nursery() as nursery:
        nursery.start_soon(it.camera.give, jpeg("last"))
        await view.begin()
        assert await view.picture() == jpeg("last")
        file = tmp_path / "router.cfg"
        if moves:
            text = file.read_text().replace("moonraker: none", f"moonraker: http://127.0.0.1:{free_port()}")
        else:
            text = file.read_text().replace("[klippy main]", "[klippy other]").replace("camera main", "camera other")
        file.write_text(text)
        it.rig.router.reconfigure(config.load(file))
        with trio.fail_after(WITHIN_S):
            await view.wire.rest()
        await it.camera.until(lambda: it.camera.open == 0)
