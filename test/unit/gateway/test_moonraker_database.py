"""The key/value store: what is written is read, by any way to it; bounds; a file that cannot be used."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway.moonraker.database import (
    MAX_BYTES,
    MAX_KEY_PARTS,
    MAX_RECORD_BYTES,
    MAX_WAITING,
    Database,
    Namespaces,
)
from klipper_router.gateway.moonraker.rpc import ApiError, Reply

NAME = st.text("abc", min_size=1, max_size=2)
KEYS = st.lists(NAME, min_size=1, max_size=3)
VALUES = st.integers(-5, 5) | st.text(max_size=3) | st.dictionaries(NAME, st.integers(0, 3), min_size=1, max_size=2)


@pytest.fixture
def store() -> Iterator[Namespaces]:
    made = Namespaces(None)
    yield made
    made.close()


def everything(store: Namespaces) -> dict[str, Any]:
    return {namespace: store.read(namespace, None) for namespace in store.list()}


@given(st.lists(st.tuples(st.booleans(), KEYS, VALUES), max_size=12))
def test_what_was_written_last_is_what_is_read(steps: list[tuple[bool, list[str], Any]]) -> None:
    store = Namespaces(None)
    try:
        for write, key, value in steps:
            before, result = everything(store), None
            try:
                if write:
                    store.write("ns", key, value)
                else:
                    result = store.delete("ns", key)
            except ApiError as error:
                refused = error.message
            else:
                refused = ""
            if refused:
                assert ("not a dictionary" if write else "not found") in refused
                assert everything(store) == before
            elif write:
                assert store.read("ns", key) == store.read("ns", ".".join(key)) == value
            else:
                assert result == functools.reduce(lambda place, step: place[step], key, before["ns"])
                with pytest.raises(ApiError, match="not found"):
                    store.read("ns", key)
    finally:
        store.close()


def test_a_namespace_is_there_as_long_as_it_holds_something(store: Namespaces) -> None:
    store.write("a", "k", 1)
    store.write("b", "k.l", 1)
    assert store.list() == ["a", "b"]
    store.delete("b", "k.l")
    assert store.list() == ["a"]
    with pytest.raises(ApiError, match="Namespace b not found"):
        store.read("b", None)


def test_null_is_not_kept(store: Namespaces) -> None:
    store.write("a", "k", None)
    assert store.list() == []


@pytest.mark.parametrize("key", ["", ".", "a.", "a..b", [], "a" + ".a" * MAX_KEY_PARTS, ["a"] * 100_000])
def test_a_key_has_no_empty_part_and_not_too_many(store: Namespaces, key: str | list[str]) -> None:
    with pytest.raises(ApiError, match="Invalid Key Format"):
        store.write("a", key, 1)


def test_a_refused_write_changes_nothing(store: Namespaces) -> None:
    store.write("a", "k", {"l": 1})
    before = everything(store)
    with pytest.raises(ApiError):
        store.write("a", "k.l.m.n", 1)
    with pytest.raises(ApiError, match="larger"):
        store.write("a", "big", "x" * MAX_RECORD_BYTES)
    assert everything(store) == before


def test_the_file_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    store = Namespaces(tmp_path / "x.sqlite")
    value = "x" * (MAX_RECORD_BYTES - 100)
    try:
        for number in range(MAX_BYTES // len(value) - 1):
            store.write("a", str(number), value)
        store.write("a", "small", 1)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.write("a", "big", value)
        assert (tmp_path / "x.sqlite").stat().st_size <= MAX_BYTES
        store.delete("a", "0")
        store.write("a", "0", value)
    finally:
        store.close()


async def answer(reply: Reply) -> object:
    """The result; raises ApiError."""
    done = trio.Event()
    outcome: list[tuple[object, ApiError | None]] = []

    def finished(result: object, error: ApiError | None) -> None:
        outcome.append((result, error))
        done.set()

    reply.then(finished)
    await done.wait()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


async def test_requests_are_served_in_their_order(tmp_path: Path) -> None:
    database = Database(tmp_path / "new/x.sqlite")
    replies = [database.ask(lambda store, n=n: store.write("a", "k", n)) for n in range(20)]  # type: ignore[misc]
    last = database.ask(lambda store: store.read("a", "k"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run)
        assert await answer(last) == 19
        assert all(reply.done for reply in replies)
        nursery.cancel_scope.cancel()
    assert (tmp_path / "new/x.sqlite").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_what_nests_deeper_and_deeper_is_an_error_of_that_request(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite")
    key = ["a"] * MAX_KEY_PARTS
    refused = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run)
        value: Any = 1
        for _ in range(40):
            try:
                await answer(database.ask(lambda store, value=value: store.write("n", key, value)))  # type: ignore[misc]
                value = await answer(database.ask(lambda store: store.read("n", "a")))
            except ApiError as error:
                refused += error.status == 500
        assert refused
        assert await answer(database.ask(Namespaces.list)) == ["n"]
        nursery.cancel_scope.cancel()


async def test_a_damaged_file_is_an_error_of_each_request_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "x.sqlite"
    file.write_bytes(b"no database" * 1000)
    database = Database(file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run)
        for _ in range(2):
            with pytest.raises(ApiError, match=r"x\.sqlite") as caught:
                await answer(database.ask(Namespaces.list))
            assert caught.value.status == 500
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("value", [b'"\xff\xfe"', b"{", b"", 5, None, "[" * 100_000])
async def test_a_damaged_value_is_an_error_of_each_request_for_it(tmp_path: Path, value: object) -> None:
    file = tmp_path / "x.sqlite"
    Namespaces(file).close()
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO records VALUES ('mainsail', 'theme', ?)", (value,))
    database = Database(file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run)
        for key in ("theme", "theme.mode", None):
            with pytest.raises(ApiError, match=r"x\.sqlite") as caught:
                await answer(database.ask(lambda store, key=key: store.read("mainsail", key)))  # type: ignore[misc]
            assert caught.value.status == 500
        nursery.cancel_scope.cancel()


def test_a_queue_that_is_full_is_an_error() -> None:
    database = Database(None)
    for _ in range(MAX_WAITING):
        database.ask(Namespaces.list)
    with pytest.raises(ApiError, match="wait for the database"):
        database.ask(Namespaces.list)
