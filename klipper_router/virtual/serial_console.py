"""The serial console of klippy.py (-I): a pseudo terminal with a link to it (klippy/gcode.py: GCodeIO)."""

from __future__ import annotations

import errno
import os
import pty
import re
import tty
from pathlib import Path

import trio

from .gcode import GCode
from .printer import Printer

READ_BYTES = 4096
# Klippy stops reading when this many lines wait, and no longer looks for an M112 among them.
PENDING_LINES = 20
_EMERGENCY = re.compile(r"^(?:[nN][0-9]+)?\s*[mM]112(?:\s|$)")


class SerialConsole:
    """Lives as long as the process; each life of the printer attaches itself."""

    def __init__(self, link: Path) -> None:
        self._fd, self._slave = pty.openpty()  # holding the slave keeps the terminal alive without a reader
        tty.setraw(self._slave)
        os.set_blocking(self._fd, False)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self._slave))
        os.chmod(os.ttyname(self._slave), 0o660)  # noqa: PTH101

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._slave)

    def attach(self, printer: Printer) -> None:
        _Attached(printer, self._fd)


class _Attached:
    def __init__(self, printer: Printer, fd: int) -> None:
        self._printer = printer
        self._gcode = printer.lookup(GCode, "gcode")
        self._fd = fd
        self._partial = b""
        self._listening = True  # false once nobody took our output, until something is typed
        self._send, self._receive = trio.open_memory_channel[str](PENDING_LINES)
        self._gcode.on_output(self._write)
        printer.reactor.nursery.start_soon(self._read)
        printer.reactor.nursery.start_soon(self._run)

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            await self._printer.reactor.going()
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as e:
                if e.errno == errno.EIO:
                    return  # the other side is gone for good
                raise
            self._listening = True
            first, *rest = data.split(b"\n")
            lines = [self._partial + first, *rest]
            self._partial = lines.pop()
            for line in (line.decode(errors="replace") for line in lines):
                if _EMERGENCY.match(line):
                    self._printer.invoke_shutdown("Shutdown due to M112 command")
                await self._send.send(line)

    async def _run(self) -> None:
        async for line in self._receive:
            async with self._gcode.mutex:
                await self._gcode.run_lines([line], need_ack=True)

    def _write(self, message: str) -> None:
        if not self._listening:
            return
        try:
            os.write(self._fd, message.encode(errors="replace") + b"\n")
        except OSError:
            self._listening = False
