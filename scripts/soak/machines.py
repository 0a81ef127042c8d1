"""One printer through all its lives: a process, its log (the evidence), and a connection of our own to it.

Virtual and real printers differ only in how they are started (`test.fleet.Backend`) and in which faults they know.
What a macro shows goes into klippy.log line by line, through every restart, so the log is the record; a killed Klippy
may lose its last lines there, and those are taken from the connection.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import trio

from scripts.soak.books import Books
from test.fleet import ROOT, Backend, Connection, spawn

PRINTER_CFG = """
[include {root}/includes/router_api.cfg]
[mcu]
serial: {mcu}
[printer]
kinematics: none
max_velocity: 10
max_accel: 100
[respond]
[pause_resume]
[display_status]
[gcode_macro RUN]
gcode:
  {{action_respond_info("RUN " ~ params.N)}}
[gcode_macro HEARD]
gcode:
  {{action_respond_info("HEARD " ~ params.BY ~ " " ~ params.N)}}
[gcode_macro TOLD]
gcode:
  {{action_respond_info("TOLD " ~ params.DISPLAY_STATUS_MESSAGE|default(""))}}
[gcode_macro SAID]
gcode:
  {{action_respond_info("SAID " ~ params.N)}}
[gcode_macro GREETING]
gcode:
  {{action_respond_info("GREETING " ~ params.NUMBER)}}
[gcode_macro GREETED]
gcode:
  {{action_respond_info("GREETED")}}
[gcode_macro FLOOD]
gcode:
  {{action_respond_info("FLOODED " ~ params.FIRST ~ " " ~ params.COUNT)}}
  {{% set first, count = params.FIRST|int, params.COUNT|int %}}
  {{% for n in range(first, first + count) %}}
    {{action_call_remote_method("router/gcode/script", target=params.TARGET, script="RUN N=%d" % n,
                               gcode_callback="DONE%d" % n, error_callback="FAIL%d" % n)}}
  {{% endfor %}}
  {{action_call_remote_method("router/event/trigger", event="soak/{name}", context={{"n": first + count}})}}
"""
FOLLOWS = """
[gcode_macro SUBSCRIBE]
gcode:
  {{action_respond_info("SUBSCRIBED")}}
  ROUTER_OBJECTS_SUBSCRIBE TARGET={neighbour} OBJECTS=display_status:message CALLBACK=TOLD
[gcode_macro ROUTER_ON_READY]
gcode:
  SUBSCRIBE
  ROUTER_EVENT_SUBSCRIBE EVENT=soak/{name} GCODE='HEARD BY={name} N={{"{{n}}"}}'
  ROUTER_EVENT_SUBSCRIBE EVENT=soak/{neighbour} GCODE='HEARD BY={name} N={{"{{n}}"}}'
  ROUTER_EVENT_SUBSCRIBE EVENT=soak/{name} GCODE='HEARD BY={name}_far N={{"{{n}}"}}' CALLBACK_TARGET={neighbour}
  GREETED
[gcode_macro ROUTER_ON_STATE]
gcode:
  {{action_respond_info("STATE " ~ params.PRINTER ~ " " ~ params.STATE)}}
"""
# Subscribes again whenever its target comes back; half of the printers rely on the router for that.
ON_CONNECTED = """
[gcode_macro ROUTER_ON_CONNECTED]
gcode:
  {{% if params.PRINTER == "{neighbour}" %}}
    SUBSCRIBE
  {{% endif %}}
