"""The command line: exit codes, messages, and where options may stand. A call meets a peer that says what it is told.

Exit codes: 0 done, 1 it did not work, 2 wrong configuration or usage.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from klipper_router import __version__, framing
from klipper_router.cli import main
from klipper_router.status import Traffic

COMMANDS = ["run", "check", "status", "watch", "call", "demo", "test", "virtual"]
WITH_CONFIG = [[], ["run"], ["check"], ["status"], ["watch"], ["call", "info"]]
Captured = pytest.CaptureFixture[str]


class Peer:
    """What a call meets at ``path``. It answers the first request of each connection, then closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.answer: Callable[[], bytes] = lambda: b""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def says(self, *frames: object) -> None:
        """Bytes are sent as they are, anything else as a frame of JSON."""
        whole = b"".join(f if isinstance(f, bytes) else json.dumps(f).encode() + b"\x03" for f in frames)
        self.answer = lambda: whole

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                received = b""
                while not received.endswith(b"\x03") and (data := connection.recv(65536)):
                    received += data
                if received == b"stop\x03":
                    return
                self.requests.append(received)
                answer = self.answer()
                with contextlib.suppress(BrokenPipeError):  # given up
                    connection.sendall(answer)

    def stop(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.path))
            sock.sendall(b"stop\x03")
        self._thread.join()
        self._listener.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path / "router.sock")
    yield made
    made.stop()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration without fault."""
    file = tmp_path / "router.cfg"
    file.write_text("[router]\nsock: router.sock\n[klippy main]\nsock: main.sock\n[klippy led]\nsock: led.sock\n")
    return str(file)


def complaint(capsys: Captured) -> str:
    """The one message of a command that did nothing else."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("klipper-router: ")
    assert "Traceback" not in err
    return err.removeprefix("klipper-router: ").rstrip("\n")


