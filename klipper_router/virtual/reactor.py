"""Who runs next: timers, requests in order, waiting.

Klippy is one thread of greenlets: code runs until it pauses, and requests *start* in the order they came
(klippy/reactor.py). trio starts tasks of one batch in random order, so a request runs in a task of its own while the
next one waits until the first has finished or pauses (`note_pause`). All waiting of a printer goes through here.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType

import trio

from .clock import NEVER, Clock

TimerCallback = Callable[[float], "float | Awaitable[float]"]
Callback = Callable[[], "Awaitable[None] | None"]

_settled: ContextVar[trio.Event | None] = ContextVar("settled", default=None)


class Timer:
    """Calls back at `waketime`; the callback returns the next time (or NEVER)."""

    __slots__ = ("_queued", "_sequence", "callback", "waketime")

    def __init__(self, callback: TimerCallback) -> None:
        self.callback = callback
        self.waketime = NEVER
        self._sequence = 0  # of the entry in the heap that counts; older entries are dead
        self._queued = NEVER  # the time of that entry; `waketime` may be later


class Reactor:
    def __init__(self, clock: Clock, nursery: trio.Nursery) -> None:
        self.clock = clock
        self.nursery = nursery
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count(1)
        self._timer_wake = trio.Event()
        self._callbacks: deque[Callback] = deque()
        self._callback_wake = trio.Event()
        self._going: trio.Event | None = None  # an event while stalled

    def now(self) -> float:
        return self.clock.now()

    # Waiting

    def note_pause(self) -> None:
        """The running request is about to wait: let the next one start."""
        settled = _settled.get()
        if settled is not None:
            settled.set()

    async def pause(self, until: float) -> float:
        """Wait until the printer's clock shows `until`. Returns the time it shows then."""
        self.note_pause()
        await self.clock.sleep_until(until)
        await self.going()
        return self.now()

    async def wait(self, event: trio.Event) -> None:
        self.note_pause()
        await event.wait()
        await self.going()

    def stall(self) -> None:
        """Stop like a process that got SIGSTOP."""
        if self._going is None:
            self._going = trio.Event()

    def resume(self) -> None:
        if self._going is not None:
            self._going.set()
            self._going = None

    @property
    def stalled(self) -> bool:
        return self._going is not None

    async def going(self) -> None:
        while self._going is not None:
            await self._going.wait()

    # Timers

    def register_timer(self, callback: TimerCallback, waketime: float = NEVER) -> Timer:
        timer = Timer(callback)
        self.update_timer(timer, waketime)
        return timer

    def update_timer(self, timer: Timer, waketime: float) -> None:
        """A timer that is put off keeps its place, and is put back when that comes: moves put one off all the time."""
        timer.waketime = waketime
        if waketime < timer._queued:
            self._enqueue(timer)
            if self._timers[0][2] is timer:
                self._timer_wake.set()

    def _enqueue(self, timer: Timer) -> None:
        timer._queued = timer.waketime
        timer._sequence = next(self._sequence)
        heapq.heappush(self._timers, (timer.waketime, timer._sequence, timer))

    def unregister_timer(self, timer: Timer) -> None:
        self.update_timer(timer, NEVER)

    async def run_timers(self) -> None:
        while True:
            await self.going()
            now = self.now()
            while self._timers and self._timers[0][0] <= now:
                _, sequence, timer = heapq.heappop(self._timers)
                if timer._sequence != sequence:
                    continue
                timer._queued = NEVER
                if timer.waketime <= now:
                    self._fire(timer, now)
                elif timer.waketime < NEVER:
                    self._enqueue(timer)
            # Sleep until the first timer, or until an earlier one is set. Dead entries only wake us in vain.
            deadline = self.clock.real(self._timers[0][0] if self._timers else NEVER)
            self._timer_wake = trio.Event()
            with trio.move_on_at(deadline):
                await self._timer_wake.wait()

    def _fire(self, timer: Timer, now: float) -> None:
        timer.waketime = NEVER
        result = timer.callback(now)
        if isinstance(result, float | int):
            if result < NEVER:
                self.update_timer(timer, result)
        else:
            self.nursery.start_soon(self._finish, timer, result)

    async def _finish(self, timer: Timer, result: Awaitable[float]) -> None:
        waketime = await result
        if waketime < NEVER:
            self.update_timer(timer, waketime)

    # Requests and other things that must start in order

    def call_soon(self, callback: Callback) -> None:
        """Run after what is already waiting has started. Callbacks begin in order and finish in any order."""
        self._callbacks.append(callback)
        self._callback_wake.set()

    async def run_callbacks(self) -> None:
        while True:
            while self._callbacks:
                await self.going()
                result = self._callbacks.popleft()()
                if result is not None:
                    settled = trio.Event()
                    self.nursery.start_soon(self._run_callback, result, settled)
                    await settled.wait()
            self._callback_wake = trio.Event()
            await self._callback_wake.wait()

    async def _run_callback(self, result: Awaitable[None], settled: trio.Event) -> None:
        _settled.set(settled)
        try:
            await result
        finally:
            settled.set()


class Mutex:
    """First come, first served; taking a free one does not yield (klippy/reactor.py: ReactorMutex)."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._locked = False
        self._waiting: deque[trio.Event] = deque()

    def test(self) -> bool:
        return self._locked

    async def __aenter__(self) -> None:
        if not self._locked:
            self._locked = True
            return
        turn = trio.Event()
        self._waiting.append(turn)
        try:
            await self._reactor.wait(turn)
        except BaseException:
            if turn.is_set():
                self._release()
            else:
                self._waiting.remove(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()  # stays locked: handed on, so nobody can jump the queue
        else:
            self._locked = False
