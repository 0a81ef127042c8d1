"""Single connections: wakeups for nothing, full buffers, broken TLS, handshakes and dials that take too long."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from klipper_router.gateway import transport
from klipper_router.gateway.transport import SocketTransport, TlsTransport
from test.gateway.rig import WITHIN_S, Echo, Toy, running
from test.gateway.test_camera_upstream import hold
from test.gateway.test_camera_upstream import jumping_clock as jumping_clock  # the fixture
from test.gateway.test_tls_and_forwards import certificate as certificate  # the fixture


@contextlib.contextmanager
def pair() -> Iterator[tuple[SocketTransport, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield SocketTransport(ours), theirs


class Thief(trio.abc.Instrument):
    """Takes what has come between the kernel's word of it and whoever was woken for it, once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.taken = b""

    def after_io_wait(self, timeout: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self.taken = self.taken or self.sock.recv(100)


@pytest.mark.parametrize("into", [False, True])
async def test_a_wakeup_with_nothing_to_read_is_waited_out(into: bool) -> None:
    with pair() as (ours, theirs), trio.fail_after(WITHIN_S):
        got = bytearray(100)

        async def receive() -> None:
            if into:
                del got[await ours.receive_into(got) :]
            else:
                got[:] = await ours.receive_some(100)

        thief = Thief(ours.sock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(thief)
            theirs.send(b"stolen")
            await wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(thief)
            theirs.send(b"left")
        assert (thief.taken, bytes(got)) == (b"stolen", b"left")


async def test_what_does_not_fit_the_kernels_buffer_is_sent_when_there_is_room() -> None:
    content = bytes(range(256)) * 16384
    with pair() as (ours, theirs), trio.fail_after(WITHIN_S):
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.sock.send(b"x" * 65536)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, content)
            await wait_all_tasks_blocked()
            got = b""
            other = SocketTransport(theirs)
            while not got.endswith(content):
                got += await other.receive_some(1 << 20)
        assert got.removesuffix(content).strip(b"x") == b""


# -- TLS -------------------------------------------------------------------------------------------------------------


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def tls_pair(
    certificate: Path, ours: SocketTransport, theirs: socket.socket
) -> tuple[TlsTransport, socket.socket]:
    """A connection whose handshake is done: our end, and the bare socket of the client's."""
    client = trio.SSLStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)),
        ssl.create_default_context(cafile=str(certificate)),
        server_hostname="localhost",
    )
    made: list[TlsTransport] = []

    async def serve() -> None:
        made.append(await transport.server_tls(ours.sock, server_context(certificate)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await client.do_handshake()
    return made[0], theirs


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[SocketTransport, socket.socket]]:
    """As `pair`, by TCP: trio's TLS wants a socket that knows TCP_NODELAY."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            theirs.setblocking(False)
            yield SocketTransport(ours), theirs


async def test_bytes_that_are_no_tls_break_the_connection(certificate: Path) -> None:
    with tcp_pair() as (ours, theirs), trio.fail_after(WITHIN_S):
        tls, bare = await tls_pair(certificate, ours, theirs)
        bare.send(b"this is no record of TLS")
        with pytest.raises(ConnectionResetError, match="TLS connection broken: "):
            await tls.receive_some(100)
        with pytest.raises(ConnectionResetError, match="TLS connection broken: "):
            await tls.send_all(b"x")


async def test_what_comes_after_our_end_of_tls_is_dropped_until_the_connection_ends(certificate: Path) -> None:
    with tcp_pair() as (ours, theirs), trio.fail_after(WITHIN_S):
        tls, bare = await tls_pair(certificate, ours, theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tls.end)
            await wait_all_tasks_blocked()
            bare.shutdown(socket.SHUT_WR)
        assert await tls.receive_some(100) == b""


async def test_a_server_that_begins_no_tls_is_given_up(jumping_clock: MockClock) -> None:
    async with Toy(hold).running() as toy:
        with pytest.raises(TimeoutError, match="TLS handshake takes too long"):
            await transport.dial("127.0.0.1", toy.port, ssl.create_default_context())
        await toy.until(lambda: toy.open == 0)


async def test_a_server_that_hangs_up_in_the_handshake_is_told() -> None:
    async def leave(wire: object) -> None:
        pass

    async with Toy(leave).running() as toy:
        with pytest.raises(ConnectionResetError, match="TLS handshake failed: "):
            await transport.dial("127.0.0.1", toy.port, ssl.create_default_context())


async def test_a_host_that_does_not_answer_is_given_up(jumping_clock: MockClock) -> None:
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # room for one, who is never accepted: the kernel drops who else knocks (man 2 listen)
        first.connect(listener.getsockname())
        port = listener.getsockname()[1]
        began = trio.current_time()
        with pytest.raises(TimeoutError, match=f"127.0.0.1 port {port} did not answer within 3 s"):
            await transport.dial("127.0.0.1", port)
        assert trio.current_time() - began < transport.CONNECT_S + 1


# -- clients ---------------------------------------------------------------------------------------------------------


class Told(logging.Handler):
    """Calls back at the first record with that text."""

    def __init__(self, text: str, then: Callable[[], None]) -> None:
        super().__init__()
        self.text = text
        self.then = then
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.count += 1
            self.then()


async def test_out_of_file_descriptors_a_client_waits_and_is_served_when_there_are_some(tmp_path: Path) -> None:
    text = "[gateway]\nlisten: 127.0.0.1:0\n[klippy main]"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = Told(
        "cannot accept a client: Too many open files", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    )
    logger = logging.getLogger("klipper_router.gateway")
    logger.addHandler(told)
    try:
        async with running(tmp_path, text, Echo()) as rig:
            # Connected by the kernel, and not accepted before the next checkpoint.
            with socket.create_connection(("127.0.0.1", rig.port)) as client:
                lowest_free = os.dup(client.fileno())
                os.close(lowest_free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
                client.setblocking(False)
                client.send(f"GET /x HTTP/1.1\r\nHost: {rig.host}\r\n\r\n".encode())
                with trio.fail_after(WITHIN_S):
                    assert (await SocketTransport(client).receive_some(1000)).startswith(b"HTTP/1.1 200 ")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        logger.removeHandler(told)
    assert told.count == 1


async def test_closing_wakes_who_waits_and_may_be_done_again() -> None:
    with pair() as (ours, _):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await ours.receive_some(1)

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            ours.close()
        ours.close()
        assert ours.sock.fileno() == -1
