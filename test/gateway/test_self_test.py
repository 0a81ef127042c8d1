"""What a printer's Moonraker is asked at the start: whether it would trust a stranger."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from klipper_router.gateway import self_test
from test.gateway.rig import Toy, Wire, running
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
        assert await self_test.trusts_strangers(rig.gateway.proxies["main"]) is trusts
        assert toy.received.startswith(b"GET /prefix/access/info HTTP/1.1\r\n")
        assert b"\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\n" in toy.received
        await toy.until(lambda: toy.open == 0)


async def test_a_moonraker_that_says_nothing_holds_the_question_up_for_some_seconds_only(
    tmp_path: Path, jumping_clock: MockClock
) -> None:
    async with Toy(hold).running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        began = trio.current_time()
        assert await self_test.trusts_strangers(rig.gateway.proxies["main"]) is None
        assert trio.current_time() - began < self_test.ANSWER_S + 1


async def test_who_trusts_strangers_is_told_once_when_it_can_be_reached(
    tmp_path: Path, jumping_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [page(b"starting", status=b"503 Service Unavailable"), info(trusted=True)]
    asked_at = []

    async def behave(wire: Wire) -> None:
        await wire.head()
        asked_at.append(trio.current_time())
        await wire.send(answers.pop(0))

    async with Toy(behave).running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        with trio.move_on_after(2.5 * self_test.AGAIN_S):
            await self_test.run(rig.gateway.proxies.values)
        assert answers == []
        assert self_test.AGAIN_S <= asked_at[1] - asked_at[0] < self_test.AGAIN_S + 1
    told = [record.getMessage() for record in caplog.records if "trusts every client" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"main: its Moonraker http://127.0.0.1:{toy.port}/prefix trusts every client")


async def test_who_trusts_no_stranger_is_not_asked_again_nor_told_of(
    tmp_path: Path, jumping_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Toy().running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        toy.answer = info(trusted=False)
        with trio.move_on_after(1.5 * self_test.AGAIN_S):
            await self_test.run(rig.gateway.proxies.values)
        assert len(toy.wires) == 1
    assert "trusts every client" not in caplog.text
