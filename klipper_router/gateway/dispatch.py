"""Who serves a request, of the parts that `app` puts together: a printer's Moonraker or ours, cameras, UIs, the page.

Holds the table of printers and renews it when the configuration changes. What a path means is said by `routes`, who
may ask by `access`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from klipper_router.gateway import local, routes
from klipper_router.gateway.access import Access, Client, host_name
from klipper_router.gateway.cameras import passthrough
from klipper_router.gateway.cameras.site import CameraSite
from klipper_router.gateway.connection import Connection
from klipper_router.gateway.heads import RequestHead
from klipper_router.gateway.http import HttpError, HttpResponse, Rewriters, Site
from klipper_router.gateway.proxy import Proxy, may_act
from klipper_router.gateway.routes import Kind, Route
from klipper_router.gateway.settings import GatewaySection, KlippyOptions

# Of Moonraker's paths.
WEBSOCKETS = frozenset({b"/websocket", b"/klippysocket"})


@dataclass
class Sites:
    """Who answers what. A part that is None answers 404."""

    page: Site | None = None
    cameras: Site | None = None
    ui: Site | None = None
    moonraker: dict[str, Site] = field(default_factory=dict)
    """The Moonraker-compatible API of each printer with ``moonraker: none``."""


class Gateway:
    """Decides for each request who serves it."""

    def __init__(self, access: Access, sites: Sites, rewriters: Rewriters | None = None) -> None:
        self.access = access
        self.sites = sites
        self._rewriters = rewriters
        self.proxies: dict[str, Proxy] = {}
        self._printers: Mapping[str, KlippyOptions] = {}
        self._hosts: dict[str, str] = {}
        self._uis: tuple[str, ...] = ()

    def configure(self, gateway: GatewaySection, printers: Mapping[str, KlippyOptions]) -> None:
        """Take on a configuration; what is under way goes on as it began."""
        self._printers = printers
        self._hosts = {host: name for name, options in printers.items() for host in options.host}
        self._uis = tuple(ui for ui in ("mainsail", "fluidd") if getattr(gateway, ui))
        proxies = {}
        for name, options in printers.items():
            if options.moonraker and (upstream := options.moonraker.upstream):
                old = self.proxies.get(name)
                same = old is not None and (old.upstream, old.allow) == (upstream, options.allow)
                proxies[name] = old if same and old else Proxy(name, upstream, options.allow, self._rewriters)
        for name, old in self.proxies.items():
            if proxies.get(name) is not old:
                old.close()
        self.proxies = proxies

    def close(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()

    def sweep(self) -> None:
        for proxy in self.proxies.values():
            proxy.pool.sweep()

    async def dispatch(self, connection: Connection, head: RequestHead) -> None:
        """Serve one request. Raises HttpError, BadHead, OSError; see `server.Dispatch`."""
        self.access.check_host(head.host)
        client = self.access.client(connection.ip, head.special, tls=connection.tls)
        own = connection.printer
        if own is None and self._hosts:
            own = self._printer_of(host_name(head.host))
        route = routes.route(head.raw_path, own)
        if route.kind is Kind.MOONRAKER and route.printer in self.proxies:
            # Of two Origins Moonraker would judge one, and who knows which.
            judged_there = _is_websocket(head, route) and len(head.special.get(b"origin", ())) < 2
            if not judged_there and self.access.is_foreign(head.special, head.host, other_ports=True):
                raise HttpError(
                    403, "another web page may not do this; 'cors_domains' in [gateway] names those that may"
                )
            if (
                head.method in (b"GET", b"HEAD")
                and may_act(route.rest)
                and self.access.hides_its_page(head.special, head.host)
            ):
                raise HttpError(403, "a browser may do this by POST only, or from a page of this host that says so")
            await self.proxies[route.printer].serve(connection, head, client, route)
            return
        await self._serve_site(connection, head, client, route)

    async def _serve_site(self, connection: Connection, head: RequestHead, client: Client, route: Route) -> None:
        if route.printer is not None and route.printer not in self._printers:
            raise HttpError(404, f"there is no printer '{route.printer}'")
        ui = route.ui or self._default_ui(route.printer)
        if route.kind is Kind.HOME:
            await connection.respond(head, self._home(route, ui))
            return
        site = self._site(route)
        if site is None:
            raise HttpError(404, "Not Found")
        if isinstance(site, CameraSite) and (passed := await site.passed(route, head.query)):
            await passthrough.serve(self.access, connection, head, client, passed)
            return
        request = local.request_of(connection, head, client, route, ui)
        strict = route.kind is Kind.MOONRAKER
        await local.serve_site(self.access, connection, head, request, site, strict=strict)

    def _printer_of(self, host: str) -> str | None:
        """Whose own name a Host is; one that is named goes before ``*.example.org``, the longest of these first."""
        name = host
        while name:
            if printer := self._hosts.get(name if name == host else f"*.{name}"):
                return printer
            name = name.partition(".")[2]
        return None

    def _site(self, route: Route) -> Site | None:
        match route.kind:
            case Kind.MOONRAKER:
                assert route.printer is not None
                return self.sites.moonraker.get(route.printer)
            case Kind.CAMERAS:
                return self.sites.cameras
            case Kind.UI:
                return self.sites.ui
            case _:
                return self.sites.page

    def _default_ui(self, printer: str | None) -> str | None:
        if printer is None:
            return None
        return self._printers[printer].ui or (self._uis[0] if self._uis else None)

    def _home(self, route: Route, ui: str | None) -> HttpResponse:
        """``/printers/NAME``: to its UI, or to the dashboard where it has none."""
        assert route.printer is not None
        has_ui = ui in self._uis and self._printers[route.printer].moonraker is not None
        target = f"{route.prefix.decode()}/{ui}/" if has_ui else "/"
        return HttpResponse(302, [("location", target)])


def _is_websocket(head: RequestHead, route: Route) -> bool:
    """Whether this opens one of Moonraker's WebSockets, whose Origin it judges itself.

    At any other path it serves such a handshake as the GET that it is, G-code included, for whatever page.
    """
    return head.upgrade == b"websocket" and route.rest in WEBSOCKETS
