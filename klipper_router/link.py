"""One connection to one Klippy: its reader, its writer, and the calls under way.

Lives and dies with its stream. The reader is the only one that receives and never waits for a consumer (Klipper
cuts off a client whose socket stays full for about 5 s); the writer is the only one that sends (a cancelled send may
leave half a frame, and Klipper then drops that frame and the next without a word).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import msgspec
import trio

from klipper_router import messages
from klipper_router.counters import PrinterCounters
from klipper_router.errors import CallError, KlipperError, LinkLost, ProtocolError, RouterError
from klipper_router.framing import FrameSplitter, TooLong
from klipper_router.unix_stream import RECEIVE_BYTES, connect

log = logging.getLogger("klipper_router.link")

# A Klippy that does not read for long has this much waiting for it, then callers get an error.
MAX_OUTBOX_BYTES = 16 * 1024 * 1024
MAX_CALLS_UNDER_WAY = 1000

# What an answer is: the JSON text of the result, or why there is none.
Answer = bytes | RouterError
OnAnswer = Callable[[Answer], None]
OnMessage = Callable[[messages.FromKlippy], None]
Dial = Callable[[str], Awaitable[trio.abc.Stream]]

dial_unix: Dial = connect

_FRAME = msgspec.json.Decoder(messages.FromKlippy)
_ERROR = msgspec.json.Decoder(messages.ErrorBody)


class Outbox:
    """What one stream is to be sent. What the stream does not take at once waits for its writer, and goes in one go.

    ``send_now``: see `UnixStream.send_now`; None: everything goes by way of the writer.
    """

    def __init__(self, max_bytes: int, send_now: Callable[[bytes], int] | None = None) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0  # not sent yet, the writer's send under way included
        self._send_now = send_now
        self._frames: list[bytes] = []
        self._filled = trio.Event()
        self._drained = trio.Event()

    async def drained(self) -> None:
        """Wait until all is sent."""
        while self.size_bytes:
            self._drained = trio.Event()
            await self._drained.wait()

    def put(self, frame: bytes) -> bool:
        """Send a frame, or queue what of it must wait; False when there is no room for it, and it was not taken."""
        if not self.size_bytes and self._send_now is not None:
            sent = self._send_now(frame)
            if sent == len(frame):
                return True
            frame = frame[sent:]
        elif self.size_bytes + len(frame) > self.max_bytes and self._frames:
            return False
        self.size_bytes += len(frame)
        self._frames.append(frame)
        self._filled.set()
        return True

    async def write_to(self, stream: trio.abc.Stream, unread_s: float = math.inf) -> NoReturn:
        """The writer: sends for ever. Raises what the stream raises, TooSlowError where a send takes longer."""
        while True:
            await self._filled.wait()
            frames, self._frames = self._frames, []
            self._filled = trio.Event()
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            with trio.fail_after(unread_s):
                await stream.send_all(data)
            self.size_bytes -= len(data)
            if not self.size_bytes:
                self._drained.set()


class Link:
    """A connection to the Klippy of ``printer``. ``on_message`` gets every frame that is no answer."""

    def __init__(
        self, printer: str, stream: trio.abc.Stream, on_message: OnMessage, counters: PrinterCounters | None = None
    ) -> None:
        self.printer = printer
        self.counters = counters or PrinterCounters()
        self._stream = stream
        self._on_message = on_message
        self._outbox = Outbox(MAX_OUTBOX_BYTES, getattr(stream, "send_now", None))
        self._ids = itertools.count(1)
        self._waiting: dict[int, OnAnswer] = {}
        self.lost: LinkLost | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> LinkLost:
        """Read and write until the connection ends; returns why. Every waiting call has failed by then."""
        try:
            async with self._stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._until_broken, self._write, nursery.cancel_scope)
                task_status.started()
                await self._until_broken(self._read, nursery.cancel_scope)
        finally:
            self.end("closed by the router")
        assert self.lost is not None
        return self.lost

    def end(self, why: str) -> None:
        """Every waiting call fails now, and no further one is taken; the first reason given stays."""
        if self.lost is None:
            self.lost = LinkLost(self.printer, why)
        while self._waiting:
            self._waiting.pop(next(iter(self._waiting)))(self.lost)  # in the order of the calls

    async def _until_broken(self, side: Callable[[], Awaitable[str]], scope: trio.CancelScope) -> None:
        try:
            self.end(await side())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(str(error.__cause__ or error) or "broken connection")
        scope.cancel()

    def post(self, method: str, params: Any, on_answer: OnAnswer) -> None:
        """Send a request; ``on_answer`` is called exactly once, later or, if it cannot be sent, before this returns."""
        if self.lost is not None:
            on_answer(self.lost)
            return
        if len(self._waiting) >= MAX_CALLS_UNDER_WAY:
            on_answer(CallError(f"{MAX_CALLS_UNDER_WAY} calls to {self.printer} wait for an answer already"))
            return
        id_ = next(self._ids)
        frame = messages.encode(messages.ToKlippy(id_, method, params))
        if not self._outbox.put(frame):
            on_answer(CallError(f"{self.printer} does not read; {self._outbox.size_bytes} bytes wait for it already"))
            return
        self._waiting[id_] = on_answer
        self.counters.frames_out += 1
        self.counters.bytes_out += len(frame)

    @property
    def calls_under_way(self) -> int:
        """How many calls wait for their answer."""
        return len(self._waiting)

    async def call(self, method: str, params: Any) -> bytes:
        """The result of one request, as JSON text. Raises KlipperError, LinkLost, CallError."""
        answered = trio.Event()
        answers: list[Answer] = []

        def on_answer(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        self.post(method, params, on_answer)
        # A cancelled call stays among the waiting ones until its answer, or the end of the link, removes it: Klipper
        # will answer, and that answer belongs to nobody else.
        await answered.wait()
        if isinstance(answers[0], RouterError):
            raise answers[0]
        return answers[0]

    async def _write(self) -> NoReturn:
        await self._outbox.write_to(self._stream)

    async def _read(self) -> str:
        splitter = FrameSplitter()
        while data := await self._stream.receive_some(RECEIVE_BYTES):
            self.counters.bytes_in += len(data)
            for frame in splitter.feed(bytes(data)):
                if self.lost is not None:  # ended while this was on its way: nobody is there to take it
                    break
                self.counters.frames_in += 1
                try:
                    if isinstance(frame, TooLong):
                        raise frame.error(splitter.max_frame_bytes)
                    message = messages.decode(frame, _FRAME)
                except ProtocolError as error:
                    self._skip(frame.head if isinstance(frame, TooLong) else frame, error)
                    continue
                self._take(message)
        return "closed by Klipper"

    def _skip(self, head: bytes, error: ProtocolError) -> None:
        """One bad frame never ends a link; but if it was an answer, its caller is told."""
        self.counters.frames_skipped += 1
        log.warning("%s: skipped a frame: %s", self.printer, error)
        id_ = messages.lost_answer_id(head)
        if id_ is not None and id_ in self._waiting:
            self._waiting.pop(id_)(KlipperError(f"{self.printer} answered with {error}"))

    def _take(self, message: messages.FromKlippy) -> None:
        if message.id is None:
            self._on_message(message)
            return
        on_answer = self._waiting.pop(message.id, None)
        if on_answer is None:
            log.warning("%s: an answer to no call of ours (id %s)", self.printer, message.id)
        elif message.error is not messages.ABSENT:
            on_answer(KlipperError(_error_text(bytes(message.error))))
        elif message.result is messages.ABSENT:
            on_answer(KlipperError(f"{self.printer} answered with neither a result nor an error"))
        else:
            on_answer(bytes(message.result))


def _error_text(error: bytes) -> str:
    try:
        return _ERROR.decode(error).message
    except msgspec.DecodeError:
        return error.decode("utf-8", "replace")
