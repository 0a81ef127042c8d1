"""What the gateway's options have wrong together, and what may not be what was meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from klipper_router.errors import nearest
from klipper_router.gateway.settings import ForwardSection, GatewaySection, KlippyOptions
from klipper_router.gateway.values import (
    MOONRAKER_PATHS,
    UNSAFE_IN_PATHS,
    Address,
    Moonraker,
    Upstream,
    bracketed,
    listen_address,
)

_IPV4 = re.compile(r"[0-9.]+")
_NO_MOONRAKER = Moonraker(None)


class Problem(NamedTuple):
    """What is wrong between options that are right alone; ``section`` is the title without brackets."""

    section: str
    key: str
    message: str


def problems(
    gateway: GatewaySection | None,
    klippy: dict[str, KlippyOptions],
    cameras: Iterable[str],
    forwards: dict[str, ForwardSection],
) -> Iterator[Problem]:
    """What several sections have wrong together. ``cameras`` are the names, ``PRINTER NAME``."""
    taken: dict[Address, str] = {}
    if gateway is None:
        if title := next((f"camera {name}" for name in cameras), None):
            yield Problem(title, "", "cameras are the gateway's: add a section [gateway]")
    else:
        yield from _taken(taken, gateway.listen, "gateway", "listen")
        yield from _tls_problems("gateway", gateway)
        for name in klippy:
            if bad := UNSAFE_IN_PATHS.search(name):
                yield Problem(f"klippy {name}", "", f"a name may not hold {bad[0]!r}: it is a part of addresses")
    hosts: dict[str, str] = {}
    for name, options in klippy.items():
        title = f"klippy {name}"
        if options.origin:
            yield from _taken(taken, options.origin, title, "origin")
        for host in options.host:
            if (other := hosts.setdefault(host, title)) != title:
                yield Problem(title, "host", f"{host} is the host of [{other}] already")
        if gateway and options.ui and not getattr(gateway, options.ui):
            yield Problem(title, "ui", f"'ui: {options.ui}' needs '{options.ui}: DIRECTORY' in [gateway]")
        if options.moonraker == _NO_MOONRAKER and {*options.allow} != {*MOONRAKER_PATHS}:
            message = (
                "'allow' is for a printer with its own Moonraker; use gcode_from, allow_gcode, endpoints_from and"
                " allow_endpoints for this one"
            )
            yield Problem(title, "allow", message)
        if options.moonraker is None and (key := "origin" if options.origin else "host" if options.host else ""):
            message = "an own origin needs 'moonraker': the address of this printer's Moonraker, or none"
            yield Problem(title, key, message)
    for name, options in klippy.items():
        upstream = options.moonraker.upstream if options.moonraker else None
        if upstream and (own := next((title for address, title in taken.items() if _leads_to(upstream, address)), "")):
            message = f"{upstream} is where [{own}] listens: write where this printer's Moonraker does, or none"
            yield Problem(f"klippy {name}", "moonraker", message)
    for name in cameras:
        printer, _, camera = name.partition(" ")
        if not camera and printer in klippy:
            yield Problem(f"camera {name}", "", f"the camera needs a name, too, such as [camera {printer} nozzle]")
        elif not camera:
            message = f"write the printer and a name, such as [camera {next(iter(klippy))} {printer}]"
            yield Problem(f"camera {name}", "", message)
        elif printer not in klippy:
            near = nearest(printer, klippy)
            hint = f". Did you mean [camera {near} {camera}]?" if near else f". There are: {', '.join(klippy)}"
            yield Problem(f"camera {name}", "", f"there is no printer '{printer}'{hint}")
    for name, forward in forwards.items():
        title = f"forward {name}"
        try:
            yield from _taken(taken, [forward_address(name, forward)], title, "listen")
        except ValueError:
            yield Problem(
                title, "", f"the name of a forward is the port to listen on, such as [forward 9443], not {name}"
            )
        yield from _tls_problems(title, forward)


def notes(gateway: GatewaySection | None, klippy: dict[str, KlippyOptions]) -> Iterator[Problem]:
    """What is no mistake, but may not be what was meant; each message follows the title of its section."""
    if gateway is None:
        defaults = KlippyOptions()
        names = [each.name for each in msgspec.structs.fields(KlippyOptions)]
        for name, options in klippy.items():
            if given := [key for key in names if getattr(options, key) != getattr(defaults, key)]:
                message = f"has {', '.join(given)}, without effect as long as there is no section [gateway]"
                yield Problem(f"klippy {name}", given[0], message)
        return
    has_key = gateway.data or gateway.api_key_file
    if not has_key and not gateway.trusted_clients and not all(_is_loopback(each.host) for each in gateway.listen):
        message = (
            "listens for other machines, but lets none of them use the dashboard, or a printer with 'moonraker: none':"
            " add 'trusted_clients', or 'data' for an API key"
        )
        yield Problem("gateway", "listen", message)


def forward_address(name: str, forward: ForwardSection) -> Address:
    """Where ``[forward name]`` listens."""
    return listen_address(f"{bracketed(forward.listen)}:{name}")


def _taken(taken: dict[Address, str], addresses: Iterable[Address], title: str, key: str) -> Iterator[Problem]:
    for address in addresses:
        if other := next((other for other in taken if _overlap(address, other)), None):
            how = "" if other == address else f", which listens on {other}"
            yield Problem(title, key, f"{address} is taken by [{taken[other]}] already{how}")
        taken.setdefault(address, title)


def _overlap(one: Address, other: Address) -> bool:
    """Whether Linux lets only one of them listen: every address of the machine includes each of them.

    ``::`` includes IPv4 (see `server.listening`). What a name stands for is known only when it is used.
    """
    if one.port != other.port or one.port == 0:
        return False
    hosts = {one.host, other.host}
    return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and all(map(_IPV4.fullmatch, hosts)))


def _leads_to(upstream: Upstream, address: Address) -> bool:
    """Whether who connects there meets who listens here."""
    if upstream.port != address.port:
        return False
    if address.host in ("0.0.0.0", "::"):
        return _is_loopback(upstream.host) or upstream.host == address.host
    return upstream.host == address.host or {upstream.host, address.host} <= {"localhost", "127.0.0.1", "::1"}


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _tls_problems(title: str, section: GatewaySection | ForwardSection) -> Iterator[Problem]:
    if section.tls_key and not section.tls_certificate:
        yield Problem(title, "tls_key", "a key needs its certificate: add 'tls_certificate'")
