"""What a printer's Moonraker is told of a request, and a client of its response, field by field. Pure.

The rules keep Moonraker's own checks true (docs/gateway.md, "What Moonraker sees"): one valid X-Real-IP (anything else
makes it take every client for the gateway), Host and Origin as the browser sent them (it compares the two), no field
twice that the gateway sets, nothing that belongs to one connection only.
"""

from __future__ import annotations

from klipper_router.gateway.access import Client
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import HOP_BY_HOP, RequestHead, ResponseHead
from klipper_router.gateway.http import HttpError

# Whoever sent these and X-Forwarded-*, an upstream only hears what we say (or nothing).
_OURS = frozenset(
    {
        b"forwarded",
        b"x-real-ip",
        b"x-scheme",
    }
)
_DROPPED = HOP_BY_HOP | _OURS
# What a client may not have dropped by naming it in Connection: the upstream would judge another request.
_NEVER_DROPPED = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"origin",
        b"transfer-encoding",
        b"x-api-key",
    }
)

_NOTHING: frozenset[bytes] = frozenset()
# Dropped where frames are looked into, and where a body is changed: what would compress it or frame it otherwise.
UNFILTERED = frozenset({b"sec-websocket-extensions"})
REFRAMED = frozenset({b"accept-encoding", b"content-length", b"expect", b"etag", b"if-none-match"})


def request_head(
    head: RequestHead, target: bytes, client: Client, drop: frozenset[bytes] = _NOTHING, framing: bytes | None = None
) -> bytes:
    """The head for the upstream. Raises HttpError (400) for a Connection that names what must arrive.

    ``drop``: further fields that are left out; ``framing``: lines in place of those that framed the body.
    """
    named = head.connection
    if named and not named.isdisjoint(_NEVER_DROPPED):
        raise HttpError(400, "Connection may not name a field that is not of the connection")
    lines = [b"%b %b HTTP/1.%d\r\n" % (head.method, target, head.http11)]
    for lower, name, value in head.fields:
        if lower in named or lower in drop:
            continue
        # CGI-like upstreams cannot tell the two apart.
        plain = lower.replace(b"_", b"-") if b"_" in lower else lower
        if plain in _DROPPED or plain.startswith(b"x-forwarded-"):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    peer = client.peer.ip.encode()
    lines.append(
        b"X-Real-IP: %b\r\nX-Forwarded-For: %b\r\nX-Scheme: %b\r\n"
        % (peer, client.forwarded_for.encode(), client.scheme.encode())
    )
    if head.upgrade == b"websocket":
        lines.append(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    elif framing is not None:
        lines.append(framing + b"\r\n")
    elif head.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n\r\n")
    elif not head.http11:
        lines.append(b"Connection: close\r\n\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def response_head(
    response: ResponseHead, head: RequestHead, connection: Connection, prefix: bytes, length_bytes: int | None = None
) -> bytes:
    """The head for the client; ``connection.keep_alive`` is settled before. ``length_bytes``: of another body."""
    named = response.connection
    lines = [b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason)]
    for lower, name, value in response.fields:
        if lower in HOP_BY_HOP or lower in named:
            continue
        if length_bytes is not None and lower in REFRAMED:
            continue
        if prefix and lower == b"location":
            value = _location(value, head.host, prefix)
        lines.append(b"%b: %b\r\n" % (name, value))
    if response.status == 101:
        lines.append(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        return b"".join(lines)
    if length_bytes is not None:
        lines.append(b"Content-Length: %d\r\n" % length_bytes)
    elif response.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if not connection.keep_alive:
        lines.append(b"Connection: close\r\n\r\n")
    elif not head.http11:
        lines.append(b"Connection: keep-alive\r\n\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def _location(value: bytes, host: bytes, prefix: bytes) -> bytes:
    """Moonraker does not know below which prefix it is seen: its own addresses (uploads have one) gain it."""
    if value.startswith(b"/") and not value.startswith(b"//"):
        return prefix + value
    scheme, mark, rest = value.partition(b"://")
    if mark and rest.startswith(host + b"/"):
        return b"%b://%b%b%b" % (scheme, host, prefix, rest[len(host) :])
    return value
