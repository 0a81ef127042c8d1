"""The load of the relay cases: stand-ins A and B in one process; A sends, and B sees it arrive.

One process and one clock, so a latency is the difference of two readings of it; and no switch between processes of
the load is measured along with the relay.
"""

from __future__ import annotations

import gc
import select
import socket
import time

from scripts.bench.standin import END, RECEIVE_BYTES, Connection, Klippys, frame, remote_call

SCRIPT = "SET_LED LED=strip RED=1 GREEN=0.5 BLUE=0"
# So many scripts are on their way at most: less than a client of the router may have, and than a socket's buffer holds.
FLIGHT = 160
BATCH = 32
TIMEOUT_S = 30.0


def call_frame(script: str = SCRIPT) -> bytes:
    """What A sends when its macro runs a script on B."""
    return remote_call("router/gcode/script", target="b", script=script)


def client_frame(script: str = SCRIPT) -> bytes:
    """The same from a client of the router's socket, which wants no answer, as a macro gets none."""
    return frame({"method": "router/gcode/script", "params": {"target": "b", "script": script}})


def request_frame(script: str = SCRIPT) -> bytes:
    """What B is to be sent in the end; what A sends itself through a relay that does not parse."""
    return frame({"id": 1, "method": "gcode/script", "params": {"script": script}})


class Pair(Klippys):
    """Stand-ins "a" and "b"; whatever dials both of them relays."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, ["a", "b"])
        gc.disable()  # no pause of ours in the figures
        self._client: socket.socket | None = None

    def join(self) -> None:
        """No relay at all: A and B are the two ends of one socket. What is measured then is this load itself."""
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.links = {"a": Connection("a", a), "b": Connection("b", b)}

    def latency(self, count: int, pause_s: float, parses: bool, script: str = SCRIPT) -> list[float]:
        """Seconds from A's send to B's receive, ``count`` times, with a pause between.

        ``parses``: the relay makes a request of a remote call, else it is given the request as it is.
        """
        a, b = self.links["a"].sock, self.links["b"].sock
        self._drain()
        data = call_frame(script) if parses else request_frame(script)
        exchange = _exchange_big if len(data) > 50_000 else _exchange
        samples = []
        for _ in range(count):
            seconds, received = exchange(a, b, data)
            samples.append(seconds)
            b.sendall(_answers(received))
            if not parses:
                _receive_frame(a)  # the answer comes back the same way
            if pause_s:
                time.sleep(pause_s)
        return samples

    def connect(self, path: str) -> None:
        """Let A's scripts come from a client of the router's socket: so many a second from macros would be a loop."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(path)
        self._client = sock

    def throughput(self, count: int, answers: bool) -> float:
        """Seconds until B has got ``count`` scripts, sent by A in batches; B answers each, if ``answers``."""
        a, b = self._client or self.links["a"].sock, self.links["b"].sock
        self._drain()
        batch = (client_frame() if self._client else call_frame()) * BATCH
        sent = received = 0
        begun = b""
        start = time.perf_counter()
        while received < count:
            while sent < count and sent - received <= FLIGHT - BATCH:
                a.sendall(batch)
                sent += BATCH
            data = b.recv(RECEIVE_BYTES)
            if begun:
                data = begun + data
            end = data.rfind(END) + 1
            begun = data[end:]
            received += data.count(END)
            if answers and end:
                b.sendall(_answers(data[:end]))
        elapsed = time.perf_counter() - start
        if received != sent:
            raise RuntimeError(f"{sent} scripts were sent and {received} arrived")
        return elapsed

    def _drain(self) -> None:
        """Serve what has arrived meanwhile: the router asks a silent Klippy whether it is there."""
        for link in self.links.values():
            link.sock.settimeout(TIMEOUT_S)
        self.serve_for(0.001)


def _answers(requests: bytes) -> bytes:
    """An empty result for each request: `{"id":17,…` is how both the router and the peers begin one."""
    ids = [request[6 : request.index(b",")] for request in requests.split(END) if request]
    return b"".join(b'{"id":%b,"result":{}}\x03' % id_ for id_ in ids)


def _exchange(a: socket.socket, b: socket.socket, data: bytes) -> tuple[float, bytes]:
    start = time.perf_counter()
    a.sendall(data)
    received = b.recv(RECEIVE_BYTES)
    while not received.endswith(END):
        received += b.recv(RECEIVE_BYTES)
    return time.perf_counter() - start, received


def _exchange_big(a: socket.socket, b: socket.socket, data: bytes) -> tuple[float, bytes]:
    """A frame that no socket's buffer holds: written and read in turns, or a relay that streams would wait for ever."""
    parts: list[bytes] = []
    a.setblocking(False)
    left = memoryview(data)
    start = time.perf_counter()
    while not parts or not parts[-1].endswith(END):
        readable, writable, _ = select.select([b], [a] if left else [], [], TIMEOUT_S)
        if not readable and not writable:
            raise TimeoutError(f"nothing moves, {len(left)} bytes are still to be sent")
        if writable:
            left = left[a.send(left) :]
        if readable:
            parts.append(b.recv(RECEIVE_BYTES))
    seconds = time.perf_counter() - start
    a.settimeout(TIMEOUT_S)
    return seconds, parts[0][:64] + END


def _receive_frame(sock: socket.socket) -> None:
    while not sock.recv(RECEIVE_BYTES).endswith(END):
        pass
