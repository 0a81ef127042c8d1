"""The router's own API socket: Klippy's framing and request format, the methods of the contract.

Each client has its reader, its outbox and its bounds; a client that does not read is dropped, not waited for. A
request with an id always gets exactly one ``result`` or ``error``; one without gets nothing, as with Klippy.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio
from msgspec import Raw

from klipper_router import __version__, messages
from klipper_router.callers import Caller, Parameters, Request
from klipper_router.errors import CallError, ProtocolError, RouterError
from klipper_router.framing import FRAME_END, FrameSplitter, TooLong
from klipper_router.link import Outbox
from klipper_router.messages import ObjectsSubscribeParams
from klipper_router.printer import Printer
from klipper_router.router import Router
from klipper_router.status_feed import STATUS_METHOD
from klipper_router.subscriptions import Subscription, Values
from klipper_router.unix_stream import RECEIVE_BYTES, UnixStream

log = logging.getLogger("klipper_router.api")

MAX_CLIENTS = 100
MAX_CLIENT_FRAME_BYTES = 4 * 1024 * 1024
MAX_CLIENT_OUTBOX_BYTES = 8 * 1024 * 1024
# How long a client may leave what it was sent unread, however little that is: a hundred clients would hold 800 MiB.
UNREAD_S = 60.0
MAX_REQUESTS_UNDER_WAY = 200
# How long a client may take for one frame, from its first byte to its last.
FRAME_WITHIN_S = 30.0
# How long a client that sends no more is given its answers.
LINGER_S = 5.0

_REQUEST = msgspec.json.Decoder(messages.FromClient)
_ONLY_ID = msgspec.json.Decoder(messages.OnlyId)
_client_numbers = itertools.count(1)
_PEER_CREDENTIALS = struct.Struct("iII")


class ClientRequest(Request):
    """A request of an API client. ``id_`` is the JSON text of its id; empty: it wants no answer."""

    def __init__(self, client: Client, method: str, id_: bytes) -> None:
        super().__init__(client, method)
        self.id_ = id_


class Client:
    """One connection to the API socket."""

    def __init__(self, router: Router, stream: trio.abc.Stream, peer: str = "") -> None:
        self._router = router
        self._stream = stream
        self._counters = router.client_counters
        self._name = f"client {next(_client_numbers)}{peer}"
        self._outbox = Outbox(MAX_CLIENT_OUTBOX_BYTES, getattr(stream, "send_now", None))
        self._under_way = 0
        self._all_answered = trio.Event()
        self._following = False  # while a subscription is made: what is known already goes into the answer
        self._scope = trio.CancelScope()

    @property
    def name(self) -> str:
        return self._name

    @property
    def own_printer(self) -> str | None:
        return None

    @property
    def group(self) -> str:
        return "clients"

    async def serve(self) -> None:
        """Serve the client until it closes, breaks or is dropped."""
        # Who is an argument of its own: of very many clients the log tells some (`log.Sparing`).
        log.info("%s: connected, %s", "API socket", self.name)
        try:
            with self._scope:
                async with self._stream, trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    # It may have closed only its sending side, as `printf … | socat` does.
                    with trio.move_on_after(LINGER_S):
                        if self._under_way:
                            self._all_answered = trio.Event()
                            await self._all_answered.wait()
                        await self._outbox.drained()
                    nursery.cancel_scope.cancel()
        finally:
            self._router.drop(self)
            log.debug("%s: gone", self.name)

    async def _write(self) -> None:
        try:
            await self._outbox.write_to(self._stream, UNREAD_S)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()
        except trio.TooSlowError:
            self._drop_unread()

    async def _read(self) -> None:
        splitter = FrameSplitter(MAX_CLIENT_FRAME_BYTES)
        whole_by = math.inf  # when the frame that is under way must be here
        why = "closed"
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                with trio.move_on_at(whole_by) as patience:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                if patience.cancelled_caught:
                    self._counters.dropped += 1
                    why = f"dropped, it took more than {FRAME_WITHIN_S:g} s for one frame"
                    break
                if not data:
                    break
                frames = splitter.feed(bytes(data))
                for frame in frames:
                    self._take(frame)
                if not splitter.pending_bytes:
                    whole_by = math.inf
                elif frames or whole_by == math.inf:
                    whole_by = trio.current_time() + FRAME_WITHIN_S
        if splitter.pending_bytes:
            log.warning("%s: %s in the middle of a frame (%d bytes)", self.name, why, splitter.pending_bytes)

    def _take(self, frame: bytes | TooLong) -> None:
        try:
            if isinstance(frame, TooLong):
                raise frame.error(MAX_CLIENT_FRAME_BYTES)
            message = messages.decode(frame, _REQUEST)
        except ProtocolError as error:
            log.warning("%s: %s", self.name, error)
            self._send({"id": _id_of(frame), "error": messages.ErrorBody(str(error))})
            return
        id_ = bytes(message.id)
        request = ClientRequest(self, message.method, b"" if id_ == b"null" else id_)
        if self._under_way >= MAX_REQUESTS_UNDER_WAY:
            self._under_way += 1
            request.fail(CallError(f"{MAX_REQUESTS_UNDER_WAY} requests of this client are under way already"))
            return
        self._under_way += 1
        self._counters.requests += 1
        if serve := _SOCKET_METHODS.get(message.method):
            request.answer(msgspec.json.encode(serve(self._router)), list)
        else:
            self._router.serve(request, bytes(message.params))

    def _send(self, message: object) -> None:
        self._send_frame(messages.encode(message))

    def _send_frame(self, frame: bytes) -> None:
        if not self._outbox.put(frame):
            self._drop_unread()

    def _drop_unread(self) -> None:
        if self._scope.cancel_called:
            return  # dropped already; answers that are still to come find that out, too
        self._counters.dropped += 1
        log.warning("%s: dropped, it does not read (%d bytes wait)", self.name, self._outbox.size_bytes)
        self._scope.cancel()

    # -- callers.Caller ------------------------------------------------------------------------------------------

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        self._reply(request, "result", Raw(result))

    def failed(self, request: Request, error: RouterError) -> None:
        self._counters.errors += 1
        self._reply(request, "error", messages.ErrorBody(request.answer_to_client(error)))

    def _reply(self, request: Request, key: str, body: object) -> None:
        assert isinstance(request, ClientRequest)
        self._under_way -= 1
        if not self._under_way:
            self._all_answered.set()
        if request.id_:
            self._send({"id": Raw(request.id_), key: body})

    def tell(self, text: str) -> None:
        self._send({"method": "router/error", "params": {"message": text}})

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> None:
        """The answer holds what is known now; the rest of the first status and every change come as frames."""
        template = dict(params.response_template or {"method": STATUS_METHOD})
        template.pop("params", None)  # ours take its place
        messages.check_response_template(template)
        self._following = True
        try:
            subscription = target.follow(self, msgspec.json.encode(template).decode(), params.objects)
        finally:
            self._following = False
        request.answer(msgspec.json.encode(_status(target, subscription.take())), list)

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        if self._following:
            return
        params = subscription.take_encoded(
            lambda values: msgspec.json.encode({"target": target.name, **_status(target, values)})
        )
        if params:
            template = subscription.callback[:-1]  # the text of a map, without its closing brace
            comma = "," if len(template) > 1 else ""
            self._send_frame(b'%b%b"params":%b}' % (template.encode(), comma.encode(), params) + FRAME_END)

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        self._send({**response_template, "params": {"event": event, "context": context}})


def _id_of(frame: bytes | TooLong) -> Raw | int | None:
    """The id of a request that cannot be read, where it can be found: that request gets its one answer, too."""
    if isinstance(frame, TooLong):
        return messages.lost_answer_id(frame.head)
    try:
        id_ = bytes(messages.decode(frame, _ONLY_ID).id)
    except ProtocolError:
        return messages.lost_answer_id(frame)
    return Raw(id_) if id_ else None


def _status(target: Printer[Caller], values: Values) -> dict[str, object]:
    """Values in the shape of Klipper's objects/query."""
    status: dict[str, dict[str, Raw]] = {}
    for (name, field), value in values.items():
        status.setdefault(name, {})[field] = Raw(value)
    return {"eventtime": target.feed.eventtime, "status": status}


