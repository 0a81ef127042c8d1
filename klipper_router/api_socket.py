"""The router's own API socket: Klippy's framing and request format, the methods of the contract.

Each client has its reader, its outbox and its bounds; a client that does not read is dropped, not waited for. A
request with an id always gets exactly one ``result`` or ``error``; one without gets nothing, as with Klippy.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Raw

from klipper_router import __version__, messages
from klipper_router.callers import Caller, Parameters, Request
from klipper_router.errors import CallError, ConfigError, ProtocolError, RouterError
from klipper_router.framing import FrameSplitter, TooLong
from klipper_router.link import RECEIVE_BYTES, Outbox
from klipper_router.messages import ObjectsSubscribeParams
from klipper_router.printer import Printer
from klipper_router.router import Router
from klipper_router.status_feed import STATUS_METHOD
from klipper_router.subscriptions import Subscription, Values

log = logging.getLogger("klipper_router.api")

# Klipper's own backlog of 1 makes its whconsole.py exit with EAGAIN when several come at once.
BACKLOG = 64
SOCKET_MODE = 0o660
MAX_CLIENTS = 100
MAX_CLIENT_FRAME_BYTES = 4 * 1024 * 1024
MAX_CLIENT_OUTBOX_BYTES = 8 * 1024 * 1024
MAX_REQUESTS_UNDER_WAY = 200
# How long a client that sends no more is given its answers.
LINGER_S = 5.0
LOCK_WITHIN_S = 2.0

_REQUEST = msgspec.json.Decoder(messages.FromClient)
_ONLY_ID = msgspec.json.Decoder(messages.OnlyId)
_client_numbers = itertools.count(1)


class ClientRequest(Request):
    """A request of an API client. ``id_`` is the JSON text of its id; empty: it wants no answer."""

    def __init__(self, client: Client, method: str, id_: bytes) -> None:
        super().__init__(client, method)
        self.id_ = id_


class Client:
    """One connection to the API socket."""

    def __init__(self, router: Router, stream: trio.abc.Stream) -> None:
        self._router = router
        self._stream = stream
        self._name = f"client {next(_client_numbers)}"
        self._outbox = Outbox(MAX_CLIENT_OUTBOX_BYTES)
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
        log.debug("%s: connected", self.name)
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
            await self._outbox.write_to(self._stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    async def _read(self) -> None:
        splitter = FrameSplitter(MAX_CLIENT_FRAME_BYTES)
        try:
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                for frame in splitter.feed(bytes(data)):
                    self._take(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if splitter.pending_bytes:
            log.warning("%s: closed in the middle of a frame (%d bytes)", self.name, splitter.pending_bytes)

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
        if serve := _SOCKET_METHODS.get(message.method):
            request.answer(msgspec.json.encode(serve(self._router)), list)
        else:
            self._router.serve(request, bytes(message.params))

    def _send(self, message: object) -> None:
        if not self._outbox.put(messages.encode(message)):
            log.warning("%s: dropped, it does not read (%d bytes wait)", self.name, self._outbox.size_bytes)
            self._scope.cancel()

    # -- callers.Caller ------------------------------------------------------------------------------------------

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        self._reply(request, "result", Raw(result))

    def failed(self, request: Request, error: RouterError) -> None:
        text = f"{request.target}: {error}" if request.target and request.target not in str(error) else str(error)
        self._reply(request, "error", messages.ErrorBody(text))

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
        template = params.response_template or {"method": STATUS_METHOD}
        self._following = True
        try:
            subscription = target.follow(self, msgspec.json.encode(template).decode(), params.objects)
        finally:
            self._following = False
        request.answer(msgspec.json.encode(_status(target, subscription.take())), list)

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        if not self._following and (values := subscription.take()):
            template: dict[str, Any] = msgspec.json.decode(subscription.callback)
            self._send({**template, "params": {"target": target.name, **_status(target, values)}})

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


@contextlib.contextmanager
def bound_socket(path: str) -> Iterator[trio.socket.SocketType]:
    """A listening socket at ``path`` (mode 0660), removed at the end; a stale file is replaced.

    Raises ConfigError when another process listens there, or the place cannot be used.
    """
    file = Path(path)
    try:
        with _locked(file.parent):
            sock = _bind(file)
        ours = file.stat().st_ino
    except OSError as error:
        raise ConfigError(f"[router] sock {path}: {error.strerror or error}") from error
    with sock:
        try:
            yield trio.socket.from_stdlib_socket(sock)
        finally:
            with contextlib.suppress(OSError):
                if file.lstat().st_ino == ours:  # else somebody removed it, and another router took its place
                    file.unlink()


def _bind(file: Path) -> socket.socket:
    """Raises OSError, ConfigError."""
    _remove_stale(file)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(file))
        # Between bind and listen nobody can connect, so the mode holds from the first client on.
        file.chmod(SOCKET_MODE)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two routers that start at once must not both take the other's file for a stale one. Raises OSError."""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        give_up_at = time.monotonic() + LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise ConfigError(f"{folder} is locked by another process") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(folder_fd)


def _remove_stale(file: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"[router] sock {file}: there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
        except OSError:
            pass  # somebody listens, if only with a full queue
    raise ConfigError(f"[router] sock {file}: another process listens there")


async def serve(router: Router, sock: trio.socket.SocketType) -> None:
    """Serve all clients, for ever."""
    clients = trio.CapacityLimiter(MAX_CLIENTS)

    async def serve_one(stream: trio.SocketStream) -> None:
        try:
            clients.acquire_nowait()
        except trio.WouldBlock:
            log.warning("a client was refused: there are %d already", MAX_CLIENTS)
            refusal = messages.ErrorBody(f"the router has {MAX_CLIENTS} clients already")
            async with stream:
                with trio.move_on_after(1), contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(messages.encode({"id": None, "error": refusal}))
            return
        try:
            await Client(router, stream).serve()
        finally:
            clients.release()

    await trio.serve_listeners(serve_one, [trio.SocketListener(sock)])
