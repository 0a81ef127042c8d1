"""What the parts of the gateway tell each other: requests, responses, WebSockets, and sites that answer them.

Knows no socket and no parser: `server` makes requests from bytes and bytes from responses, `websocket` has the
WebSocket that is spoken over a connection. Requests that are relayed to an upstream (`proxy`) never become one of
these objects: their bytes pass through.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

JSON = "application/json; charset=utf-8"

# Of a WebSocket: as Moonraker's. A stranger has only to say who it is.
MAX_MESSAGE_BYTES = 10 * 1024 * 1024
MAX_STRANGERS_MESSAGE_BYTES = 64 * 1024


class Headers:
    """An ordered map of header fields, several of one name allowed. Names are in lower case, values latin-1 text."""

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = [(name.lower(), value) for name, value in items]

    def get(self, name: str) -> str | None:
        """The first value of a field, or None."""
        name = name.lower()
        return next((value for key, value in self._items if key == name), None)

    def all(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        name = name.lower()
        return [value for key, value in self._items if key == name]

    def add(self, name: str, value: str) -> None:
        self._items.append((name.lower(), value))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"


class Peer(NamedTuple):
    """Who asks, after ``trusted_proxies`` were considered."""

    ip: str
    """A canonical literal: no zone, an IPv4 address never mapped into IPv6."""

    trusted: bool
    """Whether it is one of ``trusted_clients``."""


LOOPBACK = Peer("127.0.0.1", True)


class HttpError(Exception):
    """A request that cannot be served: becomes a response with Moonraker's ``{"error": {"code", "message"}}``."""

    def __init__(self, status: int, message: str, *, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.headers = list(headers)


Body = Callable[[], AsyncGenerator[bytes, None]]


async def _empty() -> AsyncGenerator[bytes, None]:
    for part in list[bytes]():
        yield part


@dataclass(slots=True, eq=False)
class HttpRequest:
    """One request to a site of ours. Its body is read when, and only if, the site asks for it."""

    method: str
    path: str
    """Percent-decoded, what is left below ``prefix``; begins with ``/``, has no ``.`` or ``..`` segment."""

    prefix: str = ""
    """What was taken off the path, without a slash at its end: ``/printers/main``. Empty for an own origin."""

    printer: str | None = None
    """The printer whose path or own origin this is; it exists. None: the router's own page."""

    ui: str | None = None
    """``mainsail`` or ``fluidd``: which one the path, or else the printer's configuration, means. None: neither."""

    raw_target: bytes = b"/"
    """As received."""

    query: Mapping[str, str] = field(default_factory=dict)
    """Decoded; of several values the last one wins; a key without ``=`` has the value ``""``."""

    headers: Headers = field(default_factory=Headers)
    peer: Peer = LOOPBACK
    authorized: bool = True
    """A trusted client, or one that brought a valid API key or oneshot token. The server asks for it before a site
    is called, but where the site says that a request `Site.is_open`."""

    origin: str = "http://localhost"
    """``http://host[:port]`` by which the client reached us; https under TLS, or as a trusted proxy says."""

    body_source: Body = _empty

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives; use it once, within ``contextlib.aclosing`` if not to the end.

        Raises HttpError for a body that breaks off or is malformed.
        """
        return self.body_source()

    async def body(self, max_bytes: int) -> bytes:
        """The whole body. Raises HttpError (413) for a larger one."""
        parts = []
        left_bytes = max_bytes
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    raise HttpError(413, f"the body is larger than {max_bytes} bytes")
                parts.append(chunk)
        return b"".join(parts)

    async def json(self, max_bytes: int = 1024 * 1024) -> Any:
        """The body as JSON. Raises HttpError: 413, 415 for another type, 400 for what cannot be read."""
        kind = (self.headers.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, "send JSON, with Content-Type: application/json")
        try:
            return msgspec.json.decode(await self.body(max_bytes))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"the body is no JSON: {error}") from None


@dataclass(slots=True, eq=False)
class HttpResponse:
    """An answer. The server adds Date, and Content-Length or chunking.

    A body that is a generator is sent as it comes, chunked unless ``headers`` have a Content-Length, and closed
    (``aclose``) when it is done or the client goes.
    """

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncGenerator[bytes, None] = b""
    live: bool = False
    """A stream without end, of which only the newest counts (a camera's): not chunked, so that its pieces are sent as
    they are, and little of it waits in the kernel."""


def json_response(value: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, [("content-type", JSON)], msgspec.json.encode(value))


def error_response(error: HttpError) -> HttpResponse:
    response = json_response({"error": {"code": error.status, "message": error.message}}, error.status)
    response.headers.extend(error.headers)
    return response


class WebSocketClosed(Exception):
    """The WebSocket is over. ``code`` is the close code (1006: the connection broke without one)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocket(abc.ABC):
    """A WebSocket that ends here, its handshake done; text and binary messages. Pings are answered by itself."""

    request: HttpRequest

    max_message_bytes: int = MAX_MESSAGE_BYTES
    """What a client may send in one message; more ends it (1009). A site changes it as it learns who the client is."""

    @abc.abstractmethod
    async def receive(self) -> str | bytes:
        """The next message. Raises WebSocketClosed."""

    @abc.abstractmethod
    def post(self, text: str) -> None:
        """Queue a message, never waits. A client with 8 MiB unread is closed; on a closed one it does nothing."""

    @abc.abstractmethod
    async def send(self, data: str | bytes) -> None:
        """Send after all that was posted, waiting for a slow client. Raises WebSocketClosed."""

    @abc.abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; never raises, waits a bounded time."""


class Site:
    """What owns a part of the URL space. Inherit it for the defaults.

    The server has checked Host, Origin and Sec-Fetch already, and (unless `is_open`) that the client is authorized.
    An exception other than HttpError is logged and answered with 500; the rest of the gateway goes on.
    """

    def is_open(self, request: HttpRequest) -> bool:
        """Whether a client without authorization may make this request (or open this WebSocket)."""
        return False

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises HttpError."""
        raise HttpError(404, "Not Found")

    def check_websocket(self, request: HttpRequest) -> None:
        """Raise HttpError to refuse a WebSocket before its handshake."""
        raise HttpError(404, "there is no WebSocket here")

    async def websocket(self, socket: WebSocket) -> None:
        """Serve a WebSocket; it is closed when this returns. WebSocketClosed may pass through."""
        await socket.close(1011, "there is nothing here")  # `check_websocket` lets none through

    async def run(self) -> None:
        """Work beside the requests, if there is any: started with the site, cancelled when it is taken away."""
        return


class Rewriter(Protocol):
    """Changes one HTTP exchange between a client and a printer's Moonraker. Bodies are JSON, whole and bounded."""

    def request_body(self, body: bytes) -> bytes:
        """The body on its way to Moonraker; the same one if there is nothing to change."""
        ...

    def response_body(self, body: bytes) -> bytes:
        """The body on its way to the client; the same one if there is nothing to change."""
        ...


class FrameFilter(Protocol):
    """Sees one direction of a relayed WebSocket as bytes (frames cut anywhere) and returns what goes on instead.

    Extensions are not negotiated on a filtered WebSocket, so frames are never compressed. Raises ValueError for bytes
    that are no frames or a message that is too large: the connection is then closed.
    """

    def feed(self, data: bytes) -> bytes: ...


class Rewriters(Protocol):
    """Who may change what passes between clients and a printer's Moonraker (webcams' addresses).

    ``base`` is by what the client reaches the printer: ``http://host:7180/printers/main``, or ``http://main.example.org``
    on an own origin.
    """

    def for_webcams(self, printer: str, base: str) -> Rewriter | None:
        """For one request below ``/server/webcams/``; None: it passes as it is."""
        ...

    def for_websocket(self, printer: str, base: str) -> tuple[FrameFilter, FrameFilter] | None:
        """For one WebSocket ``/websocket``: what goes to Moonraker, what goes to the client; None: as it is."""
        ...
