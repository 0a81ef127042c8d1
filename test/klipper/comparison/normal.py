"""Takes out of a transcript what no two runs have in common: times, paths, versions, processes, the noise of floats.

What is taken out leaves its type behind, so that a missing or wrong kind of value is still a difference.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# By the name of the field, wherever it stands.
HIDDEN_FIELDS = frozenset(
    {
        *("eventtime", "print_time", "estimated_print_time", "total_duration", "print_duration", "printing_time"),
        *("sysload", "cputime", "memavail", "last_stats", "modified"),
        *("hostname", "klipper_path", "python_path", "process_id", "user_id", "group_id", "log_file", "config_file"),
        *("software_version", "cpu_info", "mcu_version", "mcu_build_versions", "mcu_constants", "app"),
    }
)
# The order in which Klipper names them is that of its own modules' loading.
SORTED_FIELDS = frozenset({"endpoints", "objects"})
DECIMALS = 5

_TEXTS = (
    (re.compile(r"v0\.1\d\.\d-\d+-g?[0-9a-z]+(?:-virtual)?"), "<version>"),
    (re.compile(r"0x[0-9a-f]{6,}"), "<address>"),
)


def normal(value: Any, folder: Path, hide: tuple[str, ...] = (), hide_fields: tuple[str, ...] = ()) -> Any:
    """`hide` are patterns in texts and `hide_fields` names of fields that are not compared besides."""
    return _Normal(folder, hide, HIDDEN_FIELDS | set(hide_fields)).of(value)


class _Normal:
    def __init__(self, folder: Path, hide: tuple[str, ...], hidden_fields: frozenset[str]) -> None:
        self._folder = str(folder)
        self._hidden_fields = hidden_fields
        self._hide = tuple(re.compile(pattern) for pattern in hide)

    def of(self, value: Any, key: str = "") -> Any:
        if key in self._hidden_fields:
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            return {self._text(name): self.of(item, name) for name, item in value.items()}
        if isinstance(value, list):
            items = [self.of(item) for item in value if not _is_about_host(item)]
            return sorted(items) if key in SORTED_FIELDS and all(isinstance(item, str) for item in items) else items
        if isinstance(value, float):
            return round(value, DECIMALS) + 0.0
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        text = text.replace(self._folder, "<folder>")
        for pattern, name in _TEXTS:
            text = pattern.sub(name, text)
        for pattern in self._hide:
            text = pattern.sub("<...>", text)
        return text


def _is_about_host(item: Any) -> bool:
    """A warning of `configfile` that a busy machine causes: the Linux micro-controller's clock seems to be wrong."""
    return isinstance(item, dict) and "configured for" in str(item.get("message")) and item["message"].endswith("Mhz!")
