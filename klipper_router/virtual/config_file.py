"""Reads a Klipper configuration file with its includes and its SAVE_CONFIG block.

Knows text and files only, nothing of what the sections mean. Klipper reads with Python's own configparser
(klippy/configfile.py), so does this: the odd corners (continuation lines, `;` in the middle of a line, a duplicate
option where the last one wins) are then the same ones.
"""

from __future__ import annotations

import configparser
import glob
import re
from pathlib import Path

from .errors import ConfigError

SAVE_CONFIG_MARK = """
#*# <---------------------- SAVE_CONFIG ---------------------->
#*# DO NOT EDIT THIS BLOCK OR BELOW. The contents are auto-generated.
#*#
"""


def new_parser() -> configparser.RawConfigParser:
    return configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))


def read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"Unable to open config file {path}") from None


def load(path: Path) -> tuple[configparser.RawConfigParser, configparser.RawConfigParser]:
    """The whole configuration, and the part that SAVE_CONFIG wrote. Raises ConfigError."""
    regular, saved = split_saved(read_text(path))
    main = parse_with_includes(regular, str(path))
    saved = comment_out_options_of(main, saved)
    autosave = new_parser()
    _feed(autosave, saved, str(path))
    _feed(main, saved, "*AUTOSAVE*")
    return main, autosave


def parse_with_includes(text: str, path: str) -> configparser.RawConfigParser:
    parser = new_parser()
    _parse(parser, text, path, [])
    return parser


def _parse(parser: configparser.RawConfigParser, text: str, path: str, including: list[Path]) -> None:
    here = Path(path).resolve()
    if here in including:
        raise ConfigError(f"Recursive include of config file '{path}'")
    # Lines between two includes are parsed as one piece, so that overriding goes from top to bottom as in one file.
    piece: list[str] = []
    for full_line in text.split("\n"):
        line = full_line.partition("#")[0]  # Klipper cuts at any "#", even inside a value
        header = parser.SECTCRE.match(line)
        if header is None or not header.group("header").startswith("include "):
            piece.append(line)
            continue
        _feed(parser, "\n".join(piece), path)
        piece.clear()
        pattern = str(Path(path).parent / header.group("header")[8:].strip())
        names = sorted(glob.glob(pattern))  # noqa: PTH207 - the pattern may be absolute, which Path.glob refuses
        if not names and not glob.has_magic(pattern):
            raise ConfigError(f"Include file '{pattern}' does not exist")
        for name in names:
            _parse(parser, read_text(name), name, [*including, here])
    _feed(parser, "\n".join(piece), path)


def _feed(parser: configparser.RawConfigParser, text: str, source: str) -> None:
    if not text:
        return
    lines = (line.partition("#")[0] for line in text.split("\n"))
    try:
        parser.read_file(iter([line + "\n" for line in lines]), source)
    except configparser.Error as e:
        raise ConfigError(str(e)) from None


def split_saved(text: str) -> tuple[str, str]:
    """The text above the SAVE_CONFIG block, and the block without its `#*# `. A damaged block counts as comment."""
    at = text.find(SAVE_CONFIG_MARK)
    if at < 0:
        return text, ""
    regular, saved = text[:at], text[at + len(SAVE_CONFIG_MARK) :].strip()
    if "\n#*# " in regular or SAVE_CONFIG_MARK in saved:
        return text, ""
    lines = [""]
    for line in saved.split("\n") if saved else []:
        if not line.startswith("#*#") or (len(line) >= 4 and not line.startswith("#*# ")):
            return text, ""
        lines.append(line[4:])
    return regular, "\n".join([*lines, ""])


def comment_out_options_of(parser: configparser.RawConfigParser, text: str) -> str:
    """`text` with every option that `parser` already has turned into a comment."""
    lines = text.split("\n")
    section, duplicate = "", False
    for number, line in enumerate(lines):
        bare = re.sub("[#;].*$", "", line).rstrip()
        if not bare:
            continue
        if bare[0] == "[":
            section, duplicate = bare[1:-1].strip(), False
            continue
        if not bare[0].isspace():
            duplicate = parser.has_option(section, re.sub("[^A-Za-z0-9_].*$", "", bare))
        if duplicate:
            lines[number] = "#" + line
    return "\n".join(lines)