# -- the configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WITH_CONFIG, ids=" ".join)
def test_a_wrong_configuration_is_exit_2_with_file_line_and_mend(
    command: list[str], tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "router.cfg"
    file.write_text("[router]\nsocks: router.sock\n[klippy main]\nsock: main.sock\n")
    assert main([*command, "-c", str(file)]) == 2
    assert complaint(capsys) == f"{file}:2: [router] has no option 'socks'. Did you mean 'sock'?"


@pytest.mark.parametrize("command", WITH_CONFIG, ids=" ".join)
def test_a_configuration_that_is_not_there_is_exit_2(command: list[str], tmp_path: Path, capsys: Captured) -> None:
    assert main([*command, "-c", str(tmp_path / "none.cfg")]) == 2
    assert complaint(capsys) == f"cannot read '{tmp_path / 'none.cfg'}': No such file or directory"


@pytest.mark.parametrize("command", [[], ["run"], ["check"]], ids=" ".join)
def test_a_command_that_needs_a_configuration_and_gets_none_is_exit_2(command: list[str], capsys: Captured) -> None:
    assert main(command) == 2
    assert complaint(capsys) == "no configuration given: klipper-router -c router.cfg (see --help)"


def test_check_names_the_printers_and_the_socket(config: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["check", "-c", config]) == 0
    out, err = capsys.readouterr()
    assert out == f"{config}: fine. Printers: main, led; the router's socket: {tmp_path / 'router.sock'}\n"
    assert err == ""


def test_check_prints_what_is_to_be_noted(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "router.cfg"
    file.write_text("[klippy main]\nsock: main.sock\nmoonraker: none\n")
    assert main(["check", "-c", str(file)]) == 0
    out, err = capsys.readouterr()
    note = f"{file}:3: [klippy main] has moonraker, without effect as long as there is no section [gateway]"
    assert (out.split("\n")[1:], err) == ([f"note: {note}", ""], "")


def test_check_looks_for_the_web_interfaces(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "router.cfg"
    file.write_text("[gateway]\nmainsail: mainsail\nfluidd: fluidd\n[klippy main]\nsock: main.sock\n")
    (tmp_path / "fluidd/dist").mkdir(parents=True)
    (tmp_path / "fluidd/dist/index.html").touch()
    assert main(["check", "-c", str(file)]) == 0
    notes = capsys.readouterr().out.split("\n")[1:-1]
    assert notes == [
        f"note: {file}:2: [gateway] mainsail cannot be shown: {tmp_path}/mainsail: No such file or directory; unpack a"
        " release of Mainsail there: its directory holds an index.html",
        f"note: {file}:3: [gateway] fluidd cannot be shown: {tmp_path}/fluidd/index.html: No such file or directory;"
        f" name {tmp_path}/fluidd/dist, which holds one",
    ]


def test_check_reads_yaml_too(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "router.yaml"
    file.write_text("klippy: {main: {sock: /tmp/main.sock}}\n")
    assert main(["check", "-c", str(file)]) == 0
    assert "Printers: main;" in capsys.readouterr().out


def test_check_names_every_mistake(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "router.cfg"
    file.write_text("[router]\ndefault_instance: man\n[klippy main]\n[klipy led]\n")
    assert main(["check", "-c", str(file)]) == 2
    lines = complaint(capsys).split("\n")
    assert sorted(re.sub(r".*router\.cfg:(\d+): .*", r"\1", line) for line in lines) == ["2", "3", "4"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "FILE", "check"],
        ["check", "-c", "FILE"],
        ["--config=FILE", "check"],
        ["check", "--config=FILE"],
        ["check", "FILE"],
        ["check", "-v", "FILE"],
        ["-c", "/none.cfg", "check", "FILE"],
    ],
)
def test_the_configuration_may_be_given_before_or_after_the_command(
    arguments: list[str], config: str, capsys: Captured
) -> None:
    assert main([argument.replace("FILE", config) for argument in arguments]) == 0
    assert capsys.readouterr().out.startswith(f"{config}: fine.")


def test_of_a_configuration_before_and_one_after_the_command_the_later_counts(config: str, capsys: Captured) -> None:
    assert main(["-c", "/none.cfg", "check", "-c", config]) == 0
    assert main(["-c", config, "check", "-c", "/none.cfg"]) == 2
    assert complaint_after_output(capsys) == "cannot read '/none.cfg': No such file or directory"


def complaint_after_output(capsys: Captured) -> str:
    return capsys.readouterr().err.removeprefix("klipper-router: ").rstrip("\n")


@pytest.mark.parametrize("command", [[], ["run"], ["-v"], ["run", "-v"]], ids=" ".join)
def test_a_socket_that_cannot_be_made_is_exit_2_and_nothing_is_started(
    command: list[str], tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "router.cfg"
    file.write_text("[router]\nsock: away/router.sock\n[klippy main]\nsock: main.sock\n")
    assert main([*command, "-c", str(file)]) == 2
    sock = tmp_path / "away/router.sock"
    assert complaint(capsys) == f"{file}:2: [router] sock {sock}: No such file or directory"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("section", ["[gateway]", "[forward 9443]\nto: 127.0.0.1:7125"])
def test_packages_that_are_not_installed_are_told_with_the_mend(section: str, command: str, tmp_path: Path) -> None:
    file = tmp_path / "router.cfg"
    file.write_text(f"{section}\n[klippy main]\nsock: main.sock\n")
    hide = "import sys; sys.modules.update(httptools=None, wsproto=None)"
    program = f"{hide}; from klipper_router.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, command, "-c", str(file)], capture_output=True, text=True, timeout=60
    )
    title = section.partition("\n")[0]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"klipper-router: {file}:1: {title} needs further packages (httptools, wsproto):"
        " pip install '/path/to/this/checkout[gateway]', as the README says\n"
    )


# -- usage ---------------------------------------------------------------------------------------------------------


def helped(capsys: Captured, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_mentions_every_command_and_shows_a_configuration(capsys: Captured) -> None:
    text = helped(capsys)
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", text), command
    for option in ("-c FILE", "--config", "-v", "--verbose", "--version", "--help", "[klippy main]", "sock:"):
        assert option in text


@pytest.mark.parametrize(
    ("command", "mentioned"),
    [
        ("run", ["-c FILE", "-v", "foreground"]),
        ("check", ["-c FILE", "file, line, key"]),
        ("status", ["-c FILE", "--sock PATH"]),
        ("watch", ["-c FILE", "--sock PATH", "--interval S"]),
        ("call", ["-c FILE", "--sock PATH", "--timeout S", "METHOD", "JSON", "list_endpoints"]),
        ("demo", ["-v"]),
        ("test", ["--klipper"]),
        ("virtual", ["-a"]),
    ],
)
def test_help_of_a_command_mentions_its_options(command: str, mentioned: list[str], capsys: Captured) -> None:
    text = helped(capsys, command)
    for each in mentioned:
        assert each in text


def test_version_is_told(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"klipper-router {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nonsense"], "nonsense"),
        (["check", "--nonsense"], "--nonsense"),
        (["call"], "METHOD"),
        (["call", "info", "{}", "more"], "more"),
        (["-c"], "-c"),
        (["watch", "--interval", "0"], "'0' is no number of seconds"),
        (["watch", "--interval", "-1"], "'-1' is no number of seconds"),
        (["watch", "--interval", "soon"], "'soon' is no number of seconds"),
        (["call", "info", "--timeout", "nan"], "'nan' is no number of seconds"),
        (["call", "info", "--timeout", "inf"], "'inf' is no number of seconds"),
    ],
)
def test_wrong_usage_is_exit_2_and_named(arguments: list[str], named: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert named in err


# -- call ----------------------------------------------------------------------------------------------------------


def test_a_call_sends_one_request_and_prints_its_result(peer: Peer, config: str, capsys: Captured) -> None:
    peer.says({"id": 1, "result": {"é": [1.5, None, True]}})
    assert main(["call", "a/b", '{"target": "led", "x": [1]}', "-c", config]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"é": [1.5, None, True]}
    assert "é" in out
    assert err == ""
    (request,) = peer.requests
    assert json.loads(request[:-1]) == {"id": 1, "method": "a/b", "params": {"target": "led", "x": [1]}}
    assert request.endswith(b"\x03")


@pytest.mark.parametrize("result", [None, 0, False, "", [], {}])
def test_an_empty_result_is_a_result(peer: Peer, result: object, capsys: Captured) -> None:
    peer.says({"id": 1, "result": result})
    assert main(["call", "x", "--sock", str(peer.path)]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_a_call_without_parameters_sends_none(peer: Peer) -> None:
    peer.says({"id": 1, "result": {}})
    assert main(["call", "x", "--sock", str(peer.path)]) == 0
    assert json.loads(peer.requests[0][:-1])["params"] == {}


def test_the_socket_of_the_command_line_goes_before_that_of_the_configuration(
    peer: Peer, tmp_path: Path, capsys: Captured
) -> None:
    peer.says({"id": 1, "result": 7})
    file = tmp_path / "other.cfg"
    file.write_text("[router]\nsock: other.sock\n[klippy main]\nsock: main.sock\n")
    assert main(["call", "x", "-c", str(file), "--sock", str(peer.path)]) == 0
    assert capsys.readouterr().out == "7\n"


def test_what_the_router_says_before_the_answer_is_passed_over(peer: Peer, capsys: Captured) -> None:
    notice = {"method": "router/objects/update", "params": {"result": 1}}
    peer.says(notice, {"id": 7, "result": "of another"}, {"id": 1, "result": "mine"}, notice)
    assert main(["call", "x", "--sock", str(peer.path)]) == 0
    assert capsys.readouterr().out == '"mine"\n'


@pytest.mark.parametrize("id_", [1, None])
def test_an_error_is_exit_1_with_its_message(peer: Peer, id_: int | None, capsys: Captured) -> None:
    peer.says({"id": id_, "error": {"error": "WebRequestError", "message": "led is not connected"}})
    assert main(["call", "x", "--sock", str(peer.path)]) == 1
    assert complaint(capsys) == "led is not connected"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "the router closed the connection without an answer"),
        (b'{"id": 1, "result": {}}', "the router closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\x03", "unreadable JSON"),
        (b"\xff\xfe\x03", "unreadable JSON"),
        (b'{"id": 1, "result": ' + b"[" * 100_000 + b"\x03", "unreadable JSON"),
        (b"[1]\x03", "unexpected shape"),
        (b'{"id": 1, "error": "no"}\x03', "unexpected shape"),
        (b'{"id": 1}\x03', "the router closed the connection without an answer"),
        (b"x" * (framing.MAX_FRAME_BYTES + 1) + b"\x03", "the answer has 16777217 bytes, too many"),
    ],
    ids=["nothing", "half", "http", "no text", "deep", "list", "odd error", "no result", "too long"],
)
def test_an_answer_that_is_none_is_exit_1_and_says_what_is_wrong(
    peer: Peer, said: bytes, message: str, capsys: Captured
) -> None:
    peer.says(said)
    assert main(["call", "x", "--sock", str(peer.path)]) == 1
    assert message in complaint(capsys)


