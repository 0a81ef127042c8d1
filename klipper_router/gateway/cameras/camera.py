"""One camera: what it is, its stream, and single pictures of it.

A single picture is taken from the stream while that is open, or else fetched, once for all who ask meanwhile. Who asks
for one picture after the other (Mainsail's and Fluidd's "adaptive" cameras, 15 a second) is better served by the
stream: it is opened for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, get_args

import trio

from klipper_router.gateway.cameras.address import CameraUrl
from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.feed import Feed, OnFrame
from klipper_router.gateway.cameras.mjpeg import Frame
from klipper_router.gateway.settings import Service

# Those of Moonraker's services whose stream_url is an MJPEG stream; all others are passed through as they are.
MJPEG_SERVICES = frozenset({"mjpegstreamer", "mjpegstreamer-adaptive", "uv4l-mjpeg"})
SERVICES = frozenset(get_args(Service))

# A fetched picture serves everybody for so long.
REUSE_S = 0.5
# Three pictures within this time are a film.
OFTEN_S = 1.0
PICTURE_S = 10.0


class CameraSpec(NamedTuple):
    """What a camera is. Two that are equal are the same camera."""

    name: str
    slug: str
    """Its name in our addresses."""
    service: str
    streams: tuple[CameraUrl, ...]
    """Addresses to try, in this order."""
    snapshots: tuple[CameraUrl, ...] = ()
    stream_url: str = ""
    """As Moonraker or the configuration has it."""
    snapshot_url: str = ""
    configured: bool = False
    """By ``[camera PRINTER NAME]``; else Moonraker named it."""
    uid: str = ""

    @property
    def is_mjpeg(self) -> bool:
        return self.service in MJPEG_SERVICES

    @property
    def folder(self) -> str:
        """The path, on the camera's server, below which all is the camera's that is passed through."""
        path = self.streams[0].path
        if self.service == "webrtc-mediamtx":  # players put /whep behind the address
            return path if path.endswith("/") else path + "/"
        return self.streams[0].folder


def guessed_service(url: CameraUrl) -> str:
    """The service of an address that comes without one."""
    path = url.path
    if url.scheme in ("ws", "wss"):
        return "jmuxer-stream"
    if path.endswith(("/stream.html", "/api/webrtc")):
        return "webrtc-go2rtc"
    if path.endswith("/webrtc"):
        return "webrtc-camerastreamer"
    if path.endswith(".m3u8"):
        return "hlsstream"
    return "mjpegstreamer"


def implied_snapshots(service: str, streams: tuple[CameraUrl, ...]) -> tuple[CameraUrl, ...]:
    """Where a camera that names no snapshot address is known to have one."""
    if service == "webrtc-go2rtc":
        return tuple(url.at(f"{url.folder}api/frame.jpeg?{url.query}") for url in streams if "src=" in url.query)
    if service == "webrtc-camerastreamer":
        return tuple(url.at(f"{url.folder}snapshot") for url in streams)
    if service in MJPEG_SERVICES:
        swapped = ((url, url.query.replace("action=stream", "action=snapshot")) for url in streams)
        return tuple(url.at(f"{url.path}?{query}") for url, query in swapped if query != url.query)
    return ()


Pull = Callable[[CameraUrl, OnFrame], Awaitable[None]]
Picture = Callable[[CameraUrl], Awaitable[Frame]]


class Camera:
    """A camera at work, called ``name``. ``pull`` and ``picture`` are `upstream`'s; tasks run in ``nursery``."""

    def __init__(self, spec: CameraSpec, nursery: trio.Nursery, pull: Pull, picture: Picture, name: str) -> None:
        self.spec = spec
        self.feed = Feed(name, self._pull_any, nursery)
        self._nursery = nursery
        self._pull = pull
        self._picture = picture
        self._good: CameraUrl | None = None  # that gave frames last
        self._asked: deque[float] = deque(maxlen=3)  # when, for single pictures
        self._newest: tuple[float, Frame] | None = None
        self._fetch: _Fetch | None = None

    async def picture(self) -> Frame:
        """A picture that is fresh. Raises CameraError."""
        now = trio.current_time()
        self._asked.append(now)
        often = len(self._asked) == 3 and now - self._asked[0] < OFTEN_S and self.spec.is_mjpeg
        if self.feed.frame is not None and not often:
            return self.feed.frame
        if often:
            try:
                with self.feed.watch() as viewer, trio.fail_after(PICTURE_S):
                    return await viewer.first()
            except (CameraError, trio.TooSlowError) as error:
                # Perhaps it has as many clients as it takes; a single picture may still be had.
                if not self.spec.snapshots:
                    raise CameraError(str(error) or "the camera sends no picture") from None
        if self._newest is not None and now - self._newest[0] < REUSE_S:
            return self._newest[1]
        if self._fetch is None:
            self._fetch = _Fetch()
            self._nursery.start_soon(self._run_fetch, self._fetch, name=f"picture of camera {self.spec.name}")
        return await self._fetch.result()

    def close(self) -> None:
        """The camera is no more: its viewers' streams end."""
        self.feed.stop()

    async def _run_fetch(self, fetch: _Fetch) -> None:
        try:
            frame = await self._first_picture()
            self._newest = trio.current_time(), frame
            fetch.end(frame)
        except CameraError as error:
            fetch.end(error)
        finally:
            self._fetch = None

    async def _first_picture(self) -> Frame:
        """From the first address that gives one. Raises CameraError of the last."""
        urls = self.spec.snapshots or (self.spec.streams if self.spec.is_mjpeg else ())
        problem = CameraError("this camera has no single pictures: give it a snapshot_url")
        for url in urls:
            try:
                return await self._picture(url)
            except CameraError as error:
                problem = error
        raise problem

    async def _pull_any(self, on_frame: OnFrame) -> None:
        """Pull from the first address that gives frames. Raises CameraError of the last."""
        frames_before = self.feed.frames
        problem = CameraError("the camera has no address")
        for url in sorted(self.spec.streams, key=lambda url: url != self._good):
            try:
                await self._pull(url, on_frame)
                problem = CameraError(f"{url} ended its stream")
            except CameraError as error:
                problem = error
            if self.feed.frames > frames_before:
                self._good = url
                break
        raise problem


class _Fetch:
    """A picture on its way to all who wait for it."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._result: Frame | CameraError | None = None

    def end(self, result: Frame | CameraError) -> None:
        self._result = result
        self._done.set()

    async def result(self) -> Frame:
        """Raises CameraError."""
        await self._done.wait()
        if isinstance(self._result, Frame):
            return self._result
        raise CameraError(str(self._result))
