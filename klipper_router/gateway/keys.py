"""The API key, oneshot tokens, and how often a client may be wrong about them. No socket and no clock of its own."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from klipper_router.errors import ConfigError
from klipper_router.gateway.http import HttpError, Peer

log = logging.getLogger("klipper_router.gateway.access")

TOKEN_S = 5.0  # as Moonraker's
MAX_TOKENS = 1000
MAX_FAILURES = 10
FAILURES_FORGOTTEN_S = 60.0
MAX_REMEMBERED = 1024


class Keys:
    """What clients bring that are not trusted by their address; the rules are Moonraker's."""

    def __init__(
        self, *, api_key: str | None, save_api_key: Callable[[str], None] | None, now: Callable[[], float]
    ) -> None:
        self._api_key = api_key
        self._save_api_key = save_api_key
        self._now = now
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def authorized(self, peer: Peer, api_key: str | None, token: str | None) -> bool:
        """Whether a client is trusted, or brings the API key or a oneshot token of its own.

        Raises HttpError (429) for a client that has brought too many wrong ones.
        """
        if peer.trusted:
            return True
        if api_key is None and token is None:
            return False
        self._check_failures(peer.ip)
        if api_key is not None and self.check_api_key(api_key):
            return True
        if token is not None and self._redeem(token, peer.ip):
            return True
        self._failed(peer.ip)
        return False

    def check_api_key(self, api_key: str) -> bool:
        """Whether this is the key. Says so in a time that does not depend on how near it is."""
        return self._api_key is not None and hmac.compare_digest(api_key.encode(), self._api_key.encode())

    def api_key(self) -> str | None:
        """The key: for answers to clients that are authorized, only. None: there is none, `data` is not configured."""
        return self._api_key

    def new_api_key(self) -> str | None:
        """Replace the key; the old one is worth nothing from now on. Raises OSError."""
        if self._api_key is None:
            return None
        key = secrets.token_hex(16)
        if self._save_api_key:
            self._save_api_key(key)
        self._api_key = key
        return key

    def oneshot_token(self, ip: str) -> str:
        """A token that authorizes one request of this address within `TOKEN_S`; 32 characters, as Moonraker's."""
        while len(self._tokens) >= MAX_TOKENS:
            self._tokens.popitem(last=False)
        token = secrets.token_hex(16)
        self._tokens[token] = (ip, self._now() + TOKEN_S)
        return token

    def _redeem(self, token: str, ip: str) -> bool:
        owner, until = self._tokens.pop(token, ("", 0.0))
        return owner == ip and self._now() <= until

    def _check_failures(self, ip: str) -> None:
        count, since = self._failures.get(ip, (0, 0.0))
        if count >= MAX_FAILURES:
            wait_s = since + FAILURES_FORGOTTEN_S - self._now()
            if wait_s > 0:
                raise HttpError(429, "too many wrong keys or tokens", headers=[("retry-after", str(int(wait_s) + 1))])
            del self._failures[ip]

    def _failed(self, ip: str) -> None:
        now = self._now()
        count, since = self._failures.pop(ip, (0, now))
        if now - since > FAILURES_FORGOTTEN_S:
            count = 0
        self._failures[ip] = (count + 1, now)
        if count + 1 == MAX_FAILURES:
            log.warning("%s: %d wrong keys or tokens, refused for %g s", ip, MAX_FAILURES, FAILURES_FORGOTTEN_S)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)


def load_api_key(file: Path) -> str:
    """Read the API key, or make one, in a file of mode 0600. Raises ConfigError."""
    if key := read_api_key(file):
        if file.stat().st_mode & 0o077:
            log.warning("%s can be read by other users: its mode should be 0600", file)
        return key
    key = secrets.token_hex(16)
    try:
        save_api_key(file, key)
    except OSError as error:
        raise ConfigError(f"{error.filename or file}: {error.strerror}") from None
    return key


def read_api_key(file: Path) -> str | None:
    """The API key; None: the file is not there yet. Raises ConfigError."""
    try:
        key = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        key = ""
    if len(key) < 16 or not key.isalnum():
        raise ConfigError(f"{file} holds no API key: remove it, and one is made")
    return key


def save_api_key(file: Path, key: str) -> None:
    """Replace the file in one step. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as stream:
        stream.write(f"{key}\n")
        stream.flush()
        os.fsync(fd)
    new.replace(file)
