"""What each kind of step does, and how it says that it did not come about.

A step waits until what it wants is there; the caller ends it when its time is over and then asks `missed` what came
instead. Knows the printers, their watches and the router of one run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from klipper_router.errors import CallError, KlipperError, LinkLost, RouterError
from klipper_router.scenario import faults, schema
from klipper_router.scenario.plan import PlannedStep, comparison
from klipper_router.scenario.printers import Skipped
from klipper_router.scenario.watch import ConsoleLine, Watch
from klipper_router.scenario.world import ASK_ROUTER_EVERY_S, Lost, Missed, World

# Time scales do not reach the kernel's and our own scheduling: no silence is shorter than this in real seconds.
MIN_SILENCE_S = 0.1
LINES_SHOWN = 12


async def run(step: PlannedStep, world: World) -> None:
    """Run a step to its end. Raises Missed, Skipped; cancelled when it takes too long."""
    body = step.body
    match body:
        case schema.Gcode():
            await _each(world, body.printer, lambda name: _gcode(world, name, body, step))
        case schema.Silence():
            await _each(world, body.printer, lambda name: _silence(world, world.watches[name], body))
        case schema.Line() if step.kind == "console":
            await _each(world, body.printer, lambda name: _console(world.watches[name], body))
        case schema.Line():
            await _each(world, body.printer, lambda name: _command(world, name, body))
        case schema.Status():
            await _each(world, body.printer, lambda name: _status(world.watches[name], body))
        case schema.Fault():
            await _each(world, body.printer, lambda name: faults.fault(world, name, body))
        case schema.State():
            await _each(world, body.printer, lambda name: _state(world.watches[name], body))
        case schema.RouterSays():
            await _each(world, body.printer, lambda name: _router(world, name, body))
        case schema.Call():
            await _call(world, body)
        case schema.Order():
            await world.bell.until(lambda: _in_order(world, body.lines) or None)
        case schema.Wait():
            await world.sleep(body.seconds)
        case schema.Stop():
            await _each(world, body.printer, lambda name: faults.stop(world, name))
        case schema.Start():
            await _each(world, body.printer, lambda name: world.printers[name].start(world.nursery))
        case schema.Say():
            pass


def missed(step: PlannedStep, world: World) -> str:
    """Why a step whose time is over did not come about."""
    body = step.body
    names = world.names(getattr(body, "printer", ""))
    watches = [world.watches[name] for name in names]
    match body:
        case schema.Status():
            return "\n".join(_status_now(watch, body) for watch in watches)
        case schema.State():
            return "\n".join(f"{watch.name} is {watch.state}: {watch.state_message.strip()}" for watch in watches)
        case schema.Line() if step.kind == "command":
            return "\n".join(_commands_now(world, name) for name in names)
        case schema.Line():
            return "\n".join(_lines_now(watch, "no such line came") for watch in watches)
        case schema.Gcode():
            return "the script did not end"
        case schema.Order():
            return _order_now(world, body.lines)
    return "it did not come about"


async def _each(world: World, wanted: schema.Printers, do: Callable[[str], Awaitable[None]]) -> None:
    """Do something to each printer that is meant, at the same time."""
    names = world.names(wanted)
    if len(names) == 1:
        await do(names[0])
        return
    problems: list[Missed | Skipped] = []

    async def one(name: str) -> None:
        try:
            await do(name)
        except (Missed, Skipped) as problem:
            problems.append(problem)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
    if problems:
        raise problems[0]


# -- G-code and what it says -----------------------------------------------------------------------------------------


async def _gcode(world: World, name: str, body: schema.Gcode, step: PlannedStep) -> None:
    if body.background:
        world.nursery.start_soon(_in_background, world, name, body, step)
    else:
        await _script(world.watches[name], body)


async def _script(watch: Watch, body: schema.Gcode) -> None:
    try:
        await watch.call("gcode/script", {"script": body.script})
    except KlipperError as error:
        if body.error is None:
            raise Missed(f"{watch.name} answered with an error: {error}") from None
        if body.error not in str(error):
            raise Missed(f"{watch.name} answered with another error: {error}") from None
        return
    except LinkLost as error:
        if _restarts(body.script):
            await _until_gone_and_noticed(watch)
            return
        raise Lost(str(error)) from None
    if body.error is not None:
        raise Missed(f"{watch.name} ran it without an error")


def _restarts(script: str) -> bool:
    return any(line.strip().upper() in ("RESTART", "FIRMWARE_RESTART") for line in script.splitlines())


async def _until_gone_and_noticed(watch: Watch) -> None:
    await watch.until(lambda: watch.state == "gone" or None)


async def _in_background(world: World, name: str, body: schema.Gcode, step: PlannedStep) -> None:
    try:
        await _script(world.watches[name], body)
    except Lost:
        pass  # no failure: the scenario made the printer go
    except Missed as problem:
        world.background.append(Missed(f"line {step.line}, {step.text}: {problem}"))


async def _console(watch: Watch, body: schema.Line) -> None:
    watch.pass_line(await watch.until(lambda: _first(watch.unmatched(), body)))


def _first(lines: list[ConsoleLine], body: schema.Line) -> ConsoleLine | None:
    return next((line for line in lines if body.matches(line.text)), None)


async def _silence(world: World, watch: Watch, body: schema.Silence) -> None:
    with trio.move_on_after(max(body.for_s / world.speed, MIN_SILENCE_S)):
        line = await watch.until(lambda: _first(watch.unmatched(), body))
        raise Missed(_lines_now(watch, f"'{line.text}' came"))


async def _command(world: World, name: str, body: schema.Line) -> None:
    printer, watch = world.printers[name], world.watches[name]
    printer.commands()  # raises Skipped before any waiting

    def look() -> tuple[float, str] | None:
        return next((each for each in _new_commands(world, name) if body.matches(each[1])), None)

    watch.last_command = await watch.until(look)


def _new_commands(world: World, name: str) -> list[tuple[float, str]]:
    commands = list(world.printers[name].commands())
    last = world.watches[name].last_command
    at = next((index for index in range(len(commands) - 1, -1, -1) if commands[index] is last), -1)
    return commands[at + 1 :]


def _in_order(world: World, lines: list[schema.Line]) -> bool:
    """Whether the lines are there, one after the other; then everything up to them is passed."""
    found, missing = _follow_order(world, lines)
    if missing is not None:
        return False
    for line in found:
        watch = world.watches[line.printer]
        if line in watch.unmatched():
            watch.pass_line(line)
    return True


def _follow_order(world: World, lines: list[schema.Line]) -> tuple[list[ConsoleLine], schema.Line | None]:
    """As many of the lines as come in order, and the first that does not."""
    found: list[ConsoleLine] = []
    for wanted in lines:
        after = found[-1].serial if found else -1
        candidates = [
            line
            for name in world.names(wanted.printer)
            for line in world.watches[name].unmatched()
            if line.serial > after and wanted.matches(line.text)
        ]
        if not candidates:
            return found, wanted
        found.append(min(candidates))
    return found, None


# -- Status and states -----------------------------------------------------------------------------------------------


async def _status(watch: Watch, body: schema.Status) -> None:
    while True:
        try:
            await watch.follow(body.object)
        except LinkLost:
            await trio.sleep(0.05)
            continue
        lives = watch.lives
        found = await watch.until(lambda: True if _holds(watch, body) else False if watch.lives != lives else None)  # noqa: B023 until ends before the next turn
        if found:
            return


def _holds(watch: Watch, body: schema.Status) -> bool:
    value = watch.value(body.object, body.field_name)
    if value is msgspec.UNSET:
        return False
    if body.value is not msgspec.UNSET:
        return bool(value == body.value)
    if not isinstance(value, int | float):
        return False
    return (body.above is None or value > body.above) and (body.below is None or value < body.below)


async def _state(watch: Watch, body: schema.State) -> None:
    await watch.until(lambda: watch.state == body.state or None)


async def _router(world: World, name: str, body: schema.RouterSays) -> None:
    wanted = {key: getattr(body, key) for key in ("connected", "ready", "state")}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    says: Any = "nothing"
    try:
        while True:
            says = (await world.router_printers()).get(name, {})
            if all(says.get(key) == value for key, value in wanted.items()):
                return
            await trio.sleep(ASK_ROUTER_EVERY_S)
    except (RouterError, OSError) as error:
        raise Missed(f"the router's socket: {error}") from None


async def _call(world: World, body: schema.Call) -> None:
    try:
        result = await world.ask_router(body.method, body.params)
    except (KlipperError, CallError) as error:
        if body.error is None:
            raise Missed(f"the router answered with an error: {error}") from None
        if body.error not in str(error):
            raise Missed(f"the router answered with another error: {error}") from None
        return
    except (LinkLost, OSError) as error:
        raise Missed(f"the router's socket: {error}") from None
    if body.error is not None:
        raise Missed(f"the router answered without an error: {_json(result)}")
    if body.result is not msgspec.UNSET and not holds(body.result, result):
        raise Missed(f"the router answered {_json(result)}")


def holds(wanted: Any, value: Any) -> bool:
    """Whether a value is what is wanted: maps may hold more, lists are compared one by one."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(key in value and holds(wanted[key], value[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(value, list) and len(value) == len(wanted) and all(map(holds, wanted, value))
    return bool(wanted == value)


