"""The gateway as a whole: one task tree beside the printers', from configuration to served requests.

Puts the parts together and owns their lifetimes, and has them follow the router's configuration. Who serves a request
is `dispatch`'s to say.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio

from klipper_router.config import Config
from klipper_router.errors import ConfigError
from klipper_router.gateway import forward, origins, tls
from klipper_router.gateway.access import Access
from klipper_router.gateway.cameras.site import CameraSite
from klipper_router.gateway.cameras.site import check as check_cameras
from klipper_router.gateway.dispatch import Gateway, Sites
from klipper_router.gateway.forward import Forward
from klipper_router.gateway.keys import load_api_key, read_api_key, save_api_key
from klipper_router.gateway.moonraker.printers import Moonrakers
from klipper_router.gateway.origins import Origin, Origins
from klipper_router.gateway.page import extras
from klipper_router.gateway.page.inventory import Inventory
from klipper_router.gateway.page.site import Page
from klipper_router.gateway.pool import MAX_IDLE
from klipper_router.gateway.problems import forward_address
from klipper_router.gateway.server import Listener, Server, bound
from klipper_router.gateway.settings import GatewaySection
from klipper_router.gateway.ui import patches, release
from klipper_router.gateway.ui.site import UserInterfaces
from klipper_router.gateway.watch import Watch
from klipper_router.router import Router

log = logging.getLogger("klipper_router.gateway")

# File descriptors: of a client (its own and its upstream's), of a printer beside the idle upstreams (its socket, its
# cameras, its database), and of all else.
FILES_OF_CLIENT = 2
FILES_OF_PRINTER = 16
OTHER_FILES = 160  # 100 clients of the API socket are among them
MIN_CONNECTIONS = 16


def host_names(config: Config) -> set[str]:
    """The names of this host that a configuration knows."""
    own = socket.gethostname().lower()
    names = {own, own.partition(".")[0], *(config.gateway.hosts if config.gateway else ())}
    return names.union(*(options.host for options in config.klippy.values()))


def check(config: Config) -> None:
    """What would end the start, as far as it can be told without starting. Raises ConfigError."""
    check_cameras(config)
    tls.contexts(config)
    if file := api_key_file(config):
        with _placed_api_key(config):
            read_api_key(file)


def notes(config: Config) -> list[str]:
    """What is no mistake in a configuration, but keeps something from being served; the log of a start has it, too."""
    found = []
    for name, program in patches.PROGRAMS.items():
        if directory := getattr(config.gateway, name, None):
            try:
                problems = "; ".join(release.read(program, Path(directory)).prefix_problems)
                problem = problems and f"is unknown to this router, so it is shown at own origins only: {problems}"
            except release.ReleaseError as error:
                problem = f"cannot be shown: {error}"
            if problem:
                found.append(config.told("gateway", name, f"{name} {problem}"))
    return found


def api_key_file(config: Config) -> Path | None:
    """Where the API key is kept; None: nowhere."""
    gateway = config.gateway
    if gateway is None or not (gateway.api_key_file or gateway.data):
        return None
    return Path(gateway.api_key_file) if gateway.api_key_file else Path(gateway.data or "") / "api_key"


@contextlib.contextmanager
def _placed_api_key(config: Config) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        key = "api_key_file" if config.gateway and config.gateway.api_key_file else "data"
        raise config.error("gateway", key, f"{key} {error}") from None


def make_access(config: Config) -> Access:
    """The access rules of a configuration; makes the API key if there is none. Raises ConfigError."""
    gateway = config.gateway
    assert gateway is not None
    file = api_key_file(config)
    with _placed_api_key(config):
        api_key = load_api_key(file) if file else None
    return Access(
        hosts=host_names(config),
        trusted_clients=gateway.trusted_clients,
        trusted_proxies=gateway.trusted_proxies,
        cors_domains=gateway.cors_domains,
        api_key=api_key,
        save_api_key=(lambda key: save_api_key(file, key)) if file else None,
    )


class Prepared(NamedTuple):
    """Everything that may go wrong at the start has gone well: addresses are bound, files read."""

    access: Access | None
    """None: there are only forwards."""
    listeners: list[Listener]
    """Of the main origin."""
    origins: list[tuple[Origin, socket.socket]]
    forwards: list[Forward]
    inventory: Inventory | None
    """None: the configuration is not that of a file, so nothing of it can be changed, and there is no dashboard."""


@contextlib.contextmanager
def prepared(config: Config, inventory: Inventory | None = None) -> Iterator[Prepared]:
    """Bind and read all that a configuration names. Raises ConfigError, with nothing left open.

    To be entered before anything else is started.
    """
    section = config.gateway
    main = [(address, config.told("gateway", "listen", "listen")) for address in section.listen] if section else []
    own = origins.of(config) if section else []
    places = main + [(origin.address, origins.place(config, origin)) for origin in own]
    places += [
        (forward_address(name, each), config.told(f"forward {name}", "listen", "listen"))
        for name, each in config.forward.items()
    ]
    contexts = tls.contexts(config)
    forward_tls = [contexts.get(f"forward {name}") for name in config.forward]
    access = make_access(config) if section else None
    check_cameras(config)
    with bound(places) as socks:
        listeners = [Listener(sock, None, contexts.get("gateway")) for sock in socks[: len(main)]]
        of_printers = [*zip(own, socks[len(main) :], strict=False)]
        targets = zip(socks[len(main) + len(own) :], config.forward.values(), forward_tls, strict=True)
        forwards = [Forward(sock, each.to, context) for sock, each, context in targets]
        yield Prepared(access, listeners, of_printers, forwards, inventory)


async def serve(
    router: Router,
    ready: Prepared,
    *,
    with_watch: bool = True,
    task_status: trio.TaskStatus[Gateway | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve what was `prepared` beside its router, for ever. ``with_watch``: look after the Moonrakers, too."""
    section = router.config.gateway
    max_connections = affordable(
        section.max_connections if section else 0, printers=len(router.printers), forwards=len(ready.forwards)
    )
    async with trio.open_nursery() as nursery:
        for each in ready.forwards:
            nursery.start_soon(forward.serve, each)
        for name, section_of in router.config.forward.items():
            log.info("the gateway forwards %s to %s", forward_address(name, section_of), section_of.to)
        if ready.access is None:
            task_status.started(None)
        else:
            serve = partial(_serve_http, router, ready.access, ready, max_connections, with_watch=with_watch)
            task_status.started(await nursery.start(serve))


