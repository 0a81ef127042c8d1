"""What a Moonraker says of its webcams, and what a client tells it, with addresses replaced on the way.

Invariant: nothing escapes; a message stays as it is, or stays JSON of the same shape in which only addresses (and what
a configured camera is served by) changed, or configured cameras were added; what a client saves as it was shown gets
its own addresses back.
Input: messages apart by 0x03.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
import trio

from klipper_router.gateway.cameras.registry import PrinterCameras
from klipper_router.gateway.cameras.webcams import MARKER, Webcams
from klipper_router.gateway.settings import CameraSection
from klipper_router.gateway.values import Upstream

WORDS = (
    b'{"result":{"webcams":[{"name":"a","service":"mjpegstreamer","stream_url":"/webcam/?action=stream"}]}}\x03',
    b'{"method":"notify_webcams_changed","params":[{"webcams":[',
    b'{"method":"server.webcams.post_item","params":{"name":"a","stream_url":"http://h/printers/main/cameras/a/stream"}}',
    b'{"result":{"webcam":{"name":"built in","service":"webrtc-go2rtc","stream_url":"http://127.0.0.1:1984/x"}}}',
    b'{"result":{"snapshot_reachable":true,"name":"a","stream_url":"","snapshot_url":""}}',
    b'"uid":"u1"',
    b'"snapshot_url":"/webcam/?action=snapshot"',
    b'"service":"iframe"',
    b"null",
    b"[]",
    b"{}",
    b"\\ud800",
    b"\x03",
)

BASE = "http://h/printers/main"
CHANGED = {"stream_url", "snapshot_url", "service"}


def one_input(data: bytes) -> None:
    cameras = PrinterCameras("main", cast(trio.Nursery, None), Upstream("127.0.0.1", 7125))
    cameras.configure({"built in": CameraSection(url="http://127.0.0.1:8080/stream")})
    webcams = Webcams(BASE, cameras.learn, cameras.specs)
    for text in data.split(b"\x03"):
        if MARKER in text:
            check_same(text, webcams.to_moonraker(text))
            shown = webcams.from_moonraker(text)
            check_same(text, shown)
            if shown is not None:
                check_saved(webcams, cameras, msgspec.json.decode(shown))


def check_same(text: bytes, changed: bytes | None) -> None:
    if changed is not None:
        before, after = msgspec.json.decode(text), msgspec.json.decode(changed)
        assert same(before, after), (before, after)


def same(before: Any, after: Any) -> bool:
    match before, after:
        case dict(), dict():
            return before.keys() <= after.keys() and all(
                key in CHANGED or same(before[key], after[key]) for key in before
            )
        case list(), list():
            return len(before) <= len(after) and all(map(same, before, after))
    return bool(before == after)


def check_saved(webcams: Webcams, cameras: PrinterCameras, shown: Any) -> None:
    for spec in cameras.specs():
        if [each for each in cameras.specs() if each.slug == spec.slug] != [spec]:
            continue
        for webcam in webcams_in(shown):
            if webcam.get("name") == spec.name and str(webcam.get("stream_url", "")).startswith(BASE):
                request = {"method": "server.webcams.post_item", "params": webcam}
                saved = webcams.to_moonraker(msgspec.json.encode(request))
                assert saved is not None
                assert msgspec.json.decode(saved)["params"]["stream_url"] == spec.stream_url


def webcams_in(messages: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for message in messages if isinstance(messages, list) else [messages]:
        match message:
            case {"result": {"webcams": list(some)}}:
                found += [each for each in some if isinstance(each, dict)]
    return found
