"""Webcam addresses of Moonraker as a browser sees them behind the gateway, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway.cameras.address import CameraUrl, candidates
from klipper_router.gateway.cameras.camera import CameraSpec
from klipper_router.gateway.cameras.webcams import MARKER, Webcams, configured_spec, slug_of, spec_of, stream_path
from klipper_router.gateway.settings import CameraSection

BASE = "http://router.local:7180/printers/main"
HOST = "192.168.1.5"


def webcam(name: str, stream_url: str, snapshot_url: str = "", service: str = "mjpegstreamer") -> dict[str, Any]:
    return {
        "name": name,
        "service": service,
        "stream_url": stream_url,
        "snapshot_url": snapshot_url,
        "target_fps": 15,
        "uid": f"uid-of-{len(name)}",
        "extra_data": {"enableAudio": False},
    }


class Book:
    """What the registry does, for one printer on HOST."""

    def __init__(self, **configured: CameraSection) -> None:
        self.configured = {name: configured_spec(name, section) for name, section in configured.items()}
        self.learnt: dict[str, CameraSpec] = {}

    def learn(self, listed: list[Any], every: bool) -> dict[str, CameraSpec]:
        self.learnt |= {spec.name: spec for item in listed if (spec := spec_of(item, HOST, 7125))}
        return self.learnt | self.configured

    def webcams(self, base: str = BASE) -> Webcams:
        return Webcams(base, self.learn, lambda: [*self.learnt.values(), *self.configured.values()])


def shown(*items: dict[str, Any], base: str = BASE) -> list[dict[str, Any]]:
    """What a client is told, when Moonraker lists these."""
    text = Book().webcams(base).from_moonraker(json.dumps({"result": {"webcams": list(items)}, "id": 1}).encode())
    assert text is not None
    answer = json.loads(text)
    assert answer["id"] == 1
    return list(answer["result"]["webcams"])


@pytest.mark.parametrize(
    "url", ["/webcam/?action=stream", "webcam/?action=stream", f"http://{HOST}:8080/?action=stream"]
)
def test_an_mjpeg_camera_is_shown_under_the_printer_however_moonraker_names_it(url: str) -> None:
    (camera,) = shown(webcam("nozzle", url, "/webcam/?action=snapshot"))
    assert camera["stream_url"] == BASE + "/cameras/nozzle/stream"
    assert camera["snapshot_url"] == BASE + "/cameras/nozzle/snapshot"
    assert camera | {"stream_url": 0, "snapshot_url": 0} == webcam("nozzle", "") | {"stream_url": 0, "snapshot_url": 0}


@pytest.mark.parametrize(
    ("service", "url", "path"),
    [
        ("webrtc-go2rtc", f"http://{HOST}:1984/stream.html?src=cam&mode=webrtc", "stream.html?src=cam&mode=webrtc"),
        ("webrtc-camerastreamer", "/webcam/webrtc", "webrtc"),
        ("webrtc-mediamtx", f"http://{HOST}:8889/cam", ""),
        ("webrtc-mediamtx", f"http://{HOST}:8889/cam/", ""),
        ("hlsstream", f"http://{HOST}:8888/cam/index.m3u8", "index.m3u8"),
        ("iframe", f"http://{HOST}:5000/", ""),
    ],
)
def test_other_cameras_keep_what_follows_their_folder(service: str, url: str, path: str) -> None:
    (camera,) = shown(webcam("nozzle", url, service=service))
    assert camera["stream_url"] == f"{BASE}/cameras/nozzle/{path}"


def test_a_camera_by_websocket_is_still_one() -> None:
    (camera,) = shown(webcam("nozzle", f"ws://{HOST}:8000/live", service="jmuxer-stream"))
    assert camera["stream_url"] == "ws://router.local:7180/printers/main/cameras/nozzle/live"


def test_on_an_own_origin_there_is_no_prefix() -> None:
    (camera,) = shown(webcam("nozzle", "/webcam/?action=stream"), base="https://main.example.org")
    assert camera["stream_url"] == "https://main.example.org/cameras/nozzle/stream"


@pytest.mark.parametrize(
    "item",
    [
        webcam("away", "http://192.168.1.9/video.mjpg"),
        webcam("away", "//192.168.1.9/video.mjpg"),
        webcam("away", "rtsp://192.168.1.5/live"),
        webcam("away", "javascript:alert(1)"),
        webcam("away", ""),
        webcam("own", "/webcam/", service="device"),
        {"name": 3, "stream_url": "/webcam/", "service": "mjpegstreamer"},
        "text",
        None,
    ],
)
def test_what_is_not_on_the_printers_host_or_not_known_stays_as_it_is(item: Any) -> None:
    answer = {"jsonrpc": "2.0", "result": {"webcams": [item]}, "id": 1}
    assert Book().webcams().from_moonraker(json.dumps(answer).encode()) is None


@pytest.mark.parametrize("name", ["Top View", "über", "a/b", "%41", "..", "x" * 100])
def test_a_name_that_would_be_escaped_is_not_part_of_an_address(name: str) -> None:
    (camera,) = shown(webcam(name, "/webcam/?action=stream"))
    assert camera["name"] == name
    assert camera["stream_url"] == f"{BASE}/cameras/uid-of-{len(name)}/stream"
    assert slug_of("Top View") == "Top-View"
    assert slug_of("über/%2f..") == "ber-2f"
    assert slug_of("§§") == "camera"


def message(**content: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **content}).encode()


CAMERA = webcam("nozzle", "/webcam/?action=stream", "/webcam/?action=snapshot")
MAPPED = CAMERA | {"stream_url": BASE + "/cameras/nozzle/stream", "snapshot_url": BASE + "/cameras/nozzle/snapshot"}
OTHERS = {"name": "nozzle", "snapshot_reachable": True}


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (
            {"method": "notify_webcams_changed", "params": [{"webcams": [CAMERA]}]},
            {"method": "notify_webcams_changed", "params": [{"webcams": [MAPPED]}]},
        ),
        ({"result": {"webcams": [CAMERA, 5]}, "id": "x"}, {"result": {"webcams": [MAPPED, 5]}, "id": "x"}),
        ({"result": {"webcam": CAMERA}, "id": 7}, {"result": {"webcam": MAPPED}, "id": 7}),
        (
            {"result": OTHERS | {"stream_url": "http://127.0.0.1/webcam/?action=stream", "snapshot_url": ""}, "id": 8},
            {"result": OTHERS | {key: MAPPED[key] for key in ("stream_url", "snapshot_url")}, "id": 8},
        ),
    ],
)
def test_every_answer_with_webcams_is_rewritten_and_a_batch_of_them(said: dict[str, Any], seen: dict[str, Any]) -> None:
    book = Book()
    book.learn([CAMERA], True)
    text = message(**said)
    assert MARKER in text
    made = book.webcams().from_moonraker(text)
    assert made is not None
    assert json.loads(made) == {"jsonrpc": "2.0", **seen}
    batch = book.webcams().from_moonraker(b"[%b, 3, %b]" % (text, message(result="ok", id=9)))
    assert batch is not None
    assert json.loads(batch) == [{"jsonrpc": "2.0", **seen}, 3, {"jsonrpc": "2.0", "result": "ok", "id": 9}]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 5000,
        b"3",
        message(result={"config": {"webcam nozzle": CAMERA}}, id=1),
        message(result={"webcams": {}}, id=1),
        message(result={"webcam": None}, id=1),
        message(method="notify_gcode_response", params=["stream_url"]),
        message(error={"code": 404, "message": "stream_url"}, id=1),
    ],
)
def test_all_else_passes_as_it_is(text: bytes) -> None:
    webcams = Book().webcams()
    assert webcams.from_moonraker(text) is None
    assert webcams.to_moonraker(text) is None
    assert webcams.response_body(text) is text
    assert webcams.request_body(text) is text


@pytest.mark.parametrize(
    "item",
    [
        CAMERA,
        webcam("Top View", "/webcam2/?action=stream"),
        webcam("rtc", f"http://{HOST}:1984/stream.html?src=a b", service="webrtc-go2rtc"),
        webcam("away", "http://192.168.1.9/video.mjpg"),
        webcam("live", f"ws://{HOST}:8000/live", service="jmuxer-stream"),
    ],
)
@pytest.mark.parametrize("base", [BASE, "https://main.example.org", "http://[::1]:7180/printers/a%20b"])
def test_what_a_user_saves_is_what_moonraker_had(item: dict[str, Any], base: str) -> None:
    book = Book()
    webcams = book.webcams(base)
    seen = json.loads(webcams.response_body(json.dumps({"result": {"webcams": [item]}}).encode()))
    (saved,) = seen["result"]["webcams"]
    text = message(method="server.webcams.post_item", params=saved, id=3)
    assert json.loads(webcams.to_moonraker(text) or text)["params"] == item
    assert json.loads(webcams.request_body(json.dumps(saved).encode())) == item
    moved = Book()
    moved.learnt = book.learnt
    elsewhere = moved.webcams(base.replace("://", "://other."))
    assert json.loads(elsewhere.to_moonraker(text) or text)["params"] == item


def test_an_address_of_another_printer_is_not_ours_to_restore() -> None:
    book = Book()
    book.learn([CAMERA], True)
    params = {"stream_url": "http://router.local:7180/printers/led/cameras/nozzle/stream"}
    assert book.webcams().to_moonraker(message(method="server.webcams.post_item", params=params)) is None


def test_a_configured_camera_is_shown_beside_moonrakers_and_instead_of_its_namesake() -> None:
    section = CameraSection(url="http://192.168.1.9:8080/?action=stream")
    book = Book(nozzle=section, bed=section)
    text = book.webcams().from_moonraker(
        message(result={"webcams": [CAMERA, webcam("away", "http://10.0.0.1/")]}, id=1)
    )
    assert text is not None
    cameras = json.loads(text)["result"]["webcams"]
    assert [camera["name"] for camera in cameras] == ["nozzle", "away", "bed"]
    assert cameras[0] == MAPPED
    assert cameras[2]["stream_url"] == BASE + "/cameras/bed/stream"
    assert cameras[2].keys() >= CAMERA.keys()


KEYS = st.sampled_from(["webcams", "webcam", "result", "params", "method", "name", "stream_url", "service"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
MESSAGES = st.recursive(LEAVES, lambda leaf: st.lists(leaf) | st.dictionaries(KEYS, leaf), max_leaves=12)


@given(MESSAGES)
def test_no_message_breaks_it(value: Any) -> None:
    text = json.dumps(value).encode()
    webcams = Book().webcams()
    webcams.from_moonraker(text)
    webcams.to_moonraker(text)


@pytest.mark.parametrize(
    ("url", "host", "wanted"),
    [
        (
            "/webcam/?action=stream",
            "192.168.1.5",
            [
                "http://192.168.1.5:8080/?action=stream",
                "http://192.168.1.5/webcam/?action=stream",
                "http://192.168.1.5:7125/webcam/?action=stream",
            ],
        ),
        ("/webcam3/x", "h", ["http://h:8082/x", "http://h/webcam3/x", "http://h:7125/webcam3/x"]),
        ("/webcam5/x", "h", ["http://h/webcam5/x", "http://h:7125/webcam5/x"]),
        ("/x?a b\r\nX: y#c", "h", ["http://h/x?a%20b%0D%0AX:%20y", "http://h:7125/x?a%20b%0D%0AX:%20y"]),
        ("http://localhost:8081/a?b", "192.168.1.5", ["http://192.168.1.5:8081/a?b"]),
        ("http://127.0.0.1:8081/", "127.0.0.1", ["http://127.0.0.1:8081/"]),
        ("http://[::1]/", "localhost", ["http://localhost/"]),
        ("http://PRINTER.local/x", "printer.local", ["http://printer.local/x"]),
        ("http://user:pa%40ss@h/x", "h", ["http://h/x"]),
        ("http://other/x", "h", []),
        ("http://h@other/x", "h", []),
        ("http://h.evil.example/", "h", []),
        ("file:///etc/passwd", "h", []),
        ("//other/x", "h", []),
        ("http://h:99999/", "h", []),
        ("", "h", []),
    ],
)
def test_only_the_printers_own_host_is_ever_meant(url: str, host: str, wanted: list[str]) -> None:
    found = candidates(url, host, 7125)
    assert [str(one) for one in found] == wanted
    assert {one.host for one in found} <= {host}


def test_an_address_says_what_is_sent() -> None:
    url = CameraUrl.of(" http://us%20er:p%40ss@[::1]:8080/a b/ü?x=1 2#frag ")
    assert (url.host, url.port, url.authority) == ("::1", 8080, "[::1]:8080")
    assert url.target == "/a%20b/%C3%BC?x=1%202"
    assert url.authorization == "Basic dXMgZXI6cEBzcw=="
    assert str(url) == "http://[::1]:8080/a%20b/%C3%BC?x=1%202"
    for wrong in ("8080", "rtsp://x/", "http:///x", "http://x:port/"):
        with pytest.raises(ValueError, match="no "):
            CameraUrl.of(wrong)


@pytest.mark.parametrize(
    ("url", "service", "path"),
    [
        ("http://10.0.0.2/video.mjpg", "mjpegstreamer", "/cameras/bed/stream"),
        ("http://10.0.0.2:1984/stream.html?src=x", "webrtc-go2rtc", "/cameras/bed/stream.html?src=x"),
        ("http://10.0.0.2/webrtc", "webrtc-camerastreamer", "/cameras/bed/webrtc"),
        ("http://10.0.0.2:8888/c/index.m3u8", "hlsstream", "/cameras/bed/index.m3u8"),
    ],
)
def test_the_service_of_a_configured_camera_is_found_out(url: str, service: str, path: str) -> None:
    spec = configured_spec("bed", CameraSection(url=url))
    assert (spec.service, stream_path(spec)) == (service, path)
