"""JSON-RPC of the gateway: the text of a WebSocket at a printer's API, and at the router's own.

Invariant: nothing escapes and nothing is fenced off; one message gets one answer or none, a batch one of as many
answers as it has requests that want one; each answer is JSON-RPC 2.0 with the id that was asked with, a result or an
error of the codes that there are; a method gets the params that were sent. At the router's own, what is answered later
changes only the order, and what a method gets is JSON to every reader.
Input: one message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Raw

from klipper_router.callers import Caller, Request
from klipper_router.errors import CallError
from klipper_router.gateway.moonraker import rpc
from klipper_router.gateway.moonraker.rpc import ApiError
from klipper_router.gateway.page import rpc as page_rpc
from klipper_router.gateway.page.rpc import Done, RpcCaller
from klipper_router.router import Router
from test.fuzz.keys import Twice, once

WORDS = (
    b'{"jsonrpc":"2.0","method":"echo","params":{"a":1},"id":1}',
    b'{"jsonrpc":"2.0","method":"refuse","id":2}',
    b'{"jsonrpc":"2.0","method":"later","id":3}',
    b'{"jsonrpc":"2.0","method":"unknown"}',
    b'{"jsonrpc":"2.0","method":"own","params":null,"id":"4"}',
    b'"id":null',
    b'"id":1.5',
    b"[",
    b"]",
    b",",
    b"1e400",
    b"\\ud800",
)

CODES = {rpc.PARSE_ERROR, rpc.INVALID_REQUEST, rpc.METHOD_NOT_FOUND, rpc.INVALID_PARAMS, 400}


def one_input(data: bytes) -> None:
    check_printers(data)
    check_routers(data)


def check_printers(data: bytes) -> None:
    """What `moonraker` serves."""
    served: list[Mapping[str, Any]] = []
    later: list[rpc.Reply] = []
    answers: list[bytes | None] = []

    def lookup(method: str) -> rpc.Serve:
        if method not in ("echo", "refuse", "later"):
            raise ApiError(404, "Method not found")

        def serve(params: Mapping[str, Any]) -> object:
            served.append(params)
            if method == "refuse":
                raise ApiError(400, "no")
            if method == "later":
                later.append(rpc.Reply())
                return later[-1]
            return params

        return serve

    for _ in rpc.serve(data, lookup, answers.append, lambda: answers.append(None)):
        pass
    assert len(answers) == (0 if later else 1)
    for number, reply in enumerate(reversed(later)):
        reply.answer(number)
    (answer,) = answers
    try:
        message = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = None
    calls = [each for each in (message if isinstance(message, list) else [message]) if is_call(each)]
    if isinstance(message, list) and len(message) > rpc.MAX_BATCH:
        calls = []
    assert served == [each.get("params", {}) for each in calls if each["method"] in ("echo", "refuse", "later")]
    if answer is None:
        return
    decoded = msgspec.json.decode(answer)
    given = decoded if isinstance(decoded, list) else [decoded]
    assert isinstance(decoded, list) <= isinstance(message, list)
    for each in given:
        assert each.keys() == {"jsonrpc", "id", "error" if "error" in each else "result"}
        assert each["jsonrpc"] == "2.0"
        assert "error" not in each or each["error"]["code"] in CODES
    wanted = [each["id"] for each in calls if each.get("id") is not None]
    assert [each["id"] for each in given if each["id"] is not None and "result" in each] == [
        each["id"] for each in calls if each.get("id") is not None and each["method"] in ("echo", "later")
    ]
    assert len(given) >= len(wanted)


def is_call(message: Any) -> bool:
    """What Moonraker would serve."""
    match message:
        case {"jsonrpc": "2.0", "method": str()}:
            id_, params = message.get("id"), message.get("params", {})
            return isinstance(params, dict) and not isinstance(id_, list | dict)
    return False


class FakeRouter:
    """Answers a method at once, or `later`; which it has are those of `check_printers`."""

    methods = ("echo", "refuse", "later")

    def __init__(self) -> None:
        self.served: list[bytes] = []
        self.later: list[tuple[Request, bytes]] = []

    def serve(self, request: Request, params: bytes) -> None:
        self.served.append(params)
        if request.method == "refuse":
            request.fail(CallError("no"))
        elif request.method == "later":
            self.later.append((request, params))
        else:
            request.answer(params, list)

    def drop(self, caller: Caller) -> None:
        raise AssertionError("nobody goes")


PAGE_CODES = {
    page_rpc.PARSE_ERROR,
    page_rpc.INVALID_REQUEST,
    page_rpc.METHOD_NOT_FOUND,
    page_rpc.INVALID_PARAMS,
    page_rpc.SERVER_ERROR,
}


def check_routers(data: bytes) -> None:
    """What `page` serves."""
    router = FakeRouter()
    own: list[bytes] = []
    answers: list[bytes | None] = []

    def serve_own(caller: RpcCaller, params: bytes, done: Done) -> None:
        own.append(params)
        done(Raw(params))

    caller = RpcCaller(cast(Router, router), "web", {"own": serve_own}, lambda text: None)
    for _ in caller.take(data, answers.append):
        pass  # others have their turn
    later = bool(router.later)
    assert len(answers) <= 1
    assert later or answers
    for request, params in reversed(router.later):
        request.answer(params, list)
    (answer,) = answers
    assert caller._under_way == 0
    try:
        calls = page_calls(data)
    except Twice:
        return  # of two equal keys one may be wrong; what becomes of such a request is not said
    sent = [each for each in calls if each["method"] in (*router.methods, "own")]
    assert [*map(read, sorted(router.served + own))] == [*map(read, sorted(each["params"] for each in sent))]
    if answer is None:
        assert all("id" not in each for each in calls)
        return
    decoded = json.loads(answer)
    given = decoded if isinstance(decoded, list) else [decoded]
    for each in given:
        assert each.keys() == {"jsonrpc", "id", "error" if "error" in each else "result"}
        assert each["jsonrpc"] == "2.0"
        assert "error" not in each or each["error"]["code"] in PAGE_CODES
    wanted = Counter(json.dumps(read(each["id"])) for each in sent if "id" in each and each["method"] != "refuse")
    assert Counter(json.dumps(each["id"]) for each in given if "result" in each) == wanted


def page_calls(data: bytes) -> list[dict[str, Any]]:
    """The requests that are served, or refused by name; ``params`` and ``id`` as they were written."""
    try:
        is_batch = data.lstrip()[:1] == b"["
        parts = [bytes(part) for part in msgspec.json.decode(data, type=list[Raw])] if is_batch else [data]
    except (ValueError, RecursionError):
        return []
    if is_batch and len(parts) > page_rpc.MAX_BATCH:
        return []
    calls = []
    for part in parts:
        try:
            part.decode()
            json.loads(part, object_pairs_hook=once)
            raw = msgspec.json.decode(part, type=dict[str, Raw])
            call: dict[str, Any] = {name: bytes(value) for name, value in raw.items()}
            version, method = msgspec.json.decode(call["jsonrpc"]), msgspec.json.decode(call["method"])
        except (ValueError, LookupError, RecursionError):
            continue
        params = call.get("params", b"{}")
        if version != "2.0" or not isinstance(method, str) or call.get("id", b"0")[:1] in b"{[tf":
            continue
        if params[:1] in b"{n":
            calls.append(call | {"method": method, "params": b"{}" if params == b"null" else params})
    return calls


def read(text: bytes) -> Any:
    return json.loads(text, parse_constant=refuse)


def refuse(text: str) -> None:
    raise ValueError(text)
