"""The table of what is served: each method's name, how it is called, and the function that does it.

One table for both transports. Over HTTP a method's path is its name with slashes; where a resource has several HTTP
methods, Moonraker's names begin with them (``server.database.get_item`` is ``GET /server/database/item``).
docs/moonraker.md says where each answer comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from klipper_router.gateway.moonraker import database_methods as database
from klipper_router.gateway.moonraker import printer_methods as printer
from klipper_router.gateway.moonraker import rpc
from klipper_router.gateway.moonraker import server_methods as server
from klipper_router.gateway.moonraker.api import Call, NoParams
from klipper_router.gateway.moonraker.klippy import RESERVED_ENDPOINTS, STREAMS
from klipper_router.gateway.moonraker.rpc import ApiError

GET, POST, BOTH = ("GET",), ("POST",), ("GET", "POST")


class Method(NamedTuple):
    """``verbs``: over HTTP. ``endpoint``: Klippy must have had it. ``is_open``: also without authorization."""

    serve: Callable[[Call, Any], object]
    params: type = NoParams
    verbs: tuple[str, ...] = GET
    endpoint: str = ""
    socket_only: bool = False
    is_open: bool = False


METHODS: dict[str, Method] = {
    "server.info": Method(server.server_info),
    "server.config": Method(server.server_config),
    "server.connection.identify": Method(server.identify, server.IdentifyParams, socket_only=True, is_open=True),
    "server.websocket.id": Method(server.websocket_id, socket_only=True),
    "server.gcode_store": Method(server.gcode_store, server.GcodeStoreParams),
    "server.temperature_store": Method(server.temperature_store, server.TemperatureStoreParams),
    "server.webcams.list": Method(server.webcams_list),
    "server.webcams.get_item": Method(server.webcam, server.WebcamParams),
    "server.database.list": Method(database.database_list),
    "server.database.get_item": Method(database.database_get, database.ItemParams),
    "server.database.post_item": Method(database.database_post, database.PostItemParams, POST),
    "server.database.delete_item": Method(database.database_delete, database.DeleteItemParams, ("DELETE",)),
    "server.files.roots": Method(server.no_files),
    "server.files.list": Method(server.no_files),
    "server.files.get_directory": Method(server.empty_directory, server.DirectoryParams),
    "server.files.metadata": Method(server.no_metadata, server.FileParams),
    "machine.system_info": Method(server.system_info),
    "machine.proc_stats": Method(server.proc_stats),
    "access.info": Method(server.access_info, is_open=True),
    "access.get_user": Method(server.access_user),
    "access.users.list": Method(server.access_users),
    "access.oneshot_token": Method(server.oneshot_token),
    "access.get_api_key": Method(server.api_key),
    "access.post_api_key": Method(server.new_api_key, verbs=POST),
    "printer.info": Method(printer.printer_info, verbs=BOTH, endpoint="info"),
    "printer.objects.list": Method(printer.objects_list, verbs=BOTH, endpoint="objects/list"),
    "printer.objects.query": Method(printer.objects_query, printer.ObjectsParams, BOTH, "objects/query"),
    "printer.objects.subscribe": Method(printer.objects_subscribe, printer.SubscribeParams, BOTH, "objects/subscribe"),
    "printer.gcode.script": Method(printer.gcode_script, printer.ScriptParams, POST, "gcode/script"),
    "printer.query_endstops.status": Method(printer.query_endstops, verbs=BOTH, endpoint="query_endstops/status"),
    "printer.gcode.help": Method(printer.gcode_help, verbs=BOTH, endpoint="gcode/help"),
    "printer.emergency_stop": Method(printer.emergency_stop, verbs=POST, endpoint="emergency_stop"),
    "printer.restart": Method(printer.restart, verbs=POST),
    "printer.firmware_restart": Method(printer.firmware_restart, verbs=POST),
    "printer.print.start": Method(printer.print_start, printer.PrintStartParams, POST),
    "printer.print.pause": Method(printer.print_pause, verbs=POST),
    "printer.print.resume": Method(printer.print_resume, verbs=POST),
    "printer.print.cancel": Method(printer.print_cancel, verbs=POST),
}


def lookup(call: Call, name: str) -> rpc.Serve:
    """The method of that name, for this caller. Raises ApiError (404 or 401)."""
    method = METHODS.get(name)
    klippy = call.api.klippy
    if method is None:
        endpoint = endpoint_of(call, name)
        if not call.authorized:
            raise ApiError(401, "Unauthorized")
        serve = printer.klippy_endpoint(endpoint)
        return lambda params: serve(call, params)
    if method.endpoint and method.endpoint not in klippy.endpoints:
        raise ApiError(404, "Method not found")
    if method.socket_only and call.session is None:
        raise ApiError(404, "Method not found for transport HTTP")
    if not (call.authorized or method.is_open):
        raise ApiError(401, "Unauthorized")
    return lambda params: method.serve(call, rpc.decode_params(params, method.params))


def endpoint_of(call: Call, name: str) -> str:
    """The Klippy endpoint that ``printer.<name>`` stands for, of those without a function of their own.

    Raises ApiError (404): this Klippy has none of that name, or it is one that belongs to the router's connection.
    """
    if name.startswith("printer."):
        path = name.removeprefix("printer.").replace(".", "/")
        if path in call.api.klippy.endpoints and path not in RESERVED_ENDPOINTS and not STREAMS.fullmatch(path):
            return path
    raise ApiError(404, "Method not found")


def _path(name: str) -> str:
    *parts, last = name.split(".")
    for verb in ("get_", "post_", "delete_"):
        last = last.removeprefix(verb)
    return "/" + "/".join([*parts, last])


def _paths() -> dict[str, dict[str, str]]:
    paths: dict[str, dict[str, str]] = {}
    for name, method in METHODS.items():
        if not method.socket_only:
            paths.setdefault(_path(name), {}).update((verb, name) for verb in method.verbs)
    return paths


# Path to HTTP method to name.
PATHS = _paths()


def name_of(call: Call, verb: str, path: str) -> str:
    """The method that an HTTP request means. Raises ApiError (404, 405).

    Endpoints of Klippy without a function of their own are to be posted: nobody knows what they do, and a link on a
    foreign page must not do it.
    """
    names = PATHS.get(path)
    if names is None:
        name = path.strip("/").replace("/", ".")
        endpoint_of(call, name)
        names = {"POST": name}
    if verb not in names:
        raise ApiError(405, "Method Not Allowed")
    return names[verb]
