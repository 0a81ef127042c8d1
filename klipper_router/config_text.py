"""The text of configuration files, read into one neutral form: sections of settings, each with its file and line.

Two writings are read, told apart by the file's name: Klipper's (``[section]``, ``key: value``) and YAML
(``.yaml``, ``.yml``); a file of one may include files of the other. Knows files, not what any section or key means:
that is `config`. Every value stays text (or a list of texts) here, so that a ``yes`` or ``12`` of YAML means what
the schema says, not what YAML 1.1 guesses.

Klipper's writing is read as Klipper reads it (klippy/configfile.py, Python's configparser), but for two points: a
``#`` begins a comment only at the start of a line or after a space (Klipper cuts at any ``#``), and a key given twice
in one section of one file is an error (Klipper silently takes the last).
"""

from __future__ import annotations

import glob
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import yaml

from klipper_router.errors import ConfigError

Value: TypeAlias = "str | list[str]"

_YAML_SUFFIXES = {".yaml", ".yml"}
_SECTION = re.compile(r"\[(?P<name>[^\]]*)\](?P<rest>.*)")
_OPTION = re.compile(r"(?P<key>[^:=]*?)\s*[:=]\s*(?P<value>.*)")
_FULL_COMMENT = re.compile(r"\s*[#;]")
_INLINE_COMMENT = re.compile(r"\s[#;].*")


class Setting(NamedTuple):
    """One ``key: value``, and where it was written."""

    value: Value
    file: Path
    line: int


@dataclass
class Section:
    """One section. ``file`` and ``line`` are where it first began."""

    file: Path
    line: int
    settings: dict[str, Setting] = field(default_factory=dict)


Sections: TypeAlias = dict[str, Section]


def read(path: Path) -> Sections:
    """Read a file and all that it includes; of two files that set the same key, the later one wins.

    Section names have their runs of spaces made one, keys are in lower case.

    :raises ConfigError: the first thing that cannot be read, with its file, its line and the mend.
    """
    reading = _Reading()
    reading.file(path, included_from=None)
    return reading.sections


class _Reading:
    """One run of `read`: what was found so far, and which files are open."""

    def __init__(self) -> None:
        self.sections: Sections = {}
        self._open: list[Path] = []

    def file(self, path: Path, included_from: _Include | None) -> None:
        same_file = _resolved(path, included_from)
        if same_file in self._open:
            loop = [*self._open[self._open.index(same_file) :], same_file]
            names = " -> ".join(open_path.name for open_path in loop)
            raise _error(f"this include goes round in a loop: {names}. Remove one of these includes", included_from)
        text = _text_of(path, included_from)
        self._open.append(same_file)
        this_file = _OneFile(self, path)
        if path.suffix.lower() in _YAML_SUFFIXES:
            _read_yaml(text, this_file)
        else:
            _read_klipper_style(text, this_file)
        self._open.pop()

    def include(self, include: _Include) -> None:
        """Read what an include names: a path relative to the including file, or a pattern of such paths."""
        if not include.wanted:
            raise _error("this include names no file, write for example [include printers/*.cfg]", include)
        try:
            wanted = Path(include.wanted).expanduser()
        except RuntimeError:
            raise _error(f"there is no home directory for '{include.wanted}'", include) from None
        if not glob.has_magic(include.wanted):
            self.file(include.file.parent / wanted, include)
            return
        try:
            found = glob.glob(str(wanted), root_dir=include.file.parent)  # noqa: PTH207 Path.glob: no absolute pattern
        except (OSError, ValueError, re.error) as error:
            raise _error(f"cannot look for '{include.wanted}': {error}", include) from None
        for name in sorted(found):
            self.file(include.file.parent / name, include)


class _Include(NamedTuple):
    """An include as it was written: what is wanted, and where it says so."""

    wanted: str
    file: Path
    line: int


def _error(message: str, include: _Include | None) -> ConfigError:
    return ConfigError(message, file=include.file, line=include.line) if include else ConfigError(message)


def _resolved(path: Path, included_from: _Include | None) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of symbolic links, a NUL
        raise _error(f"cannot read '{path}': {error}", included_from) from None


def _text_of(path: Path, included_from: _Include | None) -> str:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _error(f"cannot read '{path}': {why}", included_from) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("this line is not UTF-8: save the file as UTF-8", file=path, line=line) from None
    return text.replace("\r\n", "\n")


class _OneFile:
    """Where the readers put what they find in one file; refuses the same key twice."""

    def __init__(self, reading: _Reading, path: Path) -> None:
        self.path = path
        self._reading = reading
        self._lines: dict[tuple[str, str], int] = {}

    def error(self, message: str, line: int, key: str = "") -> ConfigError:
        return ConfigError(message, file=self.path, line=line, key=key)

    def include(self, wanted: str, line: int) -> None:
        self._reading.include(_Include(wanted, self.path, line))

    def section(self, name: str, line: int) -> str:
        name = " ".join(name.split())
        if not name:
            raise self.error("this section has no name, write for example [router]", line)
        self._reading.sections.setdefault(name, Section(self.path, line))
        return name

    def setting(self, section: str, key: str, value: Value, line: int) -> None:
        key = key.strip().lower()
        if before := self._lines.get((section, key)):
            raise self.error(f"[{section}] has '{key}' twice, here and in line {before}. Remove one", line, key)
        self._lines[section, key] = line
        self._reading.sections[section].settings[key] = Setting(value, self.path, line)


