"""Keys of JSON objects that stand there twice: nobody writes them, and readers may take either."""

from __future__ import annotations

from typing import Any


class Twice(Exception):
    """A key that stands twice in an object."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``object_pairs_hook`` of `json.loads`. Raises Twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Twice
    return made
