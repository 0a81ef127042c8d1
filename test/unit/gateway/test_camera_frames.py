"""The rewriting of single messages within a relayed WebSocket, held against wsproto at both ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from klipper_router.gateway.cameras.frames import MAX_HELD_BYTES, TextRewriter


def rewrite(message: bytes) -> bytes | None:
    return message.replace(b"MARK", b"a text of another length") if b"keep" not in message else None


def rewriter() -> TextRewriter:
    return TextRewriter(rewrite, b"MARK")


class Wire:
    """Two ends of a WebSocket; what one sends passes a rewriter, in any pieces, before the other sees it."""

    def __init__(self, sender: ConnectionType) -> None:
        other = ConnectionType.SERVER if sender is ConnectionType.CLIENT else ConnectionType.CLIENT
        self.sender = Connection(sender)
        self.receiver = Connection(other)
        self.filter = rewriter()
        self.others: list[type] = []

    def carry(self, data: bytes, sizes: list[int]) -> list[str]:
        for size in sizes:
            self.receiver.receive_data(self.filter.feed(data[:size]))
            data = data[size:]
        self.receiver.receive_data(self.filter.feed(data))
        texts: list[str] = []
        whole = True
        for event in self.receiver.events():
            if isinstance(event, TextMessage):
                texts.append(event.data if whole else texts.pop() + event.data)
                whole = event.message_finished
            else:
                self.others.append(type(event))
        return texts


TEXTS = st.lists(st.sampled_from(["", "{}", "xMARKy", "MARK" * 300, "keep MARK", "MAR", "é" * 30_000, "MARK" * 20_000]))
SENDERS = st.sampled_from([ConnectionType.CLIENT, ConnectionType.SERVER])


@given(TEXTS, SENDERS, st.lists(st.integers(1, 70_000), max_size=10), st.lists(st.integers(0, 9), max_size=4))
def test_what_is_marked_is_rewritten_and_all_else_arrives_however_it_is_cut(
    texts: list[str], sender: ConnectionType, sizes: list[int], small: list[int]
) -> None:
    wire = Wire(sender)
    data = b"".join(wire.sender.send(TextMessage(text)) for text in texts)
    wanted = [(rewrite(text.encode()) or text.encode()).decode() for text in texts]
    assert wire.carry(data, small + sizes) == wanted


@given(SENDERS, st.integers(1, 3))
def test_everything_that_is_no_text_in_one_frame_passes(sender: ConnectionType, size: int) -> None:
    wire = Wire(sender)
    send = wire.sender.send
    data = send(Ping(b"MARK")) + send(BytesMessage(b"")) + send(TextMessage("MA", message_finished=False))
    data += send(Pong(b"MARK")) + send(TextMessage("RK MARK", message_finished=True)) + send(TextMessage("MARK"))
    data += send(CloseConnection(1000, "MARK"))
    texts = wire.carry(data, [size] * (len(data) // size))
    assert texts == ["MARK MARK", "a text of another length"]
    assert wire.others == [Ping, BytesMessage, Pong, CloseConnection]


def test_a_message_too_large_to_hold_passes_as_it_comes() -> None:
    data = Connection(ConnectionType.SERVER).send(TextMessage("MARK" + "x" * MAX_HELD_BYTES))
    filter_ = rewriter()
    assert b"".join(filter_.feed(data[at : at + 5000]) for at in range(0, len(data), 5000)) == data
    assert filter_.feed(data[:1000]) == data[:1000]


def test_messages_without_the_marker_are_not_even_copied() -> None:
    server = Connection(ConnectionType.SERVER)
    data = b"".join(server.send(TextMessage(f"status {number}")) for number in range(50))
    assert rewriter().feed(data) is data


def test_the_end_of_one_message_and_the_begin_of_the_next_are_told_apart() -> None:
    server = Connection(ConnectionType.SERVER)
    data = server.send(TextMessage("xxMA")) + server.send(TextMessage("RKxx"))
    assert rewriter().feed(data) == data


def test_a_binary_message_is_never_looked_into() -> None:
    data = Connection(ConnectionType.SERVER).send(BytesMessage(b"xMARKx"))
    assert rewriter().feed(data) == data
