"""Connecting to a real Unix socket: what the system refuses is refused here too, and nothing is taken for success."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from klipper_router.link import dial_unix


@contextlib.contextmanager
def listening(path: Path, backlog: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        yield listener


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_what_is_sent_over_a_dialled_stream_arrives(tmp_path: Path) -> None:
    with listening(tmp_path / "k.sock", 1) as listener:
        async with await dial_unix(str(tmp_path / "k.sock")) as stream:
            accepted, _ = listener.accept()
            with accepted:
                await stream.send_all(b"there")
                assert accepted.recv(100) == b"there"
                accepted.sendall(b"back")
                assert bytes(await stream.receive_some()) == b"back"


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("missing", errno.ENOENT),
        ("file", errno.ECONNREFUSED),
        ("stale", errno.ECONNREFUSED),
        ("in a file", errno.ENOTDIR),
    ],
)
async def test_a_place_where_nobody_listens_is_refused_and_leaves_no_open_file(
    tmp_path: Path, kind: str, number: int
) -> None:
    path = tmp_path / "k.sock"
    if kind == "file":
        path.write_text("")
    elif kind == "stale":
        with listening(path, 1):
            pass
    elif kind == "in a file":
        path.write_text("")
        path = path / "k.sock"
    before = open_files()
    with pytest.raises(OSError, match=os.strerror(number)):
        await dial_unix(str(path))
    assert open_files() == before


async def test_a_full_backlog_is_no_connection(tmp_path: Path) -> None:
    path = str(tmp_path / "k.sock")
    with listening(tmp_path / "k.sock", 0), contextlib.ExitStack() as clients:
        first = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        first.connect(path)
        before = open_files()
        with pytest.raises(OSError, match=f"{os.strerror(errno.ENOTCONN)}|{os.strerror(errno.EAGAIN)}"):
            await dial_unix(path)
        assert open_files() == before
