"""What the answers of camera servers mean, and where is looked for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from klipper_router.gateway.cameras import discovery
from klipper_router.gateway.cameras.address import CameraUrl
from klipper_router.gateway.cameras.discovery import Found, Probed, places_on, without_repeats

ROOT = CameraUrl.of("http://192.168.1.5:8080/")
NGINX = CameraUrl.of("http://192.168.1.5/webcam2/")


def answer(value: Any, status: int = 200, server: str = "") -> Probed:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Probed(status, "application/json", server, body)


def test_ustreamer_is_known_by_its_state() -> None:
    state = answer({"ok": True, "result": {"source": {"online": True}, "stream": {"clients": 0}}})
    assert discovery.ustreamer(NGINX, state) == [
        Found(
            "webcam2",
            "mjpegstreamer",
            "http://192.168.1.5/webcam2/?action=stream",
            "http://192.168.1.5/webcam2/?action=snapshot",
            "ustreamer",
        )
    ]


def test_mjpg_streamer_has_a_stream_for_each_of_its_inputs() -> None:
    inputs = [{"id": str(number), "name": "input_uvc.so"} for number in range(2)]
    found = discovery.mjpg_streamer(ROOT, answer({"inputs": inputs, "outputs": []}))
    assert [(each.name, each.url, each.snapshot_url) for each in found] == [
        ("webcam", "http://192.168.1.5:8080/?action=stream_0", "http://192.168.1.5:8080/?action=snapshot_0"),
        ("webcam-1", "http://192.168.1.5:8080/?action=stream_1", "http://192.168.1.5:8080/?action=snapshot_1"),
    ]
    (one,) = discovery.mjpg_streamer(ROOT, answer({"inputs": inputs[:1]}))
    assert one.url == "http://192.168.1.5:8080/?action=stream"


def test_camera_streamer_says_which_endpoints_are_enabled() -> None:
    endpoints = {"webrtc": {"enabled": True}, "stream": {"enabled": True}, "snapshot": {"enabled": True}, "rtsp": {}}
    found = discovery.camera_streamer(ROOT, answer({"endpoints": endpoints, "outputs": {}}))
    assert [(each.service, each.url, each.snapshot_url) for each in found] == [
        ("webrtc-camerastreamer", "http://192.168.1.5:8080/webrtc", "http://192.168.1.5:8080/snapshot"),
        ("mjpegstreamer", "http://192.168.1.5:8080/stream", "http://192.168.1.5:8080/snapshot"),
    ]
    assert discovery.camera_streamer(ROOT, answer({"endpoints": {"webrtc": {"enabled": False}}})) == []


def test_go2rtc_has_a_page_for_each_stream() -> None:
    (found,) = discovery.go2rtc(ROOT._replace(port=1984), answer({"bed cam": {"producers": []}}))
    assert found == Found(
        "bed cam",
        "webrtc-go2rtc",
        "http://192.168.1.5:1984/stream.html?src=bed%20cam",
        "http://192.168.1.5:1984/api/frame.jpeg?src=bed%20cam",
        "go2rtc",
    )


def test_mediamtx_lists_its_paths_or_is_known_by_its_name() -> None:
    (found,) = discovery.mediamtx_api(ROOT._replace(port=9997), answer({"items": [{"name": "cam"}, 3]}))
    assert (found.service, found.url) == ("webrtc-mediamtx", "http://192.168.1.5:8889/cam/")
    (found,) = discovery.mediamtx(ROOT._replace(port=8889), answer(b"404", 404, "mediamtx"))
    assert (found.url, bool(found.note)) == ("http://192.168.1.5:8889/", True)
    assert discovery.mediamtx(ROOT, answer(b"", 200, "nginx")) == []


def test_any_other_is_known_by_its_picture() -> None:
    assert discovery.any_mjpeg(ROOT, answer(b"\xff\xd8\xff"))[0].source == "mjpeg"
    assert discovery.any_mjpeg(ROOT, answer(b"<html>")) == []


JUDGES = [probe.judge for _, probes in places_on("h") for probe in probes]


@pytest.mark.parametrize(
    "value", [b"", b"<html>", b"\xff", b"[]", b"3", b"{}", b'{"endpoints": 3, "items": 1, "inputs": 2}']
)
def test_an_answer_of_anything_else_means_nothing(value: bytes) -> None:
    for judge in JUDGES:
        assert judge(ROOT, answer(value, server="nginx")) == []


def test_only_the_printers_host_is_asked_and_every_known_port() -> None:
    places = places_on("printer.local")
    assert {root.host for root, _ in places} == {"printer.local"}
    assert {root.port for root, _ in places} == {80, 1984, 4408, 4409, 8080, 8081, 8082, 8083, 8889, 9997}


def test_what_is_found_can_be_configured() -> None:
    found = Found("nozzle", "mjpegstreamer", "/webcam2/?action=stream", "/webcam2/?action=snapshot", "moonraker")
    assert found.options("192.168.1.5") == {
        "url": "http://192.168.1.5:8081/?action=stream",
        "snapshot_url": "http://192.168.1.5:8081/?action=snapshot",
        "service": "mjpegstreamer",
    }
    assert found._replace(url="http://192.168.1.9/").options("192.168.1.5") is None


def test_the_same_stream_by_another_way_is_one_camera() -> None:
    urls = [
        "/webcam/?action=stream",
        "http://localhost:8080/?action=stream",
        "http://192.168.1.5/webcam/?action=stream",
        "http://192.168.1.5:4408/webcam/?action=stream",
        "http://192.168.1.5:8081/?action=stream",
        "http://192.168.1.5/webcam2/?action=stream",
        "http://192.168.1.9/elsewhere",
    ]
    found = [Found(str(number), "mjpegstreamer", url, "", "x") for number, url in enumerate(urls)]
    assert [each.name for each in without_repeats(found, "192.168.1.5")] == ["0", "4", "6"]
