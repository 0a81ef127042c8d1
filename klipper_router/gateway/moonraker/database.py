"""The key/value store of one printer's clients (``server.database.*``): settings of the UIs, in SQLite.

`Namespaces` is the rules, synchronous, for one thread at a time; `Database` runs them in a thread, in the order in
which they were asked for, so that a slow SD card stalls nobody. The semantics, down to the messages, are those of
Moonraker 0.11 (database.py): a dotted key, or a list, leads into the record of its first part; null is not kept.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from klipper_router.gateway.moonraker.rpc import ApiError, Reply

T = TypeVar("T")

FILE_MODE = 0o600
FOLDER_MODE = 0o700
# Of all records together; a UI needs some 100 kB.
MAX_BYTES = 16 * 1024 * 1024
MAX_RECORD_BYTES = 1024 * 1024
PAGE_BYTES = 4096
MAX_WAITING = 500
MAX_KEY_PARTS = 64
MAX_KEY_SHOWN = 200

# As Moonraker's: its own namespace is read-only, that of its database is nobody's.
READ_ONLY = frozenset({"moonraker"})
FORBIDDEN = frozenset({"database"})

Key = str | list[str]

_SCHEMA = "CREATE TABLE IF NOT EXISTS records (namespace TEXT, key TEXT, value BLOB, PRIMARY KEY (namespace, key))"


class Namespaces:
    """The records. ``path`` None: kept in memory only. Raises ApiError for what a client did wrong, sqlite3.Error."""

    def __init__(self, path: Path | None) -> None:
        self._connection = sqlite3.connect(_made(path), check_same_thread=False, isolation_level=None)
        run = self._connection.execute
        # One write costs no fsync this way; what is lost in a power cut is the last settings, never the file.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=100", "cache_size=-256"):
            run(f"PRAGMA {pragma}")
        run(f"PRAGMA max_page_count={MAX_BYTES // PAGE_BYTES}")
        run(_SCHEMA)

    def close(self) -> None:
        self._connection.close()

    def list(self) -> list[str]:
        rows = self._connection.execute("SELECT DISTINCT namespace FROM records ORDER BY namespace").fetchall()
        return [name for (name,) in rows]

    def read(self, namespace: str, key: Key | None) -> Any:
        """The value at ``key``; without one, the whole namespace as a map."""
        if key is None:
            records = self._connection.execute("SELECT key, value FROM records WHERE namespace = ?", (namespace,))
            if found := {name: msgspec.json.decode(value) for name, value in records}:
                return found
            raise ApiError(404, f"Namespace {namespace} not found")
        first, *steps = _parts(key)
        value = self._record(namespace, first)
        for step in steps:
            if not isinstance(value, dict) or step not in value:
                raise _not_found(namespace, key)
            value = value[step]
        return value

    def write(self, namespace: str, key: Key, value: Any) -> None:
        """Insert or replace; maps on the way to a nested key are made, a record that is none is replaced by one."""
        first, *steps = _parts(key)
        if not steps:
            self._store(namespace, first, value)
            return
        record = self._record(namespace, first, {})
        if not isinstance(record, dict):
            record = {}
        place = record
        for number, step in enumerate(steps[:-1], 1):
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                at = ".".join([first, *steps[:number]])
                raise ApiError(
                    400, f"Item at key '{at}' in namespace '{namespace}'is not a dictionary object, cannot insert"
                )
        place[steps[-1]] = value
        self._store(namespace, first, record)

    def delete(self, namespace: str, key: Key) -> Any:
        """Remove, and return what it was."""
        first, *steps = _parts(key)
        record = value = self._record(namespace, first)
        if steps:
            place = record
            for step in steps[:-1]:
                place = place.get(step) if isinstance(place, dict) else None
            if not isinstance(place, dict) or steps[-1] not in place:
                raise _not_found(namespace, key)
            value = place.pop(steps[-1])
        if steps and record:
            self._store(namespace, first, record)
        else:
            self._connection.execute("DELETE FROM records WHERE namespace = ? AND key = ?", (namespace, first))
        return value

    def _record(self, namespace: str, key: str, default: Any = None) -> Any:
        found = self._connection.execute(
            "SELECT value FROM records WHERE namespace = ? AND key = ?", (namespace, key)
        ).fetchone()
        if found is not None:
            return msgspec.json.decode(found[0])
        if default is None:
            raise _not_found(namespace, key)
        return default

    def _store(self, namespace: str, key: str, value: Any) -> None:
        if value is None:
            return  # as Moonraker: answered as if it were done
        encoded = msgspec.json.encode(value)
        if len(encoded) > MAX_RECORD_BYTES:
            raise ApiError(413, f"the record of key '{key}' is larger than {MAX_RECORD_BYTES} bytes")
        self._connection.execute(
            "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value",
            (namespace, key, encoded),
        )


class Database:
    """`Namespaces` in a thread, opened when it is first needed. `run` it; what is asked before waits for that."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: deque[tuple[Reply, Callable[[Namespaces], object]]] = deque()
        self._filled = trio.Event()
        self._namespaces: Namespaces | None = None

    def ask(self, work: Callable[[Namespaces], object]) -> Reply:
        """Run ``work`` after all that was asked before. Raises ApiError when too much waits."""
        if len(self._waiting) >= MAX_WAITING:
            raise ApiError(503, f"{MAX_WAITING} requests wait for the database already")
        reply = Reply()
        self._waiting.append((reply, work))
        self._filled.set()
        return reply

    async def run(self) -> None:
        """Serve for ever. Requests that still wait at the end are not answered: their clients are gone as well."""
        try:
            while True:
                await self._filled.wait()
                self._filled = trio.Event()
                while self._waiting:
                    reply, work = self._waiting.popleft()
                    result, error = await trio.to_thread.run_sync(self._work, work)
                    if error is None:
                        reply.answer(result)
                    else:
                        reply.fail(error)
        finally:
            if self._namespaces is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._namespaces.close)

    def _work(self, work: Callable[[Namespaces], T]) -> tuple[T | None, ApiError | None]:
        """In the thread."""
        try:
            if self._namespaces is None:
                self._namespaces = Namespaces(self._path)
            return work(self._namespaces), None
        except ApiError as error:
            return None, error
        except (sqlite3.Error, OSError, msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            # The last four: what a damaged file may hold in the place of JSON.
            return None, ApiError(500, f"database {self._path or 'in memory'}: {error}")


def _made(path: Path | None) -> str:
    """The file, for its owner's eyes only from its first moment on. Raises OSError."""
    if path is None:
        return ":memory:"
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    return str(path)


def _parts(key: Key) -> list[str]:
    parts = key if isinstance(key, list) else key.split(".")
    if not parts or "" in parts or len(parts) > MAX_KEY_PARTS:
        raise ApiError(400, f"Invalid Key Format: '{str(key)[:MAX_KEY_SHOWN]}'")
    return parts


def _not_found(namespace: str, key: Key) -> ApiError:
    return ApiError(404, f"Key '{key}' in namespace '{namespace}' not found")
