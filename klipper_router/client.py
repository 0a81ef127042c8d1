"""One blocking call to a running router's API socket, for the command line. Knows no trio."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from klipper_router import messages
from klipper_router.errors import CallError, ProtocolError
from klipper_router.framing import FrameSplitter, TooLong


def call(sock_path: str, method: str, params: Any, timeout_s: float | None = None) -> Any:
    """The result of one request.

    Raises CallError when the router answers with an error, ProtocolError when it answers nonsense, OSError when
    there is no router (TimeoutError after ``timeout_s`` without an answer).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(sock_path)
        sock.sendall(messages.encode({"id": 1, "method": method, "params": params}))
        splitter = FrameSplitter()
        while data := sock.recv(65536):
            for frame in splitter.feed(data):
                if isinstance(frame, TooLong):
                    raise ProtocolError(f"the answer has {frame.size_bytes} bytes, too many", frame.head)
                answer = msgspec.json.decode(frame)
                if answer.get("id", 1) != 1:
                    continue
                if "error" in answer:
                    raise CallError(answer["error"]["message"])
                if "result" in answer:
                    return answer["result"]
        raise ProtocolError("the router closed the connection without an answer")
