"""The APIs of all printers with ``moonraker: none``: begun and ended as the configuration changes."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple, Protocol

import trio

from klipper_router.gateway.access import Access
from klipper_router.gateway.http import Site
from klipper_router.gateway.moonraker.api import PrinterApi, Webcam
from klipper_router.gateway.moonraker.machine import Machine
from klipper_router.gateway.moonraker.site import MoonrakerSite
from klipper_router.router import Router


class WebcamsOf(Protocol):
    """The cameras of a printer, in the shape of ``server.webcams.list``, with URLs below ``base``."""

    def __call__(self, printer: str, base: str) -> list[Webcam]: ...


class _Served(NamedTuple):
    api: PrinterApi
    scope: trio.CancelScope


class Moonrakers:
    """Keeps ``sites`` (printer's name to its site) as the configuration of ``router`` wants it, while it runs."""

    def __init__(self, router: Router, access: Access, sites: MutableMapping[str, Site], webcams: WebcamsOf) -> None:
        self._router = router
        self._access = access
        self._sites = sites
        self._webcams = webcams
        self._machine = Machine()
        self._served: dict[str, _Served] = {}

    async def run(self) -> None:
        """Serve, for ever."""
        try:
            async with trio.open_nursery() as nursery:

                def change() -> None:
                    self._configure(nursery)

                change()
                self._router.on_change.append(change)
                try:
                    await trio.sleep_forever()
                finally:
                    self._router.on_change.remove(change)
        finally:
            self._sites.clear()

    def _configure(self, nursery: trio.Nursery) -> None:
        """A printer that was removed and came back is another one."""
        options = self._router.config.klippy
        wanted = {
            name: printer
            for name, printer in self._router.printers.items()
            if (moonraker := options[name].moonraker) is not None and moonraker.upstream is None
        }
        for name, served in list(self._served.items()):
            if wanted.get(name) is not served.api.printer:
                served.scope.cancel()
                del self._served[name], self._sites[name]
            else:
                served.api.look_at_webcams()
        for name, printer in wanted.items():
            if name not in self._served:
                api = PrinterApi(
                    self._router,
                    printer,
                    machine=self._machine,
                    database_path=self._database(name),
                    access=self._access,
                    webcams=lambda base, name=name: self._webcams(name, base),  # type: ignore[misc]
                )
                self._served[name] = _Served(api, trio.CancelScope())
                self._sites[name] = MoonrakerSite(api)
                nursery.start_soon(self._serve, self._served[name], name=f"Moonraker API of {name}")

    def _database(self, name: str) -> Path | None:
        gateway = self._router.config.gateway
        if gateway is None or gateway.data is None:
            return None
        return Path(gateway.data) / "databases" / f"{name.replace('/', '_')}.sqlite"

    async def _serve(self, served: _Served) -> None:
        with served.scope:
            await served.api.run()
