"""``allow`` of a printer held against JSON-RPC: one WebSocket, and one path, lead to every method of Moonraker's.

Pure. A method belongs to the path that its name begins with (``machine.reboot`` to ``/machine``). The name of one that
is not open is replaced by one that Moonraker has not, so that the client is answered "Method not found", and all else
goes on. What cannot be read cannot be judged and goes nowhere: ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from klipper_router.gateway.cameras.frames import frame, frame_at, masked
from klipper_router.gateway.values import MOONRAKER_PATHS

CLOSED_METHOD = "closed.by_klipper_router"
MAX_MESSAGE_BYTES = 1024 * 1024

_FIN, _RESERVED, _OPCODE, _CONTROL = 0x80, 0x70, 0x0F, 0x08


class AllowedMethods:
    """The methods below the paths ``allow``, and those below no path of Moonraker's."""

    def __init__(self, allow: Iterable[str]) -> None:
        self._closed = frozenset(MOONRAKER_PATHS) - {*allow}

    @property
    def all_open(self) -> bool:
        return not self._closed

    def checked(self, message: bytes) -> bytes:
        """A request, or a batch, as Moonraker may have it; the same one if all is open. Raises ValueError."""
        try:
            value = msgspec.json.decode(message)
        except RecursionError as error:
            raise ValueError(str(error)) from None  # so are msgspec's own errors
        closed = False
        for request in value if isinstance(value, list) else [value]:
            if isinstance(request, dict) and self._is_closed(request.get("method")):
                request["method"] = CLOSED_METHOD
                closed = True
        return msgspec.json.encode(value) if closed else message

    def _is_closed(self, method: object) -> bool:
        return isinstance(method, str) and method.partition(".")[0] in self._closed


class AllowedFrames:
    """A `http.FrameFilter` for what goes to Moonraker; ``then`` gets what passes, and returns what goes on.

    Every message is held back until it is whole, whatever its frames are; a larger one than `MAX_MESSAGE_BYTES` ends
    the connection.
    """

    def __init__(self, allowed: AllowedMethods, then: Callable[[bytes], bytes] = lambda data: data) -> None:
        self._allowed = allowed
        self._then = then
        self._held = bytearray()
        self._opcode = 0  # of a message in several frames; 0: there is none
        self._message = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._held += data
        out: list[bytes] = []
        at = 0
        while at < len(self._held):
            begin, end, key = frame_at(self._held, at)
            if begin and end - begin + len(self._message) > MAX_MESSAGE_BYTES:
                raise ValueError(f"a message is larger than {MAX_MESSAGE_BYTES} bytes")
            if not begin or end > len(self._held):
                break
            out.append(self._frame(bytes(self._held[at:end]), begin - at, bytes(key)))
            at = end
        del self._held[:at]
        return self._then(b"".join(out))

    def _frame(self, whole: bytes, begin: int, key: bytes) -> bytes:
        """What goes on of a frame. Raises ValueError."""
        first = whole[0]
        if first & _RESERVED:
            raise ValueError("a frame of an extension that was not agreed on")
        if first & _CONTROL:
            return whole
        content = masked(whole[begin:], key) if key else whole[begin:]
        opcode = first & _OPCODE
        if bool(opcode) == bool(self._opcode):
            raise ValueError("a message within another, or the rest of none")
        if opcode and first & _FIN:
            checked = self._allowed.checked(content)
            return whole if checked is content else frame(checked, key, opcode)
        self._opcode = self._opcode or opcode
        self._message += content
        if not first & _FIN:
            return b""
        message = frame(self._allowed.checked(bytes(self._message)), key, self._opcode)
        self._opcode = 0
        self._message.clear()
        return message
