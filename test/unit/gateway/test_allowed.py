"""Methods of Moonraker's that ``allow`` leaves out stay closed however a message reaches it."""

from __future__ import annotations

import json

import pytest

from klipper_router.gateway.allowed import CLOSED_METHOD, MAX_MESSAGE_BYTES, AllowedFrames, AllowedMethods
from klipper_router.gateway.values import MOONRAKER_PATHS
from test.unit.gateway.frames_by_hand import frame_of, messages_of

KEY = b"\x01\x02\x03\x04"
ALLOWED = AllowedMethods(["printer", "server", "websocket"])
REBOOT = b'{"jsonrpc": "2.0", "method": "machine.reboot", "id": 1}'
INFO = b'{"jsonrpc": "2.0", "method": "printer.info", "id": 2}'


def names(message: bytes) -> list[object]:
    value = json.loads(message)
    return [each["method"] for each in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("method", ["machine.reboot", "machine", "access.delete_user", "debug.database.list"])
def test_a_method_below_a_closed_path_is_replaced_by_none(method: str) -> None:
    request = {"jsonrpc": "2.0", "method": method, "params": {"a": 1}, "id": "x"}
    assert json.loads(ALLOWED.checked(json.dumps(request).encode())) == request | {"method": CLOSED_METHOD}


@pytest.mark.parametrize("message", [INFO, b'{"method": "server.info"}', b'{"method": "connection.x"}', b"[]", b"7"])
def test_what_is_open_passes_as_it_is(message: bytes) -> None:
    assert ALLOWED.checked(message) is message


def test_each_request_of_a_batch_is_looked_at() -> None:
    assert names(ALLOWED.checked(b"[" + INFO + b"," + REBOOT + b"]")) == ["printer.info", CLOSED_METHOD]


def test_of_two_names_the_last_counts_as_with_moonraker() -> None:
    assert names(ALLOWED.checked(b'{"method": "printer.info", "method": "machine.reboot"}')) == [CLOSED_METHOD]


@pytest.mark.parametrize("message", [b"", b"{", b'{"method": NaN}', REBOOT.decode().encode("utf-16"), b"[" * 100_000])
def test_what_cannot_be_read_goes_nowhere(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ALLOWED.checked(message)


def test_all_paths_are_open_unless_told_otherwise() -> None:
    assert AllowedMethods(MOONRAKER_PATHS).all_open
    assert not ALLOWED.all_open


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_frames_cut_anywhere_and_messages_in_several_frames_are_looked_at(step: int) -> None:
    ping = frame_of(0x89, b"still there?", KEY)
    data = b"".join(
        [
            frame_of(0x81, INFO, KEY),
            frame_of(0x01, REBOOT[:20], KEY),
            ping,
            frame_of(0x00, b"", KEY),
            frame_of(0x80, REBOOT[20:], KEY),
            frame_of(0x82, REBOOT, KEY),
        ]
    )
    frames = AllowedFrames(ALLOWED)
    out = b"".join(frames.feed(data[at : at + step]) for at in range(0, len(data), step))
    assert ping in out
    assert [names(message) for message in messages_of(out)] == [["printer.info"], [CLOSED_METHOD], [CLOSED_METHOD]]


@pytest.mark.parametrize(
    "data",
    [
        frame_of(0xC1, REBOOT, KEY),  # compressed, says it
        frame_of(0x80, REBOOT, KEY),
        frame_of(0x01, INFO, KEY) + frame_of(0x81, REBOOT, KEY),
        frame_of(0x81, b" " * (MAX_MESSAGE_BYTES + 1), KEY)[:100],
        (frame_of(0x01, b" " * 600_000, KEY) + frame_of(0x00, b" " * 600_000, KEY)),
    ],
)
def test_what_is_no_message_or_too_large_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        AllowedFrames(ALLOWED).feed(data)


def test_what_passes_is_handed_on() -> None:
    seen: list[bytes] = []

    def then(data: bytes) -> bytes:
        seen.append(data)
        return b"other"

    assert AllowedFrames(ALLOWED, then).feed(frame_of(0x81, INFO)) == b"other"
    assert seen == [frame_of(0x81, INFO)]
