"""What Home Assistant's integration does with ``moonraker-api``, as a program: arguments are host, port and prefix.

Writes what it was answered to stdout as JSON. A program of its own, as the client is written for asyncio.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from moonraker_api import MoonrakerClient, MoonrakerListener  # type: ignore[import-untyped,import-not-found,unused-ignore]

OBJECTS = ("print_stats", "display_status", "extruder", "heater_bed", "toolhead", "idle_timeout", "webhooks")


class Listener(MoonrakerListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.notified: dict[str, Any] = {}
        self.updated = asyncio.Event()

    async def state_changed(self, state: str) -> None:
        if state == "ws_connected":
            self.connected.set()

    async def on_notification(self, method: str, data: Any) -> None:
        self.notified[method] = data
        if method == "notify_status_update":
            self.updated.set()


async def visit(host: str, port: int, prefix: str, api_key: str | None) -> dict[str, Any]:
    listener = Listener()
    client = MoonrakerClient(listener, host, port, route_prefix=prefix, api_key=api_key)
    await client.connect()
    try:
        async with asyncio.timeout(10):
            await listener.connected.wait()
            answers = {
                "printer.info": await client.get_host_info(),
                "server.info": await client.get_server_info(),
                "status": await client.get_klipper_status(),
                "id": await client.get_websocket_id(),
                "modules": await client.get_supported_modules(),
            }
            for method in ("server.webcams.list", "machine.system_info", "printer.gcode.help", "server.history.totals"):
                answers[method] = await client.call_method(method)
            wanted: dict[str, None] = dict.fromkeys(OBJECTS)
            answers["query"] = await client.call_method("printer.objects.query", objects=wanted)
            answers["subscribe"] = await client.call_method(
                "printer.objects.subscribe", objects={"heater_generic dryer": ["target"]}
            )
            answers["script"] = await client.call_method(
                "printer.gcode.script", script="SET_HEATER_TEMPERATURE HEATER=dryer TARGET=33"
            )
            await listener.updated.wait()
        return answers | {"notified": listener.notified}
    finally:
        await client.disconnect()


def main() -> None:
    host, port, prefix, *api_key = sys.argv[1:]
    print(json.dumps(asyncio.run(visit(host, int(port), prefix, api_key[0] if api_key else None))))


if __name__ == "__main__":
    main()