def _info(router: Router) -> object:
    """Like Klippy's ``info``: who is this, and how is it."""
    return {
        "state": "ready",
        "state_message": "Klipper Router is running",
        "app": "klipper-router",
        "software_version": __version__,
        "process_id": os.getpid(),
        "hostname": socket.gethostname(),
    }


def _list_endpoints(router: Router) -> object:
    return {"endpoints": [*_SOCKET_METHODS, *router.methods]}


_SOCKET_METHODS: dict[str, Callable[[Router], object]] = {"info": _info, "list_endpoints": _list_endpoints}


def _peer(sock: trio.socket.SocketType) -> str:
    """Who connected: process and user, as the kernel vouches for them (man 7 unix, SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
    return f" (pid {pid}, uid {uid})"


async def serve(router: Router, sock: trio.socket.SocketType) -> None:
    """Serve all clients, for ever."""
    clients = trio.CapacityLimiter(MAX_CLIENTS)

    async def serve_one(accepted: trio.SocketStream) -> None:
        peer = _peer(accepted.socket)
        stream = UnixStream(socket.socket(fileno=accepted.socket.detach()))
        try:
            clients.acquire_nowait()
        except trio.WouldBlock:
            router.client_counters.refused += 1
            log.warning("a client was refused: there are %d already", MAX_CLIENTS)
            refusal = messages.ErrorBody(f"the router has {MAX_CLIENTS} clients already")
            async with stream:
                with trio.move_on_after(1), contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(messages.encode({"id": None, "error": refusal}))
            return
        router.client_counters.connections += 1
        router.clients += 1
        try:
            await Client(router, stream, peer).serve()
        finally:
            router.clients -= 1
            clients.release()

    await trio.serve_listeners(serve_one, [trio.SocketListener(sock)])
