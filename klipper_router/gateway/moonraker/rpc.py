"""JSON-RPC 2.0 in the dialect of Moonraker 0.11 (common.py JsonRPC): envelopes, batches, error codes.

Knows no method and no transport: the table is handed in as a function, answers go out by a callback. All of it is
synchronous. A method returns its result, or a `Reply` that is answered later; so requests take effect in the order
in which they came (trio starts tasks in no order), no request costs a task, and answers go out as they are ready.
Between the requests of a batch whoever has it served may let others have their turn: `serve` is an iterator.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import msgspec

log = logging.getLogger("klipper_router.gateway.moonraker")

# Mainsail asks for the metadata of so many files in one batch, and for nothing else in any.
MAX_BATCH = 100
# All answers of a batch are kept until the last is there.
MAX_BATCH_ANSWER_BYTES = 4 * 1024 * 1024

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602


class ApiError(Exception):
    """A request that fails. ``status`` is an HTTP status, as in Moonraker; `rpc_code` is what JSON-RPC says instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def rpc_code(self) -> int:
        """Moonraker's: 404 is "method not found", 401 is "invalid params", every other status stays."""
        return {404: METHOD_NOT_FOUND, 401: INVALID_PARAMS}.get(self.status, self.status)


class Reply:
    """A result that comes later. Answered or failed exactly once; whoever waits for it is called exactly once."""

    __slots__ = ("_outcome", "_then")

    def __init__(self) -> None:
        self._outcome: tuple[object, ApiError | None] | None = None
        self._then: Callable[[object, ApiError | None], None] | None = None

    @property
    def done(self) -> bool:
        return self._outcome is not None

    def answer(self, result: object) -> None:
        self._finish(result, None)

    def fail(self, error: ApiError) -> None:
        self._finish(None, error)

    def then(self, callback: Callable[[object, ApiError | None], None]) -> None:
        """``callback(result, error)``: now, if it is done already."""
        if self._outcome is not None:
            callback(*self._outcome)
        else:
            self._then = callback

    def _finish(self, result: object, error: ApiError | None) -> None:
        assert self._outcome is None, "a reply is given once"
        self._outcome = (result, error)
        if self._then is not None:
            self._then(result, error)


# Serves one call: the parameters as they came (any JSON object) to a result. Raises ApiError.
Serve = Callable[[Mapping[str, Any]], object]
# The method of a name, ready to serve; raises ApiError (404, 401) where there is none for this caller.
Lookup = Callable[[str], Serve]
Send = Callable[[bytes], None]
# Gets the id and the answer, or None where none is due.
_Done = Callable[[Any, bytes | None], None]


def serve(data: str | bytes, lookup: Lookup, send: Send, none_due: Callable[[], None]) -> Iterator[None]:
    """Serve one message, a request or a batch: ``send`` gets the answer (or the answers in one array), ``none_due`` is
    called where there is none. One of them is called once, now or later.

    To be iterated to its end; yields between the requests of a batch, which may cost as much as so many messages.
    Never raises for anything that a client may send.
    """

    def done(answer: bytes | None) -> None:
        if answer is None:
            none_due()
        else:
            send(answer)

    try:
        message: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        send(_error(None, PARSE_ERROR, "Parse error"))
        return
    if isinstance(message, list):
        yield from _serve_batch(message, lookup, done)
    else:
        _serve_one(message, lookup, lambda id_, answer: done(answer))


