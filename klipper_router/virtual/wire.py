"""Frames of the API server: JSON objects ended by 0x03.

Written against what Klipper does with msgspec (klippy/webhooks.py), with the standard library only, and on purpose
sharing nothing with the router's own codec.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, NoReturn

END = b"\x03"

# "\ud800" as an escape is no text. msgspec refuses it, the standard library does not.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


# What the standard library makes of the keys None, True and False, which msgspec refuses.
_KEYS_NOT_NUMBERS = ('"null":', '"true":', '"false":')


class FrameError(ValueError):
    """A frame that Klippy drops without an answer."""


class EncodeError(ValueError):
    """A value that Klippy cannot send; it shuts the printer down (klippy/webhooks.py: ClientConnection.send)."""


def decode(frame: bytes) -> dict[str, Any]:
    """One JSON object. Raises FrameError for anything else."""
    try:
        value = json.loads(frame.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as e:
        raise FrameError(str(e)) from None
    if not isinstance(value, dict):
        raise FrameError("Not a top-level dictionary")
    if b"\\u" in frame:
        everything = json.loads(frame, object_pairs_hook=list)  # of two equal keys a map would keep the last one only
        if _SURROGATE.search(json.dumps(everything, ensure_ascii=False)):
            raise FrameError("invalid unicode surrogate pair")
    return value


def encode(value: object) -> bytes:
    """Compact JSON in UTF-8 without the end byte. inf and NaN become null. Raises EncodeError."""
    try:
        try:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)
            if any(key in text for key in _KEYS_NOT_NUMBERS):
                _check_keys(value)
        except ValueError:
            # msgspec writes null for them; the standard library has no such switch.
            text = json.dumps(_without_nan(value), separators=(",", ":"), ensure_ascii=False, default=_plain)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise EncodeError(str(e)) from None


def _refuse_constant(name: str) -> NoReturn:
    raise FrameError(f"JSON is malformed: {name}")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise FrameError(f"Number out of range: {text}")
    return number


def _plain(value: object) -> object:
    """What msgspec encodes beyond the standard library; its words for what it does not."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def _check_keys(value: Any) -> None:
    """Raises TypeError in msgspec's words."""
    if isinstance(value, dict):
        if any(key is None or isinstance(key, bool) for key in value):
            raise TypeError("Only dicts with str-like or number-like keys are supported")
        for item in value.values():
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
