"""A scenario's printers as processes: virtual ones in this process, or real Klippers with their micro-controllers.

Knows how each is started, ended and broken, nothing of the steps. The folder's files stay as they are: each printer
runs on a small configuration of its own in the run's temporary directory, which includes the folder's and overrides
what belongs to a place (sockets, the virtual SD card, saved variables).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from klipper_router.scenario.plan import PlannedPrinter
from klipper_router.virtual import ConfigError, VirtualKlippy, config_file

MCU_WITHIN_S = 10.0


class Skipped(Exception):
    """This kind of printer cannot do what the step wants; the text says so."""


@dataclass(frozen=True)
class Klipper:
    """A real Klipper: its directory, the Python that runs it and its Linux process micro-controller."""

    directory: Path
    python: Path
    mcu: Path


class PrinterProcess(Protocol):
    """One printer's process. ``sock`` is its API socket."""

    name: str
    sock: Path

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it; its socket is there, or soon will be. Does nothing when it runs."""

    async def stop(self) -> None:
        """End it at once, as kill -9 does."""

    @property
    def running(self) -> bool: ...

    def fault(self, kind: str, message: str | None, mcu: str) -> None:
        """Begin a fault that is no request to the API, of a printer that runs. Raises Skipped."""

    async def mend(self) -> None:
        """Bring lost micro-controllers back, so that a restart finds them."""

    def commands(self) -> Sequence[tuple[float, str]]:
        """The G-code lines that were run, oldest first. Raises Skipped."""

    def last_words(self) -> str:
        """What the process said when it ended by itself."""


def write_config(printer: PlannedPrinter, directory: Path, gcodes: Path, *, real: bool) -> tuple[Path, list[str]]:
    """Write the configuration that the printer runs on. Returns it and the names of its micro-controllers."""
    file = directory / f"{printer.name}.cfg"
    text = printer.config.read_text("utf-8", errors="replace").replace("\r\n", "\n")
    try:
        parsed, _ = config_file.load(printer.config)
    except ConfigError:
        parsed = config_file.new_parser()  # the printer itself will say what is wrong
    lines = [f"[include {printer.config.resolve()}]"]
    sections = parsed.sections()
    if "virtual_sdcard" in sections:
        lines += ["[virtual_sdcard]", f"path: {gcodes.resolve()}"]
    if "save_variables" in sections:
        saved = directory / f"{printer.name}.variables"
        named = parsed.get("save_variables", "filename", fallback="")
        original = printer.config.parent / os.path.expanduser(named)  # noqa: PTH111 - Path's own raises for ~nobody
        if original.is_file():
            shutil.copyfile(original, saved)
        lines += ["[save_variables]", f"filename: {saved}"]
    mcus = [section for section in sections if section.split(" ")[0] == "mcu"] or ["mcu"]
    if real:
        for section in mcus:
            lines += [
                f"[{section}]",
                f"serial: {_mcu_path(directory, printer.name, section)}",
                "restart_method: command",
            ]
    at = text.find(config_file.SAVE_CONFIG_MARK)
    saved_by_klipper = text[at:] if at >= 0 else ""
    file.write_text("\n".join([*lines, printer.append, ""]) + saved_by_klipper)
    return file, mcus


def _mcu_path(directory: Path, printer: str, section: str) -> Path:
    return directory / f"{printer}.{section.replace(' ', '.')}"


class VirtualPrinter:
    """A VirtualKlippy in this process."""

    def __init__(self, printer: PlannedPrinter, directory: Path, gcodes: Path, speed: float) -> None:
        self.name = printer.name
        self.sock = directory / f"{printer.name}.sock"
        self._config, _ = write_config(printer, directory, gcodes, real=False)
        self._log = directory / f"{printer.name}.log"
        self._speed = speed
        self._klippy: VirtualKlippy | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._commands: deque[tuple[float, str]] | None = None

    @property
    def running(self) -> bool:
        return self._klippy is not None

    async def start(self, nursery: trio.Nursery) -> None:
        if not self.running:
            await nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        klippy = VirtualKlippy(self._config, apiserver=self.sock, log_file=self._log, speed=self._speed)
        if self._commands is not None:
            klippy.commands = self._commands
        self._commands = klippy.commands
        self._scope, self._ended, self._klippy = trio.CancelScope(), trio.Event(), klippy
        try:
            with self._scope:
                await klippy.run(task_status=task_status)
        finally:
            self._klippy = None
            self._ended.set()

    async def stop(self) -> None:
        if self.running:
            self._scope.cancel()
            await self._ended.wait()

    def fault(self, kind: str, message: str | None, mcu: str) -> None:
        klippy = self._klippy
        assert klippy is not None
        actions: dict[str, Callable[[], object]] = {
            "mcu": lambda: klippy.lose_mcu(mcu),
            "shutdown": lambda: klippy.invoke_shutdown(message or "Shutdown by the scenario"),
            "stall": klippy.stall,
            "resume": klippy.resume,
            "drop": klippy.drop_clients,
            "refuse": lambda: klippy.refuse(True),
            "accept": lambda: klippy.refuse(False),
        }
        actions[kind]()

    async def mend(self) -> None:
        """A virtual micro-controller comes back by itself."""

    def commands(self) -> Sequence[tuple[float, str]]:
        return list(self._commands or ())

    def last_words(self) -> str:
        return ""


class RealPrinter:
    """klippy.py and one micro-controller process for each [mcu]."""

    def __init__(self, printer: PlannedPrinter, directory: Path, gcodes: Path, klipper: Klipper) -> None:
        self.name = printer.name
        self.sock = directory / f"{printer.name}.sock"
        self._directory = directory
        self._klipper = klipper
        self._config, self._mcu_sections = write_config(printer, directory, gcodes, real=True)
        self._klippy: subprocess.Popen[bytes] | None = None
        self._mcus: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def running(self) -> bool:
        return self._klippy is not None and self._klippy.poll() is None

    async def start(self, nursery: trio.Nursery) -> None:
        if self.running:
            return
        for section in self._mcu_sections:
            await self._start_mcu(section)
        at = self._directory / self.name
        self._klippy = self._spawn(
            [
                self._klipper.python,
                self._klipper.directory / "klippy" / "klippy.py",
                self._config,
                "-I",
                f"{at}.tty",
                "-a",
                self.sock,
                "-l",
                f"{at}.log",
            ],
            "out",
        )

    async def _start_mcu(self, section: str) -> None:
        if section in self._mcus and self._mcus[section].poll() is None:
            return
        path = _mcu_path(self._directory, self.name, section)
        path.unlink(missing_ok=True)
        self._mcus[section] = self._spawn([self._klipper.mcu, "-I", path], "mcu.out")
        with trio.move_on_after(MCU_WITHIN_S):
            while not path.exists():  # noqa: ASYNC110 it is another process that makes it
                await trio.sleep(0.02)

    def _spawn(self, command: list[str | Path], output: str) -> subprocess.Popen[bytes]:
        # A session of its own: a Ctrl-C of the terminal is for us, who then end it.
        with (self._directory / f"{self.name}.{output}").open("ab") as file:
            return subprocess.Popen(  # trio's run_process would tie its life to a nursery; this outlives steps
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    async def stop(self) -> None:
        """End Klippy and its micro-controllers."""
        processes = [each for each in (self._klippy, *self._mcus.values()) if each is not None]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()  # killed: it ends at once
        self._klippy = None
        self._mcus.clear()

    def fault(self, kind: str, message: str | None, mcu: str) -> None:
        assert self._klippy is not None
        if kind == "mcu":
            section = "mcu" if mcu == "mcu" else f"mcu {mcu}"
            if section not in self._mcus:
                raise Skipped(f"{self.name} has no [{section}]")
            self._mcus[section].send_signal(signal.SIGKILL)
            self._mcus.pop(section).wait()
        elif kind in ("stall", "resume"):
            os.kill(self._klippy.pid, signal.SIGSTOP if kind == "stall" else signal.SIGCONT)
        else:
            raise Skipped(f"a real Klipper cannot be made to '{kind}'")

    async def mend(self) -> None:
        for section in self._mcu_sections:
            await self._start_mcu(section)

    def commands(self) -> Sequence[tuple[float, str]]:
        raise Skipped("a real Klipper does not tell which commands it ran")

    def last_words(self) -> str:
        if self._klippy is None or (code := self._klippy.poll()) is None:
            return ""
        ended = f"{self.name}'s process ended by itself (exit code {code})"
        try:
            lines = (self._directory / f"{self.name}.out").read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return ended
        return "\n".join([ended, *(f"  {line}" for line in lines[-5:])])
