"""JSON-RPC 2.0 for the router's methods: who calls them over HTTP and over a WebSocket, and how each is answered.

A request is decoded in two steps as everywhere (envelope, then the method's own struct, in `Router.serve`). Answers
go out as they come, in any order; those of a batch together, when the last is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import trio
from msgspec import Raw

from klipper_router.callers import Caller, Parameters, Request
from klipper_router.errors import ParameterError, RouterError
from klipper_router.messages import ObjectsSubscribeParams
from klipper_router.printer import Printer
from klipper_router.router import Router
from klipper_router.status_feed import STATUS_METHOD
from klipper_router.subscriptions import Subscription, Values

log = logging.getLogger("klipper_router.gateway")

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, SERVER_ERROR = -32700, -32600, -32601, -32602, -32000
GROUP = "gateway"  # what printers' policies call us
MAX_BATCH = 50
MAX_UNDER_WAY = 200

# These are answered for as long as the caller is there; an HTTP request is over with its answer.
NEED_A_CONNECTION = frozenset(
    {"router/event/subscribe", "router/event/unsubscribe", "router/objects/subscribe", "router/objects/unsubscribe"}
)


class RpcCall(msgspec.Struct):
    """One request. ``id`` is echoed as it came; without one, nothing is answered."""

    jsonrpc: Literal["2.0"]
    method: str
    params: Raw = Raw(b"{}")
    id: Raw = Raw(b"")


class RpcError(msgspec.Struct):
    """JSON-RPC's error object."""

    code: int
    message: str


class RpcAnswer(msgspec.Struct, omit_defaults=True):
    """JSON-RPC's answer: a result or an error."""

    jsonrpc: str  # without a default: it is always told
    id: Raw
    result: Raw | msgspec.UnsetType = msgspec.UNSET
    error: RpcError | msgspec.UnsetType = msgspec.UNSET


class RpcNotification(msgspec.Struct):
    """What a WebSocket is told without having asked."""

    jsonrpc: str
    method: str
    params: Any


def notification(method: str, params: object) -> str:
    return msgspec.json.encode(RpcNotification("2.0", method, params)).decode()


Done = Callable[["Raw | RpcError"], None]

OwnMethods = Mapping[str, Callable[["RpcCaller", bytes, Done], None]]
"""Methods that are not the router's but the page's: each gets its caller, its params, and what to call once with the
outcome."""

_CALL = msgspec.json.Decoder(RpcCall)
_BATCH = msgspec.json.Decoder(list[Raw])
_NULL = Raw(b"null")


class _Call(Request):
    """A router's request that answers one call of JSON-RPC, once."""

    def __init__(self, caller: RpcCaller, method: str, done: Done) -> None:
        super().__init__(caller, method)
        self.done = done


