"""Moonraker's webcams seen through the gateway: addresses replaced in what it says, and back in what it is told.

Pure: JSON in, JSON out. Both UIs resolve a webcam's path against the page's origin, not below its prefix, and each in
its own way, so that what they are given is a whole address: of this gateway, as the browser itself named it. What a
user saves in a UI gets its original address back, else a way through this gateway would be kept in Moonraker's
database, for clients that do not come this way.

Recognised by their shape, as answers of JSON-RPC do not name their method: `server.webcams.list`, ``get_item``,
``post_item``, ``delete_item``, ``test``, `notify_webcams_changed`, and the same over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import msgspec

from klipper_router.gateway.cameras.address import CameraUrl, candidates
from klipper_router.gateway.cameras.camera import (
    SERVICES,
    CameraSpec,
    guessed_service,
    implied_snapshots,
)
from klipper_router.gateway.settings import CameraSection

MARKER = b"_url"
"""Stands in every message that may need a change."""

# More webcams than this are not looked at: each is kept.
MAX_WEBCAMS = 64

_SLUG = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_OURS = re.compile(r"(?:(?:https?|wss?)://[^/?#]+)?(?P<base>/[^?#]*)?/cameras/(?P<slug>[^/?#]+)/.*", re.DOTALL)


def slug_of(name: str, uid: str = "") -> str:
    """A name for addresses: Mainsail decodes what is escaped, so nothing may be."""
    if _SLUG.fullmatch(name) and not name.startswith("."):
        return name
    return uid if _SLUG.fullmatch(uid) else re.sub(r"[^A-Za-z0-9_~-]+", "-", name).strip("-")[:64] or "camera"


def spec_of(webcam: Any, host: str, moonraker_port: int | None = None) -> CameraSpec | None:
    """What Moonraker says of a webcam, for a printer on ``host``. None: it is not for us to show."""
    match webcam:
        case {"name": str(name), "service": str(service), "stream_url": str(stream_url)} if name:
            pass
        case _:
            return None
    streams = candidates(stream_url, host, moonraker_port)
    if not streams or service not in SERVICES:
        return None
    snapshot_url, uid = str(webcam.get("snapshot_url") or ""), str(webcam.get("uid") or "")
    return CameraSpec(
        name=name,
        slug=slug_of(name, uid),
        service=service,
        streams=streams,
        snapshots=candidates(snapshot_url, host, moonraker_port) or implied_snapshots(service, streams),
        stream_url=stream_url,
        snapshot_url=snapshot_url,
        uid=uid,
    )


def configured_spec(name: str, section: CameraSection) -> CameraSpec:
    """``[camera PRINTER NAME]``. Raises ValueError for an address that is none."""
    stream = CameraUrl.of(section.url)
    service = section.service or guessed_service(stream)
    snapshots = (CameraUrl.of(section.snapshot_url),) if section.snapshot_url else implied_snapshots(service, (stream,))
    return CameraSpec(
        name=name,
        slug=slug_of(name),
        service=service,
        streams=(stream,),
        snapshots=snapshots,
        stream_url=section.url,
        snapshot_url=section.snapshot_url or "",
        configured=True,
    )


def stream_path(spec: CameraSpec) -> str:
    """Where its stream is below ``/cameras/``; for one that is passed through, the page or signalling address."""
    if spec.is_mjpeg:
        return f"/cameras/{spec.slug}/stream"
    tail = spec.streams[0].target[len(spec.folder) :] if spec.streams[0].path.startswith(spec.folder) else ""
    return f"/cameras/{spec.slug}/{tail}"


def snapshot_path(spec: CameraSpec) -> str:
    """Where its single picture is; "" if it has none."""
    return f"/cameras/{spec.slug}/snapshot" if spec.is_mjpeg or spec.snapshots else ""


def shown_urls(spec: CameraSpec, base: str) -> tuple[str, str]:
    """Stream and snapshot address of a camera below ``base``, such as ``http://host:7180/printers/main``."""
    own = base.replace("http", "ws", 1) if spec.streams[0].scheme in ("ws", "wss") else base
    snapshot = snapshot_path(spec)
    return own + stream_path(spec), base + snapshot if snapshot else ""


