"""One camera's stream for any number of viewers.

Knows no HTTP: ``pull`` is a function that connects, hands over frames until the connection is lost, and says why.
Strategy: one task pulls, begun by the first viewer and ended a few seconds after the last (Mainsail opens its streams
anew every ten seconds). Only the newest frame is kept; a viewer waits for a frame that it has not had, so one that is
slow has missed what came meanwhile, and costs nothing. When the camera is lost viewers just wait: the task redials.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.mjpeg import Frame

log = logging.getLogger("klipper_router.gateway.cameras")

LINGER_S = 5.0
# A camera that is being restarted is back within seconds; one that is unplugged costs a connection now and then.
REDIAL_MIN_S = 0.5
REDIAL_MAX_S = 10.0

OnFrame = Callable[[Frame], None]
Pull = Callable[[OnFrame], Awaitable[None]]
"""Connect and call back with every frame. Returns or raises CameraError when the connection is over."""


class Feed:
    """The stream of the camera ``name``. ``nursery`` is where its task runs."""

    def __init__(self, name: str, pull: Pull, nursery: trio.Nursery, *, linger_s: float = LINGER_S) -> None:
        self.name = name
        self.frame: Frame | None = None
        """The newest frame; None while there is no connection."""
        self.frames = 0
        """How many came, ever."""
        self.failures = 0
        """How many connections failed or were lost, ever."""
        self.problem: CameraError | None = None
        """Why there is no frame; None while there is one, or nobody asked."""
        self.viewers = 0
        self._pull = pull
        self._nursery = nursery
        self._linger_s = linger_s
        self._waiting = trio.lowlevel.ParkingLot()
        self._hurried = trio.Event()
        self._stopped = False
        self._scope: trio.CancelScope | None = None  # of the task; None: there is none

    @property
    def running(self) -> bool:
        """Whether it is connected or tries to be."""
        return self._scope is not None

    @contextmanager
    def watch(self) -> Iterator[Viewer]:
        """Be a viewer: the camera is connected at least until the end of this block."""
        self.viewers += 1
        if self._scope is None:
            self._start()
        else:
            self._scope.deadline = float("inf")
        try:
            yield Viewer(self)
        finally:
            self.viewers -= 1
            if not self.viewers and self._scope is not None:
                self._scope.deadline = trio.current_time() + self._linger_s

    def stop(self) -> None:
        """The camera is no more: end the connection, and every viewer with a CameraError."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()
        self._waiting.unpark_all()

    def hurry(self) -> None:
        """Somebody new asks: redial as soon as is decent."""
        self._hurried.set()

    async def changed(self) -> None:
        """Wait for the next frame or failure. Raises CameraError where there will be none."""
        if not self._stopped:
            await self._waiting.park()
        if self._stopped:
            raise CameraError("the camera was removed")

    def _start(self) -> None:
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._run, self._scope, name=self.name)

    async def _run(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._keep_pulling()
        finally:
            self._scope = None
            self.frame = self.problem = None
        if self.viewers and not self._stopped:  # one came between the deadline and here
            self._start()

    async def _keep_pulling(self) -> None:
        redial_s = REDIAL_MIN_S
        while True:
            frames_before = self.frames
            try:
                await self._pull(self._take)
                problem = CameraError("the camera ended its stream")
            except CameraError as error:
                problem = error
            if self.frames > frames_before:
                redial_s = REDIAL_MIN_S
            if self.problem is None:
                log.info("%s: %s", self.name, problem)
            self.frame = None
            self.problem = problem
            self.failures += 1
            self._hurried = trio.Event()
            self._waiting.unpark_all()
            await trio.sleep(REDIAL_MIN_S * random.uniform(0.8, 1.2))
            with trio.move_on_after(redial_s - REDIAL_MIN_S):
                await self._hurried.wait()
            redial_s = min(2 * redial_s, REDIAL_MAX_S)

    def _take(self, frame: Frame) -> None:
        self.frame = frame
        self.problem = None
        self.frames += 1
        self._waiting.unpark_all()


class Viewer:
    """One who watches a `Feed`. Made by `Feed.watch`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._had = -1

    async def first(self) -> Frame:
        """The newest frame, or the first to come. Raises CameraError when the camera fails before it."""
        feed = self._feed
        failures = feed.failures
        feed.hurry()
        while feed.frame is None:
            await feed.changed()
            if feed.frame is None and feed.failures > failures and feed.problem is not None:
                raise CameraError(str(feed.problem))
        self._had = feed.frames
        return feed.frame

    async def next(self) -> Frame:
        """The newest frame that this viewer has not had, as soon as there is one; frames in between are skipped.

        Raises CameraError when the camera is removed.
        """
        feed = self._feed
        while feed.frame is None or feed.frames == self._had:
            await feed.changed()
        self._had = feed.frames
        return feed.frame