class RpcCaller:
    """One client of JSON-RPC. ``send`` takes what it is told without having asked; None: it cannot be told."""

    def __init__(
        self, router: Router, name: str, own_methods: OwnMethods, send: Callable[[str], None] | None = None
    ) -> None:
        self._router = router
        self._name = name
        self._send = send
        self._own_methods = own_methods
        self._under_way = 0
        self._following = False  # while a subscription is made: what is known already goes into the answer

    def __repr__(self) -> str:
        return f"RpcCaller({self._name})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def own_printer(self) -> str | None:
        return None

    @property
    def group(self) -> str:
        return GROUP

    # -- requests ------------------------------------------------------------------------------------------------

    def take(self, text: bytes, answer: Callable[[bytes | None], None]) -> Iterator[None]:
        """Serve a request or a batch. ``answer`` is called once, perhaps much later; None: there were notifications
        only, and now they are done.

        To be iterated to its end; yields between the calls of a batch, so that others may have their turn.
        """
        if text.lstrip()[:1] == b"[":
            yield from self._take_batch(text, answer)
        else:
            self._take_one(text, lambda made: answer(msgspec.json.encode(made) if made else None))

    def _take_batch(self, text: bytes, answer: Callable[[bytes | None], None]) -> Iterator[None]:
        try:
            calls = _BATCH.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            answer(_refusal(PARSE_ERROR, f"no JSON: {error}"))
            return
        if not 0 < len(calls) <= MAX_BATCH:
            answer(_refusal(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests, not {len(calls)}"))
            return
        answers: list[RpcAnswer] = []
        left = len(calls)

        def one_more(made: RpcAnswer | None) -> None:
            nonlocal left
            left -= 1
            if made:
                answers.append(made)
            if not left:
                answer(msgspec.json.encode(answers) if answers else None)

        for index, call in enumerate(calls):
            if index:
                yield
            self._take_one(bytes(call), one_more)

    def _take_one(self, text: bytes, answer: Callable[[RpcAnswer | None], None]) -> None:
        """``answer`` gets None for a notification."""
        try:
            text.decode()  # msgspec does not look into a Raw, and what Klipper gets must be UTF-8
            call = _CALL.decode(text)
        except msgspec.ValidationError as error:
            answer(_answer(_id_of(text), RpcError(INVALID_REQUEST, f"no JSON-RPC 2.0 request: {error}")))
            return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            answer(_answer(_NULL, RpcError(PARSE_ERROR, f"no JSON: {error}")))
            return
        id_ = bytes(call.id)  # a copy: a Raw is a view into its message

        def done(outcome: Raw | RpcError) -> None:
            answer(_answer(Raw(id_), outcome) if id_ else None)

        if id_ and id_[:1] in b"{[tf":
            answer(_answer(_NULL, RpcError(INVALID_REQUEST, "an id is a text, a number or null")))
        elif bytes(call.params)[:1] not in (b"{", b"n"):
            done(RpcError(INVALID_PARAMS, "params must be an object: the methods take named parameters"))
        else:
            params = bytes(call.params)
            self._serve(call.method, b"{}" if params == b"null" else params, done)

    def _serve(self, method: str, params: bytes, done: Done) -> None:
        if own := self._own_methods.get(method):
            own(self, params, done)
        elif method not in self._router.methods:
            done(
                RpcError(
                    METHOD_NOT_FOUND,
                    f"no method '{method}', there are {', '.join([*self._router.methods, *self._own_methods])}",
                )
            )
        elif self._send is None and method in NEED_A_CONNECTION:
            done(RpcError(INVALID_REQUEST, f"{method} ends with the connection: call it over the WebSocket"))
        elif self._under_way >= MAX_UNDER_WAY:
            done(RpcError(SERVER_ERROR, f"{MAX_UNDER_WAY} requests of this client are under way already"))
        else:
            self._under_way += 1
            self._router.serve(_Call(self, method, done), params)

    # -- callers.Caller ------------------------------------------------------------------------------------------

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        self._done(request, Raw(result))

    def failed(self, request: Request, error: RouterError) -> None:
        self._done(request, RpcError(SERVER_ERROR, request.answer_to_client(error)))

    def _done(self, request: Request, outcome: Raw | RpcError) -> None:
        assert isinstance(request, _Call)
        self._under_way -= 1
        request.done(outcome)

    def tell(self, text: str) -> None:
        self._notify("router/error", {"message": text})

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> None:
        """The answer holds what is known now; the rest of the first status and every change come as notifications."""
        if params.response_template is not None:
            raise ParameterError("parameter 'response_template': JSON-RPC has its own form of a notification")
        self._following = True
        try:
            subscription = target.follow(self, STATUS_METHOD, params.objects)
        finally:
            self._following = False
        request.answer(msgspec.json.encode(_status(target, subscription.take())), list)

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        if not self._following and (values := subscription.take()):
            self._notify(STATUS_METHOD, {"target": target.name, **_status(target, values)})

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        self._notify("router/event", {"event": event, "context": context})

    def _notify(self, method: str, params: object) -> None:
        if self._send is not None:
            self._send(notification(method, params))


async def call_once(router: Router, name: str, own_methods: OwnMethods, text: bytes) -> bytes | None:
    """Serve one request, or one batch, and return the answer; None where all were notifications.

    Cancelled, it forgets the request; what was sent to Klipper already is done nevertheless.
    """
    caller = RpcCaller(router, name, own_methods)
    answers: list[bytes | None] = []
    answered = trio.Event()

    def answer(made: bytes | None) -> None:
        answers.append(made)
        answered.set()

    try:
        for _ in caller.take(text, answer):
            await trio.lowlevel.checkpoint()
        await answered.wait()
    finally:
        router.drop(caller)
    return answers[0]


def _answer(id_: Raw, outcome: Raw | RpcError) -> RpcAnswer:
    if isinstance(outcome, RpcError):
        return RpcAnswer("2.0", id_, error=outcome)
    return RpcAnswer("2.0", id_, result=outcome)


def _refusal(code: int, message: str) -> bytes:
    return msgspec.json.encode(_answer(_NULL, RpcError(code, message)))


class _OnlyId(msgspec.Struct):
    id: Raw = Raw(b"null")


_ONLY_ID = msgspec.json.Decoder(_OnlyId)


def _id_of(text: bytes) -> Raw:
    """The id of a request whose rest is wrong."""
    try:
        id_ = bytes(_ONLY_ID.decode(text).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NULL
    return Raw(id_) if id_[:1] not in b"{[tf" else _NULL


def _status(target: Printer[Caller], values: Values) -> dict[str, object]:
    status: dict[str, dict[str, Raw]] = {}
    for (name, field), value in values.items():
        status.setdefault(name, {})[field] = Raw(value)
    return {"eventtime": target.feed.eventtime, "status": status}
