"""Every attack of the corpus gets its answer, and the printer's Moonraker sees what it may see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from test.gateway import attacks
from test.gateway.attacks import Attack
from test.gateway.rig import WITHIN_S, Toy, Wire, running

CONFIG = """
[gateway]
listen: 127.0.0.1:0
hosts: printers.example.org
[klippy main]
moonraker: http://127.0.0.1:{port}
[klippy led]
moonraker: http://127.0.0.1:{port}
"""


def _id(attack: Attack) -> str:
    return attack.name


@pytest.mark.parametrize("attack", attacks.REQUESTS, ids=_id)
async def test_an_attack_gets_its_answer_and_does_not_reach_the_printer(attack: Attack, tmp_path: Path) -> None:
    async with Toy().running() as toy, running(tmp_path, CONFIG.format(port=toy.port)) as rig:
        with trio.fail_after(WITHIN_S):
            status, _, _ = await rig.ask(attack.bytes_for(rig.host))
        assert status in attack.answers
        received = toy.received
    if not attack.reaches_upstream:
        assert received == b""
    for part in attack.has:
        assert part.replace(b"{host}", rig.host.encode()) in received
    for part in attack.lacks:
        assert part not in received
    if received:
        for name in (b"X-Real-IP", b"X-Forwarded-For", b"X-Scheme", b"Host"):
            assert len(re.findall(rb"(?mi)^%b:" % name, received)) == 1


@pytest.mark.parametrize("attack", attacks.RESPONSES, ids=_id)
async def test_a_hostile_response_ends_at_the_gateway(attack: Attack, tmp_path: Path) -> None:
    async def answer(wire: Wire) -> None:
        await wire.message()
        await wire.send(attack.sent)
        await wire.rest()

    async with (
        Toy(answer).running() as toy,
        running(tmp_path, CONFIG.format(port=toy.port)) as rig,
        rig.client() as client,
    ):
        await client.send(f"GET /printers/main/server/x HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
        with trio.fail_after(WITHIN_S):
            head, _ = await client.message()
        assert int(head[9:12]) in attack.answers
        # The connection on which it came is not used for anybody's next request.
        await toy.until(lambda: toy.open == attack.kept)
        assert all(part not in client.seen for part in attack.lacks)


def test_the_documentation_shows_the_corpus() -> None:
    page = attacks.PAGE.read_text()
    assert attacks.page_with_table(page) == page
