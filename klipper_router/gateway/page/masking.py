"""Secrets in the values of options: shown as ``***``, and kept when such a value comes back unchanged. Pure.

Addresses of cameras hold them: ``http://user:password@camera/``, ``http://camera/?token=…``.
"""

from __future__ import annotations

import re

MASK = "***"

# Both in linear time, whatever somebody writes for an address: the router stands still meanwhile.
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*+):[^/\s]*(?=@)")
_PARAMETER = re.compile(r"([?&])([^?=&#\s]*+)=([^&#\s]+)")
_SECRET = re.compile("key|token|pass|pwd|secret|auth|sig", re.IGNORECASE)


def masked(value: str) -> str:
    """The value without the secrets in it."""
    return _PARAMETER.sub(_masked_parameter, _PASSWORD.sub(rf"\1:{MASK}", value))


def _masked_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={MASK}" if _SECRET.search(found[2]) else found[0]


def unmasked(value: str, kept: str) -> str:
    """What is meant by a value that a client sends back, where ``kept`` is the one that it was shown.

    Only as a whole: a password that moves to another host by an edit of the address would be given away.
    Raises ValueError for a changed value that still holds a mask.
    """
    if value == masked(kept):
        return kept
    if MASK in value and masked(value) == value:
        raise ValueError(f"write the secret anew where it says {MASK}: it is kept only while nothing else is changed")
    return value
