"""JSON in requests and responses of the API."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse, json_response

T = TypeVar("T")

MAX_BODY_BYTES = 1024 * 1024


def json_headers() -> list[tuple[str, str]]:
    return [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]


def json_answer(value: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, json_headers(), json_response(value).body)


def check_json(request: HttpRequest) -> None:
    """A page of another origin cannot send this type without being asked about first (CORS preflight)."""
    if (request.headers.get("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, "send JSON, with Content-Type: application/json")


async def json_body(request: HttpRequest, kind: type[T]) -> T:
    value = await request.json(MAX_BODY_BYTES)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise HttpError(400, f"the body: {error}") from None