class Webcams:
    """The rewriting for one printer and one client. ``base`` is by what the client reaches the printer.

    ``learn`` is given webcams as Moonraker has them, and whether these are all, and says which are shown through the
    gateway, by name; ``known`` gives all cameras of the printer.
    """

    def __init__(
        self,
        base: str,
        learn: Callable[[list[Any], bool], dict[str, CameraSpec]],
        known: Callable[[], Iterable[CameraSpec]],
    ) -> None:
        self.base = base
        self._learn = learn
        self._known = known

    def response_body(self, body: bytes) -> bytes:
        """What Moonraker says, with our addresses."""
        return self.from_moonraker(body) or body

    def request_body(self, body: bytes) -> bytes:
        """The body of ``POST /server/webcams/item``, with its own addresses."""
        params = _decoded(body)
        return msgspec.json.encode(params) if isinstance(params, dict) and self._restore(params) else body

    def from_moonraker(self, text: bytes) -> bytes | None:
        """A message of Moonraker's as the client is to see it; None: as it is."""
        messages = _decoded(text)
        changed = [self._show_message(message) for message in _each(messages)]
        return msgspec.json.encode(messages) if any(changed) else None

    def to_moonraker(self, text: bytes) -> bytes | None:
        """A message of the client's as Moonraker is to see it; None: as it is."""
        messages = _decoded(text)
        changed = False
        for message in _each(messages):
            match message:
                case {"method": "server.webcams.post_item", "params": dict(params)}:
                    changed = self._restore(params) or changed
        return msgspec.json.encode(messages) if changed else None

    def _show_message(self, message: dict[str, Any]) -> bool:
        match message:
            case {"method": "notify_webcams_changed", "params": [{"webcams": list(webcams)}]}:
                return self._show(webcams, every=True)
            case {"result": {"webcams": list(webcams)}}:
                return self._show(webcams, every=True)
            case {"result": {"webcam": dict(webcam)}}:
                return self._show([webcam])
            case {"result": {"snapshot_reachable": bool(), "name": str(name), **rest}}:
                spec = next((spec for spec in self._known() if spec.name == name), None)
                if spec is not None and {"stream_url", "snapshot_url"} <= rest.keys():
                    message["result"] |= _urls(spec, self.base)
                    return True
        return False

    def _show(self, webcams: list[Any], *, every: bool = False) -> bool:
        specs = self._learn(webcams[:MAX_WEBCAMS], every)
        changed = False
        for webcam in webcams:
            if isinstance(webcam, dict) and (spec := specs.get(str(webcam.get("name")))) is not None:
                webcam |= _urls(spec, self.base)
                if spec.configured:
                    webcam["service"] = spec.service
                changed = True
        if every:
            names = [webcam.get("name") for webcam in webcams if isinstance(webcam, dict)]
            missing = [spec for spec in specs.values() if spec.configured and spec.name not in names]
            webcams += [webcam_of(spec, self.base) for spec in missing]
            changed = changed or bool(missing)
        return changed

    def _restore(self, params: dict[str, Any]) -> bool:
        changed = False
        base_path = re.sub(r"^\w+://[^/]+", "", self.base)
        for key in ("stream_url", "snapshot_url"):
            url = params.get(key)
            match = _OURS.fullmatch(url) if isinstance(url, str) else None
            if match is None or (match["base"] or "") != base_path:
                continue
            slug = unquote(match["slug"])
            spec = next((spec for spec in self._known() if spec.slug == slug), None)
            if spec is not None:
                params[key] = getattr(spec, key)
                changed = True
        return changed


def webcam_of(spec: CameraSpec, base: str) -> dict[str, Any]:
    """A camera that Moonraker does not know, as it would have it."""
    return {
        "name": spec.name,
        "enabled": True,
        "icon": "mdiWebcam",
        "aspect_ratio": "4:3",
        "target_fps": 15,
        "target_fps_idle": 5,
        "location": "printer",
        "service": spec.service,
        **_urls(spec, base),
        "flip_horizontal": False,
        "flip_vertical": False,
        "rotation": 0,
        "source": "config",
        "extra_data": {},
        "uid": spec.uid or f"klipper-router-{spec.slug}",
    }


def _urls(spec: CameraSpec, base: str) -> dict[str, str]:
    stream_url, snapshot_url = shown_urls(spec, base)
    return {"stream_url": stream_url, "snapshot_url": snapshot_url}


def _decoded(text: bytes) -> Any:
    """None for what is no JSON: not ours to judge."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _each(messages: Any) -> list[dict[str, Any]]:
    """The messages of a batch, or the one there is."""
    return [
        message for message in (messages if isinstance(messages, list) else [messages]) if isinstance(message, dict)
    ]