def _serve_batch(items: list[Any], lookup: Lookup, done: Callable[[bytes | None], None]) -> Iterator[None]:
    if not items:
        done(_error(None, INVALID_REQUEST, "Invalid Request"))
        return
    if len(items) > MAX_BATCH:
        message = f"Invalid Request: a batch has at most {MAX_BATCH} requests, not {len(items)}"
        done(_error(None, INVALID_REQUEST, message))
        return
    answers: list[bytes | None] = [None] * len(items)
    left = len(items)
    room_bytes = MAX_BATCH_ANSWER_BYTES

    def lookup_while_room(name: str) -> Serve:
        if room_bytes < 0:
            raise _too_large()
        return lookup(name)

    def answered(index: int, id_: Any, answer: bytes | None) -> None:
        nonlocal left, room_bytes
        if answer is not None:
            room_bytes -= len(answer)
            if room_bytes < 0:
                answer = _answer(id_, None, _too_large())
        answers[index] = answer
        left -= 1
        if not left:
            given = [one for one in answers if one is not None]
            done(b"[" + b",".join(given) + b"]" if given else None)

    for index, item in enumerate(items):
        if index:
            yield
        _serve_one(item, lookup_while_room, partial(answered, index))


def _too_large() -> ApiError:
    return ApiError(503, f"the answers of this batch are larger than {MAX_BATCH_ANSWER_BYTES} bytes: ask for less")


def _serve_one(request: Any, lookup: Lookup, done: _Done) -> None:
    if not isinstance(request, dict):
        done(None, _error(None, INVALID_REQUEST, "Invalid Request"))
        return
    id_ = request.get("id")
    if isinstance(id_, list | dict):
        done(None, _error(None, INVALID_REQUEST, "Invalid Request"))
        return
    if request.get("jsonrpc") != "2.0":
        done(id_, _error(id_, INVALID_REQUEST, "Invalid Request"))
        return
    if "method" not in request:
        done(id_, None)  # an answer to a request; we never made one
        return
    method, params = request["method"], request.get("params", {})
    if not isinstance(method, str):
        done(id_, _error(id_, INVALID_REQUEST, "Invalid Request"))
    elif not isinstance(params, dict):
        done(id_, _error(id_, INVALID_PARAMS, "Invalid params:"))
    else:
        call(lookup, method, params).then(lambda result, error: done(id_, _answer(id_, result, error)))


def call(lookup: Lookup, method: str, params: Mapping[str, Any]) -> Reply:
    """One method's result, or its error, now or later."""
    reply = Reply()
    try:
        result = lookup(method)(params)
        if isinstance(result, Reply):
            return result
        reply.answer(result)
    except ApiError as error:
        reply.fail(error)
    except Exception:
        # One of the fences: a bug in one method must not take the gateway, nor the router, down.
        log.exception("%s: internal error; parameters: %.1000r", method, params)
        reply.fail(ApiError(500, "internal error of the router, see its log"))
    return reply


def _answer(id_: Any, result: object, error: ApiError | None) -> bytes | None:
    if error is not None:
        return _error(id_, error.rpc_code, error.message)
    if id_ is None:
        return None
    try:
        return msgspec.json.encode({"jsonrpc": "2.0", "result": result, "id": id_})
    except RecursionError:  # just not too deep to be read, or kept, but with what is around it
        return _error(id_, 500, "the result is nested too deep")


def _error(id_: Any, code: int, message: str) -> bytes:
    """Also a request without an id is told of its error, as Moonraker does."""
    return msgspec.json.encode({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id_})


def notification(name: str, *params: object) -> bytes:
    """``notify_<name>``; ``params`` is left out where there is none, as Moonraker does."""
    message: dict[str, object] = {"jsonrpc": "2.0", "method": f"notify_{name}"}
    if params:
        message["params"] = params
    return msgspec.json.encode(message)


_MISSING = re.compile(r"Object missing required field `(\w+)`")
_WHERE = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)


def decode_params(params: Mapping[str, Any], kind: type) -> Any:
    """Parameters as the struct ``kind``; numbers and booleans may be text, as HTTP brings them.

    Raises ApiError (400), in Moonraker's words where a parameter is missing.
    """
    try:
        return msgspec.convert(params, kind, strict=False)
    except msgspec.ValidationError as error:
        text = str(error)
    if missing := _MISSING.match(text):
        raise ApiError(400, f"No data for argument: {missing[1]}")
    if where := _WHERE.fullmatch(text):
        raise ApiError(400, f"Unable to convert argument [{where[2]}]: {where[1]}")
    raise ApiError(400, text)
