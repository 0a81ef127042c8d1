"""The methods ``server.*``, ``machine.*`` and ``access.*``: what is answered without asking Klippy.

A function gets who calls and its decoded parameters, and returns the result, or a `Reply` for later; it refuses by
ApiError. Shapes and messages are those of Moonraker 0.11.
"""

from __future__ import annotations

import socket

import msgspec
import trio

from klipper_router.gateway.http import HttpError, Peer
from klipper_router.gateway.moonraker import machine
from klipper_router.gateway.moonraker.api import Call, NoParams
from klipper_router.gateway.moonraker.rpc import ApiError
from klipper_router.gateway.moonraker.session import Identity, Session
from klipper_router.gateway.moonraker.stores import GCODE_STORE_LINES, TEMPERATURE_STORE_SAMPLES

# The Moonraker whose API this is. The UIs compare it: anything below v0.8.0-309, or in another form, and they nag.
MOONRAKER_VERSION = "v0.11.0-0"
API_VERSION = (1, 5, 0)
# Only what exists: the UIs call what belongs to a component that they find here.
COMPONENTS = (
    "klippy_connection",
    "application",
    "websockets",
    "database",
    "authorization",
    "klippy_apis",
    "machine",
    "data_store",
    "proc_stats",
    "webcam",
)
CLIENT_TYPES = ("web", "mobile", "desktop", "display", "bot", "agent", "other")
# Mainsail takes the page for Moonraker's own when the page has this port, and then looks for cameras at port 80.
NOT_THE_PORT_OF_A_PAGE = 1


def server_info(call: Call, params: NoParams) -> object:
    """server.info. What Klipper lacks is not complained of: an LED controller needs no virtual_sdcard."""
    klippy = call.api.klippy
    return {
        "klippy_connected": klippy.connected,
        "klippy_state": klippy.state,
        "components": COMPONENTS,
        "failed_components": [],
        "registered_directories": [],
        "warnings": [],
        "websocket_count": len(call.api.sessions),
        "moonraker_version": MOONRAKER_VERSION,
        "missing_klippy_requirements": [],
        "api_version": API_VERSION,
        "api_version_string": ".".join(map(str, API_VERSION)),
    }


def server_config(call: Call, params: NoParams) -> object:
    """server.config: what clients read of it."""
    sections = {
        "server": {"host": socket.gethostname(), "port": NOT_THE_PORT_OF_A_PAGE, "ssl_port": NOT_THE_PORT_OF_A_PAGE},
        "data_store": {
            "temperature_store_size": TEMPERATURE_STORE_SAMPLES,
            "gcode_store_size": GCODE_STORE_LINES,
        },
    }
    return {"config": sections, "orig": {}, "files": []}


class IdentifyParams(msgspec.Struct):
    """server.connection.identify."""

    client_name: str
    version: str
    type: str
    url: str
    api_key: str | None = None
    access_token: str | None = None


def identify(call: Call, params: IdentifyParams) -> object:
    """server.connection.identify: once per connection; an API key makes it an authorized one."""
    session = _session(call)
    if session.identity is not None:
        known = msgspec.to_builtins(session.identity)
        raise ApiError(400, f"Connection already identified: {known}")
    if params.api_key is not None:
        stranger = session.peer._replace(trusted=False)  # who brings a wrong key is trusted no more, as with Moonraker
        authorized = _authorized(call, stranger, params.api_key)
        if authorized and not session.authorized:
            call.api.check_room(session.peer, authorized=True)
        session.let_in(authorized)
    elif params.access_token is not None:
        session.let_in(False)  # there are no users, so none of their tokens is valid
    if not session.authorized:
        raise ApiError(401, "Unauthorized")
    kind = params.type.lower()
    if kind not in CLIENT_TYPES:
        raise ApiError(400, f"Invalid Client Type: {kind}")
    session.identity = Identity(params.client_name, params.version, kind, params.url)
    return {"connection_id": session.id}


def websocket_id(call: Call, params: NoParams) -> object:
    """server.websocket.id."""
    return {"websocket_id": _session(call).id}


class GcodeStoreParams(msgspec.Struct):
    """server.gcode_store."""

    count: int | None = None


