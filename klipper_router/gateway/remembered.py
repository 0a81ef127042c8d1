"""What clients ask again and again is worked out once, and what they make up fills no memory. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def remembered(most: int, *, up_to: int) -> Callable[[Function], Function]:
    """Keep the ``most`` last results of a pure function, of those whose first argument is no longer than ``up_to``.

    A plain `functools.lru_cache` is bounded in its number only, and anyone may make up long ones for ever. Arguments
    are given by their place.
    """

    def decorate(function: Function) -> Function:
        known = functools.lru_cache(most)(function)

        @functools.wraps(function)
        def call(first: Any, *rest: Any) -> Any:
            return known(first, *rest) if len(first) <= up_to else function(first, *rest)

        return cast(Function, call)

    return decorate
