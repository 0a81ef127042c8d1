"""Addresses of cameras: what a URL says, and which URLs Moonraker's webcams really mean. Pure.

Moonraker keeps what its users typed: whole URLs, and paths that a browser resolves against the page, where nginx has
``/webcam/`` and its like. ``localhost`` in one means the printer's host. Only addresses on the printer's host are ever
connected to for a webcam that Moonraker names: whoever may edit webcams there must not choose whom this host talks to.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

# The `location` blocks of every Klipper image's nginx, and the ports of crowsnest's cameras behind them.
WEBCAM_PORTS = {"webcam": 8080, "webcam2": 8081, "webcam3": 8082, "webcam4": 8083}

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NGINX_PATH = re.compile(r"/(webcam[234]?)(?:/(.*))?", re.DOTALL)


class CameraUrl(NamedTuple):
    """A camera's ``http://``, ``https://``, ``ws://`` or ``wss://`` address, taken apart."""

    scheme: str
    host: str
    """A name or an IP literal without brackets, in lower case."""
    port: int
    path: str
    """As it is sent; begins with a slash."""
    query: str
    """As it is sent, without the question mark."""
    login: str = ""
    """``user:password``."""

    @classmethod
    def of(cls, text: str) -> CameraUrl:
        """Raises ValueError, with the mend."""
        text = text.strip()
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"'{text}' is no address: {error}") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"'{text}' is no camera's address: write such as http://127.0.0.1:8080/?action=stream")
        login = unquote(parts.netloc.rpartition("@")[0])
        path, query = _quoted(parts.path or "/", parts.query)
        return cls(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], path, query, login)

    @property
    def tls(self) -> bool:
        return self.scheme in ("https", "wss")

    @property
    def target(self) -> str:
        """Path and query, as a request has them."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, as the Host of a request has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """The value of Authorization, if the address has a login."""
        return f"Basic {base64.b64encode(self.login.encode()).decode()}" if self.login else None

    @property
    def folder(self) -> str:
        """The path up to its last slash: what a page there resolves relative addresses against."""
        return self.path[: self.path.rindex("/") + 1]

    def at(self, target: str) -> CameraUrl:
        """Another path, and query, of the same server."""
        path, _, query = target.partition("?")
        return self._replace(path=path, query=query)

    def __str__(self) -> str:
        """The address, without its login."""
        return f"{self.scheme}://{self.authority}{self.target}"


def _quoted(path: str, query: str) -> tuple[str, str]:
    """With what a browser would escape; what is escaped already stays. A line break would end a request's line."""
    return quote(path, safe="/%:@!$&'()*+,;=~"), quote(query, safe="/%:@!$&'()*+,;=~?[]")


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def candidates(url: str, host: str, moonraker_port: int | None = None) -> tuple[CameraUrl, ...]:
    """What a webcam's URL in Moonraker's list may mean on the printer's ``host``, the most direct first.

    Empty for an address on another host, or none that can be read: it is the browser's business then.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        try:
            made = CameraUrl.of(url)
        except ValueError:
            return ()
        if is_loopback(made.host):
            made = made._replace(host=host)
        return (made,) if made.host == host.lower() or (is_loopback(made.host) and is_loopback(host)) else ()
    if not url or url.startswith("//"):
        return ()
    path, _, query = url.partition("#")[0].partition("?")
    path, query = _quoted("/" + path.lstrip("/"), query)
    server = CameraUrl("http", host.lower(), 80, path, query)
    found = [server]
    if match := _NGINX_PATH.fullmatch(path):
        found.insert(0, server._replace(path=f"/{match[2] or ''}", port=WEBCAM_PORTS[match[1]]))
    if moonraker_port not in (None, 80):
        assert moonraker_port is not None
        found.append(server._replace(port=moonraker_port))
    return tuple(found)
