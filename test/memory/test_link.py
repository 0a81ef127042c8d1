"""One connection: calls, their answers, bad frames, and its end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from klipper_router import framing, link, messages
from klipper_router.errors import CallError, KlipperError, LinkLost
from klipper_router.link import Answer, Link, Outbox
from test.memory.bench import settle
from test.memory.scripted_klippy import FRAME_END, Connection, ScriptedKlippy


class Linked:
    """A link to a scripted Klippy, and what came over it. ``ended`` is why it ended, once it has."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.klippy = ScriptedKlippy("main", nursery)
        self.told: list[messages.FromKlippy] = []
        self.ended: LinkLost | None = None
        self._nursery = nursery

    async def start(self) -> Linked:
        self.link = Link("main", await self.klippy.accept(), self.told.append)
        self._nursery.start_soon(self._run)
        await settle()
        return self

    async def _run(self) -> None:
        self.ended = await self.link.run()

    @property
    def connection(self) -> Connection:
        return self.klippy.connections[0]

    def post(self, method: str) -> list[Answer]:
        """The list gets the answer."""
        answers: list[Answer] = []
        self.link.post(method, {}, answers.append)
        return answers

    async def works(self) -> bool:
        answers = self.post("info")
        await settle()
        return len(answers) == 1 and isinstance(answers[0], bytes) and b"ready" in answers[0]


@pytest.fixture
async def linked(nursery: trio.Nursery) -> Linked:
    return await Linked(nursery).start()


async def test_a_call_returns_the_result_as_json(linked: Linked) -> None:
    linked.klippy.answers["x"] = lambda params: {"echo": params}
    assert await linked.link.call("x", {"a": "é\n"}) == b'{"echo": {"a": "\\u00e9\\n"}}'


async def test_an_error_answer_raises_klippers_own_message(linked: Linked) -> None:
    with pytest.raises(KlipperError, match=r"^webhooks: No registered callback for path 'nonsense'$"):
        await linked.link.call("nonsense", {})


async def test_an_error_of_another_shape_is_still_an_error(linked: Linked) -> None:
    linked.klippy.raw_answers["x"] = b'{"id": %d, "error": "busy"}'
    with pytest.raises(KlipperError, match="busy"):
        await linked.link.call("x", {})


async def test_answers_out_of_order_reach_their_own_calls(linked: Linked) -> None:
    linked.klippy.answers = {"a": lambda _: "of a", "b": lambda _: "of b"}
    linked.klippy.hold("a")
    a, b = linked.post("a"), linked.post("b")
    await settle()
    assert (a, b) == ([], [b'"of b"'])
    linked.klippy.release("a")
    await settle()
    assert (a, b) == ([b'"of a"'], [b'"of b"'])


async def test_loss_wakes_every_waiting_call(linked: Linked) -> None:
    linked.klippy.hold("x")
    failed: list[str] = []

    async def call() -> None:
        with pytest.raises(LinkLost, match="closed by Klipper") as caught:
            await linked.link.call("x", {})
        failed.append(caught.value.printer)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(call)
        await settle()
        linked.klippy.die()
    await settle()
    assert failed == ["main"] * 50
    assert linked.ended is linked.link.lost


async def test_loss_fails_the_calls_in_their_order(linked: Linked) -> None:
    linked.klippy.hold("x")
    failed: list[int] = []
    for number in range(10):
        linked.link.post("x", {}, lambda _, number=number: failed.append(number))  # type: ignore[misc]
    await settle()
    linked.klippy.die()
    await settle()
    assert failed == list(range(10))


async def test_a_call_after_the_loss_fails_at_once_with_its_reason(linked: Linked) -> None:
    linked.klippy.die()
    await settle()
    with pytest.raises(LinkLost, match="connection to main lost: closed by Klipper"):
        await linked.link.call("info", {})


async def test_a_call_posted_by_the_failing_of_another_fails_too(linked: Linked) -> None:
    linked.klippy.hold("x")
    second: list[Answer] = []
    linked.link.post("x", {}, lambda _: linked.link.post("info", {}, second.append))
    await settle()
    linked.klippy.die()
    await settle()
    assert len(second) == 1
    assert isinstance(second[0], LinkLost)


