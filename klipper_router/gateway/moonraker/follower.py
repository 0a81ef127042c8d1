"""The part of a `callers.Caller` that whoever only follows printers has in common: it calls no remote methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from klipper_router.callers import Caller, Parameters, Request
from klipper_router.errors import RouterError
from klipper_router.messages import ObjectsSubscribeParams
from klipper_router.printer import Printer
from klipper_router.subscriptions import Subscription


class Follower:
    """A caller of the router, in the name of the gateway. ``name`` is for the log."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def own_printer(self) -> str | None:
        return None

    @property
    def group(self) -> str:
        return "gateway"

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        raise NotImplementedError("it calls no remote method")

    def failed(self, request: Request, error: RouterError) -> None:
        raise NotImplementedError("it calls no remote method")

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> None:
        raise NotImplementedError("it calls no remote method")

    def tell(self, text: str) -> None:
        """Of no use: the printer's state says as much."""

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        """A subscription has news; who follows only to have the values at hand leaves them."""

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        """An event of the router; who handles none has none."""
