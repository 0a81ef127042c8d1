"""Looking for cameras of a printer: what its Moonraker lists, then the servers that are known, on its host only.

The judging of answers is pure; asking is done in parallel, each server within three seconds, each answer
bounded, no redirect followed. The host comes from the configuration and never from a request, so nobody can use this
to look around in a network.

| server | found by | ports |
| --- | --- | --- |
| go2rtc | ``/api/streams`` | 1984 |
| MediaMTX | ``/v3/paths/list`` of its API (9997), else its name on the WebRTC port | 8889 |
| camera-streamer | ``/status`` with its endpoints | those below |
| µStreamer | ``/state`` | those below |
| mjpg-streamer | ``/program.json`` | those below |
| any other with ``?action=stream`` (crowsnest's spyglass) | a JPEG at ``?action=snapshot`` | those below |

Those below are 8080 to 8083, and ``/webcam/`` to ``/webcam4/`` of the web servers on 80, 4408 and 4409 (images by
Creality) where they are not the same streams again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import trio

from klipper_router.gateway.cameras import upstream
from klipper_router.gateway.cameras.address import WEBCAM_PORTS, CameraUrl, candidates
from klipper_router.gateway.cameras.camera import SERVICES
from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.registry import PrinterCameras, moonraker_webcams

PROBE_S = 3.0
MAX_ANSWER_BYTES = 256 * 1024
MAX_STREAMS = 32
_WEB_SERVER_PORTS = (80, 4408, 4409)


class Found(NamedTuple):
    """A camera that could be configured; its fields are those of ``[camera PRINTER NAME]`` and more."""

    name: str
    service: str
    """In Moonraker's words."""
    url: str
    snapshot_url: str
    source: str
    """Who told: ``moonraker``, or what runs there: ``ustreamer``, ``go2rtc`` …"""
    note: str = ""
    """What somebody who configures it must know."""

    def options(self, host: str) -> dict[str, str] | None:
        """Those of its ``[camera PRINTER NAME]``; None: it is on another host, which only a person may name."""
        urls, snapshot_urls = candidates(self.url, host), candidates(self.snapshot_url, host)
        if not urls:
            return None
        snapshot = {"snapshot_url": str(snapshot_urls[0])} if snapshot_urls else {}
        # Moonraker keeps any text; what is none of these is found out by the address.
        service = {"service": self.service} if self.service in SERVICES else {}
        return {"url": str(urls[0]), **snapshot, **service}


class Report(NamedTuple):
    """What a look around found, and why Moonraker could not be asked."""

    host: str
    found: list[Found]
    problem: str | None


class Probed(NamedTuple):
    """An answer to a probe."""

    status: int
    content_type: str
    server: str
    body: bytes

    def json(self) -> Any:
        """None for what is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


class Probe(NamedTuple):
    """A question to a server, and what its answer means."""

    path: str
    judge: Callable[[CameraUrl, Probed], list[Found]]
    """Given the server's root (or what stands for it, such as ``/webcam/``) and its answer."""


def ustreamer(root: CameraUrl, answer: Probed) -> list[Found]:
    match answer.json():
        case {"ok": bool(), "result": dict()} if answer.status == 200:
            return [_mjpeg("ustreamer", root, "?action=stream", "?action=snapshot")]
    return []


def mjpg_streamer(root: CameraUrl, answer: Probed) -> list[Found]:
    match answer.json():
        case {"inputs": list(inputs)} if answer.status == 200:
            if len(inputs) == 1:
                return [_mjpeg("mjpg-streamer", root, "?action=stream", "?action=snapshot")]
            return [
                _mjpeg("mjpg-streamer", root, f"?action=stream_{number}", f"?action=snapshot_{number}", number)
                for number in range(min(len(inputs), MAX_STREAMS))
            ]
    return []


def camera_streamer(root: CameraUrl, answer: Probed) -> list[Found]:
    match answer.json():
        case {"endpoints": dict(endpoints)} if answer.status == 200:
            enabled = {name for name, each in endpoints.items() if isinstance(each, dict) and each.get("enabled")}
            found = []
            snapshot = str(root.at(root.path + "snapshot")) if "snapshot" in enabled else ""
            if "webrtc" in enabled:
                url = str(root.at(root.path + "webrtc"))
                found.append(Found(_name(root), "webrtc-camerastreamer", url, snapshot, "camera-streamer"))
            if "stream" in enabled:
                url = str(root.at(root.path + "stream"))
                found.append(Found(_name(root), "mjpegstreamer", url, snapshot, "camera-streamer"))
            return found
    return []


def any_mjpeg(root: CameraUrl, answer: Probed) -> list[Found]:
    if answer.status == 200 and answer.body.startswith(b"\xff\xd8"):
        return [_mjpeg("mjpeg", root, "?action=stream", "?action=snapshot")]
    return []


def go2rtc(root: CameraUrl, answer: Probed) -> list[Found]:
    streams = answer.json()
    if answer.status != 200 or not isinstance(streams, dict):
        return []
    if not all(isinstance(stream, dict) for stream in streams.values()):
        return []
    return [
        Found(
            name,
            "webrtc-go2rtc",
            str(root.at(f"/stream.html?src={quote(name, safe='')}")),
            str(root.at(f"/api/frame.jpeg?src={quote(name, safe='')}")),
            "go2rtc",
        )
        for name in list(streams)[:MAX_STREAMS]
    ]


