"""Plays a scenario against a Klippy's socket and writes down what came back, step by step."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from test.fleet import Connection

from .scenario import Scenario, Step

STEP_WITHIN_S = 15.0
FENCE = "fence"
SETTLED = ("ready", "error", "shutdown")

Transcript = list[dict[str, Any]]


class _Line:
    """One connection: a task reads it, so that a Klippy is never kept waiting."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        self.at_end = False
        self._more = trio.Event()

    async def read(self) -> None:
        gone = contextlib.suppress(EOFError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
        async with self.connection.stream:
            with gone:
                await self._receive()
        self.at_end = True
        self._wake()

    async def _receive(self) -> None:
        while True:
            message = await self.connection.receive()
            self.messages.append(message)
            self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = trio.Event()

    async def more(self) -> None:
        await self._more.wait()

    async def send(self, frame: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.connection.stream.send_all(frame + b"\x03")


class Player:
    def __init__(self, sock: Path, tty: Path, lose_mcu: Callable[[], None], nursery: trio.Nursery) -> None:
        self._sock = sock
        self._tty = tty
        self._lose_mcu = lose_mcu
        self._nursery = nursery
        self._lines: dict[str, _Line] = {}
        self._last_info: dict[str, Any] = {}
        self._terminal: int | None = None

    async def play(self, scenario: Scenario) -> Transcript:
        """Raises AssertionError, with what had come, when a step takes too long."""
        try:
            return await self._play(scenario)
        finally:
            if self._terminal is not None:
                os.close(self._terminal)

    async def _play(self, scenario: Scenario) -> Transcript:
        transcript: Transcript = []
        with trio.move_on_after(STEP_WITHIN_S) as patience:
            await self._wait_state(scenario.await_state)
        if patience.cancelled_caught:
            raise AssertionError(f"{scenario.id}: not {scenario.await_state} but {self._last_info}")
        for step in scenario.steps:
            typed: list[str] = []
            with trio.move_on_after(STEP_WITHIN_S) as patience:
                typed = await self._do(step)
            if step.kind == "begin":
                continue  # what comes is shown by the step that waits for it
            waits_for_update = step.options.get("via", "main") if step.kind == "update" else None
            got = {name: self._take(line, name == waits_for_update) for name, line in self._lines.items()}
            if patience.cancelled_caught:
                raise AssertionError(f"{scenario.id}: nothing more came in {STEP_WITHIN_S} s at {step}: {got}")
            entry: dict[str, Any] = {"step": step.label, "got": got.pop("main")}
            entry |= {name: messages for name, messages in got.items() if messages}
            if typed:
                entry["serial"] = typed
            transcript.append(entry)
        return transcript

    def _take(self, line: _Line, updates: bool) -> list[Any]:
        """What came. Updates come on a timer of their own: only the steps that wait for one show them."""
        messages = [message for message in line.messages if updates or not _is_update(message)]
        line.messages = [message for message in line.messages if not updates and _is_update(message)]
        shown = [_shown(message) for message in messages if message.get("id") != FENCE]
        if line.at_end and not shown and not messages:
            return ["(end of connection)"]
        return shown

    async def _do(self, step: Step) -> list[str]:
        """The lines of the serial console, if it was used."""
        typed: list[str] = []
        line = self._lines[step.options.get("via", "main")]
        match step.kind:
            case "gcode":
                await self._call(line, "gcode/script", {"script": step.value}, "script")
                if "until" in step.options:
                    await self._until_console(line, step.options["until"])
            case "call":
                await self._call(line, step.value, step.options.get("params", {}), step.options.get("id", "call"))
            case "frame":
                await line.send(step.value.encode())
            case "begin":
                options = step.options
                await line.send(_frame(step.value, options["method"], options.get("params", {})))
                return typed
            case "finish":
                await self._until(line, lambda: set(step.value) <= {m.get("id") for m in line.messages})
            case "until":
                await self._until_console(line, step.value)
            case "update":
                await self._until(line, lambda: any(_holds(m, step.value) for m in line.messages))
            case "reached":
                await self._reached(step.value)
            case "listed":
                while step.value not in (await self._ask("objects/list"))["objects"]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            case "type":
                typed = await self._type(step.value)
            case "lose_mcu":
                self._lose_mcu()
            case "eof":
                await self._until(line, lambda: line.at_end)
                return typed
            case "open":
                await self._open(step.value)
            case "close":
                await self._lines.pop(step.value).connection.stream.aclose()
            case "state":
                await self._wait_state(step.value)
            case _:
                raise AssertionError(f"no such step: {step}")
        for line in list(self._lines.values()):
            await self._fence(line)
        return typed

    async def _type(self, text: str) -> list[str]:
        """What a host on the serial line sees until its command is acknowledged."""
        if self._terminal is None:
            self._terminal = os.open(self._tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(self._terminal, text.encode() + b"\n")
        seen = b""
        while not re.search(rb"(?m)^ok.*\n", seen):
            await trio.lowlevel.wait_readable(self._terminal)
            seen += os.read(self._terminal, 4096)
        return seen.decode().splitlines()

    async def _call(self, line: _Line, method: str, params: Any, id_: str) -> None:
        await line.send(_frame(id_, method, params))
        await self._until(line, lambda: any(message.get("id") == id_ for message in line.messages))

    async def _fence(self, line: _Line) -> None:
        """Requests begin in order and `info` is answered at once: what was sent before has begun by then."""
        await self._call(line, "info", {}, FENCE)

    async def _until(self, line: _Line, condition: Any) -> None:
        while not condition() and not line.at_end:
            await line.more()

    async def _until_console(self, line: _Line, pattern: str) -> None:
        await self._until(line, lambda: any(re.search(pattern, _console(message)) for message in line.messages))

    async def _reached(self, wanted: dict[str, dict[str, Any]]) -> None:
        async with Connection.open(self._sock) as connection:
            while True:
                answer = await connection.call("objects/query", objects=dict.fromkeys(wanted))
                if _covers(answer["status"], wanted):
                    return
                await trio.sleep(0.01)

    async def _ask(self, method: str) -> Any:
        async with Connection.open(self._sock) as connection:
            return await connection.call(method)

    async def _open(self, name: str) -> None:
        stream = await trio.open_unix_socket(str(self._sock))
        line = self._lines[name] = _Line(Connection(stream))
        self._nursery.start_soon(line.read)

    async def _wait_state(self, wanted: str) -> None:
        """Another process gets there in its own time; only its answer tells."""
        while (state := await self._state_now()) != wanted and not (wanted == "settled" and state in SETTLED):  # noqa: ASYNC110
            await trio.sleep(0.01)
        await self._open("main")
        main = self._lines["main"]
        await self._call(main, "gcode/subscribe_output", {}, FENCE)
        main.messages.clear()

    async def _state_now(self) -> str:
        try:
            with trio.fail_after(2):
                async with Connection.open(self._sock) as connection:
                    self._last_info = await connection.call("info")
                    return str(self._last_info["state"])
        except (OSError, EOFError, trio.BrokenResourceError, trio.TooSlowError):
            return "unreachable"


def _frame(id_: str, method: str, params: Any) -> bytes:
    return json.dumps({"id": id_, "method": method, "params": params}).encode()


def _console(message: dict[str, Any]) -> str:
    params = message.get("params")
    return str(params.get("response", "")) if isinstance(params, dict) else ""


def _is_update(message: dict[str, Any]) -> bool:
    return isinstance(message.get("params"), dict) and "status" in message["params"]


def _holds(message: dict[str, Any], wanted: dict[str, dict[str, Any]]) -> bool:
    params = message.get("params")
    return isinstance(params, dict) and _covers(params.get("status", {}), wanted)


def _covers(status: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> bool:
    return all(
        name in status and all(status[name].get(field) == value for field, value in fields.items())
        for name, fields in wanted.items()
    )


def _shown(message: dict[str, Any]) -> Any:
    """A console line as its text, an answer without our own id and without the name that all errors have."""
    if message.keys() == {"params"} and list(message["params"]) == ["response"]:
        return message["params"]["response"]
    shown = dict(message)
    if shown.get("id") in ("script", "call"):
        del shown["id"]
    error = shown.get("error")
    if isinstance(error, dict) and error.keys() == {"error", "message"} and error["error"] == "WebRequestError":
        shown["error"] = error["message"]
    return shown
