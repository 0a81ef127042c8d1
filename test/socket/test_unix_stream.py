"""The stream that links and API clients run on: sends at once what fits, in order with what had to wait."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klipper_router.link import Outbox
from klipper_router.unix_stream import UnixStream

# More than the buffers of a Unix socket hold.
BIG = bytes(range(256)) * 8192


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[UnixStream, trio.socket.SocketType]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with trio.socket.from_stdlib_socket(theirs) as peer:
        async with UnixStream(ours) as stream:
            yield stream, peer


async def received(peer: trio.socket.SocketType, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        data += await peer.recv(65536)
    return data


async def test_a_frame_that_fits_is_sent_without_the_writer() -> None:
    async with connected() as (stream, peer):
        outbox = Outbox(1000, stream.send_now)
        assert outbox.put(b"now")
        assert outbox.size_bytes == 0
        assert await peer.recv(100) == b"now"


async def test_what_does_not_fit_is_sent_by_the_writer_in_order_and_whole() -> None:
    async with connected() as (stream, peer), trio.open_nursery() as nursery:
        outbox = Outbox(2 * len(BIG), stream.send_now)
        assert outbox.put(b"first")
        assert outbox.put(BIG)
        assert outbox.put(b"last")
        assert 0 < outbox.size_bytes < len(BIG) + 4
        nursery.start_soon(outbox.write_to, stream)
        assert await received(peer, len(BIG) + 9) == b"first" + BIG + b"last"
        await outbox.drained()
        assert outbox.put(b"again")
        assert await peer.recv(100) == b"again"
        nursery.cancel_scope.cancel()


async def test_a_full_outbox_refuses_a_frame_and_loses_none() -> None:
    async with connected() as (stream, peer), trio.open_nursery() as nursery:
        outbox = Outbox(len(BIG), stream.send_now)
        assert outbox.put(BIG)
        assert not outbox.put(BIG)
        nursery.start_soon(outbox.write_to, stream)
        assert await received(peer, len(BIG)) == BIG
        nursery.cancel_scope.cancel()


async def test_the_writer_finds_a_broken_connection_that_a_send_at_once_met() -> None:
    async with connected() as (stream, peer):
        peer.close()
        assert stream.send_now(b"lost") == 0
        with pytest.raises(trio.BrokenResourceError, match="socket connection broken"):
            await stream.send_all(b"lost")


async def test_the_end_of_the_peer_is_an_empty_receive() -> None:
    async with connected() as (stream, peer):
        await peer.send(b"bye")
        peer.close()
        assert await stream.receive_some() == b"bye"
        assert await stream.receive_some() == b""


async def test_closing_wakes_who_waits_for_the_socket() -> None:
    async with connected() as (stream, _), trio.open_nursery() as nursery:
        ended = trio.Event()

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()
            ended.set()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await stream.aclose()
        await ended.wait()


async def test_a_closed_stream_neither_receives_nor_sends() -> None:
    async with connected() as (stream, _):
        await stream.aclose()
        await stream.aclose()
        assert stream.send_now(b"x") == 0
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")


async def test_a_cancelled_receive_leaves_the_stream_usable() -> None:
    async with connected() as (stream, peer):
        with trio.move_on_after(0) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        await peer.send(b"there")
        assert await stream.receive_some() == b"there"


class Fickle(socket.socket):
    """Ready, says the kernel, and is not when it is asked (man 2 select, "spurious readiness"); once each way."""

    def __init__(self, fd: int) -> None:
        super().__init__(fileno=fd)
        self.refusals = {"recv", "send"}

    def recv(self, *args: Any) -> bytes:
        self._refuse("recv")
        return super().recv(*args)

    def send(self, *args: Any) -> int:
        self._refuse("send")
        return super().send(*args)

    def _refuse(self, what: str) -> None:
        if what in self.refusals:
            self.refusals.discard(what)
            raise BlockingIOError


async def test_a_wake_up_for_nothing_is_waited_over() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    fickle = Fickle(ours.detach())
    with theirs:
        async with UnixStream(fickle) as stream:
            await stream.wait_send_all_might_not_block()
            await stream.send_all(b"out")
            assert theirs.recv(100) == b"out"
            theirs.send(b"in")
            assert await stream.receive_some() == b"in"
            assert fickle.refusals == set()
