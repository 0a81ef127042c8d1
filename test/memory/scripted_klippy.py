"""Klippy's side of its API socket, over memory streams, doing what a test tells it to.

Answers each request at once unless told to hold it, and does nothing of its own accord: no timers, no chance. Reads
G-code the way of Klipper's gcode.py, in both of its dialects. Shares no code with the router.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import deque
from collections.abc import Callable
from typing import Any

import trio
from trio.testing import memory_stream_pair

FRAME_END = b"\x03"

Json = dict[str, Any]
Macro = Callable[[dict[str, str]], None]

# Klipper gcode.py: GCodeDispatch.args_r, and extended_r as it was up to v0.12
ARGS = re.compile("([A-Z_]+|[A-Z*])")
EXTENDED_V0_12 = re.compile(
    r"^\s*(?:N[0-9]+\s*)?(?P<cmd>[a-zA-Z_][a-zA-Z0-9_]+)(?:\s+|$)(?P<args>[^#*;]*?)\s*(?:[#*;].*)?$"
)
STATE_MESSAGES = {"ready": "Printer is ready", "startup": "Printer is not ready", "shutdown": "Lost communication"}


class Refusal(Exception):
    """What Klippy answers as a WebRequestError."""


class Connection:
    """One client of a scripted Klippy. ``client_side`` is the stream that the router gets."""

    def __init__(self, klippy: ScriptedKlippy) -> None:
        self.klippy = klippy
        self.client_side, self._own_side = memory_stream_pair()
        self.methods: dict[str, Json] = {}
        self.subscription: Subscription | None = None
        self.closed = False
        self._received = bytearray()

    async def serve(self) -> None:
        try:
            while data := await self._own_side.receive_some(4096):
                self._received += data
                self.take()
        except trio.ClosedResourceError:
            pass
        self.close()

    def take(self) -> None:
        """Serve the whole requests that were received, unless Klippy is stopped."""
        while not self.klippy.stopped and FRAME_END in self._received:
            frame, _, self._received = self._received.partition(FRAME_END)
            self.klippy.receive(self, json.loads(frame))

    def send(self, message: Json) -> None:
        self.send_bytes(json.dumps(message).encode() + FRAME_END)

    def send_bytes(self, data: bytes) -> None:
        try:
            self.client_side.receive_stream.put_data(data)
        except trio.ClosedResourceError:
            self.close()

    def close(self) -> None:
        """Both directions, as when a process dies."""
        self.closed = True
        self._own_side.send_stream.close()
        self._own_side.receive_stream.close()
        if self in self.klippy.connections:
            self.klippy.connections.remove(self)

    def never_connect(self) -> None:
        """connect() seemed to succeed, but nothing can be sent (ENOTCONN after Klippy's backlog was full)."""
        self._own_side.receive_stream.close()

    def stop_reading(self) -> None:
        """The client's sends wait from now on."""

        self.client_side.send_stream.send_all_hook = trio.sleep_forever
        self.client_side.send_stream.close_hook = None


class Subscription:
    """The one object subscription of a connection."""

    def __init__(self, objects: dict[str, list[str] | None], template: Json, reported: Json) -> None:
        self.objects = objects
        self.template = template
        self.reported = reported


class ScriptedKlippy:
    """One Klippy. ``ran`` holds each macro call, ``console`` each line shown, ``scripts`` each script as it came."""

    def __init__(self, name: str, nursery: trio.Nursery) -> None:
        self.name = name
        self.state = "ready"
        self.state_message = STATE_MESSAGES["ready"]
        self.reads_quotes = True  # False: a Klipper up to v0.12
        self.has_respond = True
        self.objects: dict[str, Json] = {}
        self.macros: dict[str, Macro | None] = {}
        self.stopped = False
        self.refuses: OSError | None = None
        self.on_accept: Callable[[Connection], None] | None = None
        self.answers: dict[str, Callable[[Json], Any]] = {}  # further endpoints, or other answers
        self.raw_answers: dict[str, bytes] = {}  # with the id in the place of %d
        self.dials: list[float] = []
        self.connections: list[Connection] = []
        self.requests: list[Json] = []
        self.scripts: list[str] = []
        self.ran: list[tuple[str, dict[str, str]]] = []
        self.console: list[str] = []
        self._held: dict[str, deque[tuple[Connection, Json]]] = {}
        self._nursery = nursery

    # -- what a test asks ----------------------------------------------------------------------------------------

    def runs_of(self, macro: str) -> list[dict[str, str]]:
        return [parameters for name, parameters in self.ran if name == macro]

    def requests_of(self, method: str) -> list[Json]:
        return [request.get("params", {}) for request in self.requests if request["method"] == method]

    def held(self, method: str) -> int:
        """How many requests wait for their answer to be let go."""
        return len(self._held.get(method, ()))

    # -- what a test does ----------------------------------------------------------------------------------------

    def define(self, *macros: str, act: Macro | None = None) -> None:
        self.macros.update(dict.fromkeys(macros, act))

    def hold(self, method: str) -> None:
        """Serve no more requests of this kind; for gcode/script: somebody has the mutex."""
        self._held.setdefault(method, deque())

    def let_go(self, method: str, count: int = 1, *, last_first: bool = False) -> None:
        """Serve so many of those held; others are still held."""
        for _ in range(count):
            waiting = self._held[method]
            self._serve(*(waiting.pop() if last_first else waiting.popleft()))

    def release(self, method: str) -> None:
        self.let_go(method, self.held(method))
        del self._held[method]

    def change(self, name: str, **fields: Any) -> None:
        """Set fields of an object; whoever subscribed hears of it at once."""
        self.objects.setdefault(name, {}).update(fields)
        self._report()

    def become(self, state: str, message: str = "") -> None:
        self.state = state
        self.state_message = message or STATE_MESSAGES.get(state, state)
        self._report()

    def call_remote(self, method: str, /, **params: Any) -> None:
        """A macro calls a remote method. Klippy sends it to every connection that registered it."""
        registered = [connection for connection in self.connections if method in connection.methods]
        assert len(registered) == 1, f"{method} is registered on {len(registered)} connections of {self.name}"
        registered[0].send({"params": params, **registered[0].methods[method]})

    def send_bytes(self, data: bytes) -> None:
        for connection in list(self.connections):
            connection.send_bytes(data)

    def die(self) -> None:
        """Like kill -9: connections end, new ones are refused, the next life knows nothing of this one."""
        self.refuses = ConnectionRefusedError(111, "Connection refused")
        self._held.clear()
        for connection in list(self.connections):
            connection.close()

    def live(self, state: str = "ready") -> None:
        """Start again after `die`."""
        self.refuses = None
        self.become(state)

    def restart(self) -> None:
        self.die()
        self.live()

    def stop(self) -> None:
        """Like SIGSTOP: the system still accepts connections and takes what is sent."""
        self.stopped = True

    def go_on(self) -> None:
        self.stopped = False
        for connection in list(self.connections):
            connection.take()

    # -- the socket ----------------------------------------------------------------------------------------------

    async def accept(self) -> trio.abc.Stream:
        """A new connection, as the router sees it. Raises OSError when told to."""
        await trio.lowlevel.checkpoint()
        self.dials.append(trio.current_time())
        if self.refuses is not None:
            raise self.refuses
        connection = Connection(self)
        self.connections.append(connection)
        self._nursery.start_soon(connection.serve)
        if self.on_accept is not None:
            self.on_accept(connection)
        return connection.client_side

    def receive(self, connection: Connection, request: Json) -> None:
        """Take one request, in the order of arrival."""
        self.requests.append(request)
        if request["method"] == "objects/subscribe":
            connection.subscription = None  # webhooks.py: the old one stops before the new one is answered
        if request["method"] in self._held:
            self._held[request["method"]].append((connection, request))
        else:
            self._serve(connection, request)

    def _serve(self, connection: Connection, request: Json) -> None:
        method, id_ = request["method"], request.get("id")
        if method in self.raw_answers:
            connection.send_bytes(self.raw_answers[method].replace(b"%d", str(id_).encode()) + FRAME_END)
            return
        try:
            answer = {"result": self._result(connection, method, request.get("params", {}))}
        except Refusal as error:
            answer = {"error": {"error": "WebRequestError", "message": str(error)}}
        if id_ is not None:
            connection.send({"id": id_, **answer})

    def _result(self, connection: Connection, method: str, params: Json) -> Any:
        if method in self.answers:
            return self.answers[method](params)
        match method:
            case "info":
                return {"state": self.state, "state_message": self.state_message, "software_version": "v0.13.0-1"}
            case "register_remote_method":
                connection.methods[params["remote_method"]] = params["response_template"]
                return {}
            case "gcode/help":
                return dict.fromkeys([*self.macros, "ECHO", *(["RESPOND"] if self.has_respond else [])], "help")
            case "objects/list":
                return {"objects": ["webhooks", *self.objects]}
            case "objects/query":
                return {"eventtime": 1.0, "status": self._status(dict(params["objects"]))}
            case "objects/subscribe":
                objects = dict(params["objects"])
                status = self._status(objects)
                connection.subscription = Subscription(objects, params["response_template"], status)
                return {"eventtime": 1.0, "status": status}
            case "gcode/script":
                self._run_script(params["script"])
                return {}
        raise Refusal(f"webhooks: No registered callback for path '{method}'")

    # -- objects -------------------------------------------------------------------------------------------------

    def _object(self, name: str) -> Json:
        if name == "webhooks":
            return {"state": self.state, "state_message": self.state_message}
        return {} if self.state in ("startup", "error") else self.objects.get(name, {})

    def _status(self, objects: dict[str, list[str] | None]) -> dict[str, Json]:
        """An unknown field is null; all fields of an object are settled when they are first known (webhooks.py)."""
        status: dict[str, Json] = {}
        for name, fields in objects.items():
            have = self._object(name)
            if fields is None and have:
                objects[name] = list(have)
            status[name] = {field: have.get(field) for field in objects[name] or ()}
        return status

    def _report(self) -> None:
        for connection in list(self.connections):
            if (subscription := connection.subscription) is None:
                continue
            now = self._status(subscription.objects)
            changed = {
                name: news
                for name, fields in now.items()
                if (news := {f: v for f, v in fields.items() if v != subscription.reported.get(name, {}).get(f)})
            }
            subscription.reported = now
            if changed:
                connection.send({**subscription.template, "params": {"eventtime": 2.0, "status": changed}})

    # -- G-code --------------------------------------------------------------------------------------------------

    def _run_script(self, script: str) -> None:
        self.scripts.append(script)
        for line in script.split("\n"):
            self._run_line(line.strip())

    def _run_line(self, line: str) -> None:
        parts = ARGS.split(line.partition(";")[0].upper())
        command = "".join(parts[:3]).strip()
        if not command:
            return
        if command == "M118":
            self.console.append(f"echo: {line[5:]}")
        elif command == "ECHO":
            self.console.append(line)
        elif command == "RESPOND" and self.has_respond:
            parameters = self._parameters(line)
            self.console.append(("!! " if parameters.get("TYPE") == "error" else "echo: ") + parameters["MSG"])
        elif self.state != "ready":
            raise Refusal(self.state_message)
        elif command in self.macros:
            parameters = self._parameters(line)
            self.ran.append((command, parameters))
            if (act := self.macros[command]) is not None:
                act(parameters)
        else:
            self.console.append(f'// Unknown command:"{command}"')

    def _parameters(self, line: str) -> dict[str, str]:
        try:
            pairs = [word.split("=", 1) for word in self._words(line)]
            return {key.upper(): value for key, value in pairs}
        except ValueError:
            raise Refusal(f"Malformed command '{line}'") from None

    def _words(self, line: str) -> list[str]:
        """Raises ValueError."""
        if not self.reads_quotes:
            match = EXTENDED_V0_12.match(line)
            if match is None:
                raise ValueError(line)
            return shlex.split(match["args"])
        lexer = shlex.shlex(line.partition(" ")[2], posix=True)
        lexer.whitespace_split = True
        lexer.commenters = "#;"
        return list(lexer)
