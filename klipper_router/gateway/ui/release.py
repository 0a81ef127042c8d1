"""A directory that holds an unmodified release of a UI: what is in it, and whether it can be shown below a prefix.

All functions block; call them in a thread. What is served is what `read` found, file by file: a request names a file
of this list or none, so that there is no path to walk out of the directory. A file is opened only if it still is the
one that was found (device, inode, size and time), so that a symbolic link put in its place later leads nowhere; one
that was there from the start counts if it stays inside. `Changed` says that the release was replaced: read it again.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from klipper_router.gateway.ui import pages, patches
from klipper_router.gateway.ui.patches import Program

MAX_FILES = 5000
MAX_PAGE_BYTES = 256 * 1024
MAX_SCRIPT_BYTES = 8 * 1024 * 1024


class ReleaseError(Exception):
    """A directory is not (or, in the middle of an update, not at this moment) a release that can be shown."""


class Changed(Exception):
    """A file is no longer the one that was found."""


class Identity(NamedTuple):
    """Says whether a file is still the same one."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class File(NamedTuple):
    """One file of a release. ``path`` is relative to it; ``patched``: below a prefix it is served with insertions."""

    path: str
    place: Path
    identity: Identity
    patched: bool

    @property
    def size_bytes(self) -> int:
        return self.identity.size_bytes


@dataclass(frozen=True, slots=True)
class Release:
    """What was found in a directory."""

    program: Program
    version: str
    """As it says itself, ``v2.18.2``; empty if it does not."""

    files: Mapping[str, File]
    folders: frozenset[str]
    """Its folders at the top level."""

    page: bytes
    """Its index.html."""

    mark: tuple[Identity, Identity]
    """Of the directory and index.html: another one means another release."""

    prefix_problems: tuple[str, ...]
    """Why it cannot be shown below a prefix. Empty: it can."""


def read(program: Program, directory: Path) -> Release:
    """Look at every file of a release. Raises ReleaseError, which names the directory and the mend."""
    try:
        found = mark(directory)
        root = directory.resolve(strict=True)
        files, hits = _files(program, root)
        page = content(files["index.html"]) if "index.html" in files else b""
        version = _version(content(files["release_info.json"])) if "release_info.json" in files else ""
        if mark(directory) != found:
            raise Changed
    except Changed:
        raise ReleaseError(f"{directory} is being changed right now") from None
    except OSError as error:
        inner = next((page.parent for page in sorted(directory.glob("*/index.html"))), None)
        mend = f"unpack a release of {program.title} there: its directory holds an index.html"
        mend = f"name {inner}, which holds one" if inner else mend
        raise ReleaseError(f"{error.filename or directory}: {error.strerror}; {mend}") from None
    problem = pages.index_problem(page) if len(page) <= MAX_PAGE_BYTES else "index.html is too large"
    if problem:
        raise ReleaseError(f"{directory} holds no release of {program.title}: {problem}")
    folders = frozenset(path.partition("/")[0] for path in files if "/" in path)
    problems = tuple(patches.problems(program, hits))
    return Release(program, version, files, folders, page, found, problems)


def mark(directory: Path) -> tuple[Identity, Identity]:
    """Changes with every update of the release. Raises OSError."""
    return Identity.of(directory.stat()), Identity.of((directory / "index.html").stat())


def _files(program: Program, root: Path) -> tuple[dict[str, File], Counter[str]]:
    """Raises ReleaseError, Changed, OSError."""
    files: dict[str, File] = {}
    hits: Counter[str] = Counter()
    suffixes = {rule.suffix for rule in program.rules}
    for place in _regular_files(root):
        if len(files) >= MAX_FILES:
            raise ReleaseError(f"{root} holds more than {MAX_FILES} files: it is no release of {program.title}")
        path = place.relative_to(root).as_posix()
        real = place.resolve(strict=True)
        if not real.is_relative_to(root):
            continue  # a symbolic link that leads elsewhere
        file = File(path, real, Identity.of(real.stat()), patched=False)
        if place.suffix in suffixes and file.size_bytes <= MAX_SCRIPT_BYTES:
            own_hits = patches.count(program, path, content(file))
            hits += own_hits
            file = file._replace(patched=bool(own_hits))
        files[path] = file
    return files, hits


def _regular_files(root: Path) -> Iterator[Path]:
    """Raises OSError."""

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            place = Path(folder, name)
            if not name.startswith(".") and place.is_file():
                yield place


def _version(info: bytes) -> str:
    """Of release_info.json, as both programs have it for Moonraker's update manager."""
    try:
        version = msgspec.json.decode(info, type=dict[str, str]).get("version", "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return version if version.isascii() and version.isprintable() else ""


def content(file: File) -> bytes:
    """The whole file. Raises Changed."""
    return part(file, 0, file.size_bytes)


def part(file: File, start: int, size_bytes: int) -> bytes:
    """So many bytes of a file, fewer only at its end. Raises Changed."""
    try:
        fd = os.open(file.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Changed(file.path) from error
    with os.fdopen(fd, "rb", buffering=0) as opened:
        status = os.fstat(fd)
        if Identity.of(status) != file.identity or not stat.S_ISREG(status.st_mode):
            raise Changed(file.path)
        opened.seek(start)
        data = opened.read(size_bytes) or b""  # all of it: a regular file is read to its end, up to 2 GiB (man 2 read)
    if len(data) < min(size_bytes, file.size_bytes - start):
        raise Changed(file.path)  # cut off while it was read
    return data
