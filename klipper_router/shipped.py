"""Where the files are that come with the package: macros to include, the demo's printers.

An installed package has them inside itself (pyproject.toml, force-include); a checkout, also one installed with
`pip install -e`, has them where they are written.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent

# In the package -> in the checkout. Printers include "../../includes/router_api.cfg", right in both.
_PLACES = {
    "includes": "includes",
    "scenarios/print_stats": "test/print_stats",
}


def folder(name: str) -> Path:
    """A shipped folder: "includes" or "scenarios/print_stats". Raises FileNotFoundError."""
    for place in (_PACKAGE / name, _PACKAGE.parent / _PLACES[name]):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name} is missing from this installation of klipper-router: {_PACKAGE / name}")
