"""The JSON on our sockets: what is read, what is mended, and that bad input gives a named error and nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from klipper_router import messages
from klipper_router.errors import CallError, ProtocolError
from klipper_router.messages import (
    CallParams,
    EventTriggerParams,
    FromClient,
    FromKlippy,
    Info,
    ObjectsSubscribeParams,
    ScriptParams,
    StatusParams,
    ToKlippy,
    decode,
    decode_params,
    encode,
    lost_answer_id,
)

FROM_KLIPPY = msgspec.json.Decoder(FromKlippy)
FROM_CLIENT = msgspec.json.Decoder(FromClient)
STATUS = msgspec.json.Decoder(StatusParams)
INFO = msgspec.json.Decoder(Info)
RAW_MAP = msgspec.json.Decoder(dict[str, Raw])
DECODERS: tuple[msgspec.json.Decoder[Any], ...] = (FROM_KLIPPY, FROM_CLIENT, STATUS, INFO, RAW_MAP)

FIELDS = ("id", "params", "result", "error")

DEEP = b'{"params":' + b"[" * 100_000
LONG = b'{"%b":"' + b"x" * 257 + b'"}'
HUGE = b'{"id":' + b"9" * 5000 + b',"result":{}}'

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KNOWN_KEYS = st.sampled_from(["id", "method", "remote_method", "params", "result", "error", "status", "eventtime", "x"])
LIKELY = st.dictionaries(KNOWN_KEYS, ANY_JSON, max_size=4).map(lambda value: json.dumps(value).encode())
BROKEN = st.builds(
    lambda frame, cut, piece: frame[:cut] + piece + frame[cut:],
    LIKELY,
    st.integers(0, 30),
    st.sampled_from(
        [b"", b"\xff", b"\\ud800", b"NaN", b"\x00", b'"', b"{", b"1e400", b"\\", b"-", b",", b"\xed\xa0\x80"]
    ),
)


@given(st.binary(max_size=60) | LIKELY | BROKEN, st.sampled_from(DECODERS))
@example(b"", FROM_KLIPPY)
@example(b"[]", FROM_CLIENT)
@example(DEEP, FROM_KLIPPY)
@example(DEEP, RAW_MAP)
@example(HUGE, FROM_KLIPPY)
@example(HUGE, RAW_MAP)
@example(b"9" * 5000, RAW_MAP)
@example(b'{"a":1e400}', RAW_MAP)
@example(b'{"eventtime":1e400,"status":{}}', STATUS)
@example(b'{"id":1e400}', FROM_KLIPPY)
@example(b'{"method":"\xff"}', FROM_CLIENT)
def test_reading_arbitrary_bytes_raises_a_protocol_error_or_nothing(
    frame: bytes, decoder: msgspec.json.Decoder[Any]
) -> None:
    lost_answer_id(frame)
    try:
        message = decode(frame, decoder)
    except ProtocolError:
        return
    for raw in message.values() if isinstance(message, dict) else (getattr(message, name, None) for name in FIELDS):
        if isinstance(raw, Raw):
            bytes(raw).decode()  # what is passed on is UTF-8: Klippy drops a request that is not


def test_an_answer_is_read_in_two_steps() -> None:
    message = decode(b'{"id": 7, "result": {"status": {"a b": {"c": [1, "x"]}}, "eventtime": 1.5}}', FROM_KLIPPY)
    assert (message.id, bytes(message.error), bytes(message.params)) == (7, b"", b"")
    status = decode(bytes(message.result), STATUS)
    assert status.eventtime == 1.5
    assert {name: bytes(value) for name, value in status.status["a b"].items()} == {"c": b'[1, "x"]'}


def test_a_macros_call_is_told_from_a_status_update() -> None:
    call = decode(b'{"params": {"event": "x"}, "remote_method": "router/event/trigger"}', FROM_KLIPPY)
    assert (call.remote_method, call.method, bytes(call.params)) == ("router/event/trigger", "", b'{"event": "x"}')
    update = decode(b'{"method": "router/objects/update", "params": {"status": {}}}', FROM_KLIPPY)
    assert (update.remote_method, update.method) == ("", "router/objects/update")


@pytest.mark.parametrize("id_", ["1", '"a"', "null", "[1]", "{}", "1.5"])
def test_a_clients_id_is_kept_as_it_came(id_: str) -> None:
    assert bytes(decode(b'{"id": %s, "method": "info"}' % id_.encode(), FROM_CLIENT).id).decode() == id_


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_strict_json_lacks_is_read_as_null(constant: bytes) -> None:
    frame = b'{"params": {"status": {"heater": {"target": %s, "power": 0.5}}}}' % constant
    status = decode(bytes(decode(frame, FROM_KLIPPY).params), STATUS).status
    assert {key: bytes(value) for key, value in status["heater"].items()} == {"target": b"null", "power": b"0.5"}


def test_a_number_that_no_float_can_hold_is_null_in_a_frame_that_is_mended() -> None:
    frame = b'{"params": {"a": NaN, "b": 1e400, "c": 123456789012345678901234567890}}'
    params = decode(frame, FROM_KLIPPY).params
    assert bytes(params) == b'{"a":null,"b":null,"c":123456789012345678901234567890}'


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b'{"method": "x", "params": "a\\ud800b"}', '"a?b"'),
        (b'{"method": "x", "params": "\\ud83d\\ude00"}', '"😀"'),
        (b'{"method": "x", "params": "a\xffb"}', '"a\ufffdb"'),
        (b'{"method": "x", "params": "a\xed\xa0\x80b"}', '"a\ufffd\ufffd\ufffdb"'),
    ],
)
def test_half_characters_are_replaced_and_the_frame_is_not_lost(frame: bytes, text: str) -> None:
    params = bytes(decode(frame, FROM_KLIPPY).params)
    assert json.loads(params) == json.loads(text)
    params.decode()


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"[1]", "unexpected shape of a message (Expected `object`, got `array`): '[1]'"),
        (b'{"id":"x"}', 'unexpected shape of a message (Expected `int | null`, got `str` - at `$.id`): \'{"id":"x"}\''),
        (b"{", "unreadable JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): '{'"),
        (
            b'{"y":NaN,"id":"x"}',
            'unreadable JSON (Expected `int | null`, got `str` - at `$.id`): \'{"y":NaN,"id":"x"}\'',
        ),
    ],
)
def test_the_error_of_an_unreadable_frame_shows_how_it_began(frame: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frame, FROM_KLIPPY)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("head", "id_"),
    [
        (b'{"id":12,"result":{"a":', 12),
        (b'{ "id" : 3 , "error"', 3),
        (b'{"id":12', None),
        (b'{"id":"x","result"', None),
        (b'{"method":"x"}', None),
        (b"", None),
        (b'{"id":' + b"9" * 5000 + b",", None),
    ],
)
def test_whose_answer_is_unreadable_is_known_from_its_head(head: bytes, id_: int | None) -> None:
    assert lost_answer_id(head) == id_


@given(st.text(max_size=5), ANY_JSON)
@example("", {})
def test_what_is_sent_is_one_frame_of_json_with_id_and_method(method: str, params: Any) -> None:
    try:
        frame = encode(ToKlippy(3, method, params))
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError):
        return
    assert frame.endswith(b"\x03")
    assert frame.count(b"\x03") == 1
    assert json.loads(frame[:-1]).items() >= {"id": 3, "method": method}.items()


def test_a_request_without_params_does_not_name_them() -> None:
    assert encode(ToKlippy(3, "info")) == b'{"id":3,"method":"info"}\x03'


def test_parameters_are_read_and_numbers_may_be_text() -> None:
    assert decode_params(b'{"script": "G28", "wait": "2.5"}', ScriptParams) == ScriptParams("G28", wait=2.5)
    assert decode_params(b'{"objects": {"a": null, "b": ["c"]}}', ObjectsSubscribeParams).objects == {
        "a": None,
        "b": ["c"],
    }
    assert decode_params(b'{"event": "e", "context": "a=1"}', EventTriggerParams).context == "a=1"
    assert decode_params(b"", messages.PrintersListParams) == messages.PrintersListParams()


@pytest.mark.parametrize(
    ("params", "kind", "why"),
    [
        (b"{}", ScriptParams, "missing parameter 'script'"),
        (b"", ScriptParams, "missing parameter 'script'"),
        (b'{"script":"x","tarket":"a"}', ScriptParams, "unknown parameter 'tarket', did you mean 'target'?"),
        (
            b'{"script":"x","zz":1}',
            ScriptParams,
            "unknown parameter 'zz' (script, target, wait, gcode_callback, error_callback)",
        ),
        (b'{"script":1}', ScriptParams, "parameter 'script': expected text, got number"),
        (b'{"script":"x","wait":"soon"}', ScriptParams, "parameter 'wait': expected number, got text"),
        (b'{"objects":["a"]}', ObjectsSubscribeParams, "parameter 'objects': expected map, got list"),
        (
            b'{"objects":{"a":"b"}}',
            ObjectsSubscribeParams,
            "parameter 'objects[...]': expected list | null, got text",
        ),
        (b"[]", ScriptParams, "parameters: expected map, got list"),
        (LONG % b"event", EventTriggerParams, "parameter 'event': expected text of length <= 256"),
        (LONG % b"target", ScriptParams, "parameter 'target': expected text of length <= 256"),
        (LONG % b"error_callback", EventTriggerParams, "parameter 'error_callback': expected text of length <= 256"),
        (b'{"method":"x","params":{"a":1e400}}', CallParams, "parameter 'params[...]': number out of range"),
    ],
)
def test_wrong_parameters_are_explained_to_someone_who_writes_macros(params: bytes, kind: type, why: str) -> None:
    with pytest.raises(CallError) as caught:
        decode_params(params, kind)
    assert str(caught.value) == why


def nested(levels: int) -> dict[str, Any]:
    inner: Any = 1
    for level in range(levels - 1):
        inner = [inner] if level % 2 else {"a": inner, "b": 2}
    return {"a": inner}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ({"method": "x", "key": 1}, None),
        ({"a": "x" * (messages.MAX_RESPONSE_TEMPLATE_BYTES - 8)}, None),
        ({"a": "x" * (messages.MAX_RESPONSE_TEMPLATE_BYTES - 7)}, "4097 bytes, 4096 are the most"),
        (nested(messages.MAX_RESPONSE_TEMPLATE_DEPTH), None),
        (nested(messages.MAX_RESPONSE_TEMPLATE_DEPTH + 1), "nested deeper than 16 levels"),
        (nested(50_000), "nested deeper than 16 levels"),
    ],
    ids=["usual", "longest", "too long", "deepest", "too deep", "very deep"],
)
def test_a_response_template_is_small_and_flat(template: dict[str, Any], why: str | None) -> None:
    if why is None:
        messages.check_response_template(template)
        return
    with pytest.raises(CallError, match=why):
        messages.check_response_template(template)


@given(st.binary(max_size=60) | LIKELY | BROKEN, st.sampled_from([ScriptParams, CallParams, dict[str, Any]]))
@example(DEEP, CallParams)
@example(b'{"script":"\xff"}', ScriptParams)
@example(b'{"method":"\\ud800"}', CallParams)
@example(b'{"\n":1,"script":""}', ScriptParams)
def test_arbitrary_parameters_raise_a_call_error_or_nothing(params: bytes, kind: type) -> None:
    with contextlib.suppress(CallError):
        decode_params(params, kind)
