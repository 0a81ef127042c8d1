"""The router's own figures (``router/stats``), for the dashboard and for metrics."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from klipper_router import __version__
from klipper_router.callers import Caller, Parameters, Request
from klipper_router.errors import RouterError
from klipper_router.messages import ObjectsSubscribeParams
from klipper_router.printer import Printer
from klipper_router.router import Router
from klipper_router.subscriptions import Subscription

METHOD = "router/stats"
READER = "metrics"


def read(router: Router) -> dict[str, Any]:
    """The result of router/stats; empty where the router has no such method or no answer."""
    if METHOD not in router.methods:
        return {}
    reader = _Reader()
    router.serve(Request(reader, METHOD), b"{}")
    return reader.result


def facts(router: Router) -> dict[str, Any]:
    """What a dashboard says of the router itself."""
    figures = read(router)
    return {
        "version": __version__,
        "hostname": socket.gethostname(),
        **{key: figures[key] for key in ("tasks", "uptime_s", "rss_kb") if key in figures},
    }


class _Reader:
    """A caller that takes one answer, which comes at once, and nothing else."""

    name = READER
    own_printer = None
    group = "gateway"

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        self.result = msgspec.json.decode(result)

    def failed(self, request: Request, error: RouterError) -> None:
        """It is in the router's log."""

    def tell(self, text: str) -> None:
        """There is nobody to tell."""

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> NoReturn:
        raise NotImplementedError

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> NoReturn:
        raise NotImplementedError

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> NoReturn:
        raise NotImplementedError
