"""The steps that break something, and mend it again.

Each returns when we and the router have noticed, so that the steps that follow are about the time after it.
"""

from __future__ import annotations

import trio

from klipper_router.errors import KlipperError, LinkLost
from klipper_router.scenario import schema
from klipper_router.scenario.printers import Skipped
from klipper_router.scenario.watch import Watch
from klipper_router.scenario.world import ASK_ROUTER_EVERY_S, Missed, World

# So long a printer's end is given to be noticed, in real seconds.
END_NOTICED_WITHIN_S = 5.0

_ENDPOINTS = {
    "emergency_stop": "emergency_stop",
    "restart": "gcode/restart",
    "firmware_restart": "gcode/firmware_restart",
}
_MENDED_BY = {"stall": "resume", "refuse": "accept"}


async def fault(world: World, name: str, body: schema.Fault) -> None:
    printer, watch = world.printers[name], world.watches[name]
    kind = body.type
    if not printer.running:
        raise Missed(f"{name} does not run: `start` it first")
    if kind == "kill":
        await stop(world, name)
    elif kind in ("restart", "firmware_restart"):
        await printer.mend()
        await _request_end(world, watch, _ENDPOINTS[kind])
    elif kind == "emergency_stop":
        await _emergency_stop(watch)
    else:
        lives = watch.lives
        try:
            printer.fault(kind, body.message, body.mcu)
        except Skipped:
            if kind != "shutdown":
                raise
            await _emergency_stop(watch)
        if kind == "shutdown":
            await watch.until(lambda: watch.state == "shutdown" or None)
        elif kind == "drop":
            # Ours is dropped too: go on when it is back, so that no line is lost to the next steps.
            await watch.until(lambda: watch.lives > lives or None)
    if body.for_s is not None:
        world.nursery.start_soon(_mend_later, world, name, body, body.for_s)


async def _mend_later(world: World, name: str, body: schema.Fault, for_s: float) -> None:
    await world.sleep(for_s)
    printer = world.printers[name]
    if body.type == "kill":
        await printer.start(world.nursery)
    elif body.type in _MENDED_BY and printer.running:
        printer.fault(_MENDED_BY[body.type], None, "mcu")


async def _emergency_stop(watch: Watch) -> None:
    try:
        await watch.call("emergency_stop", {})
    except (KlipperError, LinkLost) as error:
        raise Missed(str(error)) from None
    await watch.until(lambda: watch.state in ("shutdown", "error") or None)


async def _request_end(world: World, watch: Watch, endpoint: str) -> None:
    """Have a printer restart; its end has been noticed by us and the router when this returns."""
    lives = watch.lives
    try:
        await watch.call(endpoint, {})
    except KlipperError as error:
        raise Missed(str(error)) from None
    except LinkLost:
        pass
    await watch.until(lambda: watch.state == "gone" or watch.lives > lives or None)
    await _until_router_lost(world, watch.name)


async def stop(world: World, name: str) -> None:
    await world.printers[name].stop()
    await world.bell.until(lambda: world.watches[name].state == "gone" or None)
    await _until_router_lost(world, name)


async def _until_router_lost(world: World, name: str) -> None:
    """The router's own connection ends at the same moment as ours; steps that follow rely on its knowing."""
    with trio.move_on_after(END_NOTICED_WITHIN_S):
        while (await world.router_printers()).get(name, {}).get("ready"):  # noqa: ASYNC110 the router is asked
            await trio.sleep(ASK_ROUTER_EVERY_S)
