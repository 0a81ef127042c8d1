"""One blocking call to a running router's API socket, for the command line. Knows no trio."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from klipper_router import messages
from klipper_router.errors import CallError, ProtocolError
from klipper_router.framing import FrameSplitter, TooLong


class _Answer(msgspec.Struct):
    id: Any = None
    result: Any = msgspec.UNSET
    error: messages.ErrorBody | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def call(sock_path: str, method: str, params: Any, timeout_s: float | None = None) -> Any:
    """The result of one request.

    Raises CallError when the router answers with an error, when there is none, or when it has not answered within
    ``timeout_s``; ProtocolError when it answers nonsense.
    """
    try:
        return _call(sock_path, method, params, timeout_s)
    except TimeoutError:
        raise CallError(f"the router at {sock_path} has not answered within {timeout_s:g} s") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise CallError(f"no router answers at {sock_path}: {why}. Is it running? Give -c or --sock") from None


def _call(sock_path: str, method: str, params: Any, timeout_s: float | None) -> Any:
    try:
        request = messages.encode({"id": 1, "method": method, "params": params})
    except UnicodeEncodeError as error:
        raise CallError(f"the call holds half a character (a surrogate): {error.object[:100]!r}") from None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(sock_path)
        with contextlib.suppress(BrokenPipeError):  # refused at once; why can be read
            sock.sendall(request)
        return _result(lambda: sock.recv(65536))


def _result(receive: Callable[[], bytes]) -> Any:
    """The result of request 1 in what is received, piece by piece."""
    splitter = FrameSplitter()
    while data := receive():
        for frame in splitter.feed(data):
            if isinstance(frame, TooLong):
                raise ProtocolError(f"the answer has {frame.size_bytes} bytes, too many", frame.head)
            answer = messages.decode(frame, _ANSWER)
            if answer.error is not None:  # with our id, or with none when it did not get that far
                raise CallError(answer.error.message)
            if answer.id == 1 and answer.result is not msgspec.UNSET:
                return answer.result
    raise ProtocolError("the router closed the connection without an answer")
