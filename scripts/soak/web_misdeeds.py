"""Bad clients of the gateway, and changes by its JSON API."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from scripts.soak.clients import Misdeed, one_after_another
from scripts.soak.machines import Machine
from scripts.soak.troubles import RouterTroubles
from scripts.soak.web_clients import Web
from scripts.soak.wire import GONE, JSON, Http, WebSocket

HOST = b"Host: 127.0.0.1\r\n"
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /router/jsonrpc HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    b"G" * 1000,
]
PRINTERS = "/router/api/v1/printers"
STRANGER = "stranger"
MANY = 100
LONG_S = 10.0


async def misbehave(web: Web, upstreams: Sequence[str], printers: Sequence[str], seed: str) -> None:
    """For ever: one bad client after another. ``upstreams`` are the printers with a Moonraker of their own."""
    rng = random.Random(seed)
    following = [(f"/printers/{printer}/websocket", "printer.objects.subscribe") for printer in printers]

    def upload() -> bytes:
        path = rng.choice([f"/printers/{rng.choice(upstreams)}/server/files/upload", "/router/jsonrpc"])
        return f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n".encode() + HOST

    def download() -> bytes:
        path = rng.choice(["server/files/gcodes/part.gcode", "cameras/toy/stream"])
        return f"GET /printers/{rng.choice(upstreams)}/{path} HTTP/1.1\r\n".encode() + HOST + b"\r\n"

    async def says_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep(rng.uniform(0, LONG_S))

    async def half_a_head(stream: trio.SocketStream) -> None:
        await stream.send_all(b"GET /printers/p0/printer/gcode/script?script=M112 HTTP/1.1\r\nHos")
        await trio.sleep(rng.uniform(0, LONG_S))

    async def garbage(stream: trio.SocketStream) -> None:
        await stream.send_all(rng.choice([rng.randbytes(2000), *GARBAGE]))
        await stream.receive_some()

    async def too_large_a_head(stream: trio.SocketStream) -> None:
        await stream.send_all(b"GET / HTTP/1.1\r\n" + HOST + b"X-Much: " + b"x" * 1_000_000)

    async def leaves_an_upload(stream: trio.SocketStream) -> None:
        size_bytes = rng.choice([10_000, 2_000_000])
        await stream.send_all(upload() + b"Content-Length: %d\r\n\r\n" % (size_bytes + 1) + b" " * size_bytes)
        await trio.sleep(rng.uniform(0, 2))

    async def leaves_a_download(stream: trio.SocketStream) -> None:
        await stream.send_all(download())
        await stream.receive_some()

    async def never_reads(stream: trio.SocketStream) -> None:
        with trio.move_on_after(LONG_S):
            while True:
                await stream.send_all(download() * 10)

    async def half_closes(stream: trio.SocketStream) -> None:
        await stream.send_all(download())
        await stream.send_eof()
        await trio.sleep(rng.uniform(0, LONG_S))

    async def many_connections(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                nursery.start_soon(one_of_many)

    async def one_of_many() -> None:
        try:
            async with Http.open(web.port) as http:
                await http.ask("GET", rng.choice(["/healthz", "/metrics", f"/printers/{upstreams[0]}/server/info"]))
                await trio.sleep(rng.uniform(0, LONG_S))
        except GONE:
            pass

    async def floods_a_websocket(stream: trio.SocketStream) -> None:
        """Asks without end, and never reads."""
        path = rng.choice(["/router/websocket", *(f"/printers/{printer}/websocket" for printer in printers)])
        async with WebSocket.open(web.port, path) as socket:
            with trio.move_on_after(LONG_S):
                await socket.send({"jsonrpc": "2.0", "id": 0, "method": "router/dashboard/subscribe"})
                while True:
                    await socket.send({"jsonrpc": "2.0", "id": 1, "method": rng.choice(METHODS)})

    async def reads_slowly(stream: trio.SocketStream) -> None:
        path, method = rng.choice([("/router/websocket", "router/dashboard/subscribe"), *following])
        async with WebSocket.open(web.port, path) as socket:
            await socket.send(
                {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"objects": {"display_status": None}}}
            )
            for _ in range(rng.randint(1, 10)):
                await socket.receive()
                await trio.sleep(rng.uniform(0, LONG_S))

    async def garbage_by_websocket(stream: trio.SocketStream) -> None:
        path = rng.choice(["/router/websocket", *(f"/printers/{printer}/websocket" for printer in printers)])
        async with WebSocket.open(web.port, path) as socket:
            await socket.send(rng.choice([[], [[]] * 1000, "x" * 100_000, {"jsonrpc": "2.0", "method": 1, "id": {}}]))
            await socket.receive()
            await socket.stream.send_all(rng.randbytes(1000))
            await trio.sleep(rng.uniform(0, 2))

    kinds: list[Misdeed] = [
        says_nothing,
        half_a_head,
        garbage,
        too_large_a_head,
        leaves_an_upload,
        leaves_a_download,
        never_reads,
        half_closes,
        many_connections,
        floods_a_websocket,
        reads_slowly,
        garbage_by_websocket,
    ]
    await one_after_another(partial(trio.open_tcp_stream, "127.0.0.1", web.port), kinds, "web client", web.books, rng)


METHODS = ["server.info", "machine.proc_stats", "server.temperature_store", "printer.info", "router/printers/list"]


class WebTroubles(RouterTroubles):
    """Changes by the API, too: for a while they are laid over the files, which then are made to say the same."""

    def changes(self) -> list[Callable[[Machine], Awaitable[None]]]:
        return [*super().changes(), self._api_remove, self._api_change, self._api_stranger]

    async def _api_remove(self, machine: Machine) -> None:
        path = f"{PRINTERS}/{machine.name}"

        async def take_out() -> bool:
            return await self._api("DELETE", path, 204)

        async def put_back() -> None:
            await self._api("POST", PRINTERS, 201, name=machine.name, options=self._router.options(machine))
            assert self._router.gateway
            if url := self._router.gateway.cameras.get(machine.name):
                await self._api("POST", f"{path}/cameras", 201, name="toy", options={"url": url})
            await self.add_all()

        await self._away(machine, take_out, put_back)

    async def _api_change(self, machine: Machine) -> None:
        async with self._router.turn:
            with self._router.editing(machine.name):
                self._ends_link(machine)
                self._router.use_other_path(machine.name)
                await self._api("PUT", f"{PRINTERS}/{machine.name}", 200, options=self._router.options(machine))
            await self.add_all()

    async def _api_stranger(self, machine: Machine) -> None:
        """A printer that is not there comes and goes."""
        options = {"sock": f"{self._router.sock}.nowhere", "moonraker": "none"}
        path = f"{PRINTERS}/{STRANGER}"
        async with self._router.turn:
            await self._api("POST", PRINTERS, 201, name=STRANGER, options=options)
            await self._api("POST", f"{path}/cameras", 201, name="none", options={"url": "http://127.0.0.1:9/"})
            await self._api("PUT", path, 200, options=options | {"moonraker": "http://127.0.0.1:9"})
            await self._api("DELETE", path, 204)

    async def _api(self, method: str, path: str, wanted: int, **body: object) -> bool:
        """Whether it was done; it must be."""
        assert self._router.gateway
        content = json.dumps(body).encode() if body else b""
        try:
            async with Http.open(self._router.gateway.port) as http:
                status, answer = await http.ask(method, path, content, [JSON])
        except GONE as error:
            status, answer = 0, repr(error).encode()
        if status != wanted:
            self._books.mishap("change refused", f"{method} {path} {body}: {status} {answer!r}")
        return status == wanted
