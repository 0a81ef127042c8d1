"""Ask a real Moonraker what it answers, and write the shapes of its answers to test/gateway/moonraker/reference.json.

Run it with a Python that has the package ``moonraker`` (the version is written down): it starts one in a folder of
its own, over a virtual Klippy, leads the printer through its states, and talks to Moonraker over its Unix socket.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from klipper_router.virtual import VirtualKlippy  # noqa: E402
from test.gateway.moonraker.calls import ASKS, PRINTER_CFG, REFERENCE, WRONG_CFG, Ask, shape  # noqa: E402

WITHIN_S = 30.0
MOONRAKER_CONF = """
[server]
host: 127.0.0.1
port: {port}
klippy_uds_address: {folder}/klippy.sock
[machine]
provider: none
validate_service: False
[authorization]
trusted_clients: 127.0.0.1
"""


class Client:
    """One connection to Moonraker's Unix socket: JSON-RPC, each message ended by 0x03."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""
        self.notifications: dict[str, Any] = {}

    async def ask(self, ask: Ask) -> dict[str, Any]:
        """The error, or the result's shape."""
        answer = await self._call(ask)
        if "error" in answer:
            return {"error": {"code": answer["error"]["code"], "message": answer["error"]["message"]}}
        return {"result": shape(answer["result"])}

    async def klippy_state(self) -> str:
        state: str = (await self._call(Ask("server.info")))["result"]["klippy_state"]
        return state

    async def _call(self, ask: Ask) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "method": ask.method, "params": dict(ask.params), "id": 1}
        await self._stream.send_all(json.dumps(message).encode() + b"\x03")
        while "id" not in (answer := await self._receive()):
            self.notifications.setdefault(answer["method"], shape(answer.get("params")))
        return answer

    async def _receive(self) -> dict[str, Any]:
        while b"\x03" not in self._buffer:
            data = await self._stream.receive_some()
            if not data:
                raise EOFError("Moonraker closed the connection")
            self._buffer += data
        frame, _, self._buffer = self._buffer.partition(b"\x03")
        message: dict[str, Any] = json.loads(frame)
        return message


class Recording:
    """The states, and what was answered in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.notifications: dict[str, Any] = {}

    async def ask_all(self, state: str, klippy_state: str) -> None:
        """Go through the calls of a state, once Moonraker says that it is in that."""
        async with self.client() as client:
            with trio.fail_after(WITHIN_S):
                while await client.klippy_state() != klippy_state:  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.1)
            self.answers[state] = [
                {"method": ask.method, "params": dict(ask.params), **await client.ask(ask)} for ask in ASKS[state]
            ]
            await trio.sleep(1.2)  # a notification a second
            await client.ask(Ask("server.info"))
            self.notifications |= client.notifications

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        with trio.fail_after(WITHIN_S):
            while True:
                with contextlib.suppress(OSError):
                    stream = await trio.open_unix_socket(str(self.folder / "data/comms/moonraker.sock"))
                    break
                await trio.sleep(0.1)
        async with stream:
            yield Client(stream)

    @contextlib.asynccontextmanager
    async def klippy(self, config: str) -> AsyncIterator[VirtualKlippy]:
        file = self.folder / "printer.cfg"
        file.write_text(config.format(folder=self.folder))
        klippy = VirtualKlippy(file, apiserver=self.folder / "klippy.sock")
        async with trio.open_nursery() as nursery:
            await nursery.start(klippy.run)
            yield klippy
            nursery.cancel_scope.cancel()


async def record(folder: Path) -> Recording:
    recording = Recording(folder)
    await recording.ask_all("never connected", "disconnected")
    async with recording.client() as watcher:
        async with recording.klippy(PRINTER_CFG) as klippy:
            await recording.ask_all("ready", "ready")
            klippy.invoke_shutdown("for the record")
            await recording.ask_all("shutdown", "shutdown")
        await recording.ask_all("disconnected", "disconnected")
        async with recording.klippy(WRONG_CFG):
            await recording.ask_all("error", "error")
        await watcher.ask(Ask("server.info"))  # reads all that was notified
        recording.notifications |= watcher.notifications
    return recording


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kr") as name:
        folder = Path(name)
        (folder / "data/config").mkdir(parents=True)
        (folder / "data/config/moonraker.conf").write_text(MOONRAKER_CONF.format(folder=folder, port=_free_port()))
        command = [sys.executable, "-m", "moonraker", "-d", str(folder / "data"), "-n"]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as moonraker:
            try:
                recording = trio.run(record, folder)
            finally:
                moonraker.send_signal(signal.SIGTERM)
    reference = {
        "moonraker": version("moonraker"),
        "answers": recording.answers,
        "notifications": dict(sorted(recording.notifications.items())),
    }
    REFERENCE.write_text(json.dumps(reference, indent=1) + "\n")
    print(f"{sum(map(len, recording.answers.values()))} answers of Moonraker {reference['moonraker']} in {REFERENCE}")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
