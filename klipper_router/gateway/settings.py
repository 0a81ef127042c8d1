"""Every option of the gateway's sections, and the reading of their values. Pure: looks at no file and no socket.

The structs are the reference of ``[gateway]``, ``[camera PRINTER NAME]`` and ``[forward PORT]`` and of what
``[klippy NAME]`` gains by the gateway. A value with a form of its own (addresses, networks, an upstream) is a class
here, made from its text by ``of``, which raises ValueError with the mend; `decode` is msgspec's ``dec_hook`` for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from klipper_router.errors import nearest

if TYPE_CHECKING:
    import ipaddress

DEFAULT_PORT = 7180

PACKAGES = ("httptools", "wsproto")
"""What the gateway imports that the router alone does not need: the extra ``gateway``."""

INSTALL = "pip install '/path/to/this/checkout[gateway]', as the README says"

# What Moonraker serves, by the first segment of the path. All else below a printer is its UI, or ours.
MOONRAKER_PATHS = ("access", "api", "debug", "klippysocket", "machine", "printer", "server", "websocket")

UNSAFE_IN_PATHS = re.compile(r"[/\\?#%]|^\.{1,2}$")
"""What a name must be without, as it stands in addresses."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_IPV4 = re.compile(r"[0-9.]+")
_HOST_PATTERN = re.compile(rf"(\*\.)?{_HOST_NAME.pattern}")


class Address(NamedTuple):
    """Where to listen or whom to reach. ``host`` is a name or an IP literal without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Addresses(tuple[Address, ...]):
    """``127.0.0.1:7180, [::1]:7180``. A port alone: loopback, ``*:7180``: every IPv4 address, ``[::]:7180``: all."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> Addresses:
        items = [_listen_address(item) for item in _items(text)]
        if not items:
            raise ValueError(f"give an address such as 127.0.0.1:{DEFAULT_PORT}")
        if twice := {str(item) for item in items if items.count(item) > 1}:
            raise ValueError(f"{', '.join(twice)} is there twice")
        return cls(items)


class _Spelt:
    """Equal to what is spelt the same: a configuration that is read again has changed only where it says so."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Destination(_Spelt):
    """``192.168.1.7:7125``: where a TCP forward leads."""

    __slots__ = ("host", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @classmethod
    def of(cls, text: str) -> Destination:
        host, port = _host_and_port(text)
        if not host or port is None:
            raise ValueError("write host:port, such as 192.168.1.7:7125")
        return cls(host, port)

    def __str__(self) -> str:
        return str(Address(self.host, self.port))


class HostNames(tuple[str, ...]):
    """Names of this host, in lower case; ``*.example.org`` means every name below it."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> HostNames:
        names = [name.lower().rstrip(".") for name in _items(text)]
        for name in names:
            if not _HOST_PATTERN.fullmatch(name):
                raise ValueError(f"'{name}' is no host name: write names such as printers.example.org, without port")
        return cls(names)


class Networks(tuple["ipaddress.IPv4Network | ipaddress.IPv6Network", ...]):
    """``192.168.0.0/16, 10.1.2.3``: networks and single addresses."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> Networks:
        import ipaddress  # 4 ms at every start, and only a gateway needs it

        networks = []
        for item in _items(text):
            try:
                network = ipaddress.ip_network(item, strict=False)
            except ValueError:
                mend = "write such as 192.168.1.0/24 or 10.1.2.3"
                raise ValueError(f"'{item}' is no IP address or network: {mend}") from None
            if "/" in item and ipaddress.ip_address(item.partition("/")[0]) != network.network_address:
                alone = ipaddress.ip_network(item.partition("/")[0])
                raise ValueError(f"'{item}' is an address within a network: write {network}, or {alone} for it alone")
            networks.append(network)
        return cls(networks)


class Origins(tuple[str, ...]):
    """``http://my.example.org, *.local, *://app.example.org``: Moonraker's ``cors_domains``; ``*`` is a wildcard.

    Without a scheme both are meant. Where Moonraker takes anything, a lone ``*`` is refused here: it lets any web
    page drive the printers.
    """

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> Origins:
        origins = []
        for item in _items(text):
            scheme, sep, host = item.lower().rstrip("/").rpartition("://")
            if not host.strip("*.:") or "/" in host or scheme not in ("", "*", "http", "https", "app"):
                raise ValueError(f"'{item}' is no origin: write such as http://my.example.org or *.local")
            origins.append(f"{scheme if sep else '*'}://{host}")
        return cls(origins)


# Moonraker's `route_prefix`: names, none of which means another place or needs an escape.
_ROUTE_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*)*/?")


class Upstream(_Spelt):
    """``http://127.0.0.1:7125`` or ``https://…``, with a path where Moonraker has a ``route_prefix``."""

    __slots__ = ("host", "path", "port", "tls")

    def __init__(self, host: str, port: int, *, tls: bool = False, path: str = "") -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.path = path

    @classmethod
    def of(cls, text: str) -> Upstream:
        problem = ValueError("write an address such as http://127.0.0.1:7125")
        if not re.fullmatch(r"[!-~]+", text):
            raise problem
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise problem from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise problem
        if parts.username is not None:
            raise ValueError("an address holds no user or password")
        if not _ROUTE_PREFIX.fullmatch(parts.path):
            raise ValueError(f"the path {parts.path} may hold letters, digits, '-', '_', '~' and single dots")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (7130 if tls else 7125), tls=tls, path=parts.path.rstrip("/"))

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{Address(self.host, self.port)}{self.path}"


