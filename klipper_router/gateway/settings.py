"""Every option of the gateway's sections: the reference of ``[gateway]``, ``[camera PRINTER NAME]``,
``[forward PORT]`` and of what ``[klippy NAME]`` gains by the gateway. Pure: looks at no file and no socket.

What their values are made of is in `values`, what several of them have wrong together in `problems`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from klipper_router.gateway.values import (
    DEFAULT_PORT,
    MOONRAKER_PATHS,
    Address,
    Addresses,
    Destination,
    HostNames,
    Moonraker,
    MoonrakerPaths,
    Networks,
    Origins,
)

PACKAGES = ("httptools", "wsproto")
"""What the gateway imports that the router alone does not need: the extra ``gateway``."""

INSTALL = "pip install '/path/to/this/checkout[gateway]', as the README says"


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True):
    """``[gateway]``: HTTP for all printers. Without it, nothing listens and nothing of the gateway is loaded."""

    listen: Addresses = Addresses([Address("127.0.0.1", DEFAULT_PORT)])
    """One or several ``host:port``, comma separated, of the main origin. Loopback unless said otherwise; ``*:7180``
    is every address of the machine."""

    hosts: HostNames = HostNames()
    """Further names by which clients reach the gateway; ``*.example.org`` for all below. IP literals, ``localhost``,
    the machine's own name and ``*.local`` are known. A request for any other Host is refused with 421."""

    trusted_clients: Networks = Networks()
    """Networks whose clients need no API key, as Moonraker's. Loopback is always trusted."""

    trusted_proxies: Networks = Networks()
    """Proxies in front of the gateway, whose X-Real-IP, X-Forwarded-For and X-Scheme are believed. From anyone else
    these are dropped."""

    cors_domains: Origins = Origins()
    """Foreign web pages that may call the gateway, as Moonraker's: ``http://my.example.org``, ``*.lan``."""

    api_key_file: str | None = None
    """File of the API key, made with mode 0600 if missing. None: ``api_key`` in ``data``."""

    tls_certificate: str | None = None
    """PEM file with the certificate chain. With it every origin speaks TLS only."""

    tls_key: str | None = None
    """PEM file with the key, if it is not in ``tls_certificate``."""

    mainsail: str | None = None
    """Directory of an unmodified Mainsail release."""

    fluidd: str | None = None
    """Directory of an unmodified Fluidd release."""

    data: str | None = None
    """Directory of what the gateway keeps: key/value stores, printers added at run time, the API key. Made with mode
    0700 if missing. None: nothing is kept."""

    max_connections: int = 512
    """Connections of all clients; one more is closed at once."""

    max_connections_per_client: int = 128
    """Connections of one IP address that is neither loopback nor a trusted proxy; one more is closed at once."""

    access_log: bool = False
    """Log every request, at level INFO; tokens and keys are never part of it."""


# Those that the gateway can show (docs/cameras.md).
Service = Literal[
    "mjpegstreamer",
    "mjpegstreamer-adaptive",
    "uv4l-mjpeg",
    "webrtc-camerastreamer",
    "webrtc-go2rtc",
    "webrtc-mediamtx",
    "hlsstream",
    "iframe",
    "html-video",
    "ipstream",
    "jmuxer-stream",
]


class CameraSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[camera PRINTER NAME]``: a camera that Moonraker does not know, or instead of what it says."""

    url: str
    """Address of the MJPEG stream, or of the go2rtc/WebRTC page: ``http://127.0.0.1:8080/?action=stream``."""

    snapshot_url: str | None = None
    """Address of a single picture. None: taken from the stream."""

    service: Service | None = None
    """How the UIs show it, in Moonraker's words. None: found out."""


class ForwardSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[forward PORT]``: TCP as it is, from a port of this machine to a host and port."""

    to: Destination
    """``host:port``, such as ``192.168.1.7:7125``."""

    listen: str = "127.0.0.1"
    """The address to listen on; ``*`` is every one of the machine. Nothing checks who connects."""

    tls_certificate: str | None = None
    """PEM file with a certificate chain: clients speak TLS, the target sees what is inside."""

    tls_key: str | None = None
    """PEM file with the key, if it is not in ``tls_certificate``."""


class KlippyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``[klippy NAME]`` says to the gateway."""

    moonraker: Moonraker | None = None
    """Address of this printer's Moonraker, such as ``http://127.0.0.1:7125``; ``none``: the router answers in its
    place. Left out: the gateway shows this printer's status only."""

    allow: MoonrakerPaths = MoonrakerPaths(MOONRAKER_PATHS)
    """First segments of Moonraker's paths that pass; leave out ``machine`` and ``access`` where a remote client must
    not reboot the host or change users."""

    origin: Addresses | None = None
    """An own origin of this printer: ``host:port`` to listen on. Its UI is at ``/`` there, as with ``host``."""

    host: HostNames = HostNames()
    """An own origin by name: requests for this Host, at any port of the gateway, mean this printer."""

    ui: Literal["mainsail", "fluidd"] | None = None
    """Which UI its own origin and ``/printers/NAME`` show. None: the one that is configured, Mainsail if both."""


PATH_OPTIONS = frozenset({"api_key_file", "tls_certificate", "tls_key", "mainsail", "fluidd", "data"})
"""Options that are paths: ``~`` is the home directory, a relative one begins at the configuration file's directory."""
