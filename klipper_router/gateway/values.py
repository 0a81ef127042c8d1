"""The values of the gateway's options that have a form of their own: addresses, networks, an upstream. Pure.

Each is a class made from its text by ``of``, which raises ValueError with the mend; `decode` is msgspec's ``dec_hook``
for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ipaddress

DEFAULT_PORT = 7180

# What Moonraker serves, by the first segment of the path. All else below a printer is its UI, or ours.
MOONRAKER_PATHS = ("access", "api", "debug", "klippysocket", "machine", "printer", "server", "websocket")

UNSAFE_IN_PATHS = re.compile(r"[/\\?#%]|^\.{1,2}$")
"""What a name must be without, as it stands in addresses."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
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
        items = [listen_address(item) for item in _items(text)]
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


class MoonrakerPaths(tuple[str, ...]):
    """``printer, server, websocket``: first segments of Moonraker's paths."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> MoonrakerPaths:
        names = [item.strip("/").lower() for item in _items(text)]
        if unknown := [name for name in names if name not in MOONRAKER_PATHS]:
            raise ValueError(f"'{unknown[0]}' is none of {', '.join(MOONRAKER_PATHS)}")
        return cls(names)


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


def _items(text: str) -> list[str]:
    return [item for item in re.split(r"[,\s]+", text) if item]


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def listen_address(text: str) -> Address:
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
