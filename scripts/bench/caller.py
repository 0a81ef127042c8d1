"""The load of the call cases: a client that makes one call after the other, on a Klippy socket or a websocket."""

from __future__ import annotations

import base64
import gc
import json
import os
import selectors
import socket
import struct
import time
from typing import Any

from scripts.bench.standin import END, RECEIVE_BYTES, frame

TIMEOUT_S = 10.0


class Caller:
    """A client with precomputed bytes; all that it does between two readings of the clock is send and recv."""

    def __init__(self) -> None:
        gc.disable()
        self.selector: selectors.BaseSelector = selectors.EpollSelector()
        self._socks: dict[str, socket.socket] = {}
        self._requests: dict[str, bytes] = {}

    def serve(self, ready: selectors.SelectorKey) -> None:
        raise NotImplementedError("it reads only what it asked for")

    def connect(self, name: str, path: str, method: str, params: dict[str, Any]) -> bytes:
        """Connect to an API socket, for calls of one method; returns its answer."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_S)
        sock.connect(path)
        self._socks[name] = sock
        self._requests[name] = frame({"id": 1, "method": method, "params": params})
        sock.sendall(self._requests[name])
        return self._until(sock, END)

    def connect_websocket(self, name: str, port: int, method: str) -> bytes:
        """Connect to Moonraker's websocket, for calls of one JSON-RPC method; returns its answer."""
        sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = self._until(sock, b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(f"no websocket: {head[:200]!r}")
        self._socks[name] = sock
        self._requests[name] = masked_text(json.dumps({"jsonrpc": "2.0", "method": method, "id": 1}).encode())
        sock.sendall(self._requests[name])
        return self._until(sock, b'"id":1}')

    def latency(self, name: str, count: int, pause_s: float) -> list[float]:
        """Seconds from the call to its whole answer, ``count`` times, with a pause between."""
        sock, request = self._socks[name], self._requests[name]
        end = END if request.endswith(END) else b'"id":1}'
        sock.setblocking(False)
        while True:  # what Moonraker tells all its clients meanwhile
            try:
                sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
        sock.settimeout(TIMEOUT_S)
        samples = []
        for _ in range(count):
            start = time.perf_counter()
            sock.sendall(request)
            data = sock.recv(RECEIVE_BYTES)
            while not data.endswith(end):
                data += sock.recv(RECEIVE_BYTES)
            samples.append(time.perf_counter() - start)
            time.sleep(pause_s)
        return samples

    def _until(self, sock: socket.socket, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            if not (more := sock.recv(RECEIVE_BYTES)):
                raise RuntimeError(f"closed after {data[:200]!r}")
            data += more
        return data


def masked_text(text: bytes) -> bytes:
    """A websocket text frame as a client sends it (RFC 6455, 5.2), the mask all zeros."""
    head = bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else struct.pack("!BBH", 0x81, 0x80 | 126, len(text))
    return head + bytes(4) + text
