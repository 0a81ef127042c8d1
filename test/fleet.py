"""Real processes on real Unix sockets for the daemon's tests: Klippys (virtual or real), a router, and eyes on them.

Shares no code with the router: frames are cut and JSON is read by the standard library, so that a mistake in the
product's codec cannot hide itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).parent.parent
START_WITHIN_S = 30.0
EXPECT_WITHIN_S = 20.0

# Shows its parameters as JSON on the console; `Console.records` reads them back.
RECORDER = """
[gcode_macro REC]
gcode:
  {action_respond_info("REC " ~ (params|tojson))}
"""


def spawn(command: list[str], output: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that writes to a file. ``environment``: what it gets beside ours."""
    env = {**os.environ, **(environment or {})}
    with output.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT, env=env)


class Backend:
    """How a Klippy process is started. This one starts virtual ones; the flags are klippy.py's."""

    reads_quotes = True  # whether `#`, `;` and `*` inside quotes are left alone (Klipper since v0.13)

    def command(self, folder: Path, name: str) -> list[str]:
        config, sock, log = (str(folder / f"{name}.{ending}") for ending in ("cfg", "sock", "log"))
        return [sys.executable, "-m", "klipper_router.virtual", config, "-a", sock, "-l", log]

    def start_mcu(self, folder: Path, name: str) -> subprocess.Popen[bytes] | None:
        return None


class RealBackend(Backend):
    """Klipper itself, each instance with a Linux-process MCU of its own."""

    def __init__(self, klipper_dir: Path) -> None:
        self.klipper_dir = klipper_dir
        self.reads_quotes = "extended_r" not in (klipper_dir / "klippy/gcode.py").read_text()
        self.python = os.environ.get("KLIPPER_PYTHON", str(klipper_dir.parent / "klippy-env/bin/python"))
        self.mcu = os.environ.get("KLIPPER_MCU", str(klipper_dir / "out/klipper.elf"))

    def command(self, folder: Path, name: str) -> list[str]:
        config, sock, log, tty = (str(folder / f"{name}.{ending}") for ending in ("cfg", "sock", "log", "tty"))
        klippy = str(self.klipper_dir / "klippy/klippy.py")
        return [self.python, klippy, config, "-a", sock, "-l", log, "-I", tty]

    def start_mcu(self, folder: Path, name: str) -> subprocess.Popen[bytes] | None:
        return spawn([self.mcu, "-I", str(folder / f"{name}.mcu")], folder / f"{name}.mcu.out")


class Connection:
    """A plain client of a socket that speaks Klippy's framing."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.notes: list[dict[str, Any]] = []
        self._buffer = b""
        self._next_id = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Connection]:
        """Raises OSError."""
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            yield cls(stream)

    async def send(self, method: str, params: dict[str, Any]) -> int:
        self._next_id += 1
        frame = json.dumps({"id": self._next_id, "method": method, "params": params}).encode() + b"\x03"
        await self.stream.send_all(frame)
        return self._next_id

    async def receive(self) -> dict[str, Any]:
        while b"\x03" not in self._buffer:
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError
            self._buffer += data
        frame, _, self._buffer = self._buffer.partition(b"\x03")
        message = json.loads(frame)
        assert isinstance(message, dict)
        return message

    async def answer(self, id_: int) -> dict[str, Any]:
        """The answer to a request; what arrives before it goes to `notes`."""
        while (message := await self.receive()).get("id") != id_:
            self.notes.append(message)
        return message

    async def call(self, method: str, **params: Any) -> Any:
        """The result; raises RuntimeError with the message of an error."""
        answer = await self.answer(await self.send(method, params))
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]


class Console:
    """The console lines of one printer, from all of its lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []
        self._changed = trio.Condition()

    async def take(self, line: str) -> None:
        async with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def records(self, since: int = 0) -> list[dict[str, str]]:
        """What the macro REC was given, call by call."""
        prefix = "// REC "
        return [json.loads(line.removeprefix(prefix)) for line in self.lines[since:] if line.startswith(prefix)]

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition on the lines holds; the lines are in the error when it does not."""
        with trio.move_on_after(EXPECT_WITHIN_S):
            async with self._changed:
                while not (result := condition()):
                    await self._changed.wait()
            return result
        raise AssertionError(f"{self.name} did not show {what}; it showed {self.lines[-40:]}")

    async def shows(self, text: str, since: int = 0) -> str:
        """Wait for a line that holds ``text``."""

        def found() -> str:
            return next((line for line in self.lines[since:] if text in line), "")

        line = await self.until(found, repr(text))
        assert isinstance(line, str)
        return line

    async def has_records(self, count: int, since: int = 0) -> list[dict[str, str]]:
        """Wait until REC was run ``count`` times since line ``since``."""
        await self.until(lambda: len(self.records(since)) >= count, f"{count} records")
        return self.records(since)


class Klippy:
    """One Klippy process and its console."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.sock = fleet.folder / f"{name}.sock"
        self.console = Console(name)
        self.mcu = fleet.backend.start_mcu(fleet.folder, name)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, macros: str) -> None:
        gcodes = self.fleet.folder / f"{self.name}.gcodes"
        gcodes.mkdir(exist_ok=True)
        (self.fleet.folder / f"{self.name}.cfg").write_text(
            f"[include {ROOT}/includes/router_api.cfg]\n"
            f"[mcu]\nserial: {self.fleet.folder}/{self.name}.mcu\n"
            "[printer]\nkinematics: none\nmax_velocity: 10\nmax_accel: 100\n"
            f"[virtual_sdcard]\npath: {gcodes}\n"
            f"[respond]\n[pause_resume]\n[display_status]\n[force_move]\n{RECORDER}\n{macros}"
        )

    def start(self) -> None:
        command = self.fleet.backend.command(self.fleet.folder, self.name)
        self.process = spawn(command, self.fleet.folder / f"{self.name}.out")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await trio.to_thread.run_sync(self.process.wait)

    async def state(self, wanted: str) -> None:
        """Wait until Klippy itself says it is in this state."""
        with trio.fail_after(START_WITHIN_S):
            while await self._state_now() != wanted:  # noqa: ASYNC110 - of another process; only its answer tells
                await trio.sleep(0.02)

    async def _state_now(self) -> str:
        try:
            async with Connection.open(self.sock) as connection:
                with trio.fail_after(2):
                    state = (await connection.call("info"))["state"]
        except (OSError, EOFError, trio.BrokenResourceError, trio.TooSlowError):
            return "unreachable"
        assert isinstance(state, str)
        return state

    async def gcode(self, script: str) -> None:
        async with Connection.open(self.sock) as connection:
            await connection.call("gcode/script", script=script)

    async def watch(self) -> None:
        """Keep reading the console, through all restarts."""
        while True:
            with contextlib.suppress(OSError, EOFError, trio.BrokenResourceError):
                async with Connection.open(self.sock) as connection:
                    await connection.call("gcode/subscribe_output")
                    await self.console.take("-- watched --")
                    while True:
                        response = (await connection.receive()).get("params", {}).get("response")
                        for line in str(response).split("\n") if response is not None else ():
                            await self.console.take(line)
            await trio.sleep(0.02)


