"""The fan-out of one camera's frames, on a clock that jumps: who is connected when, and what viewers get."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.feed import LINGER_S, REDIAL_MAX_S, Feed, OnFrame
from klipper_router.gateway.cameras.mjpeg import Frame


def picture(number: int) -> Frame:
    return Frame.of(b"\xff\xd8%d\xff\xd9" % number)


class ToyCamera:
    """Gives frames when told. ``refuses`` is how many connections it will refuse."""

    def __init__(self) -> None:
        self.connections = 0
        self.connected = 0
        self.dialled_at: list[float] = []
        self.refuses = 0.0
        self._on_frame: OnFrame | None = None
        self._hung_up = trio.Event()
        self._answered = trio.Event()

    async def answered(self) -> None:
        """Wait for the next connection."""
        self._answered = trio.Event()
        await self._answered.wait()

    async def pull(self, on_frame: OnFrame) -> None:
        self.connections += 1
        self.dialled_at.append(trio.current_time())
        if self.refuses:
            self.refuses -= 1
            raise CameraError("connection refused")
        self._on_frame, self._hung_up = on_frame, trio.Event()
        self.connected += 1
        self._answered.set()
        try:
            await self._hung_up.wait()
        finally:
            self.connected -= 1
            self._on_frame = None

    async def give(self, number: int) -> None:
        await wait_all_tasks_blocked()
        assert self._on_frame is not None
        self._on_frame(picture(number))
        await wait_all_tasks_blocked()

    def hang_up(self) -> None:
        self._hung_up.set()


class Stage:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.camera = ToyCamera()
        self.nursery = nursery
        self.feed = Feed("nozzle", self.camera.pull, nursery)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with trio.open_nursery() as nursery:
        yield Stage(nursery)
        nursery.cancel_scope.cancel()


async def test_twenty_viewers_share_one_connection_and_one_copy_of_each_frame(stage: Stage) -> None:
    seen: list[list[Frame]] = [[] for _ in range(20)]

    async def watch(frames: list[Frame]) -> None:
        with stage.feed.watch() as viewer:
            frames.append(await viewer.first())
            frames.append(await viewer.next())

    for frames in seen:
        stage.nursery.start_soon(watch, frames)
    await stage.camera.give(1)
    await stage.camera.give(2)
    assert stage.camera.connections == 1
    assert all(frames == [picture(1), picture(2)] for frames in seen)
    assert len({id(frames[1].part) for frames in seen}) == 1


async def test_nobody_watches_nobody_is_connected(stage: Stage) -> None:
    await trio.sleep(1000)
    assert stage.camera.connections == 0


async def test_the_connection_outlives_the_last_viewer_by_the_linger_time(stage: Stage) -> None:
    with stage.feed.watch():
        await wait_all_tasks_blocked()
    await trio.sleep(LINGER_S - 0.1)
    assert stage.camera.connected == 1
    await trio.sleep(0.2)
    assert stage.camera.connected == 0
    assert not stage.feed.running


async def test_a_viewer_within_the_linger_time_finds_the_connection_open(stage: Stage) -> None:
    for _ in range(3):
        with stage.feed.watch():
            await trio.sleep(20 * LINGER_S)
        await trio.sleep(LINGER_S - 0.1)
    assert stage.camera.connections == 1


async def test_a_viewer_at_the_very_moment_of_closing_gets_a_connection(stage: Stage) -> None:
    with stage.feed.watch():
        await wait_all_tasks_blocked()
    await trio.sleep(LINGER_S)  # the deadline has passed; whether the task knows it already is open
    with stage.feed.watch() as viewer:
        await stage.camera.give(1)
        assert await viewer.first() == picture(1)
        assert stage.camera.connected == 1


async def test_a_slow_viewer_skips_frames_and_gets_the_newest(stage: Stage) -> None:
    with stage.feed.watch() as slow, stage.feed.watch() as fast:
        await stage.camera.give(1)
        assert await slow.first() == await fast.first() == picture(1)
        for number in range(2, 100):
            await stage.camera.give(number)
            assert await fast.next() == picture(number)
        assert await slow.next() == picture(99)


async def test_a_viewer_never_gets_a_frame_twice(stage: Stage) -> None:
    with stage.feed.watch() as viewer:
        await stage.camera.give(1)
        await viewer.first()
        with trio.move_on_after(50) as scope:
            await viewer.next()
        assert scope.cancelled_caught


async def test_a_late_viewer_gets_the_newest_frame_at_once(stage: Stage) -> None:
    with stage.feed.watch():
        await stage.camera.give(1)
        with stage.feed.watch() as late, trio.fail_after(0):
            assert await late.first() == picture(1)


async def test_viewers_survive_the_loss_of_the_camera(stage: Stage) -> None:
    with stage.feed.watch() as viewer:
        await stage.camera.give(1)
        assert await viewer.first() == picture(1)
        stage.camera.hang_up()
        stage.camera.refuses = 3
        await wait_all_tasks_blocked()
        assert stage.feed.problem is not None
        await stage.camera.answered()
        await stage.camera.give(2)
        assert await viewer.next() == picture(2)
        assert (str(stage.feed.problem), stage.camera.connections) == ("None", 5)


async def test_a_lost_camera_shows_no_old_picture_to_a_new_viewer(stage: Stage) -> None:
    with stage.feed.watch():
        await stage.camera.give(1)
        stage.camera.refuses = float("inf")
        stage.camera.hang_up()
        await wait_all_tasks_blocked()
        with stage.feed.watch() as late, pytest.raises(CameraError, match="refused"):
            await late.first()


async def test_the_first_viewer_is_told_why_there_is_no_picture(stage: Stage) -> None:
    stage.camera.refuses = 1
    with stage.feed.watch() as viewer, pytest.raises(CameraError, match="connection refused"):
        await viewer.first()


async def test_redialling_slows_down_and_is_quick_again_after_a_frame(stage: Stage) -> None:
    stage.camera.refuses = 12
    with stage.feed.watch():
        await trio.sleep(200)
        pauses = [after - before for before, after in itertools.pairwise(stage.camera.dialled_at)]
        assert pauses[0] < 1
        assert all(REDIAL_MAX_S - 1 < pause < REDIAL_MAX_S + 1 for pause in pauses[6:])
        await stage.camera.give(1)
        stage.camera.hang_up()
        await trio.sleep(1)
        assert stage.camera.connected == 1


async def test_who_comes_while_the_camera_is_away_makes_it_redial_soon(stage: Stage) -> None:
    stage.camera.refuses = 8
    with stage.feed.watch():
        await trio.sleep(25)
        assert stage.camera.refuses > 0
        stage.camera.refuses = 0
        began = trio.current_time()
        with stage.feed.watch() as viewer:
            stage.nursery.start_soon(viewer.first)
            await stage.camera.answered()
    assert trio.current_time() - began < 1


async def test_a_removed_camera_ends_its_viewers(stage: Stage) -> None:
    with stage.feed.watch() as viewer:
        await stage.camera.give(1)
        await viewer.first()
        stage.feed.stop()
        with pytest.raises(CameraError, match="removed"):
            await viewer.next()
    await wait_all_tasks_blocked()
    assert stage.camera.connected == 0
