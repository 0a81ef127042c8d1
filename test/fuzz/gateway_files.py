"""The files that the gateway reads: changed printers, a web interface's release, the database of a printer's clients.

Invariant: a file is read, or refused by the error that is stated (ConfigError, ReleaseError, ApiError), which names
it; nothing else. Changed printers are a configuration with these sections, and the same one when they are written
again. What is made of a release's files differs from them by what is inserted, and is JSON where it was to be. A value
of the database is JSON again.
Input: the first byte says which file, and whether it is shown below a prefix; the rest is its content (of a release:
its files, apart by 0x03; of the database: values with their type before them, apart by 0x03, or changes of a good
file, an offset and a byte each).
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from klipper_router.errors import ConfigError
from klipper_router.gateway.moonraker.database import Database, Namespaces
from klipper_router.gateway.moonraker.rpc import ApiError
from klipper_router.gateway.page import inventory
from klipper_router.gateway.page.inventory import Inventory, Kept
from klipper_router.gateway.ui import pages, patches, release
from klipper_router.gateway.ui.release import ReleaseError

WORDS = (
    b'{"version":1,"sections":{"klippy led":{"sock":"/tmp/led"}}}',
    b'"camera main bed":{"url":"http://127.0.0.1:8080/stream"}',
    b'"klippy main":null',
    b'"gateway":{"listen":"7180"}',
    b'"moonraker":"http://127.0.0.1:7125"',
    b'<head><link href="/a.css"></head>\x03',
    b'{"project_name":"mainsail","version":"v2.18.2"}\x03',
    b'{"instancesDB":"moonraker","instances":[{}]}',
    b'{"endpoints":[],"blacklist":[]}',
    b'{"start_url":"/","icons":[{"src":"/img/a.png"}]}',
    b'fetch("config.json")',
    b'base:"/",mode:"history"',
    b'return"/"+e}',
    b'"appInstances"',
    b'b{"a":1}\x03',
    b"t{}",
    b"i1\x03",
    b"n\x03",
)

PREFIXES = ("", "/printers/ma in")
# What is nested deeper may be too deep to be rewritten: that depends on who asks.
MAX_CERTAIN_DEPTH = 300
ORIGIN = "http://printers.local:7180"
RELEASE_FILES = ("index.html", "release_info.json", "config.json", "manifest.webmanifest", "assets/a.js", "a.css")

_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-files-")
atexit.register(_FOLDER.cleanup)
_PATH = Path(_FOLDER.name)
_CONFIG = _PATH / "r.cfg"
_CONFIG.write_text("[klippy main]\nsock: main.sock\n[klippy led]\nsock: led.sock\n[gateway]\nlisten: 7180\n")
_KEPT = _PATH / inventory.FILE_NAME
_RELEASE = _PATH / "release"
(_RELEASE / "assets").mkdir(parents=True)


def one_input(data: bytes) -> None:
    kind = data[0] if data else 0
    prefix = PREFIXES[kind >> 7]
    content = data[1:]
    match kind % 5:
        case 0:
            check_changes(content)
        case 1 | 2:
            check_release(patches.MAINSAIL if kind % 5 == 1 else patches.FLUIDD, content, prefix)
        case 3:
            check_values(content)
        case 4:
            check_damaged(content)


# -- changed printers ----------------------------------------------------------------------------------------------


def check_changes(content: bytes) -> None:
    _KEPT.write_bytes(content)
    problem = ""
    try:
        read = Inventory.read(_CONFIG, _PATH)
    except ConfigError as error:
        problem = str(error)
    if problem:
        assert str(_KEPT) in problem
        problem.encode()
        return
    changes = read._changes
    assert changes == msgspec.json.decode(content)["sections"] if b'"sections"' in content else not changes
    for title, options in changes.items():
        kind, _, name = title.partition(" ")
        listed = read.of_kind(kind)
        assert listed[name].options == options if options is not None else name not in listed
    assert {*read.config.klippy} == {*read.of_kind("klippy")}
    _KEPT.write_bytes(msgspec.json.encode(Kept(sections=changes)))
    assert Inventory.read(_CONFIG, _PATH).config == read.config


# -- a web interface -----------------------------------------------------------------------------------------------


def check_release(program: patches.Program, content: bytes, prefix: str) -> None:
    contents = dict(zip(RELEASE_FILES, content.split(b"\x03"), strict=False))
    for name in RELEASE_FILES:
        if name in contents:
            (_RELEASE / name).write_bytes(contents[name])
        else:
            (_RELEASE / name).unlink(missing_ok=True)
    problem = ""
    try:
        found = release.read(program, _RELEASE)
    except ReleaseError as error:
        problem = str(error)
    if problem:
        assert str(_RELEASE) in problem
        return
    assert found.files.keys() == contents.keys()
    assert found.version.isascii()
    assert found.version.isprintable()
    check_index(found.page, prefix)
    for name in ("assets/a.js", "a.css"):
        if name in contents:
            check_patched(program, name, contents[name], is_patched=found.files[name].patched)
    check_config(program, contents.get("config.json", b""), prefix)
    check_manifest(contents.get("manifest.webmanifest", b""), prefix)


def check_index(page: bytes, prefix: str) -> None:
    made = pages.index(page, prefix)
    assert pages.index_problem(made) is None
    script = made.index(b"<script>delete Navigator")
    assert made.count(b"<script>delete Navigator") == 1 + page.count(b"<script>delete Navigator")
    without = made[:script] + made[made.index(b"</script>", script) + len(b"</script>") :]
    path = pages.url_path(prefix).encode()
    assert without.replace(path, b"") == page.replace(path, b"") if prefix else without == page


def check_patched(program: patches.Program, name: str, content: bytes, *, is_patched: bool) -> None:
    made = patches.apply(program, name, content)
    assert is_patched == (made != content)
    inserted = (f" window.{patches.VARIABLE}+" if name.endswith(".js") else ".").encode()
    assert made.replace(inserted, b"") == content.replace(inserted, b"")


def check_config(program: patches.Program, content: bytes, prefix: str) -> None:
    make = pages.mainsail_config if program is patches.MAINSAIL else pages.fluidd_config
    made = msgspec.json.decode(make(content, prefix, ORIGIN))
    assert made.items() >= (
        {"instancesDB": "moonraker", "instances": [], "hostname": None, "port": None, "path": None}.items()
        if program is patches.MAINSAIL
        else {"endpoints": [ORIGIN + pages.url_path(prefix)]}.items()
    )
    before = as_json(content)
    assert not isinstance(before, dict) or made.keys() >= before.keys()


def check_manifest(content: bytes, prefix: str) -> None:
    made = pages.manifest(content, prefix)
    if prefix:
        if made == b"{}" and content.count(b"{") + content.count(b"[") > MAX_CERTAIN_DEPTH:
            return
        before, after = as_json(content), msgspec.json.decode(made)
        assert without_prefix(after, pages.url_path(prefix)) == (before if isinstance(before, dict) else {})
    else:
        assert made == content


def without_prefix(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: without_prefix(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [without_prefix(item, path) for item in value]
    return value.removeprefix(path) if isinstance(value, str) and value.startswith(f"{path}/") else value


def as_json(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return None


# -- the database --------------------------------------------------------------------------------------------------


TYPES: dict[bytes, Callable[[bytes], object]] = {
    b"b": lambda content: content,
    b"t": lambda content: content.decode("utf-8", "replace"),
    b"i": len,
    b"r": lambda content: len(content) / 2,
    b"n": lambda content: None,
}
INSERT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?)"
# A file from elsewhere may have text that is no UTF-8.
AS_NAMES = "INSERT OR REPLACE INTO records SELECT CAST(value AS TEXT), key, value FROM records"


def check_values(content: bytes) -> None:
    store = Namespaces(None)
    try:
        for number, part in enumerate(content.split(b"\x03")):
            value = TYPES.get(part[:1], TYPES[b"b"])(part[1:])
            store._connection.execute(INSERT, ("n", f"k{number % 3}", value))
        if content[-1:] == b"!":
            store._connection.execute(AS_NAMES)
        check_database(store, "in memory")
    finally:
        store.close()


def _good_file() -> bytes:
    path = _PATH / "good.db"
    store = Namespaces(path)
    for number in range(3):
        store.write("n", f"k{number}", {"a": "x" * number})
    store.close()
    return path.read_bytes()


_GOOD_FILE = _good_file()


def check_damaged(content: bytes) -> None:
    damaged = bytearray(_GOOD_FILE)
    for at in range(0, len(content) - 2, 3):
        damaged[int.from_bytes(content[at : at + 2], "big") % len(damaged)] = content[at + 2]
    folder = Path(tempfile.mkdtemp(dir=_PATH))
    path = folder / "moonraker.db"
    path.write_bytes(damaged)
    try:
        check_database(None, str(path))
    finally:
        shutil.rmtree(folder)


def check_database(store: Namespaces | None, name: str) -> None:
    """All that a client can ask; each is answered, by a value that is JSON, or by an error with the file's name."""
    database = Database(Path(name) if store is None else None)
    database._namespaces = store

    def ask(work: Callable[[Namespaces], Any]) -> Any:
        result, error = database._work(work)
        if error is None:
            msgspec.json.encode(result)
        elif error.status == 500:
            assert error.message.startswith(f"database {name}: ")
            error.message.encode()
        else:
            assert isinstance(error, ApiError)
        return result

    try:
        ask(lambda store: store.list())
        for key in (None, "k0", "k1.a", ["k2", "a", "b"]):
            ask(lambda store, key=key: store.read("n", key))  # type: ignore[misc]
        ask(lambda store: store.write("n", "k0.a.b", 1))
        ask(lambda store: store.delete("n", "k1.a"))
        ask(lambda store: store.write("n", "k1", {"c": 2}))
        ask(lambda store: store.delete("n", "k1"))
        ask(lambda store: store.read("n", None))
    finally:
        if database._namespaces is not None and store is None:
            try:
                database._namespaces.close()
            except sqlite3.Error:
                raise AssertionError("the end of the router fails") from None
