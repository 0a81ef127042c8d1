"""The JSON that crosses our sockets, as typed structs: Klippy's frames, API clients' requests, the remote methods.

Decoding is done in two steps: one envelope whose contents stay raw, then the typed contents where they are wanted.
Raw values are views into the frame's buffer: copy (``bytes(raw)``) what outlives it.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from klipper_router.errors import ParameterError, ProtocolError
from klipper_router.framing import FRAME_END

T = TypeVar("T")

ABSENT = Raw(b"")

# What callers name (an event, a printer, a macro, an endpoint) is kept, logged and shown.
MAX_NAME_CHARACTERS = 256
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARACTERS)]
# A client has hundreds of them kept, and none needs more than a few names in it.
MAX_RESPONSE_TEMPLATE_BYTES = 4096
# It is written wherever an event happens. Where the stack is deeper than it was when it was read, what could just be
# read cannot be written.
MAX_RESPONSE_TEMPLATE_DEPTH = 16

# A status in transit: object name -> field -> JSON text of the value.
Status = dict[str, dict[str, bytes]]
# What to query or follow: object name -> fields, or None for all fields.
Objects = dict[str, list[str] | None]
AnyJson = Any


class FromKlippy(Struct):
    """A frame of Klippy: an answer (``id`` with ``result`` or ``error``), or one of our response templates.

    A macro's call of a remote method bears ``remote_method``, a status update ``method``.
    """

    id: int | None = None
    method: str = ""
    remote_method: str = ""
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT


class FromClient(Struct):
    """A request of an API client. ``id`` is echoed as it came, whatever JSON it is."""

    method: str
    id: Raw = ABSENT
    params: Raw = ABSENT


class OnlyId(Struct):
    """What is wanted of a request whose rest makes no sense."""

    id: Raw = ABSENT


class ToKlippy(Struct, omit_defaults=True):
    """A request of ours to Klippy. Id and method are always there: Klippy gives no answer to a frame without."""

    id: int
    method: str
    params: Any = None


class ErrorBody(Struct):
    """Klipper's shape of an error (webhooks.py WebRequestError.to_dict)."""

    message: str = ""
    error: str = "WebRequestError"


class Info(Struct):
    """What we read of Klippy's answer to ``info``."""

    state: str = "startup"
    state_message: str = ""
    software_version: str | None = ""


class StatusParams(Struct):
    """Klippy's answer to objects/query and objects/subscribe, and each status update."""

    status: dict[str, dict[str, Raw]]
    eventtime: float = 0.0


class OutputParams(Struct):
    """A line of the console (Klipper gcode/subscribe_output)."""

    response: str


class ScriptParams(Struct, forbid_unknown_fields=True):
    """router/gcode/script. ``wait``: how many seconds the target may take to become ready (0: no wait)."""

    script: str
    target: Name | None = None
    wait: float = 0.0
    gcode_callback: Name | None = None
    error_callback: Name | None = None


class EventSubscribeParams(Struct, forbid_unknown_fields=True):
    """router/event/subscribe. An API client may leave out ``gcode`` and is then told by frames."""

    event: Name
    gcode: str | None = None
    callback_target: Name | None = None
    callback_type: str = "gcode"
    response_template: dict[str, Any] | None = None
    error_callback: Name | None = None


class EventTriggerParams(Struct, forbid_unknown_fields=True):
    """router/event/trigger. ``context``: a map, or text ``k=v,k2=v2``."""

    event: Name
    context: dict[str, Any] | str | None = None
    error_callback: Name | None = None


class EventUnsubscribeParams(Struct, forbid_unknown_fields=True):
    """router/event/unsubscribe. Without ``gcode``: all handlers of the event that the caller registered."""

    event: Name
    gcode: str | None = None
    error_callback: Name | None = None


class PrintersListParams(Struct, forbid_unknown_fields=True):
    """router/printers/list."""

    gcode_callback: Name | None = None
    error_callback: Name | None = None


class StatsParams(Struct, forbid_unknown_fields=True):
    """router/stats. ``format``: ``json``, or ``prometheus`` for a client."""

    format: str = "json"
    gcode_callback: Name | None = None
    error_callback: Name | None = None


class ObjectsListParams(Struct, forbid_unknown_fields=True):
    """router/objects/list."""

    target: Name | None = None
    gcode_callback: Name | None = None
    error_callback: Name | None = None


