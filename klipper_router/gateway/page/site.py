"""`Page`: the router's own part of the gateway's URL space."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse, Site, WebSocket, WebSocketClosed
from klipper_router.gateway.page.api import TABLE
from klipper_router.gateway.page.inventory import Apply, Inventory, Options
from klipper_router.gateway.page.live import Live
from klipper_router.gateway.page.rpc import RpcCaller
from klipper_router.router import Router

SUBSCRIBE_METHOD = "router/dashboard/subscribe"
WEBSOCKET_PATH = "/router/websocket"

Discover = Callable[[str], Awaitable[Sequence[tuple[str, Options]]]]
"""Looks for the cameras of a printer: a name, and the options of ``[camera PRINTER NAME]``, of each. May raise
HttpError."""

Extras = Callable[[str], dict[str, Any]]
"""What a printer's card holds besides its state: ``links`` and ``cameras``; see `card`."""


class Page(Site):
    """The dashboard, the API, metrics. Run `run` beside it.

    :param apply: makes a changed configuration the one in force (`Router.reconfigure`, and the gateway's own).
    :param extras: links and cameras of a printer's card.
    :param discover: None: cameras are not looked for.
    """

    def __init__(
        self, router: Router, inventory: Inventory, apply: Apply, extras: Extras, discover: Discover | None = None
    ) -> None:
        self.router = router
        self.inventory = inventory
        self.apply = apply
        self.discover = discover
        self.live = Live(router, extras)

    async def run(self) -> None:
        """Keep the dashboards up to date, for ever."""
        await self.live.keep_updating()

    def is_open(self, request: HttpRequest) -> bool:
        """The page itself is; what it shows is not."""
        with contextlib.suppress(HttpError):
            return TABLE.find(request.method, request.path)[0].open
        return False

    async def handle(self, request: HttpRequest) -> HttpResponse:
        route, names = TABLE.find(request.method, request.path)
        return await route.serve(self, request, names)

    def check_websocket(self, request: HttpRequest) -> None:
        if request.path != WEBSOCKET_PATH:
            raise HttpError(404, f"there is no WebSocket here, but at {WEBSOCKET_PATH}")

    async def websocket(self, socket: WebSocket) -> None:
        """JSON-RPC in both directions, until the client goes."""
        with contextlib.ExitStack() as dashboards:

            def subscribe() -> object:
                if not subscribed:
                    subscribed.append(True)
                    dashboards.enter_context(self.live.dashboard(socket.post))
                return self.live.snapshot()

            subscribed: list[bool] = []
            caller = RpcCaller(self.router, f"web {socket.request.peer.ip}", socket.post, {SUBSCRIBE_METHOD: subscribe})

            def answer(made: bytes | None) -> None:
                if made is not None:
                    socket.post(made.decode())

            try:
                with contextlib.suppress(WebSocketClosed):
                    while True:
                        message = await socket.receive()
                        caller.take(message if isinstance(message, bytes) else message.encode(), answer)
            finally:
                self.router.drop(caller)