async def test_cancelling_the_link_fails_its_calls(nursery: trio.Nursery) -> None:
    klippy = ScriptedKlippy("main", nursery)
    klippy.hold("x")
    alone = Link("main", await klippy.accept(), lambda _: None)
    answers: list[Answer] = []
    async with trio.open_nursery() as its_own:
        await its_own.start(alone.run)
        alone.post("x", {}, answers.append)
        await settle()
        its_own.cancel_scope.cancel()
    assert isinstance(answers[0], LinkLost)


async def test_a_cancelled_call_leaves_the_link_usable(linked: Linked) -> None:
    linked.klippy.hold("x")
    with trio.move_on_after(1) as patience:
        await linked.link.call("x", {})
    assert patience.cancelled_caught
    linked.klippy.answers["x"] = lambda _: "too late"
    linked.klippy.release("x")
    await settle()
    assert await linked.works()


async def test_a_call_cancelled_while_it_is_sent_leaves_no_half_frame(linked: Linked) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await linked.link.call("x", {"much": "x" * 100_000})
    assert await linked.works()
    assert [request["method"] for request in linked.klippy.requests] == ["x", "info"]


async def test_half_a_frame_then_close_is_a_loss(linked: Linked) -> None:
    linked.klippy.hold("x")
    answers = linked.post("x")
    await settle()
    linked.connection.send_bytes(b'{"id": 1, "result": {"half":')
    linked.klippy.die()
    await settle()
    assert isinstance(answers[0], LinkLost)
    assert linked.ended is not None


async def test_frames_split_byte_by_byte_arrive_whole(linked: Linked) -> None:
    for byte in b'{"method": "m", "params": {"a": 1}}\x03{"method": "n"}\x03':
        linked.connection.send_bytes(bytes([byte]))
        await settle()
    assert [message.method for message in linked.told] == ["m", "n"]


async def test_many_frames_in_one_piece_arrive_in_order(linked: Linked) -> None:
    linked.connection.send_bytes(b"".join(b'{"method": "%d"}\x03' % number for number in range(1000)))
    await settle()
    assert [message.method for message in linked.told] == [str(number) for number in range(1000)]


async def test_nothing_is_taken_any_more_once_a_message_has_ended_the_link(nursery: trio.Nursery) -> None:
    linked = await Linked(nursery).start()

    def end(message: messages.FromKlippy) -> None:
        linked.told.append(message)
        linked.link.end("removed from the configuration")

    linked.link._on_message = end
    linked.connection.send_bytes(b'{"method": "first"}\x03{"method": "second"}\x03')
    await settle()
    assert [message.method for message in linked.told] == ["first"]


@pytest.mark.parametrize(
    "frame",
    [
        b"no json",
        b"",
        b"[1, 2]",
        b"7",
        b"{",
        b'{"id": "text", "result": 1}',
        b'{"method": 7}',
        b'{"method": "a", "params": {]}',
        b"\xff\xfe",
        b"[" * 10_000,
    ],
)
async def test_a_bad_frame_is_skipped_and_nothing_else(linked: Linked, frame: bytes) -> None:
    linked.klippy.hold("x")
    answers = linked.post("x")
    linked.connection.send_bytes(b'{"method": "before"}\x03' + frame + FRAME_END + b'{"method": "after"}\x03')
    await settle()
    assert [message.method for message in linked.told] == ["before", "after"]
    assert answers == []
    assert await linked.works()


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"NaN", b"null"), (b"-Infinity", b"null"), (b'"\\ud800"', b'"?"'), (b'"\xff"', '"\ufffd"'.encode())],
)
async def test_a_frame_that_only_python_writes_is_mended(linked: Linked, text: bytes, value: bytes) -> None:
    linked.connection.send_bytes(b'{"method": "m", "params": {"a": ' + text + b', "b": 1}}\x03')
    await settle()
    assert [bytes(message.params) for message in linked.told] == [b'{"a":' + value + b',"b":1}']


async def test_an_answer_with_neither_result_nor_error_is_an_error(linked: Linked) -> None:
    linked.klippy.raw_answers["x"] = b'{"id": %d}'
    with pytest.raises(KlipperError, match="answered with neither a result nor an error"):
        await linked.link.call("x", {})


