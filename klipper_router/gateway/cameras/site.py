"""Requests for cameras: ``/cameras/NAME/stream``, ``/snapshot``, and what is passed through.

| path below the printer | answer |
| --- | --- |
| ``/cameras/NAME/stream`` of an MJPEG camera | its frames, for as long as the client reads |
| ``/cameras/NAME/snapshot`` | one JPEG |
| ``/cameras/NAME/…`` of any other camera | what its server says at that place (`passthrough`) |
| ``/webcam/`` … ``/webcam4/`` | as nginx has them: ``?action=stream`` and ``?action=snapshot`` as above, else passed |
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from urllib.parse import unquote

import trio

from klipper_router.config import Config
from klipper_router.gateway.cameras import discovery, mjpeg
from klipper_router.gateway.cameras.address import WEBCAM_PORTS, CameraUrl, candidates
from klipper_router.gateway.cameras.camera import Camera
from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.frames import TextRewriter
from klipper_router.gateway.cameras.registry import PrinterCameras
from klipper_router.gateway.cameras.webcams import MARKER, Webcams, slug_of, webcam_of
from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse, Site
from klipper_router.gateway.routes import Route
from klipper_router.gateway.settings import CameraSection, KlippyOptions

# Until the first frame; afterwards nothing is too late.
FIRST_FRAME_S = 12.0
_NO_STORE = ("cache-control", "no-store")


def check(config: Config) -> None:
    """Raises ConfigError for an address that is none, and for two cameras with one name in our addresses."""
    titles: dict[tuple[str, str], str] = {}
    for title, section in config.camera.items():
        printer, _, name = title.partition(" ")
        for key in ("url", "snapshot_url"):
            try:
                if address := getattr(section, key):
                    CameraUrl.of(address)
            except ValueError as error:
                raise config.error(f"camera {title}", key, str(error)) from None
        slug = slug_of(name)
        other = titles.setdefault((printer, slug), title)
        if other != title:
            message = f"and [camera {other}] are both '{slug}' in addresses: rename one"
            raise config.error(f"camera {title}", "", message)


class Passed(NamedTuple):
    """A request that a camera's own server answers."""

    servers: tuple[CameraUrl, ...]
    """To try, in this order; ``path`` and ``query`` are those to ask for."""
    folder: str
    """What stands at the server for ``prefix`` here."""
    prefix: str