def mediamtx_api(root: CameraUrl, answer: Probed) -> list[Found]:
    match answer.json():
        case {"items": list(items)} if answer.status == 200:
            players = root._replace(port=8889)
            names = [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]
            return [
                Found(name, "webrtc-mediamtx", str(players.at(f"/{quote(name)}/")), "", "mediamtx")
                for name in names[:MAX_STREAMS]
            ]
    return []


def mediamtx(root: CameraUrl, answer: Probed) -> list[Found]:
    if answer.server.lower() != "mediamtx":
        return []
    note = "put the name of its path behind the address; its API, which lists them, is off"
    return [Found("mediamtx", "webrtc-mediamtx", str(root), "", "mediamtx", note)]


STREAMERS = (
    Probe("state", ustreamer),
    Probe("program.json", mjpg_streamer),
    Probe("status", camera_streamer),
    Probe("?action=snapshot", any_mjpeg),
)


Place = tuple[CameraUrl, tuple[Probe, ...]]
"""A server's root, and what to ask it until one answer is understood."""


def places_on(host: str) -> list[Place]:
    """Where to look on a host."""
    root = CameraUrl("http", host, 80, "/", "")
    places: list[Place] = [(root._replace(port=port), STREAMERS) for port in WEBCAM_PORTS.values()]
    places += [
        (root._replace(port=port, path=f"/{name}/"), STREAMERS) for port in _WEB_SERVER_PORTS for name in WEBCAM_PORTS
    ]
    places += [
        (root._replace(port=1984), (Probe("api/streams", go2rtc),)),
        (root._replace(port=9997), (Probe("v3/paths/list", mediamtx_api),)),
        (root._replace(port=8889), (Probe("", mediamtx),)),
    ]
    return places


async def discover(
    cameras: PrinterCameras, places: Sequence[Place] | None = None, *, within_s: float = PROBE_S
) -> Report:
    """Look for the cameras of a printer; a server that has not answered by then is none.

    ``places`` are `places_on` the printer's host if not given.
    """
    found: dict[int, list[Found]] = {}
    problem: str | None = None

    async def listed() -> None:
        nonlocal problem
        assert cameras.moonraker is not None
        try:
            answer = await moonraker_webcams(cameras.moonraker)
        except CameraError as error:
            problem = str(error)
            return
        cameras.learn(answer, True)
        found[-1] = [Found(*_of_moonraker(webcam), "moonraker") for webcam in answer if isinstance(webcam, dict)]

    async def probed(place: int, root: CameraUrl, probes: tuple[Probe, ...]) -> None:
        with trio.move_on_after(within_s):
            found[place] = await _ask(root, probes)

    async with trio.open_nursery() as nursery:
        if cameras.moonraker:
            nursery.start_soon(listed)
        for place, (root, probes) in enumerate(places_on(cameras.host) if places is None else places):
            nursery.start_soon(probed, place, root, probes)
    every = [each for place in sorted(found) for each in found[place]]
    return Report(cameras.host, without_repeats(every, cameras.host), problem)


async def _ask(root: CameraUrl, probes: tuple[Probe, ...]) -> list[Found]:
    """What the first answer that is understood means. A server that is not there is asked once."""
    for probe in probes:
        try:
            answer = await _probe(root.at(root.path + probe.path))
        except CameraError:
            return []
        if found := probe.judge(root, answer):
            return found
    return []


async def _probe(url: CameraUrl) -> Probed:
    """Raises CameraError."""
    async with upstream.get(url) as answer:
        body = await answer.whole(MAX_ANSWER_BYTES) if answer.head.status == 200 else b""
        return Probed(answer.head.status, answer.content_type, answer.field("server"), body)


def without_repeats(found: Iterable[Found], host: str) -> list[Found]:
    """The same stream by another way (nginx's, another name of the host) is one camera; the first stays."""
    seen: set[CameraUrl] = set()
    kept = []
    for each in found:
        ways = set(candidates(each.url, host))
        for url in list(ways):
            if url.port in _WEB_SERVER_PORTS:
                ways.update(candidates(url.target, host))
        if not ways & seen:
            kept.append(each)
        seen |= ways
    return kept


def _of_moonraker(webcam: dict[str, Any]) -> tuple[str, str, str, str]:
    name, service, url, snapshot_url = (
        str(webcam.get(key) or "") for key in ("name", "service", "stream_url", "snapshot_url")
    )
    return name, service, url, snapshot_url


def _mjpeg(source: str, root: CameraUrl, stream: str, snapshot: str, number: int = 0) -> Found:
    name = f"{_name(root)}-{number}" if number else _name(root)
    return Found(name, "mjpegstreamer", str(root.at(root.path + stream)), str(root.at(root.path + snapshot)), source)


def _name(root: CameraUrl) -> str:
    """``webcam``, ``webcam2`` …, as nginx and the UIs call them."""
    if name := root.path.strip("/"):
        return name
    return next((name for name, port in WEBCAM_PORTS.items() if port == root.port), f"camera-{root.port}")
