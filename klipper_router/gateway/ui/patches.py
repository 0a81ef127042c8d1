"""What to insert where, so that a release built for ``/`` works below a prefix such as ``/printers/main/mainsail``.

Knows the two programs as their builds come out of the minifier, and nothing of files or requests. Every rule only
*inserts* text, before a literal: in JavaScript a variable that the page sets (`VARIABLE`), in a style sheet the way up
to the release's root. So what is served differs from the release in few places, and not from printer to printer: it is
made and compressed once, however many printers there are.

A rule finds its places by a literal text first (``anchors``) and looks at a few bytes around it: one regular expression
over 2 MB of script would hold the interpreter's lock, and with it the router, for tens of milliseconds.

The programs may change with every release. So each rule says how often it must hit in a whole release, and `problems`
tells where it does not: such a release is served at a printer's own origin only, where nothing is inserted.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

# Holds the prefix without a slash at its end. Of `window`, as code that is split into modules shares no other scope.
VARIABLE = "klipperRouterPrefix"
# Begins with a space: it may follow `return`.
_IN_SCRIPT = f" window.{VARIABLE}+".encode()

BEFORE_BYTES = 64
AFTER_BYTES = 96


class Rule(NamedTuple):
    """Where to insert. ``pattern`` has an empty group ``here`` and is looked for around each of the ``anchors``."""

    name: str
    """As users see it when a release does not match: what would not work."""

    suffix: str
    """Of the files it is for."""

    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    least: int
    most: int
    """How often it hits in all files of a release together."""


class Program(NamedTuple):
    """One of the web interfaces."""

    name: str
    """As in the configuration and in paths: ``mainsail``."""

    title: str
    rules: tuple[Rule, ...]
    has_history_routes: bool
    """Whether its own pages have paths (``/console``), all answered with index.html; else they are behind a ``#``."""


# The names of a release's own folders; Vite writes them as absolute paths.
_MAINSAIL_FOLDERS = ("assets", "css", "fonts", "img")

MAINSAIL = Program(
    "mainsail",
    "Mainsail",
    (
        Rule(
            "its configuration, config.json",
            ".js",
            (b"config.json",),
            re.compile(rb"""\bfetch\((?P<here>)["'`][^;]{0,32}?config\.json["'`]"""),
            1,
            1,
        ),
        Rule(
            "the paths of its pages",
            ".js",
            (b"history",),
            re.compile(
                rb"""(?:\bbase:(?P<here>)(["'`])/\2,mode:(["'`])history\3)"""
                rb"""|(?:\bmode:(["'`])history\4,base:(?P<there>)(["'`])/\6)"""
            ),
            1,
            1,
        ),
        Rule(
            "the modules it loads later",
            ".js",
            tuple(f"return{quote}/{quote}+".encode() for quote in "\"'`"),
            re.compile(rb"""\breturn(?P<here>)(["'`])/\2\+\w+[;}]"""),
            1,
            1,
        ),
        Rule(
            "the address of its printer",
            ".js",
            (b"protocol:document.location.protocol",),
            re.compile(rb"""\bpath:(?P<here>)(?:(["'`])\2|\w+),protocol:document\.location\.protocol"""),
            1,
            1,
        ),
        Rule(
            "its pictures and workers",
            ".js",
            tuple(f"/{folder}/".encode() for folder in _MAINSAIL_FOLDERS),
            re.compile(rb"""(?<!url\()(?P<here>)["'`]/(?:%s)/""" % "|".join(_MAINSAIL_FOLDERS).encode()),
            4,
            40,
        ),
        Rule(
            "its fonts",
            ".css",
            (b"url(",),
            re.compile(rb"""\burl\(["']?(?P<here>)/(?!/)"""),
            1,
            200,
        ),
    ),
    has_history_routes=True,
)

# Fluidd is built with relative paths. But all Fluidds of one origin share the browser's list of printers, and the entry
# that was used last wins: the second printer's page would open the first printer.
FLUIDD = Program(
    "fluidd",
    "Fluidd",
    (
        Rule(
            "the browser's list of printers",
            ".js",
            (b"appInstances",),
            re.compile(rb"""(?P<here>)(["'`])appInstances\2"""),
            1,
            8,
        ),
    ),
    has_history_routes=False,
)

PROGRAMS: Mapping[str, Program] = {program.name: program for program in (MAINSAIL, FLUIDD)}


def places(rule: Rule, content: bytes) -> list[int]:
    """Where a rule inserts, in ascending order."""
    found: set[int] = set()
    for anchor in rule.anchors:
        at = content.find(anchor)
        while at >= 0:
            for match in rule.pattern.finditer(content, max(0, at - BEFORE_BYTES), at + AFTER_BYTES):
                if match.start() <= at < match.end():
                    found.add(max(match.start(group) for group in match.re.groupindex))
            at = content.find(anchor, at + len(anchor))
    return sorted(found)


def count(program: Program, path: str, content: bytes) -> Counter[str]:
    """How often each of the program's rules hits in one file; rules that do not are left out."""
    hits = {rule.name: len(places(rule, content)) for rule in program.rules if path.endswith(rule.suffix)}
    return Counter({name: number for name, number in hits.items() if number})


def problems(program: Program, hits: Mapping[str, int]) -> Iterator[str]:
    """What of a release does not look as the rules expect it. ``hits`` are the sums over all its files."""
    for rule in program.rules:
        number = hits.get(rule.name, 0)
        if not rule.least <= number <= rule.most:
            wanted = f"{rule.least}" if rule.least == rule.most else f"{rule.least} to {rule.most}"
            yield f"{rule.name}: {number} places found where {wanted} were expected"


def apply(program: Program, path: str, content: bytes) -> bytes:
    """A script or style sheet of a release as it is served below any prefix. ``path`` is relative to the release."""
    insertions = {
        at: _IN_SCRIPT if rule.suffix == ".js" else _way_up(path)
        for rule in program.rules
        if path.endswith(rule.suffix)
        for at in places(rule, content)
    }
    return b"".join(_with_insertions(content, sorted(insertions.items())))


def _with_insertions(content: bytes, insertions: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    done = 0
    for at, text in insertions:
        yield content[done:at]
        yield text
        done = at
    yield content[done:]


def _way_up(path: str) -> bytes:
    """From a file's folder to the root: a style sheet's addresses are relative to itself."""
    return b"/".join([b".."] * path.count("/")) or b"."


_RULES = [(rule.anchors, rule.pattern.pattern, rule.suffix) for program in PROGRAMS.values() for rule in program.rules]
REVISION = f"{zlib.crc32(repr((_RULES, _IN_SCRIPT)).encode()):08x}"
"""Changes whenever what `apply` makes of a file may change, so that browsers ask for it anew."""
