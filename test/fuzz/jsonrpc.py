"""JSON-RPC of the gateway: the text of a WebSocket at a printer's API, and at the router's own.

Invariant: nothing escapes and nothing is fenced off; one message gets one answer or none, a batch one of as many
answers as it has requests that want one; each answer is JSON-RPC 2.0 with the id that was asked with, a result or an
error of Moonraker's codes; a method gets the params that were sent.
Input: one message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from klipper_router.gateway.moonraker import rpc
from klipper_router.gateway.moonraker.rpc import ApiError

WORDS = (
    b'{"jsonrpc":"2.0","method":"echo","params":{"a":1},"id":1}',
    b'{"jsonrpc":"2.0","method":"refuse","id":2}',
    b'{"jsonrpc":"2.0","method":"later","id":3}',
    b'{"jsonrpc":"2.0","method":"unknown"}',
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
