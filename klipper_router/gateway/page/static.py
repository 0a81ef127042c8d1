"""The page's files: read once, told apart by a hash of their content, which the browser is asked to check each time."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse

FOLDER = Path(__file__).parent / "files"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# No inline script or style, nothing from elsewhere, no page around it. blob: are snapshots, fetched with the API key.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _File(NamedTuple):
    content: bytes
    tag: str
    type: str


@functools.cache
def _files() -> dict[str, _File]:
    return {
        file.name: _File(content, f'"{hashlib.sha256(content).hexdigest()[:20]}"', _TYPES[file.suffix])
        for file in FOLDER.iterdir()
        if file.suffix in _TYPES
        for content in [file.read_bytes()]
    }


def serve(request: HttpRequest, name: str) -> HttpResponse:
    """One of the page's files. Raises HttpError (404)."""
    file = _files().get(name)
    if file is None:
        raise HttpError(404, "Not Found")
    headers = [
        ("etag", file.tag),
        ("cache-control", "no-cache"),
        ("content-security-policy", POLICY),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
    ]
    known = [tag.strip().removeprefix("W/") for tag in (request.headers.get("if-none-match") or "").split(",")]
    if file.tag in known or "*" in known:
        return HttpResponse(304, headers)
    return HttpResponse(200, [("content-type", file.type), *headers], file.content)
