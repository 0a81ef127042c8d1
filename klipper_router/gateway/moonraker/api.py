"""One printer's Moonraker: its Klippy, its stores, its database, its clients, and what they are told.

Knows no HTTP: `site` brings it requests and clients, `methods` says what a request does.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio

from klipper_router.callers import Caller
from klipper_router.gateway.access import Access
from klipper_router.gateway.http import Peer
from klipper_router.gateway.moonraker import rpc
from klipper_router.gateway.moonraker.database import Database
from klipper_router.gateway.moonraker.follower import Follower
from klipper_router.gateway.moonraker.klippy import Happening, Klippy
from klipper_router.gateway.moonraker.machine import Machine
from klipper_router.gateway.moonraker.rpc import ApiError, Reply
from klipper_router.gateway.moonraker.sensors import Sensors
from klipper_router.gateway.moonraker.session import Session
from klipper_router.gateway.moonraker.stores import GcodeStore
from klipper_router.printer import Printer
from klipper_router.router import Router

log = logging.getLogger("klipper_router.gateway.moonraker")

# As Moonraker's max_websocket_connections. Strangers, which anyone may be, have places of their own.
MAX_SESSIONS = 50
MAX_STRANGERS = 50
MAX_STRANGERS_PER_ADDRESS = 8
TICK_S = 1.0
NO_MORE = "this printer is not served here any more"


Webcam = dict[str, Any]
# The cameras of a printer in the shape of ``server.webcams.list``; the argument is where the client reaches the
# printer: "http://host:7180/printers/led", without that path at an origin of its own.
Webcams = Callable[[str], list[Webcam]]


class NoParams(msgspec.Struct):
    """None; what is given is not looked at."""


class Call(NamedTuple):
    """Who asks. ``session`` is None over HTTP; ``by`` answers for what is done to the printer."""

    api: PrinterApi
    session: Session | None
    by: Follower
    peer: Peer
    base: str
    authorized: bool


class PrinterApi:
    """The Moonraker of ``printer``. `run` it, for as long as it is to be served."""

    def __init__(
        self,
        router: Router,
        printer: Printer[Caller],
        *,
        machine: Machine,
        database_path: Path | None,
        access: Access,
        webcams: Webcams,
    ) -> None:
        self.printer = printer
        self.machine = machine
        self.access = access
        self.webcams = webcams
        self.database = Database(database_path)
        self.klippy = Klippy(router, printer, self._happened)
        self.sensors = Sensors(printer)
        self.gcode_store = GcodeStore()
        self.sessions: set[Session] = set()
        self.web = Follower(f"gateway: HTTP to {printer.name}")
        self._webcams_told = webcams("")
        self._nursery: trio.Nursery | None = None
        self._serving: set[trio.CancelScope] = set()
        self._ended = False

    async def run(self) -> None:
        """Live, for ever."""
        stop_listening = self.printer.listen(self._console_line)
        try:
            async with trio.open_nursery() as self._nursery:
                self.klippy.start()
                self._nursery.start_soon(self.database.run)
                while True:
                    await trio.sleep(TICK_S)
                    await self._tick()
        finally:
            stop_listening()
            self.klippy.stop()
            self.sensors.lost()
            self._ended = True
            for scope in list(self._serving):
                scope.cancel()

    @contextlib.contextmanager
    def serving(self) -> Iterator[trio.CancelScope]:
        """Around whatever a client is served: cancelled with the API, as nobody would answer any more."""
        with trio.CancelScope() as scope:
            self._serving.add(scope)
            if self._ended:
                scope.cancel()
            try:
                yield scope
            finally:
                self._serving.discard(scope)

    def later(self, work: Callable[[], Awaitable[object]]) -> Reply:
        """Answer by a task."""
        reply = Reply()

        async def task() -> None:
            try:
                result = await work()
            except Exception:
                # The fence of one method (`rpc.call`), for what of it comes later.
                log.exception("%s: internal error", self.printer.name)
                reply.fail(ApiError(500, "internal error of the router, see its log"))
            else:
                reply.answer(result)

        if self._nursery is None:
            raise ApiError(503, "the gateway is starting")
        try:
            self._nursery.start_soon(task)
        except RuntimeError:  # it has just ended, and whoever asks is about to be told so
            raise ApiError(503, NO_MORE) from None
        return reply

    # -- clients -------------------------------------------------------------------------------------------------

    def check_room(self, peer: Peer, *, authorized: bool) -> None:
        """Whether there is a place for one more WebSocket. Raises ApiError (503)."""
        alike = [session.peer.ip for session in self.sessions if session.authorized is authorized]
        too_many = len(alike) >= (MAX_SESSIONS if authorized else MAX_STRANGERS)
        if too_many or (not authorized and alike.count(peer.ip) >= MAX_STRANGERS_PER_ADDRESS):
            raise ApiError(503, "Maximum Number of Websocket Connections Reached")

    def add(self, session: Session) -> None:
        self.sessions.add(session)

    def remove(self, session: Session) -> None:
        self.sessions.discard(session)
        session.close()
        if not self.sessions:
            self.klippy.forget_configfile()

    def notify(self, name: str, *params: object) -> None:
        """Tell every client that may hear it."""
        if not self.sessions:
            return
        message = rpc.notification(name, *params)
        for session in list(self.sessions):
            if session.authorized:
                session.send(message)

    def look_at_webcams(self) -> None:
        """If the printer's cameras are not what they were, tell every client, with the URLs of where it is."""
        webcams = self.webcams("")
        if webcams == self._webcams_told:
            return
        self._webcams_told = webcams
        for session in list(self.sessions):
            if session.authorized:
                session.send(rpc.notification("webcams_changed", {"webcams": self.webcams(session.base)}))

    # -- what happens --------------------------------------------------------------------------------------------

    def remember_command(self, script: str) -> None:
        """A client runs this."""
        if script.strip():
            self.gcode_store.add(script, time.time(), "command")

    def _console_line(self, line: str) -> None:
        self.gcode_store.add(line, time.time(), "response")
        self.notify("gcode_response", line)

    def _happened(self, happening: Happening) -> None:
        if happening == "ready":
            self.sensors.ready()
        elif happening == "disconnected":
            self.sensors.lost()
            for session in list(self.sessions):
                session.klippy_lost()
        self.notify(f"klippy_{happening}")

    async def _tick(self) -> None:
        self.sensors.sample()
        now_s = trio.current_time()
        self.klippy.tick(now_s)
        for session in list(self.sessions):
            session.tick(now_s)
        if self.sessions:
            # Also what keeps Mainsail there: it gives up a connection that is silent for 10 s.
            await self.machine.sample()
            self.notify("proc_stat_update", self.machine.proc_stat_update(len(self.sessions)))
