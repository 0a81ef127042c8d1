"""The router's own socket as the system sees it: who may have its place, its mode, its end, and any kind of client."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from klipper_router import api_socket, listening
from klipper_router.app import serve
from klipper_router.cli import main
from klipper_router.config import Config, KlippySection, RouterSection
from klipper_router.errors import ConfigError
from klipper_router.listening import bound_socket
from test.fleet import Connection, Fleet

PROGRAM = [sys.executable, "-m", "klipper_router"]
STOPPED_WITHIN_S = 2.0
ANSWERED_WITHIN_S = 10.0
NOBODY = 65534


@pytest.fixture
def sock(tmp_path: Path) -> Path:
    return tmp_path / "router.sock"


@pytest.fixture
def config(tmp_path: Path, sock: Path) -> Path:
    """A configuration whose one printer is never there."""
    file = tmp_path / "router.cfg"
    file.write_text(f"[router]\nsock: {sock}\n[klippy main]\nsock: {tmp_path / 'main.sock'}\n")
    return file


@contextlib.asynccontextmanager
async def running(sock: Path) -> AsyncIterator[None]:
    """A router in this process."""
    printers = {"main": KlippySection(sock=str(sock.with_name("main.sock")))}
    configured = Config(router=RouterSection(sock=str(sock)), klippy=printers)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(configured, task_status=task_status))
        with trio.fail_after(ANSWERED_WITHIN_S):
            yield
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def listener(path: Path, backlog: int = 1) -> Iterator[socket.socket]:
    """A living process's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(path))
        made.listen(backlog)
        yield made