class CameraSite(Site):
    """All cameras of all printers. Connections to cameras are kept by tasks in ``nursery``."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._printers: dict[str, PrinterCameras] = {}

    def configure(self, printers: Mapping[str, KlippyOptions], cameras: Mapping[str, CameraSection]) -> None:
        """Take on a configuration; ``cameras`` are named ``PRINTER NAME``. Streams of unchanged cameras go on."""
        before, self._printers = self._printers, {}
        for name, options in printers.items():
            moonraker = options.moonraker.upstream if options.moonraker else None
            old = before.pop(name, None)
            if old is not None and old.moonraker != moonraker:
                old.close()
                old = None
            own = self._printers[name] = old or PrinterCameras(name, self._nursery, moonraker)
            own.configure(
                {title.partition(" ")[2]: c for title, c in cameras.items() if title.partition(" ")[0] == name}
            )
        for gone in before.values():
            gone.close()

    def of(self, printer: str) -> PrinterCameras | None:
        """The cameras of a printer, None if there is no such printer."""
        return self._printers.get(printer)

    def names(self, printer: str) -> list[str]:
        """The cameras of a printer that are known by now, by the name in their address."""
        of_printer = self.of(printer)
        return [spec.slug for spec in of_printer.specs()] if of_printer else []

    def webcams(self, printer: str, base: str) -> list[dict[str, Any]]:
        """The cameras of a printer in the shape of Moonraker's ``server.webcams.list``, with URLs below ``base``."""
        of_printer = self.of(printer)
        return [webcam_of(spec, base) for spec in of_printer.specs()] if of_printer else []

    async def ask_moonraker(self, printer: str) -> None:
        """Learn the webcams of a printer's Moonraker."""
        if (of_printer := self.of(printer)) and of_printer.moonraker:
            await of_printer.ask_moonraker()

    async def discover(self, printer: str) -> list[tuple[str, dict[str, str], bool]]:
        """Look for cameras of a printer: of each a name, the options to add it by, and whether it is shown."""
        of_printer = self.of(printer)
        if of_printer is None:
            return []
        report = await discovery.discover(of_printer)
        shown = {spec.name for spec in of_printer.specs()}
        return [
            (found.name, options, found.name in shown)
            for found in report.found
            if (options := found.options(report.host))
        ]

    def for_webcams(self, printer: str, base: str) -> Webcams | None:
        """See `http.Rewriters`."""
        cameras = self._printers.get(printer)
        return Webcams(base, cameras.learn, cameras.specs) if cameras else None

    def for_websocket(self, printer: str, base: str) -> tuple[TextRewriter, TextRewriter] | None:
        """See `http.Rewriters`."""
        webcams = self.for_webcams(printer, base)
        if webcams is None:
            return None
        return TextRewriter(webcams.to_moonraker, MARKER), TextRewriter(webcams.from_moonraker, MARKER)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises HttpError."""
        camera, what = await self._asked(request)
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "a picture can only be read", headers=[("allow", "GET, HEAD")])
        try:
            if what == "snapshot":
                with trio.fail_after(FIRST_FRAME_S):
                    jpeg = (await camera.picture()).jpeg
                return HttpResponse(200, [("content-type", "image/jpeg"), _NO_STORE], jpeg)
            return await _stream(camera)
        except CameraError as error:
            raise HttpError(502, f"camera {camera.spec.name}: {error}") from None
        except trio.TooSlowError:
            raise HttpError(504, f"camera {camera.spec.name} sends no picture") from None

    async def passed(self, route: Route, raw_query: bytes) -> Passed | None:
        """What a request is if a camera's own server is to answer it; None: it is ours."""
        cameras = self._printers.get(route.printer or "")
        if cameras is None:
            return None
        prefix, query = route.prefix.decode("latin-1"), raw_query.decode("latin-1")
        first, slug, rest = _parts(route.rest.decode("latin-1"))
        if first in WEBCAM_PORTS:
            target = f"{slug}/{rest}" if rest is not None else slug
            if _nginx_asks(target, query):
                return None
            servers = candidates(f"/{first}/{target}", cameras.host)
            return Passed(tuple(url._replace(query=query) for url in servers), "/", f"{prefix}/{first}/")
        camera = await cameras.find(unquote(slug)) if slug else None
        if camera is None or rest is None:
            return None
        spec = camera.spec
        if spec.is_mjpeg or (rest == "snapshot" and spec.snapshots):
            return None
        servers = tuple(url._replace(path=spec.folder + rest, query=query) for url in spec.streams)
        return Passed(servers, spec.folder, f"{prefix}/cameras/{slug}/")

    async def _asked(self, request: HttpRequest) -> tuple[Camera, str]:
        """Whose ``stream`` or ``snapshot`` it is. Raises HttpError (404)."""
        assert request.printer is not None
        cameras = self._printers.get(request.printer)
        first, slug, rest = _parts(request.path)
        if cameras is not None and first in WEBCAM_PORTS:
            target = f"{slug}/{rest}" if rest is not None else slug
            if what := _nginx_asks(target, "&".join(f"{key}={value}" for key, value in request.query.items())):
                return cameras.nginx(first), what
        elif cameras is not None and slug:
            camera = await cameras.find(slug)
            if camera is None:
                why = f" ({cameras.problem})" if cameras.problem else ""
                raise HttpError(404, f"{request.printer} has no camera '{slug}'{why}")
            if rest in ("stream", "snapshot"):
                return camera, rest
        raise HttpError(404, "Not Found: a camera has /stream and /snapshot")


async def _stream(camera: Camera) -> HttpResponse:
    """Its frames, once the first is there. Raises CameraError, trio.TooSlowError."""
    frames = _Frames(camera)
    try:
        with trio.fail_after(FIRST_FRAME_S):
            await frames.begin()
    except BaseException:
        await frames.aclose()
        raise
    # X-Accel-Buffering: an nginx in front of us hands frames on as they come.
    fields = [("content-type", mjpeg.CONTENT_TYPE), _NO_STORE, ("x-accel-buffering", "no")]
    return HttpResponse(200, fields, frames, live=True)


class _Frames(AsyncGenerator[bytes, None]):
    """What a viewer is sent. No generator function: one that was never begun does not know that it was closed."""

    def __init__(self, camera: Camera) -> None:
        self._watching = ExitStack()
        self._viewer = self._watching.enter_context(camera.feed.watch())
        self._first = b""

    async def begin(self) -> None:
        """Wait for the first frame. Raises CameraError."""
        self._first = mjpeg.FIRST_DELIMITER + (await self._viewer.first()).part

    async def asend(self, value: None) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return (await self._viewer.next()).part
        except CameraError:
            raise StopAsyncIteration from None

    async def athrow(self, *error: Any) -> bytes:
        """How `aclose` ends it."""
        self._watching.close()
        raise StopAsyncIteration


def _parts(path: str) -> tuple[str, str, str | None]:
    """``/cameras/nozzle/a/b``: cameras, nozzle, a/b. The last is None where there is no slash behind the second."""
    first, _, below = path.lstrip("/").partition("/")
    slug, slash, rest = below.partition("/")
    return first, slug, rest if slash else None


def _nginx_asks(target: str, query: str) -> str | None:
    """``stream`` or ``snapshot``: what crowsnest's streamers have behind ``/webcam/``. None: something else."""
    if target in ("stream", "snapshot"):
        return target
    action = next((item[7:] for item in query.split("&") if item.startswith("action=")), None)
    return action if not target and action in ("stream", "snapshot") else None
