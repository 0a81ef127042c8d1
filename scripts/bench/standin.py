"""Stand-in Klippys: the least that the router and Moonraker need to take a socket for a printer, on blocking sockets.

They answer faster than a real Klippy could, and do nothing else. Shares no code with the router.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

END = b"\x03"
RECEIVE_BYTES = 1 << 20

READY = {"webhooks": {"state": "ready", "state_message": "Printer is ready"}}
INFO = {
    "state": "ready",
    "state_message": "Printer is ready",
    "hostname": "bench",
    "software_version": "v0.13.0",
    "cpu_info": "1 core",
    "klipper_path": "/tmp",
    "python_path": "/usr/bin/python3",
    "log_file": "/tmp/klippy.log",
    "config_file": "/tmp/printer.cfg",
    "process_id": 1,
    "user_id": 1,
    "group_id": 1,
}


def frame(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + END


def remote_call(method: str, **params: Any) -> bytes:
    """What Klippy sends when a macro calls a remote method, with the response template that the router registers."""
    return frame({"params": params, "remote_method": method})


class Connection:
    """One accepted connection: who it is to, and what of a frame has arrived."""

    def __init__(self, printer: str, sock: socket.socket) -> None:
        self.printer = printer
        self.sock = sock
        self._begun = b""

    def frames(self) -> list[bytes] | None:
        """The frames that are complete by now; None: it was closed."""
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            return None
        *frames, self._begun = (self._begun + data).split(END)
        return frames


class Klippys:
    """Stand-ins by name, each listening at ``folder/NAME.sock``."""

    def __init__(self, folder: str, names: list[str]) -> None:
        self.links: dict[str, Connection] = {}  # the newest connection to each
        self.registered: dict[str, float] = {}  # printer -> when its last remote method was registered
        self.received = 0  # gcode/script requests
        self.selector: selectors.BaseSelector = selectors.EpollSelector()
        for name in names:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(f"{folder}/{name}.sock")
            listener.listen(8)
            self.selector.register(listener, selectors.EVENT_READ, name)
        self.answers: dict[str, Callable[[str, Any], Any]] = {
            "info": lambda printer, params: INFO,
            "objects/list": lambda printer, params: {"objects": ["webhooks", "gcode", "toolhead"]},
            "objects/query": lambda printer, params: {"status": READY, "eventtime": 1.0},
            "objects/subscribe": lambda printer, params: {"status": READY, "eventtime": 1.0},
            "list_endpoints": lambda printer, params: {"endpoints": ["info", "gcode/script", "objects/query"]},
        }

    def serve(self, ready: selectors.SelectorKey) -> None:
        """Accept, or answer what has arrived."""
        if isinstance(ready.data, str):
            self._accept(ready.data, ready.fileobj)
            return
        link: Connection = ready.data
        frames = link.frames()
        if frames is None:
            self.selector.unregister(link.sock)
            link.sock.close()
        elif answers := b"".join([self._answer(link.printer, each) for each in frames]):
            link.sock.sendall(answers)

    def serve_for(self, seconds: float) -> None:
        """Answer what arrives for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for ready, _ in self.selector.select(left):
                if ready.data is not None:  # else the caller's pipe
                    self.serve(ready)

    def _accept(self, name: str, listener: Any) -> None:
        link = Connection(name, listener.accept()[0])
        self.selector.register(link.sock, selectors.EVENT_READ, link)
        self.links[name] = link

    def linked(self) -> int:
        """How many printers somebody is connected to."""
        return len(self.links)

    def registered_at(self) -> dict[str, float]:
        """When the last remote method so far was registered on each printer (perf_counter, the same everywhere)."""
        return self.registered

    def _answer(self, printer: str, request: bytes) -> bytes:
        message = json.loads(request)
        method = message.get("method", "")
        if method == "register_remote_method":
            self.registered[printer] = time.perf_counter()
        elif method == "gcode/script":
            self.received += 1
        if "id" not in message:
            return b""
        answer = self.answers.get(method)
        result = answer(printer, message.get("params", {})) if answer else {}
        return frame({"id": message["id"], "result": result})
