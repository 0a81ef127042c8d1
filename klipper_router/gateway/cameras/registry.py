"""Which cameras a printer has: those of the configuration, and those that its Moonraker names.

Moonraker's are learnt from its own answers as they pass (`webcams`), or asked for when a camera is wanted that is not
known yet. A configured camera goes before one of Moonraker's with the same name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from klipper_router.gateway.cameras import upstream, webcams
from klipper_router.gateway.cameras.address import CameraUrl, candidates
from klipper_router.gateway.cameras.camera import Camera, CameraSpec, implied_snapshots
from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.settings import CameraSection
from klipper_router.gateway.values import Upstream

log = logging.getLogger("klipper_router.gateway.cameras")

ASK_AGAIN_S = 5.0
ASK_S = 3.0
MAX_LIST_BYTES = 1024 * 1024


class PrinterCameras:
    """The cameras of a printer. ``moonraker`` is where its Moonraker is; None: the printer is on this host."""

    def __init__(self, printer: str, nursery: trio.Nursery, moonraker: Upstream | None) -> None:
        self._printer = printer
        self.moonraker = moonraker
        self.problem: CameraError | None = None
        """Why Moonraker could not be asked for its webcams, when it last was."""
        self._nursery = nursery
        self._configured: dict[str, CameraSpec] = {}
        self._learnt: dict[str, CameraSpec] = {}
        self._at_work: dict[str, Camera] = {}
        self._asked_at = -float("inf")
        self._asking = trio.Lock()

    @property
    def host(self) -> str:
        """The printer's own host: where a webcam without a host is, and the only one looked at."""
        return self.moonraker.host if self.moonraker else "127.0.0.1"

    def specs(self) -> list[CameraSpec]:
        """All cameras that are known; of two with one name in our addresses the configured one."""
        return list({spec.slug: spec for spec in (self._learnt | self._configured).values()}.values())

    def configure(self, sections: Mapping[str, CameraSection]) -> None:
        """Take on the configuration's cameras of this printer, by name; one whose address is none is left out."""
        before, self._configured = self._configured, {}
        for name, section in sections.items():
            try:
                self._configured[name] = webcams.configured_spec(name, section)
            except ValueError as error:
                log.error("%s: camera %s is left out: %s", self._printer, name, error)
        if self._configured != before:
            log.info("%s: cameras of the configuration: %s", self._printer, ", ".join(self._configured) or "none")
        self._close_changed()

    def learn(self, listed: list[Any], every: bool) -> dict[str, CameraSpec]:
        """Take note of Moonraker's webcams, or of some; returns what is shown through the gateway, by name."""
        port = self.moonraker.port if self.moonraker else None
        found = [spec for webcam in listed if (spec := webcams.spec_of(webcam, self.host, port))]
        if every:
            self._learnt = {}
        names = [webcam.get("name") for webcam in listed if isinstance(webcam, dict)]  # of any type: it is not ours
        for spec in found:
            if len(self._learnt) < webcams.MAX_WEBCAMS or spec.name in self._learnt:
                self._learnt[spec.name] = spec
        self._close_changed()
        known = {spec.name: spec for spec in self.specs()}
        return known if every else {name: spec for name, spec in known.items() if name in names}

    async def find(self, slug: str) -> Camera | None:
        """The camera of this name, asking Moonraker if it is not known."""
        spec = self._spec(slug)
        if spec is None and self.moonraker:
            await self.ask_moonraker()
            spec = self._spec(slug)
        return self._camera(spec) if spec else None

    def nginx(self, name: str) -> Camera:
        """The camera at ``/webcam/`` or its like, as nginx has it in every Klipper image; a known one if it is."""
        streams = candidates(f"/{name}/?action=stream", self.host)
        same = (known for known in self.specs() if known.is_mjpeg and set(streams) & set(known.streams))
        snapshots = implied_snapshots("mjpegstreamer", streams)
        return self._camera(next(same, None) or CameraSpec(name, f"/{name}", "mjpegstreamer", streams, snapshots))

    async def ask_moonraker(self) -> None:
        """Learn its webcams, if it was not asked just now; `problem` says why that failed."""
        assert self.moonraker is not None
        async with self._asking:
            if trio.current_time() - self._asked_at < ASK_AGAIN_S:
                return
            self._asked_at = trio.current_time()
            try:
                self.learn(await moonraker_webcams(self.moonraker), True)
                self.problem = None
            except CameraError as error:
                self.problem = error

    def close(self) -> None:
        """The printer is no more."""
        for camera in self._at_work.values():
            camera.close()
        self._at_work.clear()

    def _spec(self, slug: str) -> CameraSpec | None:
        return next((spec for spec in self.specs() if slug in (spec.slug, spec.name)), None)

    def _camera(self, spec: CameraSpec) -> Camera:
        camera = self._at_work.get(spec.slug)
        if camera is None:  # one of another spec is gone: `_close_changed`
            camera = self._at_work[spec.slug] = Camera(
                spec, self._nursery, upstream.pull, upstream.picture, f"{self._printer}: camera {spec.name}"
            )
        return camera

    def _close_changed(self) -> None:
        """End those that are gone, or not what they were."""
        specs = {spec.slug: spec for spec in self.specs()}
        for slug, camera in list(self._at_work.items()):
            if specs.get(slug) != camera.spec and not slug.startswith("/"):  # those of `nginx` are always there
                camera.close()
                del self._at_work[slug]


async def moonraker_webcams(moonraker: Upstream) -> list[Any]:
    """`server.webcams.list` of a Moonraker. Raises CameraError."""
    scheme = "https" if moonraker.tls else "http"
    url = CameraUrl(scheme, moonraker.host, moonraker.port, f"{moonraker.path}/server/webcams/list", "")
    try:
        with trio.fail_after(ASK_S):
            async with upstream.get(url, "application/json") as answer:
                if answer.head.status == 401:
                    raise CameraError(f"{moonraker} wants a login: put this host into its trusted_clients")
                answer.check()
                body = await answer.whole(MAX_LIST_BYTES)
    except trio.TooSlowError:
        raise CameraError(f"{moonraker} does not answer") from None
    try:
        match msgspec.json.decode(body):
            case {"result": {"webcams": list(listed)}}:
                return listed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise CameraError(f"{url} answers with what is no list of webcams")
