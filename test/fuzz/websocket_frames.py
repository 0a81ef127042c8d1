"""The frames of a relayed WebSocket, looked into on their way: methods that are closed, and rewritten messages.

Invariant: what passes `AllowedFrames` is, to a reader of our own and to wsproto, exactly the frames and messages that
came, each with its type, in order, closed methods replaced; or ValueError, for a message that is no JSON, too large or
no message. What passes `TextRewriter` is the stream, byte for byte but for the texts that are to be rewritten. Both
whatever the pieces are, and no more than one frame is held back.
Input: the first byte is how large the pieces are, the second how the rest becomes a stream (see `frames`).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from unittest.mock import patch

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from klipper_router.gateway import allowed
from klipper_router.gateway.allowed import CLOSED_METHOD, AllowedFrames, AllowedMethods
from klipper_router.gateway.cameras import frames
from klipper_router.gateway.cameras.frames import TextRewriter
from test.fuzz.frames import BINARY, CONTROL, TEXT, Frame, frames_in, pieces_of, stream_of
from test.unit.gateway.frames_by_hand import frame_of

WORDS = (
    b'\x81{"jsonrpc":"2.0","method":"machine.reboot","id":1}\x03',
    b'\x82{"method":"printer.info"}\x03',
    b'\x01{"method":"mach',
    b'\x80ine.reboot","id":2}',
    b"\x00",
    b"\x89ping\x03",
    b"\x88\x03\xe8bye\x03",
    b'"method":"access.',
    b'"MARK"',
    b"\x81\x85\x00\x00\x00\x00",
    b"\x81\xfe\x00",
    b"\x81\xff\x00\x00\x00\x00\x00\x00",
    b"\xc1",
    b"99999999999999999999",
    b"\\ud800",
)

# Small ones, so that inputs reach them.
MAX_MESSAGE_BYTES = 300
MAX_HELD_BYTES = 200
HEAD_BYTES = 14
OPEN = ("printer", "server")
METHODS = AllowedMethods(OPEN)
CLOSED = {"access", "api", "debug", "klippysocket", "machine", "websocket"}
MARKER = b"MARK"


def one_input(data: bytes) -> None:
    size, how = (*data[:2], 1, 0)[:2]
    stream = stream_of(how, data[2:])
    pieces = pieces_of(stream, max(1, size))
    with (
        patch.object(allowed, "MAX_MESSAGE_BYTES", MAX_MESSAGE_BYTES),
        patch.object(frames, "MAX_HELD_BYTES", MAX_HELD_BYTES),
    ):
        check_allowed(stream, pieces)
        check_rewritten(stream, pieces)


# -- closed methods ------------------------------------------------------------------------------------------------


class Message(NamedTuple):
    """Whole, or a control frame; ``kind`` is the opcode that it began with."""

    kind: int
    content: bytes


def check_allowed(stream: bytes, pieces: list[bytes]) -> None:
    passed, refused = outcome(pieces)
    at_once, refused_at_once = outcome([stream])
    assert refused == refused_at_once
    # What comes in one piece with what ends the connection is lost with it.
    assert passed.startswith(at_once)
    assert refused or passed == at_once
    came, problem = messages(stream)
    assert refused == problem
    went, nothing = messages(passed, judged=False)
    assert not nothing
    assert [each.kind for each in went] == [each.kind for each in came[: len(went)]]
    assert len(went) == len(came) or refused
    for before, after in zip(came, went, strict=False):
        assert after == before or read(after.content) == opened(read(before.content))
        assert before.kind & CONTROL or not is_closed(read(after.content))
    check_with_wsproto(stream, passed, went)


def outcome(pieces: list[bytes]) -> tuple[bytes, bool]:
    """What passed, and whether the rest was refused."""
    frames_ = AllowedFrames(METHODS)
    passed = b""
    for piece in pieces:
        try:
            passed += frames_.feed(piece)
        except ValueError:
            return passed, True
        assert len(frames_._held) <= MAX_MESSAGE_BYTES + HEAD_BYTES
    return passed, False


def messages(stream: bytes, *, judged: bool = True) -> tuple[list[Message], bool]:
    """What a peer reads that takes all it can; and whether there follows what must be refused."""
    found: list[Message] = []
    kind, content = 0, b""
    for frame in frames_in(stream):
        if judged and frame.size + len(content) > MAX_MESSAGE_BYTES:
            return found, True
        if not frame.is_whole:
            break
        if frame.reserved:
            return found, True
        if frame.opcode & CONTROL:
            found.append(Message(frame.opcode, frame.content))
            continue
        if bool(frame.opcode) == bool(kind):
            return found, True
        kind, content = kind or frame.opcode, content + frame.content
        if frame.fin:
            if judged and not is_json(content):
                return found, True
            found.append(Message(kind, content))
            kind, content = 0, b""
    return found, False


def is_json(content: bytes) -> bool:
    return not isinstance(read(content), Unreadable)


class Unreadable(NamedTuple):
    """No JSON, or one with what msgspec refuses: half a character, a number that no double holds."""

    content: bytes


def read(content: bytes) -> Any:
    try:
        text = content.decode()
        value = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=whole)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return Unreadable(content)
    return value


def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Half a character is none, in what a later key replaces, too."""
    json.dumps(pairs, ensure_ascii=False).encode()
    return dict(pairs)


