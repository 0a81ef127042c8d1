"""The router as a process: started, measured, killed, stopped, and told to read its configuration again."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from scripts.soak.books import Books
from scripts.soak.machines import Machine
from test.fleet import Connection, spawn

# Upper bounds for a machine that is busy with other things as well.
START_WITHIN_S = 60.0
STOP_WITHIN_S = 2.0  # after SIGTERM, by the contract
RELOAD_WITHIN_S = 60.0
STOP_PATIENCE_S = 20.0
# man 3 mallopt: what is freed goes back to the system at once, so that resident memory is what the router holds. Else
# it stays where it was at most, by a bad client for whom megabytes waited, and a leak would hide in that.
GIVES_MEMORY_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass
class Gateway:
    """What the configuration says of the gateway: its port, and what stands behind it."""

    port: int
    data: Path
    upstreams: dict[str, str]  # printer -> the address of its Moonraker; "none": the router answers in its place
    cameras: dict[str, str]  # printer -> the address of its camera


# What a connection to the router depends on: see `RouterProcess.must_hold`.
Epoch = tuple[int, int]


class RouterProcess:
    """The router of these printers. ``life`` counts its starts; ``up`` between a start and the next end."""

    def __init__(self, folder: Path, machines: Sequence[Machine], books: Books, gateway: Gateway | None = None) -> None:
        self.sock = folder / "router.sock"
        self.log = folder / "router.log"
        self.config = folder / "router.cfg"
        self.life = 0
        self.up = False
        self.turn = trio.Lock()  # who may end, start or reload it now
        self.has = {machine.name for machine in machines}
        self.gateway = gateway
        self._edits: Counter[str] = Counter()
        self._being_edited: Counter[str] = Counter()
        self._aliased: set[str] = set()
        self._greetings = itertools.count(1)
        self._folder = folder
        self._machines = machines
        self._books = books
        self._process: subprocess.Popen[bytes] | None = None
        for machine in machines:
            (folder / f"{machine.name}.alias").symlink_to(machine.sock)

    # -- its life ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Write its configuration: `has` says which printers are in it."""
        sections: dict[str, dict[str, str]] = {"router": {"sock": str(self.sock)}}
        if self.gateway:
            sections["gateway"] = {"listen": f"127.0.0.1:{self.gateway.port}", "data": str(self.gateway.data)}
        for machine in self._machines:
            if machine.name in self.has:
                sections[f"klippy {machine.name}"] = self.options(machine)
                if self.gateway and machine.name in self.gateway.cameras:
                    sections[f"camera {machine.name} toy"] = {"url": self.gateway.cameras[machine.name]}
        lines = [f"[{title}]\n" + "".join(f"{k}: {v}\n" for k, v in each.items()) for title, each in sections.items()]
        self.config.write_text("".join(lines))

    def options(self, machine: Machine) -> dict[str, str]:
        """What the configuration says of a printer."""
        ending = "alias" if machine.name in self._aliased else "sock"
        options = {
            "sock": f"{self._folder / machine.name}.{ending}",
            "on_connect": f"GREETING NUMBER={machine.greeting}",
        }
        if self.gateway:
            options["moonraker"] = self.gateway.upstreams[machine.name]
        return options

    def forget_changes(self) -> None:
        """What was changed by its API is not laid over the configuration any more, once that is read again."""
        if self.gateway:
            (self.gateway.data / "printers.json").unlink(missing_ok=True)

    def regreet(self, machine: Machine) -> None:
        """Only greetings by the next configuration count."""
        machine.greeting = next(self._greetings)

    def use_other_path(self, name: str) -> None:
        """The same printer by another path, from the next `configure` on."""
        self._aliased ^= {name}

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.life += 1
        for machine in self._machines:
            self.regreet(machine)
        self.configure()
        command = [sys.executable, "-m", "klipper_router", "-c", str(self.config)]
        self._process = spawn(command, self.log, GIVES_MEMORY_BACK)
        self.up = True
        for machine in self._machines:
            machine.router_starts()
        with trio.move_on_after(START_WITHIN_S):
            while await self.call("info") is None and self._process.poll() is None:  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)
            return
        self._books.mishap("router did not start", f"life {self.life}")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal, and wait for its end; the exit code."""
        assert self._process is not None
        process = self._process
        self.up = False
        for machine in self._machines:
            machine.router_ends()
        since = time.monotonic()
        process.send_signal(number)
        with trio.move_on_after(60):
            while process.poll() is None:  # noqa: ASYNC110 - of another process
                await trio.sleep(0.02)
        if process.poll() is None:
            self._books.mishap("router did not stop", f"life {self.life}, {number.name}")
            process.kill()
        code = process.wait()
        if number == signal.SIGTERM:
            if time.monotonic() - since > STOP_PATIENCE_S:
                self._books.mishap(
                    "router slow to stop", f"{time.monotonic() - since:.1f} s, {STOP_WITHIN_S:g} promised"
                )
            if code != 0 or self.sock.exists():
                self._books.mishap("router stopped badly", f"exit code {code}, socket left: {self.sock.exists()}")
        return code

    async def notice_crashes(self) -> None:
        """For ever: it must never end by itself. Started again if it does."""
        while True:
            await trio.sleep(0.1)
            process = self._process
            if self.up and process is not None and process.poll() is not None and not self.turn.locked():
                async with self.turn:
                    self._books.mishap(
                        "router crashed", f"life {self.life}, exit code {process.returncode}, {self._log_tail()}"
                    )
                    await self.end(signal.SIGKILL)
                    await self.start()

    def end_at_once(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    # -- what may be expected of it ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def editing(self, *names: str) -> Iterator[None]:
        """Inside, connections to these printers may rightly be ended or refused."""
        self._edits.update(names)
        self._being_edited.update(names)
        try:
            yield
        finally:
            self._edits.update(names)
            self._being_edited.subtract(names)

    def epoch(self, printer: str = "") -> Epoch:
        """Of a connection that is made now: to the router as such, or to one of its printers."""
        return self.life, self._edits[printer]

    def must_hold(self, since: Epoch, printer: str = "") -> bool:
        """Whether a connection of that epoch must not have ended, nor been refused."""
        there = not printer or (printer in self.has and not self._being_edited[printer])
        return self.up and there and since == self.epoch(printer)

    # -- its configuration ---------------------------------------------------------------------------------------

    async def reload(self, says: str = "configuration: reloaded") -> bool:
        """Let it read its configuration again, and wait until its log says what came of it; whether it did."""
        assert self._process is not None
        log_at = self.log.stat().st_size
        self._process.send_signal(signal.SIGHUP)
        with trio.move_on_after(RELOAD_WITHIN_S):
            while says.encode() not in self._log_since(log_at):  # noqa: ASYNC110 - of another process
                await trio.sleep(0.02)
            while await self.printers() != self.has:  # noqa: ASYNC110 - of another process
                await trio.sleep(0.1)
            return True
        self._books.mishap("reload without effect", f"{says!r}, it has {await self.printers()}, not {self.has}")
        return False

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _log_since(self, at: int) -> bytes:
        with self.log.open("rb") as log:
            log.seek(at)
            return log.read()

    async def printers(self, *, ready: bool = False) -> set[str]:
        """The printers that it has (that are ready and greeted)."""
        listed = await self.call("router/printers/list") or {"printers": []}
        return {printer["name"] for printer in listed["printers"] if printer["ready"] or not ready}

    # -- what it is asked and measured ---------------------------------------------------------------------------

    async def call(self, method: str, **params: object) -> Any:
        """The result of one call; None when there is none."""
        with contextlib.suppress(OSError, EOFError, trio.BrokenResourceError, RuntimeError), trio.move_on_after(5):
            async with Connection.open(self.sock) as connection:
                return await connection.call(method, **params)
        return None

    async def measure(self) -> dict[str, int]:
        """Resident memory (kB), open files, and tasks, as far as they can be known."""
        figures = {"rss_kb": self.rss_kb(), "files": self._files()}
        stats = await self.call("router/stats")
        if isinstance(stats, dict) and isinstance(stats.get("tasks"), int):
            figures["tasks"] = stats["tasks"]
        return {name: value for name, value in figures.items() if value is not None}

    def rss_kb(self) -> int | None:
        """None when it does not run."""
        assert self._process is not None
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), None)
        return None

    def _files(self) -> int | None:
        assert self._process is not None
        with contextlib.suppress(OSError):
            return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))
        return None
