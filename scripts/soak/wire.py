"""HTTP and WebSockets over TCP, for both sides of the gateway, by h11 and wsproto: none of it is the product's."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import h11
import trio
import wsproto
from wsproto import events
from wsproto.connection import ConnectionState

RECEIVE_BYTES = 64 * 1024
JSON = ("Content-Type", "application/json")
# Below those that the system gives to clients: nobody takes one while whoever listens there is away.
PORTS = range(20_000, 30_000)
# How a connection ends for whoever reads it.
GONE = (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError)


class Refused(EOFError):
    """A WebSocket was not opened; args: the status."""


class Http:
    """One end of a connection. What it raises is in `GONE`."""

    def __init__(self, stream: trio.SocketStream, role: type[h11.CLIENT | h11.SERVER] = h11.CLIENT) -> None:
        self.stream = stream
        self.usable = True  # for another request
        self._role = role
        self._parser = h11.Connection(role)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, port: int) -> AsyncIterator[Http]:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            yield cls(stream)

    async def event(self) -> object:
        while True:
            event = self._parser.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._parser.receive_data(await self.stream.receive_some(RECEIVE_BYTES))

    async def body(self) -> bytes:
        """All of it, after a head."""
        data = b""
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise EOFError(event)
            data += event.data
        return data

    async def ask(
        self, method: str, target: str, body: bytes = b"", fields: Iterable[tuple[str, str]] = ()
    ) -> tuple[int, bytes]:
        """The status and the body of the answer; see `usable` then."""
        with contextlib.suppress(trio.BrokenResourceError):  # it may have answered before it has read all
            await self.stream.send_all(self.request(method, target, body, fields))
        response = await self.event()
        if not isinstance(response, h11.Response):
            raise EOFError(response)
        content = await self.body()
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        else:
            self.usable = False
        return response.status_code, content

    def request(self, method: str, target: str, body: bytes = b"", fields: Iterable[tuple[str, str]] = ()) -> bytes:
        """The bytes of a request that is about to be sent."""
        head = [("Host", "127.0.0.1"), *fields, *([("Content-Length", str(len(body)))] if body else ())]
        parts = (h11.Request(method=method, target=target, headers=head), h11.Data(body), h11.EndOfMessage())
        return b"".join(self._parser.send(part) or b"" for part in parts)

    def next_request(self) -> None:
        """Of a server that has answered by bytes of its own: read the next one."""
        rest, _ = self._parser.trailing_data
        self._parser = h11.Connection(self._role)
        if rest:
            self._parser.receive_data(rest)


class WebSocket:
    """One end of a WebSocket. What it raises is in `GONE`; when the other side closes it, an EOFError."""

    def __init__(self, stream: trio.SocketStream, protocol: wsproto.WSConnection) -> None:
        self.stream = stream
        self._protocol = protocol
        self._messages: deque[Any] = deque()
        self._text = ""
        self._sending = trio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, port: int, target: str) -> AsyncIterator[WebSocket]:
        """Raises Refused."""
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
            made = cls(stream, protocol)
            await made._post(events.Request(host="127.0.0.1", target=target))
            while protocol.state is ConnectionState.CONNECTING:
                await made._more()
            yield made

    @classmethod
    async def accept(cls, http: Http, request: h11.Request) -> WebSocket:
        """The other side of `open`."""
        protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        protocol.initiate_upgrade_connection(request.headers.raw_items(), request.target.decode())
        made = cls(http.stream, protocol)
        await made._post(events.AcceptConnection())
        return made

    async def send(self, message: object) -> None:
        await self._post(events.TextMessage(json.dumps(message)))

    async def receive(self) -> Any:
        """The next message, which is JSON."""
        while not self._messages:
            await self._more()
        return self._messages.popleft()

    async def _post(self, event: events.Event) -> None:
        async with self._sending:
            if self._protocol.state not in (ConnectionState.CONNECTING, ConnectionState.OPEN):
                raise EOFError("it is closing")
            await self.stream.send_all(self._protocol.send(event))

    async def _more(self) -> None:
        data = await self.stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise EOFError
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            match event:
                case events.TextMessage():
                    self._text += event.data
                    if event.message_finished:
                        self._messages.append(json.loads(self._text))
                        self._text = ""
                case events.Ping():
                    await self._post(event.response())
                case events.RejectConnection():
                    raise Refused(event.status_code)
                case events.CloseConnection():
                    raise EOFError(event.code)


def free_port() -> int:
    """A port at which nobody listens now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
