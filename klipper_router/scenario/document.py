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

# Aliases of aliases make billions out of a few lines.
MAX_VALUES = 100_000


class Document:
    """The ``value`` of a YAML file, and where each part of it is written."""

    def __init__(self, file: Path) -> None:
        """Read a file. Raises ConfigError."""
        self.file = file
        self._lines: dict[str, int] = {}
        self._left = MAX_VALUES
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ConfigError(f"cannot read it: {error.strerror}", file=file) from None
        except UnicodeDecodeError:
            raise ConfigError("this file is not UTF-8", file=file) from None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            self.value = self._value(loader, root, "$") if root is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(
                f"this is not YAML: {error.problem or error.context}", file=file, line=mark.line + 1 if mark else 1
            ) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(f"the character {error.character!r} is not allowed", file=file, line=line) from None
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
        self._left -= 1
        if self._left < 0:
            raise self._error_at(node, f"this file has more than {MAX_VALUES} values, its aliases followed")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(loader, node)
        values: dict[str, Any] = {}
        for key_node, value in node.value:
            key = str(key_node.value)
            self._check_text(key, key_node)
            if key in values:
                raise self._error_at(key_node, f"'{key}' is here twice. Remove one", key)
            self._lines[f"{path}.{key}"] = key_node.start_mark.line + 1
            values[key] = self._value(loader, value, f"{path}.{key}")
        return values

    def _scalar(self, loader: yaml.SafeLoader, node: yaml.Node) -> Any:
        self._check_text(node.value, node)
        try:
            return loader.construct_object(node)
        except (ValueError, LookupError, AttributeError):  # PyYAML's own for `!!int ''`, `!!bool x`, `!!timestamp x`
            raise self._error_at(node, f"'{node.value}' is not what its tag says, {node.tag}") from None

    def _check_text(self, text: str, node: yaml.Node) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._error_at(node, f"{text!r} holds half a character (a surrogate)") from None

    def _error_at(self, node: yaml.Node, message: str, key: str = "") -> ConfigError:
        return ConfigError(message, file=self.file, line=node.start_mark.line + 1, key=key)


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
