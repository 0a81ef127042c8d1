"""What is asked of Moonraker and of our API alike, in which state of the printer, and what shape the answers have.

`scripts/record_moonraker.py` asks a real Moonraker and writes reference.json; test_reference.py asks ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

REFERENCE = Path(__file__).parent / "reference.json"

PRINTER_CFG = """
[mcu]
serial: /dev/null
[printer]
kinematics: none
max_velocity: 100
max_accel: 100
[virtual_sdcard]
path: {folder}
[respond]
[pause_resume]
[display_status]
[gcode_macro HELLO]
description: Says hello
gcode:
  M118 hello
[heater_generic dryer]
heater_pin: gpio1
sensor_type: Generic 3950
sensor_pin: gpio26
control: watermark
min_temp: 0
max_temp: 100
[temperature_sensor chamber]
sensor_type: Generic 3950
sensor_pin: gpio27
min_temp: 0
max_temp: 100
"""
# What Klippy reports as state "error".
WRONG_CFG = PRINTER_CFG + "[no_such_module]\n"

IDENTITY = {"client_name": "test", "version": "1", "type": "web", "url": "http://localhost"}
OBJECTS = {
    "webhooks": None,
    "print_stats": ["state", "no_such_field"],
    "no_such_object": None,
    "heater_generic dryer": None,
}


class Ask(NamedTuple):
    """One call. ``own_words``: an error's message is ours, its code is Moonraker's."""

    method: str
    params: Mapping[str, Any] = MappingProxyType({})
    own_words: bool = False


def _item(action: str, key: object = None, **more: object) -> Ask:
    namespace = {"namespace": "some", **({"key": key} if key is not None else {})}
    return Ask(f"server.database.{action}_item", {**namespace, **more})


ALWAYS = (
    Ask("server.info"),
    Ask("server.config"),
    Ask("server.webcams.list"),
    Ask("server.files.roots"),
    Ask("server.files.list"),
    Ask("server.files.get_directory"),
    Ask("server.files.metadata", {"filename": "nope.gcode"}),
    Ask("machine.system_info"),
    Ask("machine.proc_stats"),
    Ask("access.info"),
    Ask("access.get_user"),
    Ask("access.users.list"),
    Ask("server.gcode_store"),
    Ask("server.temperature_store"),
    Ask("no.such.method"),
)
DATABASE = (
    _item("get"),
    _item("get", "k"),
    _item("post", "a.b.c", value=1),
    _item("get", "a.b"),
    _item("get", ["a", "b", "c"]),
    _item("get"),
    _item("get", "a.b.c.d"),
    _item("get", "a.x"),
    _item("get", "a..x"),
    _item("get", 7)._replace(own_words=True),
    Ask("server.database.get_item", {"key": "x"}),
    Ask("server.database.post_item", {"namespace": "some", "key": "k"}),
    _item("post", "a.b.c.d", value=1),
    _item("post", "a.b.c.d.e", value=1)._replace(own_words=True),
    _item("post", "n", value=None),
    _item("get", "n"),
    _item("post", "n.z", value=None),
    _item("get", "n"),
    _item("post", "s", value="text"),
    _item("post", "s.t", value="text"),
    Ask("server.database.list"),
    _item("delete", "a.b.c"),
    _item("delete", "a.b.c"),
    _item("get"),
    _item("delete", "a"),
    _item("delete", "n"),
    _item("delete", "s"),
    _item("delete", "s"),
    _item("get"),
    Ask("server.database.post_item", {"namespace": "moonraker", "key": "x", "value": 1}),
    Ask("server.database.get_item", {"namespace": "database"}),
)
IDENTIFY = (
    Ask("server.websocket.id"),
    Ask("server.connection.identify", {**IDENTITY, "type": "weird"}),
    Ask("server.connection.identify", {key: text for key, text in IDENTITY.items() if key != "url"}),
    Ask("server.connection.identify", IDENTITY),
    Ask("server.connection.identify", IDENTITY),
)
PRINTER = (
    Ask("printer.info"),
    Ask("printer.objects.list"),
    Ask("printer.objects.query", {"objects": {"webhooks": None}}),
    Ask("printer.objects.subscribe", {"objects": {"webhooks": None}}),
    Ask("printer.gcode.help"),
    Ask("printer.gcode.script", {"script": "M118 hello"}),
    Ask("printer.gcode.script", {"script": "SET_HEATER_TEMPERATURE HEATER=dryer TARGET=1"}),
    Ask("printer.print.pause"),
    Ask("printer.pause_resume.cancel"),
    Ask("printer.list_endpoints"),
)
READY = (
    *IDENTIFY,
    *DATABASE,
    Ask("printer.objects.query", {"objects": OBJECTS}),
    Ask("printer.objects.query", {"objects": {}}),
    Ask("printer.objects.query", {"objects": []}, own_words=True),
    Ask("printer.objects.query", {}, own_words=True),
    Ask("printer.objects.query", {"objects": {"print_stats": "state"}}, own_words=True),
    Ask("printer.objects.query", {"objects": {"configfile": None}}),
    Ask("printer.objects.query", {"objects": {"configfile": ["settings", "save_config_pending"]}}),
    Ask("printer.objects.subscribe", {"objects": {"configfile": None, "webhooks": None, "no_such_object": None}}),
    Ask("printer.objects.subscribe", {}),
    Ask("printer.gcode.script", {"script": "NO_SUCH_COMMAND"}),
    Ask("printer.gcode.script", {"script": "SET_HEATER_TEMPERATURE HEATER=none"}),
    Ask("printer.gcode.script", {}, own_words=True),
    Ask("printer.print.start", {"filename": 'no"file.gcode'}),
    Ask("printer.print.start", {}),
    Ask("printer.print.resume"),
    Ask("printer.print.cancel"),
    Ask("server.gcode_store", {"count": 1}),
    Ask("server.gcode_store", {"count": "x"}, own_words=True),
    Ask("server.temperature_store", {"include_monitors": True}),
    Ask("server.webcams.get_item", {"uid": "x"}),
    Ask("server.webcams.get_item", {"name": "x"}),
    Ask("server.webcams.get_item", {}),
    *PRINTER,
    *ALWAYS,
)

# In the order in which they are gone through.
ASKS: dict[str, tuple[Ask, ...]] = {
    "never connected": (*PRINTER, *ALWAYS),
    "ready": READY,
    "shutdown": (*PRINTER, *ALWAYS),
    "disconnected": (*PRINTER, Ask("printer.restart"), *ALWAYS),
    "error": (*PRINTER, *ALWAYS),
}

# Maps whose keys are the machine's; and those that Moonraker has more in, of which nobody reads the rest.
ANY_KEYS = ("network", "system_cpu_usage")
SOME_KEYS = ("server.config.config", "server.config.config.server", "server.config.orig")
# What a machine may not have.
MAY_BE_NULL = (".cpu_temp", ".throttled_state")


def shape(value: Any) -> Any:
    """A value's shape: types in the place of values, one item in the place of many."""
    match value:
        case None:
            return None
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return [shape(value[0])] if value else []
        case _:
            return {
                key: {"*": next(map(shape, each.values()), None)} if key in ANY_KEYS else shape(each)
                for key, each in value.items()
            }


def differences(theirs: Any, ours: Any, path: str) -> Iterator[str]:
    """Where a shape of ours is not one that a client made for theirs can read. An empty list tells nothing."""
    if theirs is None or ours == [] or theirs == [] or path.endswith(MAY_BE_NULL):
        return
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if path not in SOME_KEYS:
            yield from (f"{path}.{key} is missing" for key in theirs.keys() - ours.keys())
            yield from (f"{path}.{key} is not Moonraker's" for key in ours.keys() - theirs.keys())
        for key in theirs.keys() & ours.keys():
            yield from differences(theirs[key], ours[key], f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        yield from differences(theirs[0], ours[0], f"{path}[]")
    elif theirs != ours:
        yield f"{path} is {ours}, Moonraker has {theirs}"