class Moonraker(_Spelt):
    """A printer's Moonraker: an `Upstream`, or None where the router answers for it (``moonraker: none``)."""

    __slots__ = ("upstream",)

    def __init__(self, upstream: Upstream | None) -> None:
        self.upstream = upstream

    @classmethod
    def of(cls, text: str) -> Moonraker:
        if text.lower() == "none":
            return cls(None)
        try:
            return cls(Upstream.of(text))
        except ValueError as error:
            raise ValueError(f"{error}, or 'none' for a printer without Moonraker") from None

    def __str__(self) -> str:
        return str(self.upstream) if self.upstream else "none"


_NO_MOONRAKER = Moonraker(None)


class MoonrakerPaths(tuple[str, ...]):
    """``printer, server, websocket``: first segments of Moonraker's paths."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> MoonrakerPaths:
        names = [item.strip("/").lower() for item in _items(text)]
        if unknown := [name for name in names if name not in MOONRAKER_PATHS]:
            raise ValueError(f"'{unknown[0]}' is none of {', '.join(MOONRAKER_PATHS)}")
        return cls(names)


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

_TEXT_TYPES: tuple[Any, ...] = (
    Addresses,
    Destination,
    HostNames,
    Moonraker,
    MoonrakerPaths,
    Networks,
    Origins,
    Upstream,
)

T = TypeVar("T")


def decode(kind: type[T], value: object) -> T:
    """msgspec's ``dec_hook`` for the types of this module; a YAML list is the same as a comma separated text."""
    if kind not in _TEXT_TYPES:
        raise NotImplementedError(kind)
    if isinstance(value, list):
        value = ",".join(str(item) for item in value)
    if not isinstance(value, str):
        raise ValueError("this must be text")
    made: T = kind.of(value.strip())  # type: ignore[attr-defined]
    return made


class Problem(NamedTuple):
    """What is wrong between options that are right alone; ``section`` is the title without brackets."""

    section: str
    key: str
    message: str


def problems(
    gateway: GatewaySection | None,
    klippy: dict[str, KlippyOptions],
    cameras: Iterable[str],
    forwards: dict[str, ForwardSection],
) -> Iterator[Problem]:
    """What several sections have wrong together. ``cameras`` are the names, ``PRINTER NAME``."""
    taken: dict[Address, str] = {}
    if gateway is None:
        if title := next((f"camera {name}" for name in cameras), None):
            yield Problem(title, "", "cameras are the gateway's: add a section [gateway]")
    else:
        yield from _taken(taken, gateway.listen, "gateway", "listen")
        yield from _tls_problems("gateway", gateway)
        for name in klippy:
            if bad := UNSAFE_IN_PATHS.search(name):
                yield Problem(f"klippy {name}", "", f"a name may not hold {bad[0]!r}: it is a part of addresses")
    hosts: dict[str, str] = {}
    for name, options in klippy.items():
        title = f"klippy {name}"
        if options.origin:
            yield from _taken(taken, options.origin, title, "origin")
        for host in options.host:
            if (other := hosts.setdefault(host, title)) != title:
                yield Problem(title, "host", f"{host} is the host of [{other}] already")
        if gateway and options.ui and not getattr(gateway, options.ui):
            yield Problem(title, "ui", f"'ui: {options.ui}' needs '{options.ui}: DIRECTORY' in [gateway]")
        if options.moonraker == _NO_MOONRAKER and {*options.allow} != {*MOONRAKER_PATHS}:
            message = (
                "'allow' is for a printer with its own Moonraker; use gcode_from, allow_gcode, endpoints_from and"
                " allow_endpoints for this one"
            )
            yield Problem(title, "allow", message)
        if options.moonraker is None and (key := "origin" if options.origin else "host" if options.host else ""):
            message = "an own origin needs 'moonraker': the address of this printer's Moonraker, or none"
            yield Problem(title, key, message)
    for name, options in klippy.items():
        upstream = options.moonraker.upstream if options.moonraker else None
        if upstream and (own := next((title for address, title in taken.items() if _leads_to(upstream, address)), "")):
            message = f"{upstream} is where [{own}] listens: write where this printer's Moonraker does, or none"
            yield Problem(f"klippy {name}", "moonraker", message)
    for name in cameras:
        printer, _, camera = name.partition(" ")
        if not camera and printer in klippy:
            yield Problem(f"camera {name}", "", f"the camera needs a name, too, such as [camera {printer} nozzle]")
        elif not camera:
            message = f"write the printer and a name, such as [camera {next(iter(klippy))} {printer}]"
            yield Problem(f"camera {name}", "", message)
        elif printer not in klippy:
            near = nearest(printer, klippy)
            hint = f". Did you mean [camera {near} {camera}]?" if near else f". There are: {', '.join(klippy)}"
            yield Problem(f"camera {name}", "", f"there is no printer '{printer}'{hint}")
    for name, forward in forwards.items():
        title = f"forward {name}"
        try:
            yield from _taken(taken, [_listen_address(f"{_bracketed(forward.listen)}:{name}")], title, "listen")
        except ValueError:
            yield Problem(
                title, "", f"the name of a forward is the port to listen on, such as [forward 9443], not {name}"
            )
        yield from _tls_problems(title, forward)