# Klipper's writing


@dataclass
class _Option:
    """A ``key: value`` whose continuation lines are still being read."""

    key: str
    indent: int
    line: int
    lines: list[str]

    def value(self) -> str:
        first, *more = self.lines
        return "\n".join([first, textwrap.dedent("\n".join(more))]).strip()


def _read_klipper_style(text: str, file: _OneFile) -> None:
    section = ""
    option: _Option | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        if _FULL_COMMENT.match(raw):
            continue
        line = _INLINE_COMMENT.sub("", raw).rstrip()
        indent = len(line) - len(line.lstrip())
        if option and (not line or indent > option.indent):
            option.lines.append(line)  # a blank line belongs to the value only if more of it follows: value() strips
            continue
        _keep(option, section, file)
        option = None
        if not line:
            continue
        if line.lstrip().startswith("["):
            section = _header(line.strip(), number, file)
        else:
            option = _option(line, indent, number, section, file)
    _keep(option, section, file)


def _keep(option: _Option | None, section: str, file: _OneFile) -> None:
    if option:
        file.setting(section, option.key, option.value(), option.line)


def _header(line: str, number: int, file: _OneFile) -> str:
    """Take a line that begins with ``[``; return the section that it opens, or no text after an include."""
    match = _SECTION.fullmatch(line)
    if not match:
        raise file.error(f"'{line}' has no closing ']'", number)
    if match["rest"].strip():
        raise file.error(f"'{match['rest'].strip()}' follows the section's ']': move it to a line of its own", number)
    kind, _, wanted = match["name"].strip().partition(" ")
    if kind != "include":
        return file.section(match["name"], number)
    file.include(wanted.strip(), number)
    return ""  # as in Klipper, what follows an include needs a section of its own


def _option(line: str, indent: int, number: int, section: str, file: _OneFile) -> _Option:
    match = _OPTION.fullmatch(line.strip())
    if not match or not match["key"]:
        raise file.error(f"cannot read '{line.strip()}', write 'key: value'", number)
    if not section:
        raise file.error(f"'{line.strip()}' is in no section, write one above it, for example [router]", number)
    return _Option(match["key"], indent, number, [match["value"]])


# YAML


def _read_yaml(text: str, file: _OneFile) -> None:
    """Read ``section: {key: value}`` and ``section: {name: {key: value}}``, both in the order of the text.

    Nodes are walked, not constructed: each knows its line, and PyYAML's constructor takes the last of two equal keys
    without a word.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = f"{error.problem or error.context}"
        mend = ". YAML is indented by spaces, never by tabs" if "'\\t'" in why else ""
        raise file.error(f"this is not YAML: {why}{mend}", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise file.error(f"this is not YAML: the character {error.character!r} is not allowed", line) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # Value and overflow: PyYAML's scanner on escapes such as "\U00110000" and "\UFFFFFFFF"; recursion: "[[[[…"
        raise file.error(f"this is not YAML: {error}", 1) from None
    for key, line, node in _pairs(root, "the file", file):
        if key == "include":
            for wanted in _include_list(node, file):
                file.include(wanted, line)
        else:
            _yaml_section(key, line, node, file)


def _yaml_section(name: str, line: int, node: yaml.Node, file: _OneFile) -> None:
    pairs = _pairs(node, f"'{name}'", file)
    for key, key_line, value in pairs:
        if isinstance(value, yaml.MappingNode):
            section = file.section(f"{name} {key}", key_line)
            for inner, inner_line, inner_value in _pairs(value, f"'{key}'", file):
                if isinstance(inner_value, yaml.MappingNode):
                    mend = f"A name of two words is one key: '{key} {inner}': {{…}}"
                    raise file.error(f"a text is wanted here, not a list or a mapping. {mend}", inner_line)
                file.setting(section, inner, _yaml_value(inner_value, file), inner_line)
        else:
            file.setting(file.section(name, line), key, _yaml_value(value, file), key_line)
    if not pairs:
        file.section(name, line)


def _pairs(node: yaml.Node | None, what: str, file: _OneFile) -> list[tuple[str, int, yaml.Node]]:
    """The key, line and value of each entry of a mapping; nothing at all counts as an empty mapping."""
    if node is None or _is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        raise file.error(f"{what} is no mapping, write 'key: value' lines", _line(node))
    lines: dict[str, int] = {}
    pairs = []
    for key_node, value in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            raise file.error("this key is no text", line)
        key = _scalar(key_node, file)
        if key in lines:
            raise file.error(f"{what} has '{key}' twice, here and in line {lines[key]}. Remove one", line, key)
        lines[key] = line
        pairs.append((key, line, value))
    return pairs


def _include_list(node: yaml.Node, file: _OneFile) -> list[str]:
    value = _yaml_value(node, file)
    return value if isinstance(value, list) else [value]


def _yaml_value(node: yaml.Node, file: _OneFile) -> Value:
    if isinstance(node, yaml.SequenceNode):
        return [_scalar(item, file) for item in node.value]
    return _scalar(node, file)


def _scalar(node: yaml.Node, file: _OneFile) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise file.error("a text is wanted here, not a list or a mapping", _line(node))
    text: str = "" if _is_null(node) and node.value != "~" else node.value  # YAML reads `~` as null; here it is home
    try:
        text.encode()
    except UnicodeEncodeError:
        raise file.error(f"{text!r} holds half a character (a surrogate)", _line(node)) from None
    return text.strip()


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
