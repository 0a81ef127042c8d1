"""The UIs as the gateway's routes see them: one site, for what is below ``/printers/NAME/UI`` and, at a printer's own
origin, below ``/``. The routes have taken off what belongs to Moonraker, the cameras and the router itself.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse, Site
from klipper_router.gateway.ui import patches
from klipper_router.gateway.ui.interface import UserInterface
from klipper_router.gateway.ui.release import ReleaseError
from klipper_router.gateway.ui.shelf import Shelf


class UserInterfaces(Site):
    """Mainsail and Fluidd, each from its directory (None: it is not served)."""

    def __init__(self, *, mainsail: Path | None, fluidd: Path | None) -> None:
        shelf = Shelf()
        directories = {"mainsail": mainsail, "fluidd": fluidd}
        self.interfaces = {
            name: UserInterface(patches.PROGRAMS[name], directory, shelf)
            for name, directory in directories.items()
            if directory is not None
        }

    async def run(self) -> None:
        """Read the releases, so that what is wrong with them is in the log from the start. The gateway runs without."""
        for interface in self.interfaces.values():
            with contextlib.suppress(ReleaseError):
                await interface.load()

    def is_open(self, request: HttpRequest) -> bool:
        """Everyone may see the programs, which hold nothing of a printer and ask for the key themselves."""
        return True

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises HttpError."""
        interface = self.interfaces.get(request.ui or "")
        if interface is None:
            wanted = f"'{request.ui}: DIRECTORY'" if request.ui else "'mainsail: DIRECTORY' or 'fluidd: DIRECTORY'"
            raise HttpError(404, f"no such web interface is served: [gateway] needs {wanted}")
        return await interface.handle(request)
