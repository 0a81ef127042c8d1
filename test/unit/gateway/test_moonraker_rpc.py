"""JSON-RPC as Moonraker speaks it: whatever comes is answered once, or needs no answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway.moonraker import rpc
from klipper_router.gateway.moonraker.rpc import ApiError, Reply

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "method": st.sampled_from(["echo", "fails", "breaks", "none", 3]),
        "params": st.dictionaries(st.text(), JSON, max_size=2) | JSON,
        "id": st.none() | st.integers(-(2**70), 2**70) | st.text() | st.booleans(),
    },
)


def lookup(name: str) -> rpc.Serve:
    if name == "none":
        raise ApiError(404, "Method not found")

    def serve(params: Mapping[str, Any]) -> object:
        if name == "fails":
            raise ApiError(503, "not now")
        if name == "breaks":
            raise KeyError("a bug")
        return params

    return serve


def serve(data: str | bytes, lookup: rpc.Lookup, send: rpc.Send, none_due: Callable[[], None] = lambda: None) -> int:
    """Serve one message to its end; how often others could have had their turn."""
    return len(list(rpc.serve(data, lookup, send, none_due)))


def outcomes(data: str | bytes) -> list[Any]:
    """What is sent for one message, decoded; "none due" for nothing."""
    sent: list[Any] = []
    serve(data, lookup, lambda answer: sent.append(json.loads(answer)), lambda: sent.append("none due"))
    return sent


@given(st.binary() | st.text())
def test_any_bytes_are_answered_once(data: bytes | str) -> None:
    assert len(outcomes(data)) == 1


@given(REQUEST)
def test_any_request_is_answered_once_with_its_id(request: dict[str, Any]) -> None:
    (outcome,) = outcomes(msgspec.json.encode(request))
    if outcome == "none due":
        assert request["jsonrpc"] == "2.0"
        assert "method" not in request or request.get("id") is None
    else:
        assert outcome["id"] == request.get("id")
        assert ("result" in outcome) != ("error" in outcome)
        assert outcome["jsonrpc"] == "2.0"


@given(st.lists(REQUEST, min_size=1, max_size=6))
def test_a_batch_is_answered_as_its_requests_are(requests: list[dict[str, Any]]) -> None:
    alone = [outcomes(msgspec.json.encode(request))[0] for request in requests]
    expected = [outcome for outcome in alone if outcome != "none due"]
    assert outcomes(msgspec.json.encode(requests)) == [expected or "none due"]


def test_a_bug_in_a_method_is_an_error_of_that_request(caplog: pytest.LogCaptureFixture) -> None:
    (answer,) = outcomes('{"jsonrpc": "2.0", "method": "breaks", "id": 1}')
    assert answer["error"]["code"] == 500
    assert "a bug" in caplog.text


def test_a_batch_waits_for_its_last_answer() -> None:
    replies = {"a": Reply(), "b": Reply()}
    sent: list[bytes] = []
    batch = json.dumps([{"jsonrpc": "2.0", "method": name, "id": name} for name in replies])
    serve(batch, lambda name: lambda params: replies[name], sent.append)
    replies["b"].answer(2)
    assert sent == []
    replies["a"].fail(ApiError(400, "no"))
    assert [answer["id"] for answer in json.loads(sent[0])] == ["a", "b"]


def a_batch(size: int, method: str = "echo") -> str:
    return json.dumps([{"jsonrpc": "2.0", "method": method, "id": number} for number in range(size)])


def test_a_batch_lets_others_have_their_turn_between_its_requests() -> None:
    served: list[str] = []

    def noting(name: str) -> rpc.Serve:
        served.append(name)
        return lookup(name)

    serving = rpc.serve(a_batch(10), noting, lambda answer: None, lambda: None)
    assert not served
    for number, _ in enumerate(serving, 1):
        assert len(served) == number
    assert len(served) == 10


def test_a_batch_of_more_than_mainsails_is_refused_with_the_number() -> None:
    assert len(outcomes(a_batch(rpc.MAX_BATCH))[0]) == rpc.MAX_BATCH
    (refused,) = outcomes(a_batch(rpc.MAX_BATCH + 1))
    assert refused["error"]["code"] == -32600
    assert f"at most {rpc.MAX_BATCH} requests" in refused["error"]["message"]


@pytest.mark.parametrize("later", [False, True])
def test_the_answers_of_a_batch_do_not_fill_the_memory(later: bool) -> None:
    large = "x" * (rpc.MAX_BATCH_ANSWER_BYTES // 4)
    replies: list[Reply] = []

    def answer_largely(name: str) -> rpc.Serve:
        replies.append(Reply())
        return lambda params: replies[-1] if later else large

    sent: list[bytes] = []
    serve(a_batch(20), answer_largely, sent.append)
    for reply in replies if later else ():
        reply.answer(large)
    assert len(sent[0]) < rpc.MAX_BATCH_ANSWER_BYTES + 10_000
    answers = json.loads(sent[0])
    assert [answer["id"] for answer in answers] == list(range(20))
    assert ["result" in answer for answer in answers] == [True] * 3 + [False] * 17
    assert "ask for less" in answers[-1]["error"]["message"]
    assert len(replies) == (20 if later else 4)  # what cannot be answered is not asked for


@pytest.mark.parametrize(("status", "code"), [(404, -32601), (401, -32602), (400, 400), (503, 503)])
def test_a_status_becomes_moonrakers_code(status: int, code: int) -> None:
    assert ApiError(status, "").rpc_code == code


def test_what_is_nested_to_the_limit_is_answered() -> None:
    for depth in range(900, 1100, 7):
        nested = "[" * depth + "]" * depth
        for text in (
            f'{{"jsonrpc": "2.0", "method": "echo", "params": {{"a": {nested}}}, "id": 1}}',
            f'{{"jsonrpc": "2.0", "method": "echo", "id": {nested}}}',
            f'[{{"jsonrpc": "2.0", "method": {nested}, "id": 1}}]',
        ):
            sent: list[bytes] = []
            serve(text, lookup, sent.append)
            assert len(sent) == 1


class Params(msgspec.Struct):
    name: str
    count: int | None = None
    flag: bool = False


def test_arguments_may_be_text_as_http_has_them() -> None:
    assert rpc.decode_params({"name": "x", "count": "7", "flag": "true", "more": 1}, Params) == Params("x", 7, True)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ApiError, match="No data for argument: name"):
        rpc.decode_params({}, Params)
    with pytest.raises(ApiError, match=r"Unable to convert argument \[count\]"):
        rpc.decode_params({"name": "x", "count": "many"}, Params)


def test_a_notification_without_params_has_none() -> None:
    assert json.loads(rpc.notification("klippy_ready")) == {"jsonrpc": "2.0", "method": "notify_klippy_ready"}
    assert json.loads(rpc.notification("gcode_response", "ok"))["params"] == ["ok"]