def refusal(config: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a router says that refuses to start."""
    assert main(["-c", str(config)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def inode(path: Path) -> int:
    """0: there is no file."""
    return path.lstat().st_ino if os.path.lexists(path) else 0


# -- its place -----------------------------------------------------------------------------------------------------


async def test_a_second_router_is_refused_with_exit_2_and_the_first_is_not_disturbed(config: Path, sock: Path) -> None:
    async with running(sock):
        second = await trio.run_process([*PROGRAM, "-c", str(config)], check=False, capture_stderr=True)
        assert second.returncode == 2
        assert (
            second.stderr.decode()
            == f"klipper-router: {config}:2: [router] sock {sock}: another process listens there\n"
        )
        async with Connection.open(sock) as client:
            assert (await client.call("info"))["app"] == "klipper-router"


def test_a_socket_of_another_living_process_is_refused_and_untouched(
    config: Path, sock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listener(sock) as other:
        before = inode(sock), mode(sock)
        assert (
            refusal(config, capsys)
            == f"klipper-router: {config}:2: [router] sock {sock}: another process listens there"
        )
        assert (inode(sock), mode(sock)) == before
        other.accept()[0].close()  # how the router found out
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(sock))


def test_a_living_process_whose_backlog_is_full_keeps_its_place(
    config: Path, sock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listener(sock, 0), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(sock))
        assert refusal(config, capsys).endswith("another process listens there")
        assert sock.is_socket()


async def test_who_connects_is_logged(sock: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(sock), Connection.open(sock) as client:
        await client.call("info")
    assert re.search(rf"connected, client \d+ \(pid {os.getpid()}, uid {os.getuid()}\)", caplog.text)


async def test_a_stale_socket_is_replaced(sock: Path) -> None:
    with listener(sock):
        stale = mode(sock)
    async with running(sock), Connection.open(sock) as client:
        assert (await client.call("info"))["state"] == "ready"
        assert mode(sock) == 0o660 != stale
    assert not inode(sock)


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file", "dangling link", "fifo"])
def test_what_is_no_socket_is_refused_and_untouched(
    config: Path, sock: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = sock.with_name("kept")
    match kind:
        case "file":
            sock.write_text("precious")
        case "directory":
            sock.mkdir()
        case "link to a file":
            kept.write_text("precious")
            sock.symlink_to(kept)
        case "dangling link":
            sock.symlink_to(kept)
        case "fifo":
            os.mkfifo(sock)
    before = inode(sock), sock.lstat().st_mode
    said = refusal(config, capsys)
    assert said == f"klipper-router: {config}:2: [router] sock {sock}: there is a file of that name that is no socket"
    assert (inode(sock), sock.lstat().st_mode) == before
    if kind in ("file", "link to a file"):
        assert sock.read_text() == "precious"


@pytest.mark.parametrize(("parent", "number"), [("away", errno.ENOENT), ("router.cfg", errno.ENOTDIR)])
def test_a_directory_that_is_none_is_refused_and_not_made(
    config: Path, tmp_path: Path, parent: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / parent / "r.sock"
    config.write_text(f"[router]\nsock: {place}\n[klippy main]\nsock: main.sock\n")
    assert refusal(config, capsys) == f"klipper-router: {config}:2: [router] sock {place}: {os.strerror(number)}"
    assert list(tmp_path.iterdir()) == [config]


def test_a_directory_that_may_not_be_written_is_refused(sock: Path) -> None:
    was = os.geteuid()
    sock.parent.chmod(0o500)
    try:
        if was == 0:
            os.seteuid(NOBODY)
        with pytest.raises(ConfigError) as refused, bound_socket(RouterSection(sock=str(sock))):
            raise AssertionError("bound")
    finally:
        os.seteuid(was)
        sock.parent.chmod(0o700)
    assert str(refused.value) == f"[router] sock {sock}: Permission denied"
    assert list(sock.parent.iterdir()) == []


def test_a_directory_that_another_process_has_locked_for_long_is_refused(
    sock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LOCK_WITHIN_S", 0.05)
    with (
        listening._locked(sock.parent),
        pytest.raises(ConfigError, match="is locked by another process"),
        bound_socket(RouterSection(sock=str(sock))),
    ):
        raise AssertionError("bound")


def test_of_many_routers_that_start_at_once_over_a_stale_socket_exactly_one_runs(
    config: Path, sock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listener(sock):
        pass
    routers = [subprocess.Popen([*PROGRAM, "-c", str(config)], stderr=subprocess.PIPE) for _ in range(4)]
    running = {os.pidfd_open(router.pid): router for router in routers}
    try:
        while len(running) > 1:
            ended, _, _ = select.select(list(running), [], [], ANSWERED_WITHIN_S)
            assert ended, f"{len(running)} run"
            for pidfd in ended:
                assert running.pop(pidfd).wait() == 2
                os.close(pidfd)
        assert main(["call", "info", "--timeout", "5", "--sock", str(sock)]) == 0
        ((pidfd, alive),) = running.items()
        assert json.loads(capsys.readouterr().out)["process_id"] == alive.pid
    finally:
        for router in routers:
            router.kill()
            router.communicate()
        for pidfd in running:
            os.close(pidfd)


async def test_the_socket_is_open_to_its_user_and_group_whatever_the_umask(sock: Path) -> None:
    before = os.umask(0)
    try:
        for mask in (0o000, 0o022, 0o077):
            os.umask(mask)
            async with running(sock):
                assert mode(sock) == 0o660
    finally:
        os.umask(before)


async def test_a_router_that_ends_leaves_a_socket_alone_that_took_its_place(sock: Path) -> None:
    async with running(sock):
        os.unlink(sock)  # noqa: PTH108
        with listener(sock):
            mine = inode(sock)
    assert inode(sock) == mine != 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_router_with_exit_0_and_the_socket_is_gone(crew: Fleet, number: signal.Signals) -> None:
    await crew.start_router("main")
    router = crew.router
    assert router is not None
    async with Connection.open(crew.router_sock) as client:
        await client.call("info")
        router.send_signal(number)
        with trio.fail_after(STOPPED_WITHIN_S):
            assert await trio.to_thread.run_sync(router.wait) == 0
        with pytest.raises(EOFError):
            await client.receive()
    assert not crew.router_sock.exists()
    log = crew.router_log.read_text()
    assert f"{number.name}: stopping" in log
    assert "Traceback" not in log


# -- its clients ---------------------------------------------------------------------------------------------------


async def test_a_hundred_clients_are_served_and_the_next_is_told_why_not_by_one_error(sock: Path) -> None:
    async with running(sock), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Connection.open(sock)) for _ in range(api_socket.MAX_CLIENTS)]
        for client in clients:
            assert (await client.call("info"))["app"] == "klipper-router"
        async with Connection.open(sock) as refused:
            answer = await refused.receive()
            assert answer["id"] is None
            assert answer["error"]["message"] == "the router has 100 clients already"
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await refused.receive()
        called = await trio.run_process(
            [*PROGRAM, "call", "info", "--sock", str(sock)], check=False, capture_stderr=True
        )
        assert (called.returncode, called.stderr) == (1, b"klipper-router: the router has 100 clients already\n")
        await clients[0].stream.aclose()
        while True:  # its place is free as soon as the router has seen the end
            async with Connection.open(sock) as again:
                with contextlib.suppress(RuntimeError, trio.BrokenResourceError, EOFError):
                    await again.stream.send_all(b'{"id": null, "method": "info"}\x03{"id": 7, "method": "info"}\x03')
                    if (await again.receive())["id"] == 7:
                        break


async def test_a_client_that_closes_its_sending_side_gets_its_answers_and_then_the_end(sock: Path) -> None:
    async with running(sock), Connection.open(sock) as client:  # as `printf … | socat - UNIX:router.sock`
        await client.stream.send_all(b'{"id": 1, "method": "info"}\x03{"id": 2, "method": "router/printers/list"}\x03')
        await client.stream.send_eof()
        assert (await client.receive())["id"] == 1
        (printer,) = (await client.receive())["result"]["printers"]
        assert (printer["name"], printer["connected"]) == ("main", False)
        with pytest.raises(EOFError):
            await client.receive()


async def test_frames_in_any_pieces_are_answered_each_with_its_own_end(sock: Path) -> None:
    # As Klipper's whconsole.py: writes a line's JSON and 0x03, reads 4096 bytes, splits at 0x03, keeps the rest.
    requests = [{"id": f"é{number}", "method": "list_endpoints", "params": {"é": "\u2028"}} for number in range(20)]
    wire = b"".join(json.dumps(request, ensure_ascii=False).encode() + b"\x03" for request in requests)
    async with running(sock), await trio.open_unix_socket(str(sock)) as stream:
        for size in (1, 7, len(wire)):
            for start in range(0, len(wire), size):
                await stream.send_all(wire[start : start + size])
            received: list[dict[str, Any]] = []
            pending = b""
            while len(received) < len(requests):
                *parts, pending = (pending + await stream.receive_some(4096)).split(b"\x03")
                received += [json.loads(part) for part in parts]
            assert pending == b""
            assert [answer["id"] for answer in received] == [request["id"] for request in requests]
            assert all("router/gcode/script" in answer["result"]["endpoints"] for answer in received)


async def test_a_client_that_is_killed_in_the_middle_of_a_frame_disturbs_nobody(sock: Path) -> None:
    async with running(sock), Connection.open(sock) as other:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rude:
                rude.connect(str(sock))
                rude.sendall(b'{"id": 1, "method": "list_endpoints"}\x03' * 50 + b'{"id": 2, "me')
        assert (await other.call("info"))["app"] == "klipper-router"


# -- the command line against a running router ---------------------------------------------------------------------


async def command(crew: Fleet, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "COLUMNS": "140"}
    ended = await trio.run_process(
        [*PROGRAM, *arguments, "-c", str(crew.folder / "router.cfg")],
        check=False,
        capture_stdout=True,
        capture_stderr=True,
        env=environment,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


async def test_status_call_and_watch_show_a_running_router(crew: Fleet) -> None:
    led = await crew.add("led")
    await crew.start_router()
    await crew.ready()

    code, table, err = await command(crew, "status")
    assert (code, err) == (0, "")
    row, traffic = [line for line in table.splitlines() if "led" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["led", "yes", "yes", "ready", "0", "0", ""]
    frames_in, frames_out = map(int, traffic.split()[1].split("/"))
    assert frames_in >= frames_out > 0  # each request of the router's was answered
    assert traffic.split()[3:9] == ["0"] * 6  # calls, errors, merges, drops, refused, relinks

    code, out, err = await command(crew, "call", "router/printers/list")
    (printer,) = json.loads(out)["printers"]
    assert (code, err) == (0, "")
    assert (printer["name"], printer["ready"], printer["state_message"]) == ("led", True, "Printer is ready")

    mark = len(led.console.lines)
    script = json.dumps({"target": "led", "script": "REC A='it''s'\nREC B=2"})
    assert await command(crew, "call", "router/gcode/script", script) == (0, "{}\n", "")
    assert await led.console.has_records(2, mark) == [{"A": "its"}, {"B": "2"}]

    query = json.dumps({"target": "led", "objects": {"print_stats": ["state"]}})
    code, out, _ = await command(crew, "call", "router/objects/query", query)
    assert (code, json.loads(out)["status"]) == (0, {"print_stats": {"state": "standby"}})

    wrong = json.dumps({"target": "ghost", "script": "REC"})
    assert await command(crew, "call", "router/gcode/script", wrong) == (
        1,
        "",
        "klipper-router: ghost: no printer of that name, the router has led\n",
    )

    await trio.to_thread.run_sync(watched, crew.folder / "router.cfg")


def watched(config: Path) -> None:
    """`watch` in a terminal shows the table, and Ctrl-C ends it with the screen as it was."""
    terminal, inner = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, "watch", "--interval", "0.05", "-c", str(config)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "140"},
        )
        os.close(inner)
        killer = threading.Timer(3 * ANSWERED_WITHIN_S, process.kill)  # the reads below have no end of their own
        killer.start()
        shown = b""
        while shown.count(b"ready") < 6:  # the table, again and again
            shown += os.read(terminal, 65536)
        assert b"led" in shown
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while data := os.read(terminal, 65536):
                shown += data
        assert process.wait(ANSWERED_WITHIN_S) == 130
        killer.cancel()
        assert b"Traceback" not in shown
        assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h")
    finally:
        os.close(terminal)
