"""The running router: one nursery that owns every printer and the API socket, and ends on a signal."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import trio

from klipper_router import __version__, api_socket, supervision
from klipper_router.config import Config, load
from klipper_router.errors import ConfigError
from klipper_router.gateway.settings import INSTALL, PACKAGES
from klipper_router.link import Dial, dial_unix
from klipper_router.listening import bound_socket
from klipper_router.remote_methods import METHODS
from klipper_router.router import Router

log = logging.getLogger("klipper_router")


async def serve(
    config: Config, *, dial: Dial = dial_unix, task_status: trio.TaskStatus[Router] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run until cancelled; started once the API socket accepts. Raises ConfigError, having started nothing."""
    with bound_socket(config.router, config.places) as sock, _gateway(config) as gateway:
        await _serve_on(sock, config, gateway, dial=dial, task_status=task_status)


class Source(Protocol):
    """Where a configuration comes from."""

    config: Config

    def reread(self) -> Config:
        """Read it again. Raises ConfigError; then ``config`` is as it was."""

    def notes(self) -> list[str]:
        """What is no mistake, but may not be what was meant; with file and line."""


class Files:
    """A configuration as it stands in its files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.config = load(path)

    def reread(self) -> Config:
        """See `Source`."""
        self.config = load(self._path)
        return self.config

    def notes(self) -> list[str]:
        """See `Source`."""
        return self.config.notes()


def source(path: Path) -> Source:
    """A configuration's files, and over them what was changed on the dashboard. Raises ConfigError."""
    files = Files(path)
    _check_packages(files.config)
    gateway = files.config.gateway
    if gateway is None:
        return files
    from klipper_router.gateway.page.inventory import Inventory

    return Inventory.read(path, gateway.data)


def _check_packages(config: Config) -> None:
    """Raises ConfigError if the configuration wants what is not installed."""
    title = "gateway" if config.gateway else next((f"forward {name}" for name in config.forward), None)
    if title and (missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]):
        raise config.error(title, "", f"needs further packages ({', '.join(missing)}): {INSTALL}")


def check(source: Source) -> list[str]:
    """Look at what a start would look at, and return what is to be noted. Raises ConfigError for what would end it."""
    config = source.config
    if not config.gateway and not config.forward:
        return source.notes()
    from klipper_router.gateway import app as gateway

    gateway.check(config)
    return [*source.notes(), *gateway.notes(config)]


async def serve_until_signal(source: Source) -> None:
    """Run the router until SIGTERM or SIGINT; at SIGHUP its configuration is read again.

    Raises ConfigError, having started nothing.
    """
    config = source.config
    # The socket is bound outside of any nursery, so that its error is not wrapped into a group.
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        bound_socket(config.router, config.places) as sock,
        _gateway(config, source) as gateway,
    ):
        async with trio.open_nursery() as nursery:
            router = await nursery.start(_serve_on, sock, config, gateway)
            _log_notes(source)
            nursery.start_soon(supervision.tell_watchdog)
            supervision.notify("READY=1")
            async for number in signals:
                if number == signal.SIGHUP:
                    _reload(router, source)
                    continue
                log.info("%s: stopping", signal.Signals(number).name)
                supervision.notify("STOPPING=1")
                nursery.cancel_scope.cancel()
                return


def _reload(router: Router, source: Source) -> None:
    """A configuration that is wrong changes nothing: whoever edits it beside a print gets a second chance."""
    supervision.notify(supervision.reloading())
    old = router.config
    try:
        changes = router.reconfigure(source.reread())
    except ConfigError as error:
        log.error("configuration: not reloaded, nothing was changed: %s", error)
    else:
        if router.config.router != old.router:
            log.warning("configuration: of [router] only default_instance counts before the next start")
        if (router.config.gateway, router.config.forward) != (old.gateway, old.forward):
            log.warning("configuration: [gateway] and [forward] count from the next start on")
        log.info("configuration: reloaded, %s", ", ".join(changes) or "no printer changed")
        _log_notes(source)
    supervision.notify("READY=1")


def _log_notes(source: Source) -> None:
    for note in source.notes():
        log.info("configuration: %s", note)


ServeGateway = Callable[[Router], Awaitable[None]]


@contextlib.contextmanager
def _gateway(config: Config, source: Source | None = None) -> Iterator[ServeGateway | None]:
    """What serves HTTP and forwards, its addresses bound; None: nothing of it is configured. Raises ConfigError."""
    if config.gateway is None and not config.forward:
        yield None
        return
    _check_packages(config)
    # Only then: it needs memory.
    from klipper_router.gateway import app as gateway
    from klipper_router.gateway.page.inventory import Inventory

    with gateway.prepared(config, source if isinstance(source, Inventory) else None) as ready:
        yield lambda router: gateway.serve(router, ready)


async def _serve_on(
    sock: trio.socket.SocketType,
    config: Config,
    serve_gateway: ServeGateway | None,
    *,
    dial: Dial = dial_unix,
    task_status: trio.TaskStatus[Router] = trio.TASK_STATUS_IGNORED,
) -> None:
    router = Router(config, dial=dial, methods=METHODS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.run)
        nursery.start_soon(api_socket.serve, router, sock)
        if serve_gateway:
            nursery.start_soon(serve_gateway, router)
        log.info("Klipper Router %s serves %s on %s", __version__, ", ".join(router.printers), config.router.sock)
        task_status.started(router)
