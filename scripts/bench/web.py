"""Stand-ins for what is behind a gateway (an upstream in threads), and clients that load what is before it.

All of it on the load core, in plain blocking sockets: on the measured core nothing runs but what is measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import threading
import time
from typing import cast

PIECE_BYTES = 1 << 20
FRAME_BYTES = 50_000
BOUNDARY = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % FRAME_BYTES
JPEG = b"\xff\xd8" + os.urandom(FRAME_BYTES - 4).replace(b"\xff", b"\xfe") + b"\xff\xd9"
# A text of 200 bytes as a client sends it: masked, here with zeros.
MESSAGE = b"\x81\xfe\x00\xc8\x00\x00\x00\x00" + b"x" * 200
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class _Load:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def serve(self, ready: selectors.SelectorKey) -> None:
        raise AssertionError("nothing of it waits in the selector")


class Upstream(_Load):
    """Echoes WebSockets, swallows uploads, shows films: ``/?fps=30``, without fps as fast as they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def port(self) -> int:
        port = self._listener.getsockname()[1]
        assert isinstance(port, int)
        return port

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while head := _head(sock):
                if b"pgrade: websocket" in head:
                    sock.sendall(SWITCH)
                    while data := sock.recv(65536):
                        sock.sendall(data)
                elif length := re.search(rb"(?i)content-length: (\d+)", head):
                    _swallow(sock, int(length[1]))
                    sock.sendall(OK)
                else:
                    fps = re.search(rb"fps=(\d+)", head)
                    _show(sock, int(fps[1]) if fps else 0)


def _head(sock: socket.socket) -> bytes:
    """A head, byte-exact: what follows it is left in the socket."""
    while True:
        seen = sock.recv(65536, socket.MSG_PEEK)
        end = seen.find(b"\r\n\r\n")
        if end >= 0 or not seen:
            return sock.recv(end + 4) if seen else b""
        time.sleep(0.001)


def _swallow(sock: socket.socket, left_bytes: int) -> None:
    buffer = bytearray(PIECE_BYTES)
    while left_bytes > 0:
        got = sock.recv_into(buffer, min(left_bytes, PIECE_BYTES))
        if not got:
            raise ConnectionResetError
        left_bytes -= got


def _show(sock: socket.socket, fps: int) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    part = BOUNDARY + JPEG + b"\r\n"
    next_at = time.monotonic()
    while True:
        sock.sendall(part)
        if fps:
            next_at += 1 / fps
            time.sleep(max(0.0, next_at - time.monotonic()))


def _ask(port: int, path: str, *fields: str, method: str = "GET") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *fields, "", ""]
    sock.sendall("\r\n".join(lines).encode())
    return sock


class Clients(_Load):
    """Each method loads one server for a while, and says what came through."""

    def echo(self, port: int, path: str, connections: int, seconds: float) -> tuple[int, float]:
        """Messages echoed and the seconds that took; every connection has one under way."""
        fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        socks = [_ask(port, path, *fields, key) for _ in range(connections)]
        selector = selectors.DefaultSelector()
        for sock in socks:
            if not _head(sock).startswith(b"HTTP/1.1 101"):
                raise RuntimeError("the WebSocket was refused")
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(MESSAGE)
        left = dict.fromkeys(socks, len(MESSAGE))
        count, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds:
            for ready, _ in selector.select(1):
                sock = cast(socket.socket, ready.fileobj)
                left[sock] -= len(sock.recv(65536))
                if left[sock] <= 0:
                    left[sock] = len(MESSAGE)
                    count += 1
                    sock.sendall(MESSAGE)
        for sock in socks:
            sock.close()
        return count, now - begun

    def read(self, port: int, path: str, seconds: float, connections: int = 1) -> tuple[int, float]:
        """Bytes read of responses without end (or until they end), and the seconds that took."""
        buffer = bytearray(PIECE_BYTES)
        selector = selectors.DefaultSelector()
        paths = [path.replace("%d", str(number)) for number in range(connections)]
        for each in paths:
            sock = _ask(port, each, "Connection: close")
            if not _head(sock).startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{each} is not there")
            selector.register(sock, selectors.EVENT_READ)
        total, begun = 0, time.perf_counter()
        while selector.get_map() and time.perf_counter() - begun < seconds:
            for ready, _ in selector.select(1):
                sock = cast(socket.socket, ready.fileobj)
                got = sock.recv_into(buffer)
                total += got
                if not got:
                    selector.unregister(sock)
                    sock.close()
        took_s = time.perf_counter() - begun
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        return total, took_s

    def upload(self, port: int, path: str, size_bytes: int) -> float:
        """Seconds for an upload."""
        piece = bytes(PIECE_BYTES)
        begun = time.perf_counter()
        with _ask(port, path, f"Content-Length: {size_bytes}", "Content-Type: a/b", method="POST") as sock:
            for _ in range(size_bytes // PIECE_BYTES):
                sock.sendall(piece)
            if not _head(sock).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("the upload was refused")
        return time.perf_counter() - begun
