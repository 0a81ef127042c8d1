"""The daemon under systemd: what it is told, a reload, a watchdog, a crash; and the socket's owner and mode."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from klipper_router import client, supervision
from klipper_router.cli import main
from klipper_router.config import RouterSection
from klipper_router.errors import ConfigError
from klipper_router.listening import bound_socket

ANSWER_WITHIN_S = 20.0


class Systemd:
    """What listens at NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(address)
        self._sock.settimeout(ANSWER_WITHIN_S)

    def until(self, state: str) -> None:
        """Wait until this is told."""
        while self._sock.recv(1000).decode() != state:
            pass

    def next(self) -> str:
        return self._sock.recv(1000).decode()

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with contextlib.closing(Systemd(str(tmp_path / "notify"))) as listening:
        yield listening


def write_config(folder: Path, *printers: str, more: str = "") -> Path:
    file = folder / "router.cfg"
    sections = "".join(f"[klippy {name}]\nsock: {name}.sock\n" for name in printers)
    file.write_text(f"[router]\nsock: router.sock\ncrash_dir: crashes\n{more}{sections}")
    return file


@contextlib.contextmanager
def router(config: Path, *, program: str = "", **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The daemon as a process; ``program`` replaces `python -m klipper_router`."""
    command = [sys.executable, *(["-c", program] if program else ["-m", "klipper_router"]), "-c", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def printers(folder: Path) -> list[str]:
    listed = client.call(str(folder / "router.sock"), "router/printers/list", {}, ANSWER_WITHIN_S)
    return [printer["name"] for printer in listed["printers"]]


def test_systemd_is_told_of_ready_reload_and_stop(tmp_path: Path, systemd: Systemd) -> None:
    config = write_config(tmp_path, "main")
    with router(config, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
        assert systemd.next() == "READY=1"
        write_config(tmp_path, "main", "led")
        process.send_signal(signal.SIGHUP)
        assert systemd.next().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.next() == "READY=1"
        assert printers(tmp_path) == ["main", "led"]
        process.send_signal(signal.SIGTERM)
        assert systemd.next() == "STOPPING=1"
        assert process.wait(ANSWER_WITHIN_S) == 0


def test_a_wrong_configuration_is_not_reloaded_and_says_so(tmp_path: Path, systemd: Systemd) -> None:
    config = write_config(tmp_path, "main")
    with router(config, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
        systemd.until("READY=1")
        config.write_text("[klippy main]\nsok: x\n")
        process.send_signal(signal.SIGHUP)
        systemd.until("READY=1")
        assert printers(tmp_path) == ["main"]
        write_config(tmp_path, "led", more="sock_mode: 600\n")
        process.send_signal(signal.SIGHUP)
        systemd.until("READY=1")
        assert printers(tmp_path) == ["led"]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=ANSWER_WITHIN_S)
    assert "not reloaded, nothing was changed" in log
    assert "router.cfg:2: [klippy main] has no option 'sok'" in log
    assert "of [router] only default_instance counts before the next start" in log


def test_a_section_that_was_changed_on_the_dashboard_is_told_at_the_start_at_a_reload_and_by_check(
    tmp_path: Path, systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, "main", "led", more="[gateway]\nlisten: 127.0.0.1:0\ndata: data\n")
    kept = tmp_path / "data/printers.json"
    kept.parent.mkdir()
    changed = {"klippy main": {"sock": "other.sock"}, "klippy led": None, "klippy mmu": {"sock": "mmu.sock"}}
    kept.write_text(json.dumps({"sections": changed}))
    notes = [
        f"{config}:7: [klippy main] what the dashboard changed is kept in {kept} and goes before this section",
        f"{config}:9: [klippy led] the dashboard removed it, which is kept in {kept} and goes before this section",
    ]
    assert main(["check", "-c", str(config)]) == 0
    assert capsys.readouterr().out.split("\n")[1:-1] == [f"note: {note}" for note in notes]
    with router(config, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
        systemd.until("READY=1")
        process.send_signal(signal.SIGHUP)
        systemd.until("READY=1")
        assert printers(tmp_path) == ["main", "mmu"]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=ANSWER_WITHIN_S)
    assert [log.count(note) for note in notes] == [2, 2]


def test_the_watchdog_is_fed_while_the_loop_runs(tmp_path: Path, systemd: Systemd) -> None:
    config = write_config(tmp_path, "main")
    with router(config, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="100000"):
        for _ in range(3):
            systemd.until("WATCHDOG=1")


@pytest.mark.parametrize(
    ("limit_us", "pid", "expected_s"),
    [("2000000", "", 2.0), ("2000000", "1", None), ("", "", None), ("0", "", None), ("x", "", None), ("5", "x", None)],
)
def test_the_watchdog_is_fed_only_where_systemd_asks_this_process(
    monkeypatch: pytest.MonkeyPatch, limit_us: str, pid: str, expected_s: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit_us)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert supervision.watchdog_s() == expected_s


def test_an_abstract_address_is_told_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"klipper-router-test-{os.getpid()}"
    with contextlib.closing(Systemd(f"\0{name}")) as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        supervision.notify("READY=1")
        assert listening.next() == "READY=1"


def test_a_process_that_may_open_no_more_files_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.closing(Systemd(str(tmp_path / "notify"))) as systemd:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            supervision.notify("WATCHDOG=1")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        supervision.notify("WATCHDOG=1")
        assert systemd.next() == "WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all"])
def test_without_a_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    supervision.notify("READY=1")


CRASHING = """
import sys
from klipper_router import api_socket, cli
async def crash(router, sock):
    raise KeyError("a bug")
api_socket.serve = crash
sys.exit(cli.main())
"""


def test_a_crash_is_exit_code_70_and_leaves_a_report(tmp_path: Path) -> None:
    config = write_config(tmp_path, "main")
    with router(config, program=CRASHING) as process:
        _, log = process.communicate(timeout=ANSWER_WITHIN_S)
        assert process.returncode == 70
    (report,) = (tmp_path / "crashes").glob("crash-*.txt")
    assert "KeyError: 'a bug'" in report.read_text()
    assert "serves main on" in report.read_text()  # the log
    assert f"the router crashed: KeyError: 'a bug'. A report for its developers is in {report}" in log
    assert not (tmp_path / "router.sock").exists()


def test_the_socket_has_the_mode_and_the_group_that_are_configured(tmp_path: Path) -> None:
    section = RouterSection(sock=str(tmp_path / "sock"), sock_mode="0600", sock_owner=f":{_group_name()}")
    with bound_socket(section):
        status = (tmp_path / "sock").stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_gid == os.getgid()


def _group_name() -> str:
    import grp

    return grp.getgrgid(os.getgid()).gr_name


@contextlib.contextmanager
def no_root() -> Iterator[None]:
    """Root may write to every socket."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_socket_left_by_another_user_is_not_taken_for_a_router_that_runs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # unlike tmp_path
        file = Path(folder, "sock")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(file))
        file.chmod(0)
        with (
            no_root(),
            pytest.raises(ConfigError, match="there is a socket of another user"),
            bound_socket(RouterSection(sock=str(file))),
        ):
            raise AssertionError("bound")


