"""The file of the router's own API socket: made for one router alone, with its owner and mode, and removed at the end.

Knows nothing of what is spoken on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from klipper_router.config import Places, RouterSection

# Klipper's own backlog of 1 makes its whconsole.py exit with EAGAIN when several come at once.
BACKLOG = 64
LOCK_WITHIN_S = 2.0
NOWHERE = Places()


@contextlib.contextmanager
def bound_socket(section: RouterSection, places: Places = NOWHERE) -> Iterator[trio.socket.SocketType]:
    """A listening socket at ``section.sock``, removed at the end; a stale file is replaced.

    Raises ConfigError when another process listens there, or the place or the owner cannot be had.
    """
    file = Path(section.sock)
    try:
        owner = _owner(section.sock_owner)
        with _locked(file.parent):
            sock = _bind(file, int(section.sock_mode, 8), owner)
        ours = file.stat().st_ino
    except OSError as error:
        raise places.error("router", "sock", f"sock {file}: {error.strerror or error}") from error
    except _CannotBe as error:
        raise places.error("router", error.key, str(error)) from None
    with sock:
        try:
            yield trio.socket.from_stdlib_socket(sock)
        finally:
            with contextlib.suppress(OSError):
                if file.lstat().st_ino == ours:  # else somebody removed it, and another router took its place
                    file.unlink()


class _CannotBe(Exception):
    """``key``: the option that asks for it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key} {message}")
        self.key = key


def _owner(text: str | None) -> tuple[int, int]:
    """``user:group`` as numbers, -1 for one that is not given. Raises _CannotBe."""
    user, _, group = (text or "").partition(":")
    try:
        return pwd.getpwnam(user).pw_uid if user else -1, grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise _CannotBe("sock_owner", f"{text}: there is no such user or group on this machine") from None


def _bind(file: Path, mode: int, owner: tuple[int, int]) -> socket.socket:
    """Raises OSError, _CannotBe."""
    _remove_stale(file)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(file))
        # Between bind and listen nobody can connect, so owner and mode hold from the first client on.
        if owner != (-1, -1):
            _give_to(file, owner)
        file.chmod(mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _give_to(file: Path, owner: tuple[int, int]) -> None:
    try:
        os.chown(file, *owner)
    except PermissionError:
        file.unlink()
        what = "only root may give it to another user, and a user only to a group of its own"
        raise _CannotBe("sock_owner", f"cannot be had: {what}") from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two routers that start at once must not both take the other's file for a stale one. Raises OSError, _CannotBe."""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        give_up_at = time.monotonic() + LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise _CannotBe("sock", f"{folder} is locked by another process") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(folder_fd)


def _remove_stale(file: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _CannotBe("sock", f"{file}: there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
        except PermissionError:
            message = "there is a socket of another user, who may still listen there; stop that router, or remove it"
            raise _CannotBe("sock", f"{file}: {message}") from None
        except OSError:
            pass  # somebody listens, if only with a full queue
    raise _CannotBe("sock", f"{file}: another process listens there")
