"""Requests that a camera's own server answers: pages, WebRTC signalling, HLS, WebSockets; passed on as bytes.

A camera's server is a stranger on our origin, so what it sends is put into a sandbox: its pages run their scripts as
an origin of their own (they cannot read what a printer's UI keeps, nor act as it), its cookies are dropped. It hears
neither our clients' cookies nor their keys. Every request has a connection of its own: there are few.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import ssl

from klipper_router.gateway import relay
from klipper_router.gateway.access import Access, Client
from klipper_router.gateway.cameras.address import CameraUrl
from klipper_router.gateway.cameras.site import Passed
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.header_rules import request_head, response_head
from klipper_router.gateway.heads import RequestHead, ResponseHead
from klipper_router.gateway.http import HttpError
from klipper_router.gateway.transport import RECEIVE_BYTES, Transport, dial

log = logging.getLogger("klipper_router.gateway.cameras")

SANDBOX = b"Content-Security-Policy: sandbox allow-scripts\r\n"
_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_KEPT_FROM_CAMERAS = frozenset({b"authorization", b"cookie", b"x-access-token", b"x-api-key"})
_KEPT_FROM_CLIENTS = frozenset(
    {b"clear-site-data", b"service-worker-allowed", b"set-cookie", b"strict-transport-security"}
)


async def serve(access: Access, connection: Connection, head: RequestHead, client: Client, passed: Passed) -> None:
    """Pass one request on and its response back. Raises HttpError, BadHead, OSError."""
    foreign = access.is_foreign(head.special, head.host)
    if foreign and (head.upgrade or head.method not in _SAFE_METHODS):
        raise HttpError(403, "another web page may not do this; 'cors_domains' in [gateway] names those that may")
    key, token = head.value(b"x-api-key"), _query_value(head.query, b"token")
    if not access.authorized(client.peer, _text(key), _text(token)):
        raise HttpError(401, "Unauthorized")
    transport, url = await _dial(passed.servers)
    kept = False
    try:
        data = _request(head, url, client) + connection.buffered_body()

        async def respond() -> bool:
            return await _respond(connection, head, transport, passed)

        if connection.body.done:
            with contextlib.suppress(OSError):  # it may have answered all the same
                await transport.send_all(data)
            await respond()
        else:
            kept = await relay.upload(connection, transport, data, respond)
            connection.keep_alive = connection.keep_alive and kept
    finally:
        transport.close()


async def _dial(servers: tuple[CameraUrl, ...]) -> tuple[Transport, CameraUrl]:
    """The first that can be reached. Raises HttpError."""
    problem = "it has no address"
    for url in servers:
        try:
            return await dial(url.host, url.port, _tls() if url.tls else None), url
        except OSError as error:
            problem = f"{url.authority}: {error.strerror or error.__cause__ or error}"
    raise HttpError(502, f"the camera cannot be reached: {problem}")


def _request(head: RequestHead, url: CameraUrl, client: Client) -> bytes:
    """Raises HttpError."""
    own = copy.copy(head)
    own.fields = [field for field in head.fields if field[0] not in _KEPT_FROM_CAMERAS]
    if url.authorization:
        own.fields.append((b"authorization", b"Authorization", url.authorization.encode()))
    own.connection = frozenset({b"upgrade"}) if head.upgrade else frozenset()
    return request_head(own, url.target.encode(), client)


async def _respond(connection: Connection, head: RequestHead, transport: Transport, passed: Passed) -> bool:
    """Raises HttpError, OSError of the client."""

    def make(response: ResponseHead) -> bytes:
        own = copy.copy(response)
        own.fields = [
            (lower, name, _location(value, passed) if lower == b"location" else value)
            for lower, name, value in response.fields
            if lower not in _KEPT_FROM_CLIENTS
        ]
        made = response_head(own, head, connection, b"")
        return made if response.status == 101 else made[:-2] + SANDBOX + b"\r\n"

    try:
        answer = await transport.receive_some(RECEIVE_BYTES)
    except OSError:
        answer = b""
    if not answer:
        raise HttpError(502, "the camera closed the connection without an answer")
    try:
        return await relay.response(connection, head, transport, answer, make)
    except relay.BadUpstream as error:
        log.warning("%s: %s", passed.prefix, error)
        connection.keep_alive = False
        if connection.status:
            return False
        raise HttpError(502, f"the camera sent what is no HTTP response: {error}") from None


def _location(value: bytes, passed: Passed) -> bytes:
    """The server does not know where it is seen."""
    folder = passed.folder.encode()
    for url in passed.servers:
        origin = f"{'https' if url.tls else 'http'}://{url.authority}".encode()
        if value.startswith(origin + b"/"):
            value = value[len(origin) :]
            break
    if value.startswith(folder) and not value.startswith(b"//"):
        return passed.prefix.encode() + value[len(folder) :]
    return value


def _query_value(query: bytes, name: bytes) -> bytes | None:
    for item in query.split(b"&"):
        key, _, value = item.partition(b"=")
        if key == name:
            return value
    return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
