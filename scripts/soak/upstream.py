"""What stands behind the gateway: a toy Moonraker and a toy camera that stall, break off, say nonsense and go away.

Both are bare sockets in our own process. What a request is answered is drawn anew each time; the account is told what
was received and what was said, so that the gateway's clients can be held against that.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import struct

import h11
import trio

from scripts.soak.books import Books
from scripts.soak.exchanges import Exchange
from scripts.soak.wire import GONE, Http, WebSocket, free_port

# As clients write it into the address of a request.
_NUMBER = re.compile(rb"[?&](?:n|script)=([0-9]+)")
# name -> how often, against the others
ANSWERS = {
    "well": 20,
    "chunked": 5,
    "until_close": 2,
    "slowly": 3,
    "in_pieces": 2,
    "then_closes": 3,
    "then_says_more": 1,
    "hangs_up": 3,
    "resets": 1,
    "breaks_off": 3,
    "garbage": 2,
    "stalls": 1,
}
GARBAGE = [
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Much: " + b"x" * 100_000,
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"\r\n\r\n\x00\xff",
]
MANY_BYTES = 2_000_000
CHUNK_BYTES = 100_000
FRAME_BYTES = 20_000
FRAME_EVERY_S = 0.05


class Toy:
    """A server that is away now and then; whoever is connected then is cut off."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.port = free_port()

    async def run(self) -> None:
        """For ever."""
        while True:
            with trio.move_on_after(self.rng.uniform(2, 40)):
                await trio.serve_tcp(self.serve_one, self.port, host="127.0.0.1")
            await trio.sleep(self.rng.uniform(0, 2))

    async def serve_one(self, stream: trio.SocketStream) -> None:
        """One connection, to its end."""
        async with stream:
            with contextlib.suppress(*GONE):
                await self.serve(stream)

    async def serve(self, stream: trio.SocketStream) -> None:
        raise NotImplementedError


class ToyMoonraker(Toy):
    """Answers each numbered request by its number, in one of many ways; echoes what a WebSocket says."""

    def __init__(self, seed: str, books: Books) -> None:
        super().__init__(seed)
        self._books = books

    async def serve(self, stream: trio.SocketStream) -> None:
        http = Http(stream, h11.SERVER)
        while isinstance(request := await http.event(), h11.Request):
            if request.target.startswith(b"/websocket"):
                await self._echo(await WebSocket.accept(http, request))
                return
            body = await http.body()
            found = _NUMBER.search(request.target)
            number = int(found[1]) if found else 0
            exchange = self._books.exchanges.arrived(number) if found else Exchange("", acts=False, sent_at=0)
            if request.method == b"POST" and found and body != content_of(number, len(body)):
                self._books.mishap("upload altered", f"{number}: {body[:100]!r}, {len(body)} bytes")
            answer = json.dumps({"result": str(number)}).encode()
            if request.target.startswith(b"/server/files/"):
                answer += b" " * MANY_BYTES
            how = self.rng.choices(list(ANSWERS), list(ANSWERS.values()))[0] if found else "well"
            if not await self._answer(how, stream, exchange, answer):
                return
            http.next_request()

    async def _echo(self, socket: WebSocket) -> None:
        with trio.move_on_after(self.rng.uniform(0, 20)):
            while True:
                await socket.send(await socket.receive())

    async def _answer(self, how: str, stream: trio.SocketStream, exchange: Exchange, body: bytes) -> bool:
        """Whether the connection stays. `Exchange.begun` and `served` are around what says what it should."""
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        match how:
            case "hangs_up":
                return False
            case "resets":
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case "stalls":
                await trio.sleep(self.rng.uniform(5, 15))
                return False
            case "garbage":
                exchange.spoilt += 1
                await stream.send_all(self.rng.choice(GARBAGE))
                return False
            case "slowly":
                await trio.sleep(self.rng.uniform(0.2, 3))
        exchange.begun += 1
        match how:
            case "breaks_off":
                await stream.send_all(whole[: self.rng.randrange(1, len(whole))])
                return False
            case "until_close":
                await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
            case "chunked":
                await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(body), CHUNK_BYTES):
                    chunk = body[start : start + CHUNK_BYTES]
                    await stream.send_all(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await stream.send_all(b"0\r\n\r\n")
            case "in_pieces":
                for at in range(100):
                    await stream.send_all(whole[at : at + 1])
                    await trio.sleep(0.001)
                await stream.send_all(whole[100:])
            case "then_says_more":  # which must not become the answer to the next request
                await stream.send_all(whole + b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"result": "-1"}')
            case _:
                await stream.send_all(whole)
        exchange.served += 1
        # `then_closes` without having said so: the gateway has kept a connection that is dead.
        return how not in ("until_close", "then_closes")


class ToyCamera(Toy):
    """An MJPEG stream at any address; its frames bear numbers that only grow."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self._number = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        await Http(stream, h11.SERVER).event()
        await stream.send_all(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n--b\r\n")
        while True:
            self._number += 1
            jpeg = frame(self._number)
            part = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n--b\r\n" % (len(jpeg), jpeg)
            match self.rng.randrange(400):
                case 0:
                    return
                case 1:
                    await stream.send_all(part[: self.rng.randrange(len(part))])
                    return
                case 2:
                    await stream.send_all(self.rng.randbytes(50_000))
                    return
                case 3:
                    await trio.sleep(self.rng.uniform(0, 8))
            await stream.send_all(part)
            await trio.sleep(FRAME_EVERY_S)


def frame(number: int) -> bytes:
    """A picture, as far as JPEG's first and last bytes go."""
    return b"\xff\xd8%012d" % number + b"." * FRAME_BYTES + b"\xff\xd9"


def content_of(number: int, size_bytes: int) -> bytes:
    """The body of a request: JSON that ends in blanks."""
    return (b'{"script": "%d"}' % number).ljust(size_bytes)
