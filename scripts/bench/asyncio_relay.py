"""A relay as most people would write it: asyncio streams, json, a future for each call under way.

Usage: asyncio_relay.py A.sock B.sock [queue]; with "queue", scripts wait in a queue of 1000 and four at a time are
under way in a printer, as the router does it, so that the memory of a slow printer does not fill.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any


class Printer:
    def __init__(self, name: str, printers: dict[str, Printer]) -> None:
        self.name = name
        self.printers = printers
        self.ids = itertools.count(1)
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.queue: asyncio.Queue[str] | None = None

    async def connect(self, path: str) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(path)

    async def run(self) -> None:
        while True:
            try:
                frame = await self.reader.readuntil(b"\x03")
            except asyncio.IncompleteReadError:
                return
            message = json.loads(frame[:-1])
            if "id" in message:
                future = self.waiting.pop(message["id"], None)
                if future is not None:
                    future.set_result(message)
            elif message.get("remote_method") == "router/gcode/script":
                params = message["params"]
                target = self.printers[params["target"]]
                if target.queue is not None:
                    await target.queue.put(params["script"])
                else:
                    await target.script(params["script"])

    async def work(self, queue: asyncio.Queue[str]) -> None:
        while True:
            await (await self.script(await queue.get()))

    async def script(self, script: str) -> asyncio.Future[Any]:
        id_ = next(self.ids)
        future = self.waiting[id_] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self.report)
        request = {"id": id_, "method": "gcode/script", "params": {"script": script}}
        # Compact, so that the stand-in finds the id where the router has it, too; it makes no measurable difference.
        self.writer.write(json.dumps(request, separators=(",", ":")).encode() + b"\x03")
        await self.writer.drain()
        return future

    def report(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and "error" in future.result():
            print(f"{self.name}: {future.result()['error']}", file=sys.stderr)


async def main(paths: dict[str, str], *, queue: bool) -> None:
    printers: dict[str, Printer] = {}
    for name, path in paths.items():
        printers[name] = Printer(name, printers)
        await printers[name].connect(path)
    tasks = [printer.run() for printer in printers.values()]
    if queue:
        for printer in printers.values():
            printer.queue = asyncio.Queue(1000)
            tasks += [printer.work(printer.queue) for _ in range(4)]
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main({"a": sys.argv[1], "b": sys.argv[2]}, queue="queue" in sys.argv[3:]))
