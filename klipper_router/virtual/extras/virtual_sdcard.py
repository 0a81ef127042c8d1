"""[virtual_sdcard]: prints files line by line (klippy/extras/virtual_sdcard.py)."""

from __future__ import annotations

import io
from collections.abc import Awaitable
from pathlib import Path

import trio

from ..config import Section
from ..errors import CommandError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from ..template import Templates
from .print_stats import PrintStats

EXTENSIONS = (".gcode", ".g", ".gco")
READ_CHARACTERS = 8192
# Between two lines, others who want to run G-code get this long.
GIVE_WAY_S = 0.050
ON_ERROR = """
{% if 'heaters' in printer %}
   TURN_OFF_HEATERS
{% endif %}
"""


class VirtualSdCard:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._directory = section.getpath("path")
        self._file: io.TextIOWrapper | None = None
        self._path: Path | None = None
        self._position = self._next_position = self._size = 0
        self._working = False
        self._must_pause = False
        self._in_line = False  # a line of the file is being run right now
        self._stopped = trio.Event()
        self._stats = self.printer.require(PrintStats, section.config, "print_stats")
        templates = self.printer.require(Templates, section.config, "gcode_macro")
        self._on_error = templates.load(section, "on_error_gcode", ON_ERROR)
        self._gcode = gcode = self.printer.lookup(GCode, "gcode")
        for name, handler in (
            ("M20", self._cmd_m20),
            ("M21", lambda command: command.respond_raw("SD card ok")),
            ("M23", self._cmd_m23),
            ("M24", lambda command: self.do_resume()),
            ("M25", lambda command: self.do_pause()),
            ("M26", self._cmd_m26),
            ("M27", self._cmd_m27),
            ("M28", self._cmd_refused),
            ("M29", self._cmd_refused),
            ("M30", self._cmd_refused),
        ):
            gcode.register(name, handler)
        gcode.register("SDCARD_RESET_FILE", self._cmd_reset, "Clears a loaded SD File. Stops the print if necessary")
        gcode.register(
            "SDCARD_PRINT_FILE",
            self._cmd_print,
            "Loads a SD file and starts the print.  May include files in subdirectories.",
        )
        self.printer.on("klippy:shutdown", self._on_shutdown)
        self.printer.on("klippy:disconnect", self._close)

    # State

    def is_active(self) -> bool:
        return self._working

    def is_cmd_from_sd(self) -> bool:
        return self._in_line

    @property
    def next_position(self) -> int:
        """Of the line after the one being run. Set it to go on elsewhere (sdcard_loop)."""
        return self._next_position

    @next_position.setter
    def next_position(self, position: int) -> None:
        self._next_position = position

    def get_status(self, eventtime: float) -> Status:
        return {
            "file_path": None if self._path is None else str(self._path),
            "progress": self._position / self._size if self._size else 0.0,
            "is_active": self._working,
            "file_position": self._position,
            "file_size": self._size,
        }

    def _on_shutdown(self) -> None:
        self._must_pause = self._must_pause or self._working

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = self._path = None

    # Control

    async def do_pause(self) -> None:
        """Stop after the line being run; waits for that unless this is that line."""
        if self._working:
            self._must_pause = True
            while self._working and not self._in_line:
                await self.printer.reactor.wait(self._stopped)

    def do_resume(self) -> None:
        if self._working:
            raise CommandError("SD busy")
        self._must_pause = False
        self._working = True
        self._stopped = trio.Event()
        self.printer.reactor.nursery.start_soon(self._work)

    async def do_cancel(self) -> None:
        if self._file is not None:
            await self.do_pause()
            self._close()
            self._stats.note_cancel()
        self._position = self._size = 0

    async def _reset(self) -> None:
        if self._file is not None:
            await self.do_pause()
            self._close()
        self._position = self._size = 0
        self._stats.reset()
        self.printer.send_event("virtual_sdcard:reset_file")

    # Commands

    def _cmd_refused(self, command: GCodeCommand) -> None:
        raise CommandError("SD write not supported")

    def _cmd_reset(self, command: GCodeCommand) -> Awaitable[None]:
        if self._in_line:
            raise CommandError("SDCARD_RESET_FILE cannot be run from the sdcard")
        return self._reset()

    async def _cmd_print(self, command: GCodeCommand) -> None:
        if self._working:
            raise CommandError("SD busy")
        await self._reset()
        self._load(command, command.get("FILENAME").removeprefix("/"), in_folders=True)
        self.do_resume()

    async def _cmd_m23(self, command: GCodeCommand) -> None:
        if self._working:
            raise CommandError("SD busy")
        await self._reset()
        self._load(command, command.raw_params().strip().removeprefix("/"))

    def _cmd_m20(self, command: GCodeCommand) -> None:
        command.respond_raw("Begin file list")
        for name, path in self._files(in_folders=False).items():
            command.respond_raw(f"{name} {path.stat().st_size}")
        command.respond_raw("End file list")

    def _cmd_m26(self, command: GCodeCommand) -> None:
        if self._working:
            raise CommandError("SD busy")
        self._position = command.get_int("S", minval=0)

    def _cmd_m27(self, command: GCodeCommand) -> None:
        if self._file is None:
            command.respond_raw("Not SD printing.")
        else:
            command.respond_raw(f"SD printing byte {self._position}/{self._size}")

    # Files

    def _files(self, *, in_folders: bool) -> dict[str, Path]:
        if in_folders:
            found = {str(p.relative_to(self._directory)): p for p in self._directory.rglob("*") if p.is_file()}
            found = {name: path for name, path in found.items() if path.suffix in EXTENSIONS}
        else:
            try:
                found = {p.name: p for p in self._directory.iterdir() if p.is_file() and p.name[0] != "."}
            except OSError:
                self.printer.log.exception("virtual_sdcard get_file_list")
                raise CommandError("Unable to get file list") from None
        return dict(sorted(found.items(), key=lambda item: item[0].lower()))

    def _load(self, command: GCodeCommand, name: str, *, in_folders: bool = False) -> None:
        files = self._files(in_folders=in_folders)
        path = files.get(name) or {key.lower(): value for key, value in files.items()}.get(name.lower())
        try:
            if path is None:
                raise FileNotFoundError(name)
            size = path.stat().st_size
            file = path.open(newline="", encoding="utf-8")
        except OSError:
            self.printer.log.exception("virtual_sdcard file open")
            raise CommandError("Unable to open file") from None
        command.respond_raw(f"File opened:{name} Size:{size}")
        command.respond_raw("File selected")
        self._file, self._path = file, path
        self._position, self._size = 0, size
        self._stats.set_current_file(name)

    # Work

    async def _work(self) -> None:
        self.printer.log.info("Starting SD card print (position %d)", self._position)
        error: str | None = None
        try:
            if self._file is not None:
                self._file.seek(self._position)
                self._stats.note_start()
                error = await self._print_lines(self._file)
        except (OSError, UnicodeDecodeError):
            self.printer.log.exception("virtual_sdcard read")
        self.printer.log.info("Exiting SD card print (position %d)", self._position)
        self._working = self._in_line = False
        self._stopped.set()
        if error is not None:
            self._stats.note_error(error)
        elif self._file is not None:
            self._stats.note_pause()
        else:
            self._stats.note_complete()

    async def _print_lines(self, file: io.TextIOWrapper) -> str | None:
        """Run lines until the end, a pause or an error, whose message is returned."""
        lines: list[str] = []
        partial = ""
        while not self._must_pause:
            if not lines:
                data = file.read(READ_CHARACTERS)
                if not data:
                    self._close()
                    self.printer.log.info("Finished SD card print")
                    self._gcode.respond_raw("Done printing file")
                    return None
                *lines, partial = (partial + data).split("\n")
                lines.reverse()
                await trio.lowlevel.checkpoint()
                continue
            if self._gcode.mutex.test():
                await self.printer.reactor.pause(self.printer.reactor.now() + GIVE_WAY_S)
                continue
            line = lines.pop()
            following = self._next_position = self._position + len(line.encode()) + 1
            self._in_line = True
            error = await self._print_line(line)
            self._in_line = False
            if error is not None:
                return error
            self._position = self._next_position
            if self._next_position != following:
                file.seek(self._position)
                lines, partial = [], ""
        return None

    async def _print_line(self, line: str) -> str | None:
        try:
            await self._gcode.run_script(line)
        except CommandError as e:
            try:
                await self._gcode.run_script(self._on_error.render())
            except Exception:
                self.printer.log.exception("virtual_sdcard on_error")
            return str(e)
        except Exception:
            # The printer is shut down already (gcode.py); the print stops as if paused.
            self.printer.log.exception("virtual_sdcard dispatch")
            self._must_pause = True
        return None


def load(section: Section) -> VirtualSdCard:
    return VirtualSdCard(section)