@pytest.mark.parametrize("owner", ["nobody-at-all", ":nobody-at-all", "root:nobody-at-all"])
def test_an_owner_that_does_not_exist_is_refused(tmp_path: Path, owner: str) -> None:
    section = RouterSection(sock=str(tmp_path / "sock"), sock_owner=owner)
    with pytest.raises(ConfigError, match=f"sock_owner {owner}: there is no such user or group"), bound_socket(section):
        raise AssertionError("bound")
    assert not (tmp_path / "sock").exists()


def test_an_owner_that_only_root_may_choose_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chown(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # what it is to anybody but root

    monkeypatch.setattr(os, "chown", chown)
    section = RouterSection(sock=str(tmp_path / "sock"), sock_owner="root")
    with pytest.raises(ConfigError, match="only root may give it to another user"), bound_socket(section):
        raise AssertionError("bound")
    assert not (tmp_path / "sock").exists()


def test_the_log_names_the_process_and_the_user_of_a_client(tmp_path: Path, systemd: Systemd) -> None:
    config = write_config(tmp_path, "main")
    with router(config, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
        systemd.until("READY=1")
        with pytest.raises(Exception, match="no printer of that name"):
            client.call(str(tmp_path / "router.sock"), "router/objects/list", {"target": "x"}, ANSWER_WITHIN_S)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=ANSWER_WITHIN_S)
    assert f"client 1 (pid {os.getpid()}, uid {os.getuid()}): router/objects/list to x" in log