@pytest.mark.parametrize("params", ["{", "", "target=led", "{'target': 1}", "[" * 100_000])
def test_parameters_that_are_no_json_are_exit_2_and_nothing_is_sent(peer: Peer, params: str, capsys: Captured) -> None:
    assert main(["call", "x", params, "--sock", str(peer.path)]) == 2
    assert complaint(capsys).startswith("the parameters are no JSON (")
    assert peer.requests == []


def test_parameters_that_cannot_be_sent_are_exit_1_and_nothing_is_sent(peer: Peer, capsys: Captured) -> None:
    assert main(["call", "x", r'{"a": "\ud800"}', "--sock", str(peer.path)]) == 1
    assert "half a character" in complaint(capsys)
    assert peer.requests == []


@pytest.mark.parametrize("command", [["status"], ["call", "info"]], ids=" ".join)
def test_without_a_router_it_is_exit_1_and_says_where_and_what_to_do(
    command: list[str], config: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main([*command, "-c", config]) == 1
    assert complaint(capsys) == (
        f"no router answers at {tmp_path / 'router.sock'}: No such file or directory. Is it running? Give -c or --sock"
    )


@pytest.mark.parametrize(
    ("sock", "exit_code", "message"),
    [
        ("/tmp/" + "x" * 200, 1, "AF_UNIX path too long"),
        ("/", 1, "Connection refused"),
        ("~nobody_of_that_name/x", 2, "there is no such home directory"),
    ],
)
def test_a_socket_that_cannot_be_is_named(sock: str, exit_code: int, message: str, capsys: Captured) -> None:
    assert main(["call", "info", "--sock", sock]) == exit_code
    said = complaint(capsys)
    assert sock in said
    assert message in said


def test_a_call_that_is_not_answered_in_time_is_exit_1(peer: Peer, capsys: Captured) -> None:
    given_up = threading.Event()

    def nothing() -> bytes:
        given_up.wait()
        return b""

    peer.answer = nothing
    try:
        assert main(["call", "x", "--timeout", "0.05", "--sock", str(peer.path)]) == 1
    finally:
        given_up.set()
    assert complaint(capsys) == f"the router at {peer.path} has not answered within 0.05 s"


def test_a_call_can_be_interrupted(peer: Peer, capsys: Captured) -> None:
    interrupted = threading.Event()

    def interrupt() -> bytes:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        interrupted.wait()
        return b""

    peer.answer = interrupt
    try:
        assert main(["call", "x", "--sock", str(peer.path)]) == 130
    finally:
        interrupted.set()
    assert capsys.readouterr() == ("", "")


# -- status and watch ----------------------------------------------------------------------------------------------


def test_status_prints_a_table_of_the_printers(peer: Peer, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    printer = {
        "name": "led",
        "connected": False,
        "ready": False,
        "state": "disconnected",
        "state_message": "No such file",
    }
    counts = dict.fromkeys(Traffic.__struct_fields__, 7)
    stats = {"led": {**counts, "callback_latency": {"p50_s": 0.001, "p99_s": 0.25}}}
    answers = {
        b"router/printers/list": {"printers": [{**printer, "subscriptions": 3, "queue": 2}]},
        b"router/stats": {"printers": stats, "suspended": ["led router/event/trigger x"]},
    }

    def answer() -> bytes:
        (result,) = [result for method, result in answers.items() if method in peer.requests[-1]]
        return json.dumps({"id": 1, "result": result}).encode() + b"\x03"

    peer.answer = answer
    assert main(["status", "--sock", str(peer.path)]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"led\s+7/7\s+7/7\s+7\s+14\s+7\s+7\s+14\s+7\s+1/250", out)
    assert "suspended, looks like a loop: led router/event/trigger x" in out
    assert re.search(r"led\s*│ no\s*│ no\s*│ disconnected\s*│\s*3\s*│\s*2\s*│ No such file\s*│", out)
    assert err == ""


@pytest.mark.parametrize("result", [{}, [], None, {"printers": [{"name": "led"}]}, {"printers": 7}])
def test_status_of_something_else_than_a_router_is_exit_1(peer: Peer, result: object, capsys: Captured) -> None:
    peer.says({"id": 1, "result": result})
    assert main(["status", "--sock", str(peer.path)]) == 1
    assert complaint(capsys).startswith(f"what answers at {peer.path} is no router of this version")


def test_watch_without_a_terminal_is_exit_1_and_names_status(
    config: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for forces_a_terminal in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(forces_a_terminal, raising=False)
    assert main(["watch", "-c", config]) == 1
    assert complaint(capsys) == "watch needs a terminal; `klipper-router status` prints the table once"


# -- the process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [["check", "-c", "FILE"], ["--help"]], ids=" ".join)
def test_a_reader_that_has_enough_is_exit_1_without_a_word(arguments: list[str], buffered: bool, config: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, "-m", "klipper_router", *(argument.replace("FILE", config) for argument in arguments)]
    try:
        ended = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, env=environment, check=False)
    finally:
        os.close(write_end)
    assert ended.stderr == b""
    # argparse itself passes over a help that cannot be written, where it is not buffered
    assert ended.returncode == (0 if arguments == ["--help"] and not buffered else 1)


def test_a_closed_stdout_is_no_obstacle(config: str) -> None:
    command = f'exec "{sys.executable}" -m klipper_router check -c "{config}" >&-'
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_raw_prints_a_text_as_it_is_and_anything_else_as_json(peer: Peer, capsys: Captured) -> None:
    peer.says({"id": 1, "result": "a 1\nb 2\n"})
    assert main(["call", "--sock", str(peer.path), "--raw", "x"]) == 0
    assert capsys.readouterr().out == "a 1\nb 2\n"
    peer.says({"id": 1, "result": {"a": 1}})
    assert main(["call", "--sock", str(peer.path), "--raw", "x"]) == 0
    assert json.loads(capsys.readouterr().out) == {"a": 1}