"""
# What a printer may come back with, instead of `FOLLOWS`.
QUIET = "[gcode_macro ROUTER_ON_READY]\ngcode:\n  GREETED\n"
OTHER = "[gcode_macro OTHER]\ngcode:\n  M118 other\n[gcode_macro ROUTER_ON_DISCONNECTED]\ngcode:\n  M118 gone\n"
BROKEN = "[gcode_macro WRONG]\nno_gcode: here\n"

LOOK_EVERY_S = 0.05
REDIAL_S = 0.03
DIE_WITHIN_S = 12.0
UNREACHABLE = "unreachable"
REACHABLE = ("startup", "ready", "shutdown", "error")


class Machine:
    """A printer, and how to hurt it. ``resubscribes``: it has a ROUTER_ON_CONNECTED."""

    def __init__(self, name: str, neighbour: str, folder: Path, backend: Backend, books: Books, number: int) -> None:
        self.name = name
        self.neighbour = neighbour
        self.resubscribes = number % 2 == 0
        self.sock = folder / f"{name}.sock"
        self.state = UNREACHABLE
        self.greeting = 0  # the number of the greeting that counts; the router's on_connect says it
        self._folder = folder
        self._backend = backend
        self._books = books
        self._log = folder / f"{name}.log"
        self._log_at = 0
        self._log_rest = b""
        self._last_greeting = 0
        self._breaking = 0
        self._hindered = 1  # the router does not run yet
        self._able_since: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._mcu = backend.start_mcu(folder, name)
        self._changed = trio.Condition()
        for event, label in ((name, name), (neighbour, name), (name, f"{name}_far")):
            runs_on = neighbour if label.endswith("_far") else name
            books.jobs.handlers[f"soak/{event}"].add((runs_on, label))
        self.configure()

    # -- the process ---------------------------------------------------------------------------------------------

    def configure(self, more: str = "", *, follows: str = FOLLOWS) -> None:
        text = PRINTER_CFG + follows + (ON_CONNECTED if self.resubscribes and follows == FOLLOWS else "")
        names = {"root": ROOT, "mcu": self._folder / f"{self.name}.mcu", "name": self.name, "neighbour": self.neighbour}
        (self._folder / f"{self.name}.cfg").write_text(text.format(**names) + more)

    def start(self) -> None:
        """Start the process, if it does not run. Until it is greeted nothing can be expected of it."""
        self._books.breaks.begins(self.name, trio.current_time())
        if self._process is None or self._process.poll() is not None:
            command = self._backend.command(self._folder, self.name)
            self._process = spawn(command, self._folder / f"{self.name}.out")

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            await trio.to_thread.run_sync(self._process.wait)

    async def unplug(self) -> None:
        """Its MCU, too, begins anew: a real one that shut down in the wrong moment listens to no FIRMWARE_RESTART."""
        await self.kill()
        if self._mcu is not None:
            self._mcu.kill()
            await trio.to_thread.run_sync(self._mcu.wait)
            self._mcu = self._backend.start_mcu(self._folder, self.name)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        for process in (self._process, self._mcu):
            if process is not None:
                process.kill()
                process.wait()

    # -- what is known of it -------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def breaking(self) -> AsyncIterator[None]:
        """Inside, its connections end, or it stops serving; what is shown later is of its next life."""
        self._books.breaks.begins(self.name, trio.current_time())
        self._breaking += 1
        self._able_since = None
        try:
            yield
        finally:
            self.look()
            self._breaking -= 1
            self._note_able()

    @contextlib.contextmanager
    def hindered(self) -> Iterator[None]:
        """Inside, it cannot be expected to be back at once."""
        self._hindered += 1
        self._able_since = None
        try:
            yield
        finally:
            self._hindered -= 1
            self._note_able()

    def router_ends(self) -> None:
        """The router is about to be ended."""
        self._books.breaks.begins(self.name, trio.current_time())
        self._hindered += 1
        self._able_since = None

    def router_starts(self) -> None:
        self._hindered -= 1
        self._note_able()

    async def until(self, *states: str, within_s: float) -> bool:
        """Wait until it says that it is in one of these states; whether it did."""
        with trio.move_on_after(within_s):
            async with self._changed:
                while self.state not in states:
                    await self._changed.wait()
            return True
        return False

    async def greeted(self, within_s: float) -> bool:
        """Wait until its ROUTER_ON_READY was run; whether it was."""
        with trio.move_on_after(within_s):
            while self._books.breaks.is_open(self.name):  # noqa: ASYNC110 - told by the log
                await trio.sleep(LOOK_EVERY_S)
            return True
        return False

    # -- G-code --------------------------------------------------------------------------------------------------

    async def gcode(self, script: str, within_s: float = 10.0) -> bool:
        """Run G-code as a user of its console would; whether it was answered with success."""
        return await self._call("gcode/script", within_s, script=script)

    async def _call(self, method: str, within_s: float, **params: object) -> bool:
        """By a connection of its own, so that nothing waits behind anything."""
        with contextlib.suppress(OSError, EOFError, trio.BrokenResourceError, RuntimeError):
            with trio.move_on_after(within_s):
                async with Connection.open(self.sock) as connection:
                    await connection.call(method, **params)
                    return True
        return False

    # -- watching it ---------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """For ever: know its state."""
        while True:
            with contextlib.suppress(OSError, EOFError, trio.BrokenResourceError, RuntimeError, json.JSONDecodeError):
                async with Connection.open(self.sock) as connection:
                    await self._watch(connection)
            await self._enter(UNREACHABLE)
            await trio.sleep(REDIAL_S)

    async def _watch(self, connection: Connection) -> None:
        await connection.call("gcode/subscribe_output", response_template={"what": "output"})
        wanted = {"webhooks": ["state"]}
        answer = await connection.call("objects/subscribe", objects=wanted, response_template={"what": "status"})
        await self._enter(answer["status"]["webhooks"]["state"])
        while True:
            message = connection.notes.pop(0) if connection.notes else await connection.receive()
            if message.get("what") == "status":
                webhooks = message["params"]["status"].get("webhooks", {})
                await self._enter(webhooks.get("state", self.state))
            elif message.get("what") == "output":
                for line in message["params"]["response"].split("\n"):
                    self._books.see(self.name, line)

    async def _enter(self, state: str) -> None:
        if state == self.state:
            return
        if state != "ready":
            # Also where nobody hurt it: a real one may shut itself down on a busy machine.
            self._books.breaks.begins(self.name, trio.current_time() - 1)
        async with self._changed:
            self.state = state
            self._changed.notify_all()
        self._note_able()

    def _note_able(self) -> None:
        able = self.state == "ready" and not self._hindered and not self._breaking
        self._able_since = (self._able_since or trio.current_time()) if able else None

    def look(self) -> None:
        """Read what is new in its log."""
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as log:
            log.seek(self._log_at)
            data = log.read()
            self._log_at += len(data)
            *lines, self._log_rest = (self._log_rest + data).split(b"\n")
            for line in lines:
                self._hear(line.decode(errors="replace"), trio.current_time())

    def _hear(self, line: str, at: float) -> None:
        if line.startswith("GREETING "):
            self._last_greeting = int(line.split()[1])
        elif line == "GREETED":
            self._greeted(at)
        self._books.hear(self.name, self.neighbour, line, at)

    def _greeted(self, at: float) -> None:
        if self._last_greeting != self.greeting or self._breaking:
            return  # in a life, or by a router, that is over
        if not self._books.breaks.ends(self.name, at):
            self._books.mishap("greeted again for no reason", f"{self.name} at {at:.2f}")
        elif self._able_since is not None:
            self._books.recovery_s.append(at - self._able_since)
        self._able_since = None