async def _serve_http(
    router: Router,
    access: Access,
    ready: Prepared,
    max_connections: int,
    *,
    with_watch: bool,
    task_status: trio.TaskStatus[Gateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    section = router.config.gateway
    assert section is not None
    async with trio.open_nursery() as nursery:
        cameras = CameraSite(nursery)
        sites = Sites(cameras=cameras, ui=_user_interfaces(section))
        moonrakers = Moonrakers(router, access, sites.moonraker, cameras.webcams)
        gateway = Gateway(access, sites, cameras)
        watch = Watch(lambda: gateway.proxies.values(), cameras.ask_moonraker)
        if ready.inventory:
            sites.page = _page(router, section, access, ready.inventory, cameras, watch)
        server = Server(
            gateway.dispatch,
            max_connections=max_connections,
            max_connections_per_client=section.max_connections_per_client,
            access_log=section.access_log,
            speaks_for_many=access.is_proxy,
        )
        server.on_sweep.append(gateway.sweep)
        own_tls = ready.listeners[0].tls
        own_origins = Origins(server, own_tls, ready.origins)

        def configure() -> None:
            access.know_hosts(host_names(router.config))
            gateway.configure(section, router.config.klippy)  # [gateway] counts from the next start on
            cameras.configure(router.config.klippy, router.config.camera)

        with contextlib.ExitStack() as at_end:
            at_end.callback(gateway.close)
            at_end.callback(own_origins.close)
            configure()
            # Before those of `moonrakers`, which look at the cameras that there are now.
            router.on_change.append(configure)
            at_end.callback(router.on_change.remove, configure)
            nursery.start_soon(moonrakers.run)
            if with_watch:
                nursery.start_soon(watch.run)
            for site in (sites.page, sites.ui):
                if site:
                    nursery.start_soon(site.run)
            await nursery.start(server.serve, ready.listeners)
            own_origins.change()
            router.before_change.append(own_origins.prepare)
            at_end.callback(router.before_change.remove, own_origins.prepare)
            router.on_change.append(own_origins.change)
            at_end.callback(router.on_change.remove, own_origins.change)
            scheme = "https" if own_tls else "http"
            places = [f"{scheme}://{address}" for address in section.listen]
            places += [f"{scheme}://{origin.address} ({origin.printer})" for origin, _ in ready.origins]
            log.info("the gateway serves on %s", ", ".join(places))
            task_status.started(gateway)
            # What is here now stays: the collector need not look at it again and again (an eighth of a small request).
            gc.collect()
            gc.freeze()
            await trio.sleep_forever()


def affordable(max_connections: int, *, printers: int, forwards: int) -> int:
    """For how many clients there are file descriptors, so that the printers' connections never lack one.

    The process's own limit is raised as far as that takes: it is 1024 by default, and what it may be raised to is far
    more (man 5 systemd.exec, LimitNOFILE).
    """
    kept = OTHER_FILES + printers * (MAX_IDLE + FILES_OF_PRINTER) + forwards * FILES_OF_CLIENT * forward.MAX_CONNECTIONS
    wanted = kept + max_connections * FILES_OF_CLIENT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard) or soft >= wanted:
        return max_connections
    limit = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    possible = max(MIN_CONNECTIONS, (limit - kept) // FILES_OF_CLIENT)
    if possible >= max_connections:
        return max_connections
    log.warning(
        "[gateway] max_connections: %d, not %d, as the router may open %d files only; raise its LimitNOFILE to %d",
        possible,
        max_connections,
        limit,
        wanted,
    )
    return possible


def _user_interfaces(section: GatewaySection) -> UserInterfaces:
    mainsail, fluidd = (Path(text) if text else None for text in (section.mainsail, section.fluidd))
    return UserInterfaces(mainsail=mainsail, fluidd=fluidd)


def _page(
    router: Router, section: GatewaySection, access: Access, inventory: Inventory, cameras: CameraSite, watch: Watch
) -> Page:
    def extras_of(name: str) -> dict[str, Any]:
        configured = msgspec.structs.replace(router.config, gateway=section)
        return {**extras.of(configured, name, cameras.names(name)), "moonraker_problem": watch.problem(name)}

    return Page(
        router,
        inventory,
        apply=router.reconfigure,
        extras=extras_of,
        oneshot_token=access.oneshot_token,
        discover=cameras.discover,
    )