class Fleet:
    """Klippys and a router in one folder."""

    def __init__(self, folder: Path, backend: Backend, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.backend = backend
        self.klippys: dict[str, Klippy] = {}
        self.router: subprocess.Popen[bytes] | None = None
        self.router_sock = folder / "router.sock"
        self.router_log = folder / "router.log"
        self._nursery = nursery

    async def add(self, name: str, macros: str = "", *, start: bool = True) -> Klippy:
        """Configure a Klippy and, unless told not to, start it and wait until it is ready and watched."""
        klippy = self.klippys[name] = Klippy(self, name)
        klippy.configure(macros)
        if start:
            klippy.start()
            await klippy.state("ready")
        self._nursery.start_soon(klippy.watch)
        if start:
            await klippy.console.shows("-- watched --")
        return klippy

    async def start_router(self, *names: str) -> None:
        """Start the router for these printers (default: all that were added) and wait until it answers."""
        config = f"[router]\nsock: {self.router_sock}\n"
        for name in names or self.klippys:
            config += f"[klippy {name}]\nsock: {self.folder / name}.sock\n"
        (self.folder / "router.cfg").write_text(config)
        command = [sys.executable, "-m", "klipper_router", "-v", "-c", str(self.folder / "router.cfg")]
        self.router = spawn(command, self.router_log)
        await self.router_says(lambda printers: True)

    async def call(self, method: str, **params: Any) -> Any:
        """One call on the router's socket."""
        async with Connection.open(self.router_sock) as connection:
            return await connection.call(method, **params)

    async def router_says(self, condition: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        """Wait until the router's list of printers, by name, meets a condition."""
        printers: dict[str, dict[str, Any]] = {}
        with trio.move_on_after(EXPECT_WITHIN_S):
            while True:
                with contextlib.suppress(OSError, EOFError, trio.BrokenResourceError):
                    listed = (await self.call("router/printers/list"))["printers"]
                    printers = {printer["name"]: printer for printer in listed}
                    if condition(printers):
                        return
                await trio.sleep(0.02)
        raise AssertionError(f"the router says {printers}; its log: {self.router_log.read_text()[-3000:]}")

    async def ready(self, *names: str) -> None:
        """Wait until the router has these printers (default: all) ready, ROUTER_ON_READY done."""
        wanted = names or tuple(self.klippys)
        await self.router_says(lambda printers: all(printers[name]["ready"] for name in wanted))

    def stop(self) -> None:
        for process in [self.router, *(klippy.process for klippy in self.klippys.values())]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for klippy in self.klippys.values():
            if klippy.mcu is not None:
                klippy.mcu.kill()
        for process in [self.router, *(p for k in self.klippys.values() for p in (k.process, k.mcu))]:
            if process is not None:
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextlib.asynccontextmanager
async def fleet(backend: Backend) -> AsyncIterator[Fleet]:
    """A fleet in a folder short enough for socket paths; everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="kr"))
    try:
        async with trio.open_nursery() as nursery:
            made = Fleet(folder, backend, nursery)
            try:
                yield made
            finally:
                made.stop()
                nursery.cancel_scope.cancel()
    finally:
        if not os.environ.get("KEEP_FLEET"):
            shutil.rmtree(folder, ignore_errors=True)
