"""What the gateway finds out of printers' Moonrakers: whether they answer, whom they trust, what cameras they have."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from klipper_router.gateway import watch
from klipper_router.gateway.cameras.site import CameraSite
from test.gateway.rig import Rig, Toy, Wire, running
from test.gateway.test_camera_passing import reset
from test.gateway.test_camera_upstream import hold
from test.gateway.test_camera_upstream import jumping_clock as jumping_clock  # the fixture
from test.gateway.toy_camera import page

CONFIG = "[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: http://127.0.0.1:{port}/prefix"


def info(*, trusted: object) -> bytes:
    return page(b'{"result": {"trusted": %b}}' % str(trusted).lower().encode(), b"application/json")


@pytest.mark.parametrize(
    ("answer", "trusts"),
    [
        (info(trusted=True), True),
        (info(trusted=False), False),
        (page(b"", status=b"401 Unauthorized"), False),
        (page(b"", status=b"403 Forbidden"), False),
        (page(b"<html>"), None),
        (page(b'{"result": {"trusted": "yes"}}'), None),
        (page(b'{"result": {"trusted": "\xff"}}'), None),
        (b"SSH-2.0-OpenSSH\r\n\r\n", None),
        (b"", None),
    ],
)
async def test_what_a_moonraker_says_of_a_stranger_is_understood(
    tmp_path: Path, answer: bytes, trusts: bool | None
) -> None:
    async def behave(wire: Wire) -> None:
        await wire.head()
        if answer:
            await wire.send(answer)
        else:
            reset(wire)

    async with Toy(behave).running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        proxy = rig.gateway.proxies["main"]
        if trusts is None:
            with pytest.raises(watch.Unanswered):
                await watch.trusts_strangers(proxy)
        else:
            assert await watch.trusts_strangers(proxy) is trusts
        assert toy.received.startswith(b"GET /prefix/access/info HTTP/1.1\r\n")
        assert b"\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\n" in toy.received
        await toy.until(lambda: toy.open == 0)


async def test_a_moonraker_that_says_nothing_holds_the_question_up_for_some_seconds_only(
    tmp_path: Path, jumping_clock: MockClock
) -> None:
    async with Toy(hold).running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        began = trio.current_time()
        with pytest.raises(watch.Unanswered, match="silence"):
            await watch.trusts_strangers(rig.gateway.proxies["main"])
        assert trio.current_time() - began < watch.ANSWER_S + 1


async def watched(rig: Rig, rounds: int) -> tuple[watch.Watch, list[str]]:
    """A watch that has looked so often, and whom it greeted."""
    greeted: list[str] = []

    async def greet(printer: str) -> None:
        greeted.append(printer)

    made = watch.Watch(rig.gateway.proxies.values, greet)
    with trio.move_on_after((rounds - 0.5) * watch.AGAIN_S):
        await made.run()
    return made, greeted


async def test_who_trusts_strangers_is_told_once(
    tmp_path: Path, jumping_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Toy().running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        toy.answer = info(trusted=True)
        await watched(rig, 3)
        assert len(toy.wires) == 3
    told = [record.getMessage() for record in caplog.records if "trusts every client" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"main: its Moonraker http://127.0.0.1:{toy.port}/prefix trusts every client")


async def test_who_trusts_no_stranger_is_not_told_of(
    tmp_path: Path, jumping_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Toy().running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        toy.answer = info(trusted=False)
        made, greeted = await watched(rig, 3)
        assert (greeted, made.problem("main")) == (["main"], "")
    assert not caplog.records


async def test_a_moonraker_that_does_not_answer_is_told_of_once_and_so_is_its_return(
    tmp_path: Path, jumping_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = [info(trusted=False), *[page(b"starting", status=b"503 Service Unavailable")] * 3, info(trusted=False)]

    async def behave(wire: Wire) -> None:
        await wire.head()
        await wire.send(answers.pop(0))

    async with Toy(behave).running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        made, greeted = await watched(rig, 5)
        assert (answers, greeted, made.problem("main")) == ([], ["main", "main"], "")
    told = [record.getMessage() for record in caplog.records if "its Moonraker" in record.getMessage()]
    here = f"main: its Moonraker http://127.0.0.1:{toy.port}/prefix"
    assert told == [
        f"{here} does not answer: status 503, and no word of whom it trusts",
        f"{here} answers again",
    ]


async def test_why_a_moonraker_does_not_answer_is_known_at_once(tmp_path: Path, jumping_clock: MockClock) -> None:
    async with Toy().running() as toy:
        port = toy.port
    async with running(tmp_path, CONFIG.format(port=port)) as rig:
        made, greeted = await watched(rig, 1)
        assert (greeted, made.problem("main"), made.problem("led")) == ([], "Connection refused", "")


async def test_the_cameras_of_a_moonraker_are_known_without_a_page_that_asks_for_them(tmp_path: Path) -> None:
    webcams = b'{"result": {"webcams": [{"name": "nozzle", "service": "mjpegstreamer", "stream_url": "/webcam/"}]}}'
    asked = trio.Event()

    async def behave(wire: Wire) -> None:
        head = await wire.head()
        await wire.send(page(webcams, b"application/json") if b"/server/webcams/list" in head else info(trusted=False))
        if b"/server/webcams/list" in head:
            asked.set()

    async with (
        Toy(behave).running() as toy,
        running(tmp_path, CONFIG.format(port=toy.port), with_watch=True) as rig,
    ):
        await asked.wait()
        await toy.until(lambda: toy.open == 0)
        cameras = rig.gateway.sites.cameras
        assert isinstance(cameras, CameraSite)
        assert cameras.names("main") == ["nozzle"]
