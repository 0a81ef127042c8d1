"""One line per request, without secrets: tokens and keys of queries are masked, header values never shown."""

from __future__ import annotations

import logging
import re

from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import RequestHead
from klipper_router.log import EVERY_LINE

log = logging.getLogger("klipper_router.gateway.access")

MAX_TARGET_CHARACTERS = 300
# Moonraker's `token` and `access_token`; the others are what front proxies and cameras use.
_SECRET = re.compile("token|key|secret|password|passwd|auth|signature|code|%", re.IGNORECASE)
_SEPARATOR = re.compile("([?&;])")


def masked(target: str) -> str:
    """A request's target, cut, with the values of its secrets replaced.

    An escaped name (``%74oken``) is unescaped by whoever serves it, so any name with an escape counts as secret.
    """
    path, mark, query = target[:MAX_TARGET_CHARACTERS].partition("?")
    return path + mark + "".join(map(_masked_parameter, _SEPARATOR.split(query)))


def _masked_parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return f"{name}=***" if equals and _SECRET.search(name) else text


def log_request(connection: Connection, head: RequestHead, took_s: float) -> None:
    target = masked(head.target.decode("latin-1"))
    log.info(
        "%s %s %s %d %.1f ms",
        connection.ip,
        head.method.decode(),
        target,
        connection.status,
        took_s * 1000,
        extra=EVERY_LINE,
    )