def notes(gateway: GatewaySection | None, klippy: dict[str, KlippyOptions]) -> Iterator[Problem]:
    """What is no mistake, but may not be what was meant; each message follows the title of its section."""
    if gateway is None:
        defaults = KlippyOptions()
        names = [each.name for each in msgspec.structs.fields(KlippyOptions)]
        for name, options in klippy.items():
            if given := [key for key in names if getattr(options, key) != getattr(defaults, key)]:
                message = f"has {', '.join(given)}, without effect as long as there is no section [gateway]"
                yield Problem(f"klippy {name}", given[0], message)
        return
    has_key = gateway.data or gateway.api_key_file
    if not has_key and not gateway.trusted_clients and not all(_is_loopback(each.host) for each in gateway.listen):
        message = (
            "listens for other machines, but lets none of them use the dashboard, or a printer with 'moonraker: none':"
            " add 'trusted_clients', or 'data' for an API key"
        )
        yield Problem("gateway", "listen", message)


def forward_address(name: str, forward: ForwardSection) -> Address:
    """Where ``[forward name]`` listens."""
    return _listen_address(f"{_bracketed(forward.listen)}:{name}")


def _taken(taken: dict[Address, str], addresses: Iterable[Address], title: str, key: str) -> Iterator[Problem]:
    for address in addresses:
        if other := next((other for other in taken if _overlap(address, other)), None):
            how = "" if other == address else f", which listens on {other}"
            yield Problem(title, key, f"{address} is taken by [{taken[other]}] already{how}")
        taken.setdefault(address, title)


def _overlap(one: Address, other: Address) -> bool:
    """Whether Linux lets only one of them listen: every address of the machine includes each of them.

    ``::`` includes IPv4 (see `server.listening`). What a name stands for is known only when it is used.
    """
    if one.port != other.port or one.port == 0:
        return False
    hosts = {one.host, other.host}
    return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and all(map(_IPV4.fullmatch, hosts)))


def _leads_to(upstream: Upstream, address: Address) -> bool:
    """Whether who connects there meets who listens here."""
    if upstream.port != address.port:
        return False
    if address.host in ("0.0.0.0", "::"):
        return _is_loopback(upstream.host) or upstream.host == address.host
    return upstream.host == address.host or {upstream.host, address.host} <= {"localhost", "127.0.0.1", "::1"}


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _tls_problems(title: str, section: GatewaySection | ForwardSection) -> Iterator[Problem]:
    if section.tls_key and not section.tls_certificate:
        yield Problem(title, "tls_key", "a key needs its certificate: add 'tls_certificate'")


def _items(text: str) -> list[str]:
    return [item for item in re.split(r"[,\s]+", text) if item]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _listen_address(text: str) -> Address:
    host, port = ("", int(text)) if text.isascii() and text.isdigit() else _host_and_port(text)
    if port is None or not 0 <= port <= 65535:
        raise ValueError(f"'{text}' lacks a port: write such as 127.0.0.1:{DEFAULT_PORT}")
    return Address({"": "127.0.0.1", "*": "0.0.0.0"}.get(host, host), port)


def _host_and_port(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(
        r"(?:\[(?P<six>[0-9a-fA-F:.]+(?:%\w+)?)\]|(?P<name>[^\s:\[\]/@]*))(?::(?P<port>[0-9]{1,5}))?", text
    )
    if match is None:
        raise ValueError(f"'{text}' is no address: write host:port, an IPv6 address in brackets")
    host = (match["six"] or match["name"] or "").lower()
    if host not in ("", "*") and not match["six"] and not _HOST_NAME.fullmatch(host):
        raise ValueError(f"'{host}' is no host name or IP address")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        raise ValueError(f"{port} is no port: the largest is 65535")
    return host, port