async def test_an_unreadable_answer_fails_its_own_call_and_nothing_else(linked: Linked) -> None:
    linked.klippy.raw_answers["x"] = b'{"id": %d, "result": {"broken": }}'
    linked.klippy.hold("y")
    x, y = linked.post("x"), linked.post("y")
    await settle()
    assert y == []
    assert isinstance(x[0], KlipperError)
    assert "unreadable JSON" in str(x[0])
    assert await linked.works()


async def test_an_answer_over_the_frame_limit_fails_its_own_call_and_nothing_else(linked: Linked) -> None:
    size_bytes = framing.MAX_FRAME_BYTES + 1
    linked.klippy.hold("x")
    answers = linked.post("x")
    await settle()
    linked.connection.send_bytes(b'{"id": 1, "result": "'.ljust(size_bytes, b"x"))
    linked.connection.send_bytes(FRAME_END)
    await settle()
    assert isinstance(answers[0], KlipperError)
    assert f"a frame of {size_bytes} bytes" in str(answers[0])
    assert await linked.works()


async def test_an_answer_as_big_as_a_big_printers_configfile_arrives(linked: Linked) -> None:
    linked.klippy.answers["x"] = lambda _: "x" * 3_000_000
    assert len(await linked.link.call("x", {})) == 3_000_002


async def test_an_answer_to_no_call_is_skipped(linked: Linked) -> None:
    linked.connection.send({"id": 999, "result": {}})
    await settle()
    assert linked.told == []
    assert await linked.works()


async def test_the_reader_goes_on_though_klippy_does_not_read(linked: Linked) -> None:
    linked.connection.stop_reading()
    answers = linked.post("x")
    await settle()
    linked.connection.send_bytes(b'{"method": "m"}\x03' * 1000)
    await settle()
    assert len(linked.told) == 1000
    assert answers == []


async def test_calls_to_a_klippy_that_does_not_read_are_refused_when_too_much_waits(linked: Linked) -> None:
    linked.connection.stop_reading()
    first = linked.post("x")
    await settle()  # the writer has it, and is stuck
    answers: list[Answer] = []
    megabyte = "x" * 1_000_000
    for _ in range(40):
        linked.link.post("x", {"much": megabyte}, answers.append)
    assert 20 < len(answers) < 26  # 16 MB wait
    assert all(isinstance(answer, CallError) and "main does not read" in str(answer) for answer in answers)
    assert first == []
    linked.klippy.die()
    await settle()
    assert len(answers) == 40


async def test_calls_under_way_are_bounded(linked: Linked) -> None:
    linked.klippy.hold("x")
    answers: list[Answer] = []
    for _ in range(link.MAX_CALLS_UNDER_WAY + 5):
        linked.link.post("x", {}, answers.append)
    assert len(answers) == 5
    assert all(isinstance(answer, CallError) for answer in answers)
    await settle()
    linked.klippy.let_go("x")
    await settle()
    assert await linked.works()


async def test_a_send_to_a_connection_that_never_was_ends_the_link(nursery: trio.Nursery) -> None:
    klippy = ScriptedKlippy("main", nursery)
    klippy.on_accept = Connection.never_connect
    refused = Link("main", await klippy.accept(), lambda _: None)
    answers: list[Answer] = []
    refused.post("info", {}, answers.append)
    await refused.run()
    assert isinstance(answers[0], LinkLost)


async def test_an_outbox_sends_what_waits_in_one_go_and_in_order() -> None:
    near, far = memory_stream_pair()
    outbox = Outbox(1000)
    sends: list[bytes] = []

    async def note() -> None:
        sends.append(bytes(near.send_stream.get_data_nowait()))

    near.send_stream.send_all_hook = note
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write_to, near)
        assert all(outbox.put(frame) for frame in (b"a", b"b", b"c"))
        await outbox.drained()
        assert outbox.put(b"d")
        await outbox.drained()
        nursery.cancel_scope.cancel()
    assert sends == [b"abc", b"d"]
    assert outbox.size_bytes == 0
    await far.aclose()


async def test_an_outbox_takes_one_frame_of_any_size_and_then_is_bounded() -> None:
    outbox = Outbox(10)
    assert outbox.put(b"x" * 100)
    assert not outbox.put(b"y")
    assert outbox.size_bytes == 100
