"""`Page`: the router's own part of the gateway's URL space."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import trio
from msgspec import Raw

from klipper_router.errors import CallError, RouterError
from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse, Site, WebSocket, WebSocketClosed
from klipper_router.gateway.page.api import TABLE
from klipper_router.gateway.page.bodies import MAX_BODY_BYTES
from klipper_router.gateway.page.inventory import Apply, Inventory, Options
from klipper_router.gateway.page.live import Live
from klipper_router.gateway.page.rpc import INVALID_PARAMS, SERVER_ERROR, Done, RpcCaller, RpcError
from klipper_router.link import Answer
from klipper_router.messages import decode_params
from klipper_router.router import Router

SUBSCRIBE_METHOD = "router/dashboard/subscribe"
EMERGENCY_STOP_METHOD = "router/emergency_stop"
WEBSOCKET_PATH = "/router/websocket"

Discover = Callable[[str], Awaitable[Sequence[tuple[str, Options, bool]]]]
"""Looks for the cameras of a printer: of each a name, the options of ``[camera PRINTER NAME]``, and whether it is shown
already. May raise HttpError."""

Extras = Callable[[str], dict[str, Any]]
"""What a printer's card holds besides its state: ``links`` and ``cameras``, as `extras.of` makes them."""

OneshotToken = Callable[[str], str]
"""A token for one request of a client at this IP address (`access.Access.oneshot_token`)."""


class EmergencyStopParams(msgspec.Struct, forbid_unknown_fields=True):
    """router/emergency_stop."""

    target: str


class Page(Site):
    """The dashboard, the API, metrics. Run `run` beside it.

    :param apply: makes a changed configuration the one in force (`Router.reconfigure`, and the gateway's own).
    :param extras: links and cameras of a printer's card.
    :param oneshot_token: for clients that need the API key, where a browser cannot send it.
    :param discover: None: cameras are not looked for.
    """

    def __init__(
        self,
        router: Router,
        inventory: Inventory,
        *,
        apply: Apply,
        extras: Extras,
        oneshot_token: OneshotToken,
        discover: Discover | None = None,
    ) -> None:
        self.router = router
        self.inventory = inventory
        self.apply = apply
        self.oneshot_token = oneshot_token
        self.discover = discover
        self.live = Live(router, extras)
        self.own_methods = {EMERGENCY_STOP_METHOD: self._emergency_stop}

    async def run(self) -> None:
        """Keep the log and the dashboards up to date, for ever."""
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
        socket.max_message_bytes = MAX_BODY_BYTES
        with contextlib.ExitStack() as dashboard:

            def subscribe(caller: RpcCaller, params: bytes, done: Done) -> None:
                dashboard.close()
                dashboard.enter_context(self.live.dashboard(socket.post))
                done(Raw(msgspec.json.encode(self.live.snapshot())))

            def answer(made: bytes | None) -> None:
                if made is not None:
                    socket.post(made.decode())

            own_methods = {**self.own_methods, SUBSCRIBE_METHOD: subscribe}
            caller = RpcCaller(self.router, f"web {socket.request.peer.ip}", own_methods, socket.post)
            try:
                with contextlib.suppress(WebSocketClosed):
                    while True:
                        message = await socket.receive()
                        for _ in caller.take(message if isinstance(message, bytes) else message.encode(), answer):
                            await trio.lowlevel.checkpoint()
            finally:
                self.router.drop(caller)

    def _emergency_stop(self, caller: RpcCaller, params: bytes, done: Done) -> None:
        """A person stops the printer: ``allow_endpoints`` need not name it, as on the printer's own page."""
        try:
            target = decode_params(params, EmergencyStopParams).target
        except CallError as error:
            done(RpcError(INVALID_PARAMS, str(error)))
            return
        printer = self.router.printers.get(target)
        if printer is None:
            done(RpcError(INVALID_PARAMS, f"no printer '{target}', the router has {', '.join(self.router.printers)}"))
            return
        try:
            self.router.gate.check_emergency_stop(caller, printer)
        except CallError as error:
            done(RpcError(SERVER_ERROR, str(error)))
            return

        def answered(answer: Answer) -> None:
            done(RpcError(SERVER_ERROR, str(answer)) if isinstance(answer, RouterError) else Raw(answer))

        self.router.note("call", "emergency stop", target, "emergency_stop")
        printer.call("emergency_stop", {}, answered)