class ObjectsQueryParams(Struct, forbid_unknown_fields=True):
    """router/objects/query."""

    objects: dict[str, list[str] | None]
    target: Name | None = None
    gcode_callback: Name | None = None
    error_callback: Name | None = None


class ObjectsSubscribeParams(Struct, forbid_unknown_fields=True):
    """router/objects/subscribe. A printer names a ``gcode_callback``; a client may give a ``response_template``."""

    objects: dict[str, list[str] | None]
    target: Name | None = None
    gcode_callback: Name | None = None
    response_template: dict[str, Any] | None = None
    error_callback: Name | None = None


class ObjectsUnsubscribeParams(Struct, forbid_unknown_fields=True):
    """router/objects/unsubscribe. Without ``gcode_callback``: everything that the caller follows on the target."""

    target: Name | None = None
    gcode_callback: Name | None = None
    error_callback: Name | None = None


class CallParams(Struct, forbid_unknown_fields=True):
    """router/call: any Klippy endpoint of the target.

    A macro says ``endpoint``: Klipper's action_call_remote_method(method, **kwargs) has taken ``method`` itself.
    """

    method: Name | None = None
    endpoint: Name | None = None
    target: Name | None = None
    params: dict[str, Any] = {}
    gcode_callback: Name | None = None
    error_callback: Name | None = None


def decode(frame: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """One frame as the struct of ``decoder``. Raises ProtocolError, never anything else.

    Klippy without msgspec writes bare ``NaN`` and ``Infinity``, and a text may hold half a surrogate pair; such a
    frame is mended (null, a replacement character) rather than lost.
    """
    try:
        if not frame.isascii():
            frame.decode()  # msgspec does not look into a Raw, and Klippy drops a request that is no UTF-8
        return decoder.decode(frame)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"unexpected shape of a message ({error})", frame) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return decoder.decode(_mended(frame))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"unreadable JSON ({error})", frame) from None


def _mended(frame: bytes) -> bytes:
    import json  # seldom needed

    value = json.loads(
        frame.decode("utf-8", "replace"),
        parse_constant=lambda _: None,
        parse_float=lambda text: number if math.isfinite(number := float(text)) else None,
    )
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


_LOST_ID = re.compile(rb'\{\s*"id"\s*:\s*(\d{1,18})\s*,')


def lost_answer_id(head: bytes) -> int | None:
    """The id in the head of an unreadable frame (Klippy and its clients write it first), so that it can be answered."""
    match = _LOST_ID.match(head)
    return int(match[1]) if match else None


_encode = msgspec.json.Encoder().encode


def encode(message: object) -> bytes:
    """One message as a frame with its end byte."""
    return _encode(message) + FRAME_END


def decode_params(params: bytes, kind: type[T]) -> T:
    """The parameters of a remote method; numbers may be given as text. Raises ParameterError, which names it."""
    try:
        return msgspec.json.decode(params or b"{}", type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise ParameterError(_explained(str(error), kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(f"unreadable parameters: {error}") from None


def check_response_template(template: dict[str, Any]) -> None:
    """Raises ParameterError for one that cannot be kept."""
    where = "parameter 'response_template'"
    if _is_deeper(template, MAX_RESPONSE_TEMPLATE_DEPTH):
        raise ParameterError(f"{where}: nested deeper than {MAX_RESPONSE_TEMPLATE_DEPTH} levels")
    if (size_bytes := len(_encode(template))) > MAX_RESPONSE_TEMPLATE_BYTES:
        raise ParameterError(f"{where}: {size_bytes} bytes, {MAX_RESPONSE_TEMPLATE_BYTES} are the most")


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not levels or any(_is_deeper(each, levels - 1) for each in inner)


def _explained(message: str, kind: type) -> str:
    """msgspec's message, in the words of someone who writes macros."""
    if match := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return f"missing parameter '{match[1]}'"
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        names: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
        import difflib  # seldom needed

        near = difflib.get_close_matches(match[1][:MAX_NAME_CHARACTERS], names, 1)
        hint = f", did you mean '{near[0]}'?" if near else f" ({', '.join(names)})"
        return f"unknown parameter '{match[1]}'{hint}"
    what, _, where = message.partition(" - at `$")
    for theirs, ours in (("object", "map"), ("array", "list"), ("str", "text"), ("int", "number"), ("float", "number")):
        what = re.sub(rf"\b{theirs}\b", ours, what)
    what = what[:1].lower() + what[1:].replace("`", "")
    where = where.rstrip("`").removeprefix(".")
    return f"parameter '{where}': {what}" if where else f"parameters: {what}"