def gcode_store(call: Call, params: GcodeStoreParams) -> object:
    """server.gcode_store: the newest lines, oldest first."""
    return {"gcode_store": call.api.gcode_store.newest(params.count)}


class TemperatureStoreParams(msgspec.Struct):
    """server.temperature_store."""

    include_monitors: bool = False


def temperature_store(call: Call, params: TemperatureStoreParams) -> object:
    """server.temperature_store."""
    return call.api.sensors.store.shown(include_monitors=params.include_monitors)


def webcams_list(call: Call, params: NoParams) -> object:
    """server.webcams.list: the cameras of the router's configuration."""
    return {"webcams": call.api.webcams(call.base)}


class WebcamParams(msgspec.Struct):
    """server.webcams.get_item."""

    uid: str | None = None
    name: str | None = None


def webcam(call: Call, params: WebcamParams) -> object:
    """server.webcams.get_item."""
    key, wanted = ("uid", params.uid) if params.uid is not None else ("name", params.name)
    if wanted is None:
        raise ApiError(400, "No data for argument: name")
    for one in call.api.webcams(call.base):
        if one.get(key) == wanted:
            return {"webcam": one}
    raise ApiError(404, f"Webcam {'with UID ' if key == 'uid' else ''}{wanted} not found")


# -- server.files: there are none --------------------------------------------------------------------------------


class DirectoryParams(msgspec.Struct):
    """server.files.get_directory."""

    path: str = "gcodes"


class FileParams(msgspec.Struct):
    """server.files.metadata."""

    filename: str


def no_files(call: Call, params: NoParams) -> object:
    """server.files.roots and server.files.list: a list of nothing."""
    return []


def empty_directory(call: Call, params: DirectoryParams) -> object:
    """server.files.get_directory."""
    return {
        "dirs": [],
        "files": [],
        "disk_usage": {"total": 0, "used": 0, "free": 0},
        "root_info": {"name": params.path.strip("/").partition("/")[0], "permissions": "r"},
    }


def no_metadata(call: Call, params: FileParams) -> object:
    """server.files.metadata."""
    raise ApiError(404, f"Metadata not available for <{params.filename}>")


# -- machine -----------------------------------------------------------------------------------------------------


def system_info(call: Call, params: NoParams) -> object:
    """machine.system_info."""

    async def read() -> object:
        return {"system_info": await trio.to_thread.run_sync(machine.system_info, call.api.printer.name)}

    return call.api.later(read)


def proc_stats(call: Call, params: NoParams) -> object:
    """machine.proc_stats."""

    async def read() -> object:
        await call.api.machine.sample()
        return call.api.machine.proc_stats(len(call.api.sessions))

    return call.api.later(read)


# -- access ------------------------------------------------------------------------------------------------------


def access_info(call: Call, params: NoParams) -> object:
    """access.info: there are no users, so nobody has to log in; who is not trusted brings an API key."""
    return {
        "default_source": "moonraker",
        "available_sources": ["moonraker"],
        "login_required": False,
        "trusted": call.peer.trusted,
    }


def access_user(call: Call, params: NoParams) -> object:
    """access.get_user: Moonraker's name for a client that is trusted for where it is."""
    return {"username": "_TRUSTED_USER_", "source": "moonraker", "created_on": 0.0}


def access_users(call: Call, params: NoParams) -> object:
    """access.users.list."""
    return {"users": []}


def oneshot_token(call: Call, params: NoParams) -> object:
    """access.oneshot_token."""
    return call.api.access.oneshot_token(call.peer.ip)


def api_key(call: Call, params: NoParams) -> object:
    """access.get_api_key: null where the gateway keeps none, as it has no ``data``."""
    return call.api.access.api_key()


def new_api_key(call: Call, params: NoParams) -> object:
    """access.post_api_key: the old one is worth nothing from now on."""
    try:
        return call.api.access.new_api_key()
    except OSError as error:
        raise ApiError(500, f"the API key cannot be kept: {error}") from None


def _authorized(call: Call, peer: Peer, api_key: str) -> bool:
    try:
        return call.api.access.authorized(peer, api_key, None)
    except HttpError as error:
        raise ApiError(error.status, error.message) from None


def _session(call: Call) -> Session:
    if call.session is None:
        raise ApiError(404, "Method not found for transport HTTP")
    return call.session
