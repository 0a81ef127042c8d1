"""Requests that the gateway answers itself: from a head to a `Site` and back.

Host, Origin and authorization are looked at here, before the site is called. The site sees an `HttpRequest`; its body
is read from the connection only when the site asks for it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from urllib.parse import parse_qsl, unquote_to_bytes

from klipper_router.gateway.access import Access, Client
from klipper_router.gateway.connection import CONTINUE, ClientGone, Connection
from klipper_router.gateway.heads import BadHead, RequestHead
from klipper_router.gateway.http import Headers, HttpError, HttpRequest, HttpResponse, Site, error_response
from klipper_router.gateway.routes import Route

log = logging.getLogger("klipper_router.gateway")

MAX_QUERY_FIELDS = 1000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ALLOW_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_ALLOW_HEADERS = "Origin, Accept, Content-Type, X-Requested-With, X-Api-Key, Authorization"


def request_of(connection: Connection, head: RequestHead, client: Client, route: Route, ui: str | None) -> HttpRequest:
    """The request as a site sees it. Raises HttpError (400) for a path or query that is no UTF-8."""
    sent_continue = False

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal sent_continue
        payload: list[bytes] = []
        try:
            if head.expect and not sent_continue:
                sent_continue = True
                await connection.send_all(CONTINUE)
            while not connection.body.done:
                await connection.receive_body(payload)
                for part in payload:
                    yield part
                payload.clear()
        except BadHead as bad:
            connection.keep_alive = False
            raise HttpError(bad.status, str(bad)) from None
        except OSError as error:
            raise ClientGone(str(error)) from None

    return HttpRequest(
        method=head.method.decode(),
        path=_decoded(route.rest),
        prefix=_decoded(route.prefix),
        printer=route.printer,
        ui=ui,
        raw_target=head.target,
        query=_query(head.query),
        headers=Headers([(lower.decode(), value.decode("latin-1")) for lower, _, value in head.fields]),
        peer=client.peer,
        origin=f"{client.scheme}://{head.host.decode().lower()}",
        body_source=chunks,
    )


async def serve_site(
    access: Access, connection: Connection, head: RequestHead, request: HttpRequest, site: Site, *, strict: bool = False
) -> None:
    """Answer a request by a site. Raises HttpError, OSError.

    ``strict``: not even a GET that another web page makes is served (Moonraker's API, where a GET may run G-code).
    """
    origin = request.headers.get("origin")
    upgrade = head.upgrade == b"websocket" and request.method == "GET"
    foreign = access.is_foreign(head.special, head.host)
    if foreign and (strict or upgrade or request.method not in SAFE_METHODS):
        whose = f"the web page {origin}" if origin else "another web page"
        raise HttpError(403, f"{whose} may not do this here; 'cors_domains' in [gateway] names those that may")
    shared = _cors_headers(access, origin) if origin and not foreign and origin != request.origin else []
    try:
        if request.method == "OPTIONS" and shared:
            allowed = [
                ("access-control-allow-methods", _ALLOW_METHODS),
                ("access-control-allow-headers", _ALLOW_HEADERS),
                ("access-control-max-age", "600"),
            ]
            response = HttpResponse(204, allowed)
        else:
            _check_json(head, request)
            request.authorized = access.authorized(
                request.peer, request.headers.get("x-api-key"), request.query.get("token")
            )
            if not request.authorized and not site.is_open(request):
                raise HttpError(401, "Unauthorized")
            if upgrade:
                site.check_websocket(request)
                from klipper_router.gateway import websocket  # wsproto: only where a WebSocket ends here

                await websocket.serve(connection, head, request, site)
                return
            response = await site.handle(request)
    except HttpError as error:
        if connection.status:
            raise
        response = error_response(error)
    except ClientGone:
        raise
    except Exception:
        if connection.status:
            raise
        log.exception("%s: internal error at %s %s", connection.ip, request.method, request.prefix + request.path)
        response = error_response(HttpError(500, "internal error of the gateway, see its log"))
    response.headers = [*response.headers, *shared]
    if not any(name.lower() == "x-content-type-options" for name, _ in response.headers):
        response.headers.append(("x-content-type-options", "nosniff"))
    await connection.respond(head, response)


def _check_json(head: RequestHead, request: HttpRequest) -> None:
    """A body that a web page can send without asking first (a form, plain text) is not taken for a command."""
    if not head.has_body or request.method in SAFE_METHODS:
        return
    kind = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if kind in ("", "text/plain", "application/x-www-form-urlencoded"):
        raise HttpError(415, "send JSON, with Content-Type: application/json")


def _cors_headers(access: Access, origin: str) -> list[tuple[str, str]]:
    if not access.allows_origin(origin):
        return []
    return [("access-control-allow-origin", origin), ("vary", "Origin")]


def _decoded(raw_path: bytes) -> str:
    try:
        return unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "the path is no UTF-8") from None


def _query(raw: bytes) -> Mapping[str, str]:
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
        return dict(pairs)
    except ValueError:
        raise HttpError(400, f"the query is no UTF-8, or has more than {MAX_QUERY_FIELDS} fields") from None
