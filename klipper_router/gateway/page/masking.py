"""Secrets in the values of options: shown as ``***``, and kept when such a value comes back unchanged. Pure.

Addresses of cameras hold them: ``http://user:password@camera/``, ``http://camera/?token=…``.
"""

from __future__ import annotations

import re

MASK = "***"

_PASSWORD = re.compile(r"(?<=://)([^/@\s]*?):[^/\s]*(?=@)")
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&#\s]*(?:key|token|pass|pwd|secret|auth|sig)[^=&#\s]*=)[^&#\s]+", re.IGNORECASE
)


def masked(value: str) -> str:
    """The value without the secrets in it."""
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1:{MASK}", value))


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
