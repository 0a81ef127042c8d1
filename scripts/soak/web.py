"""All that takes part of the gateway: what stands behind it, who uses it, and how much of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from scripts.soak import web_clients
from scripts.soak.books import Books
from scripts.soak.router_process import Gateway, RouterProcess
from scripts.soak.upstream import ToyCamera, ToyMoonraker
from scripts.soak.web_clients import Exchanger, Poster, Web, WebSocketClient
from scripts.soak.web_misdeeds import misbehave
from scripts.soak.wire import free_port

WEBSOCKET_CLIENTS = 3
POSTERS = 2
EXCHANGERS = 4
VIEWERS = 3
BAD_CLIENTS = 4


class WebSide:
    """Every third printer has a Moonraker of its own; the router answers for the others."""

    def __init__(self, names: Sequence[str], folder: Path, books: Books, seed: str) -> None:
        self._names = names
        self._seed = seed
        self._books = books
        self._behind = names[1::3]
        self._answered_for = [name for name in names if name not in self._behind]
        moonrakers = {name: ToyMoonraker(f"{seed} moonraker {name}", books) for name in self._behind}
        cameras = {name: ToyCamera(f"{seed} camera {name}") for name in names[:2]}
        self._toys = [*moonrakers.values(), *cameras.values()]
        self.gateway = Gateway(
            free_port(),
            folder / "gateway",
            {name: f"http://127.0.0.1:{moonrakers[name].port}" if name in moonrakers else "none" for name in names},
            {name: f"http://127.0.0.1:{camera.port}/?action=stream" for name, camera in cameras.items()},
        )
        self.workers: list[WebSocketClient | Poster | Exchanger] = []

    def open(self, router: RouterProcess) -> None:
        """Before `workers` are there, and the others can run."""
        self._web = web = Web(router, self._books)
        here, behind, seed = self._answered_for, list(self._behind), self._seed
        self.workers = [
            *(WebSocketClient(f"WebSocket {n}", web, here, self._books, seed) for n in range(WEBSOCKET_CLIENTS)),
            *(Poster(f"POST {n}", web, here, seed) for n in range(POSTERS)),
            *(Exchanger(f"proxied {n}", web, behind, seed) for n in range(EXCHANGERS)),
        ]

    async def run(self) -> None:
        """For ever: what stands behind the gateway, and who follows and watches."""
        web, seed = self._web, self._seed
        async with trio.open_nursery() as nursery:
            for toy in self._toys:
                nursery.start_soon(toy.run)
            for name in self._answered_for:
                nursery.start_soon(web_clients.follow, "web follower", web, name)
            nursery.start_soon(web_clients.watch_dashboard, web, self._names)
            nursery.start_soon(web_clients.converse, web, self._behind, f"{seed} converse")
            for number in range(VIEWERS):
                nursery.start_soon(web_clients.view, web, [*self.gateway.cameras], f"{seed} view {number}")

    async def misbehave(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            for number in range(BAD_CLIENTS):
                seed = f"{self._seed} web misbehave {number}"
                nursery.start_soon(misbehave, self._web, self._behind, self._answered_for, seed)