# -- Reports ---------------------------------------------------------------------------------------------------------


def _lines_now(watch: Watch, what: str) -> str:
    lines = watch.unmatched()
    if not lines:
        return f"{what}; {watch.name} said nothing since the last line that matched"
    return f"{what}; {watch.name} said since the last line that matched:\n" + _listed([line.text for line in lines])


def _listed(lines: list[str]) -> str:
    omitted = [f"  … {len(lines) - LINES_SHOWN} lines before"] if len(lines) > LINES_SHOWN else []
    return "\n".join(omitted + [f"  {line}" for line in lines[-LINES_SHOWN:]])


def _status_now(watch: Watch, body: schema.Status) -> str:
    value = watch.value(body.object, body.field_name)
    if value is not msgspec.UNSET:
        return f"{watch.name}: {body.object} {body.field_name} is {_json(value)}, wanted: {comparison(body)}"
    known = watch.known(body.object)
    if not known:
        return f"{watch.name} has no object {body.object} (it is {watch.state})"
    return f"{watch.name}: {body.object} has no field {body.field_name}; it has {_json(known)}"


def _commands_now(world: World, name: str) -> str:
    try:
        commands = [line for _, line in _new_commands(world, name)]
    except Skipped as skipped:
        return str(skipped)
    if not commands:
        return f"{name} ran no command since the last one that matched"
    return f"{name} ran since the last command that matched:\n" + _listed(commands)


def _order_now(world: World, lines: list[schema.Line]) -> str:
    found, missing = _follow_order(world, lines)
    names = dict.fromkeys(name for line in lines for name in world.names(line.printer))
    came = sorted(line for name in names for line in world.watches[name].unmatched())
    wanted = f"{missing.printer} {missing.wanted()}" if missing else "nothing"
    after = f" after {found[-1].printer} '{found[-1].text}'" if found else ""
    return f"{wanted} did not come{after}; what came:\n" + _listed([f"{line.printer}: {line.text}" for line in came])


def _json(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 300 else text[:299] + "…"
