"""Every answer has the shape, and every error the code and words, of the real Moonraker's in the same state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from test.gateway.moonraker.calls import ASKS, REFERENCE, WRONG_CFG, Ask, differences, shape
from test.gateway.moonraker.rig import ApiRefused, Client, Rig, rig

RECORDED: dict[str, Any] = json.loads(REFERENCE.read_text())


async def lead_to(made: Rig, state: str) -> None:
    """Bring the printer into a state that a reference was recorded in, by the same way."""
    if state == "never connected":
        return
    klippy = await made.start_klippy()
    await made.sensors_known()
    if state == "shutdown":
        klippy.invoke_shutdown("for the record")
    elif state in ("disconnected", "error"):
        made.kill_klippy()
        await made.klippy_state("disconnected")
    if state == "error":
        await made.start_klippy(WRONG_CFG)
    await made.klippy_state(state)


async def complaint(client: Client, ask: Ask, recorded: dict[str, Any]) -> str:
    """What differs from the record; empty: nothing."""
    try:
        result = shape(await client.call(ask.method, **ask.params))
    except ApiRefused as refused:
        error = recorded.get("error", {})
        same = refused.code == error.get("code") and (ask.own_words or refused.message == error.get("message"))
        return "" if same else f"{ask.method} {dict(ask.params)}: {refused}, Moonraker: {recorded}"
    if "error" in recorded:
        return f"{ask.method} {dict(ask.params)}: answered, Moonraker: {recorded['error']}"
    return "; ".join(differences(recorded["result"], result, ask.method))


@pytest.mark.parametrize("state", list(ASKS))
async def test_answers_are_those_of_moonraker(state: str) -> None:
    recorded = RECORDED["answers"][state]
    assert [(each["method"], each["params"]) for each in recorded] == [
        (ask.method, dict(ask.params)) for ask in ASKS[state]
    ], "record anew: scripts/record_moonraker.py"
    async with rig(klippy=False) as made:
        await lead_to(made, state)
        client = made.client()
        complaints = [await complaint(client, ask, each) for ask, each in zip(ASKS[state], recorded, strict=True)]
    assert not (found := [each for each in complaints if each]), "\n".join(found)


async def test_notifications_are_those_of_moonraker() -> None:
    async with rig(klippy=False) as made:
        client = made.client()
        klippy = await made.start_klippy()
        await client.notification("klippy_ready")
        await client.call("printer.gcode.script", script="M118 hello")
        klippy.invoke_shutdown("for the record")
        await client.notification("klippy_shutdown")
        made.kill_klippy()
        await client.notification("klippy_disconnected")
        await client.notification("proc_stat_update")
        ours = {message["method"]: shape(message.get("params")) for message in client.notifications}
    theirs: dict[str, Any] = RECORDED["notifications"]
    assert theirs.keys() == ours.keys()
    for name, params in theirs.items():
        assert (params is None) == (ours[name] is None)
        assert list(differences(params, ours[name], name)) == []
