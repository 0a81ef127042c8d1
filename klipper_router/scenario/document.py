"""A YAML file as plain values, and the line of each of them.

Paths are written as msgspec writes them in its errors (``$.steps[3].gcode``), so that an error of the schema finds
its line. Only ``true`` and ``false`` are truth values (YAML 1.2): ``value: on`` and ``text: no`` are texts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from klipper_router.errors import ConfigError


class Document:
    """The ``value`` of a YAML file, and where each part of it is written."""

    def __init__(self, file: Path) -> None:
        """Read a file. Raises ConfigError."""
        self.file = file
        self._lines: dict[str, int] = {}
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ConfigError(f"cannot read it: {error.strerror}", file=file) from None
        except UnicodeDecodeError:
            raise ConfigError("this file is not UTF-8", file=file) from None
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            self.value = self._value(loader, root, "$") if root is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(
                f"this is not YAML: {error.problem or error.context}", file=file, line=mark.line + 1 if mark else 1
            ) from None
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"this is not YAML: {error}", file=file, line=1) from None

    def line(self, path: str) -> int:
        """The line of a value, or of the nearest one around it that is known."""
        while path and path not in self._lines:
            path = path[: max(path.rfind("."), path.rfind("["))] if path != "$" else ""
        return self._lines.get(path, 1)

    def error(self, message: str, path: str, key: str = "") -> ConfigError:
        """An error that names the line of ``path``."""
        return ConfigError(message, file=self.file, line=self.line(path), key=key)

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: str) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        values: dict[str, Any] = {}
        for key_node, value in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in values:
                raise ConfigError(f"'{key}' is here twice. Remove one", file=self.file, line=line, key=key)
            self._lines[f"{path}.{key}"] = line
            values[key] = self._value(loader, value, f"{path}.{key}")
        return values


class _Loader(yaml.SafeLoader):
    """SafeLoader without what YAML 1.1 guesses wrong: yes, no, on, off, dates and 1:30."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)
