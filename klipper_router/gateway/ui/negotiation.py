"""What HTTP says about a static file: its type, whether it is sent compressed, whether it is sent at all. Pure."""

from __future__ import annotations

import re

# The standard library's table depends on what is installed on the machine.
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".map": "application/json; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".otf": "font/otf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "text/xml; charset=utf-8",
}
_COMPRESSIBLE = {".css", ".html", ".js", ".json", ".map", ".mjs", ".otf", ".svg", ".ttf", ".txt", ".wasm", ".xml"}

# Less is not worth the header.
MIN_COMPRESSED_BYTES = 1024

# `index-D3dNIT69.js`: Vite names a file by its content.
_HASHED = re.compile(r"assets/(?:.*/)?[^/]+-[A-Za-z0-9_-]{8}\.[a-z0-9]+")

FOR_EVER = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"
NEVER = "no-store"


def suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def content_type(path: str) -> str:
    return CONTENT_TYPES.get(suffix(path), "application/octet-stream")


def is_compressible(path: str, size_bytes: int) -> bool:
    return size_bytes >= MIN_COMPRESSED_BYTES and suffix(path) in _COMPRESSIBLE


def is_named_by_content(path: str) -> bool:
    """Whether a file of this name never changes. ``path`` is relative to the release."""
    return _HASHED.fullmatch(path) is not None


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header (RFC 9110, 12.5.3) has gzip; ``*`` alone is not taken for a wish."""
    for item in accept_encoding.split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip"):
            weight = re.fullmatch(r"\s*q=([0-9.]+)\s*", parameters, re.IGNORECASE)
            return weight is None or weight[1].strip("0.") != ""
    return False


def matches(if_none_match: str, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110, 13.1.2; the comparison is the weak one)."""
    if if_none_match.strip() == "*":
        return True
    return any(tag.strip().removeprefix("W/") == etag for tag in if_none_match.split(","))
