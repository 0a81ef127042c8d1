"""The few files of a UI that differ from printer to printer: its page, its configuration, its manifest. Pure.

``prefix`` is everywhere the decoded path below which the UI is shown, without a slash at its end; empty at an origin of
the printer's own.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from klipper_router.gateway.ui.patches import VARIABLE

# What browsers leave as it is in a path; the page compares its address with the prefix.
_SAFE = "/:@!$&'()*+,;=~-._"

_HEAD = re.compile(rb"<head(?:\s[^>]*)?>")
_ROOTED_ATTRIBUTE = re.compile(rb"""\b(?:href|src|content)\s*=\s*["'](?=/(?!/))""")

SERVICE_WORKER = b"""\
// Takes the place of a service worker that an earlier visit left behind, removes what it kept, and itself.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) await caches.delete(name);
    await self.registration.unregister();
  })());
});
"""
"""Answers requests for a UI's service worker. The UIs' own answer every page below their scope from their cache: pages
of the gateway, cameras and other printers as well, and this page's own new releases only at the second look."""

SERVICE_WORKER_PATHS = frozenset({"/sw.js", "/service-worker.js"})

# Without it the UIs register no service worker; with it they would, at every visit, one that removes itself.
_NO_SERVICE_WORKER = "delete Navigator.prototype.serviceWorker;"


def url_path(prefix: str) -> str:
    """A prefix as it stands in a URL."""
    return quote(prefix, safe=_SAFE)


def index_problem(page: bytes) -> str | None:
    """Why a release's index.html cannot be shown; None: it can."""
    return None if len(_HEAD.findall(page)) == 1 else "index.html has no <head>, or several"


def index(page: bytes, prefix: str) -> bytes:
    """A release's index.html for one printer: its addresses below the prefix, and the prefix for its scripts."""
    path = url_path(prefix)
    in_attribute = html.escape(path).encode()
    if prefix:
        page = _ROOTED_ATTRIBUTE.sub(lambda match: match[0] + in_attribute, page)
    # `<` could end the script; JSON has no other character that JavaScript reads differently in ASCII.
    in_script = json.dumps(path).replace("<", "\\u003c")
    script = f"<script>{_NO_SERVICE_WORKER}window.{VARIABLE}={in_script};</script>".encode()
    return _HEAD.sub(lambda match: match[0] + script, page, count=1)


def mainsail_config(release: bytes, prefix: str, origin: str) -> bytes:
    """Mainsail's config.json: the release's, but only ever this one printer.

    ``hostname`` and ``port`` would lead past the gateway, and with another ``instancesDB`` it begins with a choice of
    printers that a browser or the file holds.
    """
    config = _object(release)
    config |= {"instancesDB": "moonraker", "instances": [], "hostname": None, "port": None, "path": None}
    return msgspec.json.encode(config)


def fluidd_config(release: bytes, prefix: str, origin: str) -> bytes:
    """Fluidd's config.json: the release's, but the only endpoint is this one printer.

    ``origin`` is ``http://host[:port]`` by which the browser reached us. Its host is blacklisted, which keeps Fluidd
    from trying the root of the origin and port 7125 as well, where another printer may answer first.
    """
    config = _object(release)
    blacklist = config.get("blacklist")
    host = urlsplit(origin).hostname or ""
    host = f"[{host}]" if ":" in host else host  # as `location.hostname` has an IPv6 address
    config["blacklist"] = [*(blacklist if isinstance(blacklist, list) else []), host]
    config["endpoints"] = [origin + url_path(prefix)]
    return msgspec.json.encode(config)


def manifest(release: bytes, prefix: str) -> bytes:
    """A web app manifest with all its addresses below the prefix."""
    if not prefix:
        return release
    try:
        return msgspec.json.encode(_below(_object(release), url_path(prefix)))
    except RecursionError:  # nested just not too deep to be read
        return b"{}"


def _below(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return {
            key: path + item
            if key in ("src", "url", "start_url", "scope", "id") and isinstance(item, str) and item.startswith("/")
            else _below(item, path)
            for key, item in value.items()
        }
    return [_below(item, path) for item in value] if isinstance(value, list) else value


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object, empty for what is none: the UIs have defaults for every key."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