def refuse(text: str) -> Any:
    raise ValueError(text)


def finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def requests_in(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_closed_request(request: Any) -> bool:
    method = request.get("method") if isinstance(request, dict) else None
    return isinstance(method, str) and method.split(".")[0] in CLOSED


def is_closed(value: Any) -> bool:
    return any(map(is_closed_request, requests_in(value)))


def opened(value: Any) -> Any:
    made = [each | {"method": CLOSED_METHOD} if is_closed_request(each) else each for each in requests_in(value)]
    return made if isinstance(value, list) else made[0]


def check_with_wsproto(stream: bytes, passed: bytes, went: list[Message]) -> None:
    """It is stricter, and reads nothing more after what it refuses."""
    masked = next((bool(frame.key) for frame in frames_in(stream)), False)
    seen = wsproto_reads(passed, masked=masked)
    assert seen == [each for each in went if not each.kind & CONTROL][: len(seen)]
    came = wsproto_reads(stream, masked=masked)
    shorter = min(len(seen), len(came))
    assert [each.kind for each in seen[:shorter]] == [each.kind for each in came[:shorter]]


def wsproto_reads(stream: bytes, *, masked: bool) -> list[Message]:
    """Its messages; control frames are left to the reader of our own."""
    reader = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
    found: list[Message] = []
    reader.receive_data(stream)
    content = b""
    for event in reader.events():
        if isinstance(event, TextMessage | BytesMessage):
            content += event.data.encode() if isinstance(event.data, str) else bytes(event.data)
            if event.message_finished:
                found.append(Message(TEXT if isinstance(event, TextMessage) else BINARY, content))
                content = b""
        elif isinstance(event, CloseConnection):
            break
    return found


# -- rewritten messages --------------------------------------------------------------------------------------------


def rewrite(content: bytes) -> bytes | None:
    assert MARKER in content
    return None if b"keep" in content else content.replace(MARKER, b"a text of another length")


def check_rewritten(stream: bytes, pieces: list[bytes]) -> None:
    expected, done = b"", 0
    for frame in frames_in(stream):
        if not frame.is_whole:
            break
        expected += rewritten(frame) or stream[done : frame.end]
        done = frame.end
    expected += stream[done:]
    for cut in (pieces, [stream]):
        rewriter = TextRewriter(rewrite, MARKER)
        out = b"".join(map(rewriter.feed, cut))
        assert out + rewriter._held == expected
        assert len(rewriter._held) <= MAX_HELD_BYTES + HEAD_BYTES


def rewritten(frame: Frame) -> bytes | None:
    if frame.first != 0x80 | TEXT or frame.size > MAX_HELD_BYTES or MARKER not in frame.content:
        return None
    made = rewrite(frame.content)
    return None if made is None else frame_of(frame.first, made, frame.key)
