"""The methods ``printer.*``: what concerns Klippy.

A function gets who calls and its decoded parameters, and returns the result, or a `Reply` for later; it refuses by
ApiError. What changes the printer passes the router's gate, so that its policy holds here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from klipper_router.gateway.moonraker.api import Call, NoParams
from klipper_router.gateway.moonraker.rpc import ApiError, Reply
from klipper_router.messages import Objects


def printer_info(call: Call, params: NoParams) -> object:
    """printer.info: Klippy's ``info``."""
    return call.api.klippy.ask("info")


def objects_list(call: Call, params: NoParams) -> object:
    """printer.objects.list."""
    return call.api.klippy.ask("objects/list")


class ObjectsParams(msgspec.Struct):
    """printer.objects.query."""

    objects: Objects


class SubscribeParams(msgspec.Struct):
    """printer.objects.subscribe; nothing ends the subscription."""

    objects: Objects = {}


def objects_query(call: Call, params: ObjectsParams) -> object:
    """printer.objects.query: from what is followed already, where it is."""
    return call.api.klippy.query(params.objects)


def objects_subscribe(call: Call, params: SubscribeParams) -> object:
    """printer.objects.subscribe: the connection's one subscription."""
    if call.session is None:
        raise ApiError(400, "No connection associated with subscription request")
    return call.session.subscribe(params.objects)


class ScriptParams(msgspec.Struct):
    """printer.gcode.script."""

    script: str


def gcode_script(call: Call, params: ScriptParams) -> object:
    """printer.gcode.script: answered when it is done."""
    return _run(call, params.script)


def gcode_help(call: Call, params: NoParams) -> object:
    """printer.gcode.help."""
    return call.api.klippy.ask("gcode/help")


def query_endstops(call: Call, params: NoParams) -> object:
    """printer.query_endstops.status: which are triggered."""
    return call.api.klippy.call(call.by, "query_endstops/status", {})


def emergency_stop(call: Call, params: NoParams) -> object:
    """printer.emergency_stop. This is the printer's own page, so ``allow_endpoints`` need not name it."""
    return call.api.klippy.emergency_stop(call.by)


def restart(call: Call, params: NoParams) -> object:
    """printer.restart."""
    return _restart(call, "RESTART")


def firmware_restart(call: Call, params: NoParams) -> object:
    """printer.firmware_restart."""
    return _restart(call, "FIRMWARE_RESTART")


class PrintStartParams(msgspec.Struct):
    """printer.print.start."""

    filename: str


def print_start(call: Call, params: PrintStartParams) -> object:
    """printer.print.start: a file of Klipper's [virtual_sdcard]."""
    if "\n" in params.filename or "\r" in params.filename:
        raise ApiError(400, "a file name has no line ends")
    name = params.filename.removeprefix("/").replace('"', '\\"')
    return _run(call, f'SDCARD_PRINT_FILE FILENAME="{name}"')


def print_pause(call: Call, params: NoParams) -> object:
    """printer.print.pause."""
    return call.api.klippy.call(call.by, "pause_resume/pause", {})


def print_resume(call: Call, params: NoParams) -> object:
    """printer.print.resume."""
    return call.api.klippy.call(call.by, "pause_resume/resume", {})


def print_cancel(call: Call, params: NoParams) -> object:
    """printer.print.cancel."""
    return call.api.klippy.call(call.by, "pause_resume/cancel", {})


def klippy_endpoint(endpoint: str) -> Callable[[Call, Mapping[str, Any]], object]:
    """Any other endpoint of this Klippy, as Moonraker has it: ``printer.<endpoint>``."""
    return lambda call, params: call.api.klippy.call(call.by, endpoint, params)


def _run(call: Call, script: str) -> Reply:
    reply = call.api.klippy.run(call.by, script)
    call.api.remember_command(script)
    return reply


def _restart(call: Call, command: str) -> Reply:
    """The connection may be gone before the answer is here; that is what was wanted."""
    result = Reply()

    def done(value: object, error: ApiError | None) -> None:
        if error is None or error.message == "Klippy Disconnected":
            result.answer("ok")
        else:
            result.fail(error)

    _run(call, command).then(done)
    return result
