"""The running router: one nursery that owns every printer and the API socket, and ends on a signal."""

from __future__ import annotations

import logging
import signal

import trio

from klipper_router import __version__, api_socket
from klipper_router.config import Config
from klipper_router.link import Dial, dial_unix
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router

log = logging.getLogger("klipper_router")


async def serve(
    config: Config, *, dial: Dial = dial_unix, task_status: trio.TaskStatus[Router] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run until cancelled; started once the API socket accepts. Raises ConfigError, having started nothing."""
    with api_socket.bound_socket(config.router.sock) as sock:
        await _serve_on(sock, config, dial=dial, task_status=task_status)


async def serve_until_signal(config: Config) -> None:
    """Run the router until SIGTERM or SIGINT. Raises ConfigError, having started nothing."""
    # The socket is bound outside of any nursery, so that its error is not wrapped into a group.
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        api_socket.bound_socket(config.router.sock) as sock,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve_on, sock, config)
            async for number in signals:
                log.info("%s: stopping", signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                return


async def _serve_on(
    sock: trio.socket.SocketType,
    config: Config,
    *,
    dial: Dial = dial_unix,
    task_status: trio.TaskStatus[Router] = trio.TASK_STATUS_IGNORED,
) -> None:
    router = Router(config, dial=dial, methods=METHODS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.run)
        nursery.start_soon(api_socket.serve, router, sock)
        log.info("Klipper Router %s serves %s on %s", __version__, ", ".join(router.printers), config.router.sock)
        task_status.started(router)
