"""What is measured and what it is measured against, each started on the measured core and waited for."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import socket
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.bench.cases import Skipped
from scripts.bench.machine import LOAD_CORE, Measured, Remote, measured, remote, until
from scripts.bench.pair import Pair
from scripts.bench.standin import END, RECEIVE_BYTES, frame

HERE = Path(__file__).parent


def call(sock_path: str | Path, method: str, params: dict[str, Any]) -> Any:
    """The result of one request to an API socket. Raises OSError, and RuntimeError for an error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(sock_path))
        sock.sendall(frame({"id": 1, "method": method, "params": params}))
        data = b""
        while END not in data:
            data += sock.recv(RECEIVE_BYTES)
    answer = json.loads(data.partition(END)[0])
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    return answer["result"]


def router_command(folder: Path, printers: Sequence[str]) -> list[str]:
    """Write a configuration for printers at ``folder/NAME.sock``; the command that runs a router on it."""
    sections = "".join(f"[klippy {name}]\nsock: {folder}/{name}.sock\n" for name in printers)
    config = folder / "router.cfg"
    config.write_text(f"[router]\nsock: {folder}/router.sock\n{sections}")
    return [sys.executable, "-m", "klipper_router", "-c", str(config)]


@contextlib.contextmanager
def router(folder: Path, printers: Sequence[str]) -> Iterator[Measured]:
    """A router to which every printer is ready; its socket is ``folder/router.sock``."""
    with measured(router_command(folder, printers), folder / "router.log") as process:
        until(lambda: all_ready(process, folder), "every printer ready")
        yield process


def all_ready(process: Measured, folder: Path) -> bool:
    process.check()
    try:
        listed = call(folder / "router.sock", "router/printers/list", {})["printers"]
    except OSError:
        return False
    return all(printer["ready"] for printer in listed)


@contextlib.contextmanager
def pair_on_router(folder: Path) -> Iterator[tuple[Remote, Measured]]:
    """A and B with the router between them."""
    with remote(Pair, str(made(folder))) as pair, router(folder, ["a", "b"]) as process:
        yield pair, process


@contextlib.contextmanager
def pair_on_socat(folder: Path) -> Iterator[tuple[Remote, Measured]]:
    """A and B joined by socat, which copies bytes and parses nothing. Raises Skipped without socat."""
    if not (socat := shutil.which("socat")):
        raise Skipped("socat is missing: apt install socat")
    ends = [f"UNIX-CONNECT:{folder}/{name}.sock" for name in "ab"]
    with _pair_on([socat, "-b", "65536", *ends], folder) as both:
        yield both


@contextlib.contextmanager
def socat_between(folder: Path) -> Iterator[bool]:
    """socat at ``folder/socat.sock``, in front of the Klippy "main", for one client; False: there is no socat."""
    if not (socat := shutil.which("socat")):
        yield False
        return
    sock = folder / "socat.sock"
    ends = [f"UNIX-LISTEN:{sock}", f"UNIX-CONNECT:{folder}/main.sock"]
    with measured([socat, "-b", "65536", *ends], folder / "socat.log"):
        until(sock.exists, "socat listening")
        yield True


@contextlib.contextmanager
def pair_on_script(folder: Path, script: str, *arguments: str) -> Iterator[tuple[Remote, Measured]]:
    """A and B with one of our own relays between them, a script beside this file."""
    command = [sys.executable, str(HERE / script), str(folder / "a.sock"), str(folder / "b.sock"), *arguments]
    with _pair_on(command, folder) as both:
        yield both


@contextlib.contextmanager
def _pair_on(command: Sequence[str], folder: Path) -> Iterator[tuple[Remote, Measured]]:
    with remote(Pair, str(made(folder))) as pair, measured(command, folder / "relay.log") as process:

        def linked() -> bool:
            process.check()
            return bool(pair("linked") == 2)

        until(linked, f"{command[0]} connected to both")
        yield pair, process


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


VIRTUAL = """
[mcu]
serial: /dev/virtual
[printer]
kinematics: none
max_velocity: 300
max_accel: 3000
[virtual_sdcard]
path: {folder}
[pause_resume]
[display_status]
"""

MOONRAKER = """
[server]
host: 127.0.0.1
port: {port}
klippy_uds_address: {klippy}
[machine]
provider: none
validate_service: False
validate_config: False
[announcements]
dev_mode: True
[authorization]
trusted_clients: 127.0.0.0/8
"""


@contextlib.contextmanager
def virtual_klippy(folder: Path, name: str) -> Iterator[None]:
    """A virtual Klippy, ready, at ``folder/NAME.sock``; on the load core, where the stand-ins are."""
    config = made(folder) / f"{name}.cfg"
    config.write_text(VIRTUAL.format(folder=folder))
    sock = folder / f"{name}.sock"
    with measured(
        [sys.executable, "-m", "klipper_router.virtual", str(config), "-a", str(sock)],
        folder / "virtual.log",
        core=LOAD_CORE,
    ) as process:

        def ready() -> bool:
            process.check()
            with contextlib.suppress(OSError):
                return bool(call(sock, "info", {})["state"] == "ready")
            return False

        until(ready, "the virtual Klippy ready")
        yield


@contextlib.contextmanager
def moonraker(folder: Path, name: str) -> Iterator[tuple[Measured, int]]:
    """A real Moonraker on the Klippy at ``folder/NAME.sock``, ready, and the port that it serves on the loopback.

    Raises Skipped without the package. It is kept off the network: no announcements, updates or zeroconf.
    """
    if importlib.util.find_spec("moonraker") is None:
        raise Skipped(f"the package moonraker is missing: {sys.executable} -m pip install moonraker")
    data = made(folder / "moonraker")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made(data / "config")
    config = data / "config" / "moonraker.conf"
    config.write_text(MOONRAKER.format(port=port, klippy=folder / f"{name}.sock"))
    command = [sys.executable, "-m", "moonraker", "-d", str(data), "-c", str(config), "-n"]
    with measured(command, folder / "moonraker.log") as process:

        def ready() -> bool:
            process.check()
            with contextlib.suppress(OSError):
                info = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/server/info", timeout=5))
                return bool(info["result"]["klippy_state"] == "ready")
            return False

        until(ready, "Moonraker ready")
        yield process, port
