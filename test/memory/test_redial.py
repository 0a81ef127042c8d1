"""Connecting, and connecting again: a Klippy that is absent, refuses, dies early, falls silent, or comes back."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest
import trio

from klipper_router import __version__, link
from klipper_router.errors import LinkLost
from klipper_router.link import Answer
from klipper_router.remote_methods import METHODS
from test.memory.bench import Bench, settle
from test.memory.scripted_klippy import Connection, ScriptedKlippy

RECOVERED_WITHIN_S = 2.0


async def test_the_handshake_identifies_then_registers_every_method_then_subscribes(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    await bench.start()
    (main,) = bench
    assert main.requests[0]["method"] == "info"
    assert main.requests[0]["params"] == {"client_info": {"program": "klipper-router", "version": __version__}}
    assert [request["remote_method"] for request in main.requests_of("register_remote_method")] == list(METHODS)
    assert all("params" not in request["response_template"] for request in main.requests_of("register_remote_method"))
    assert main.requests_of("objects/subscribe")[0]["objects"] == {"webhooks": ["state", "state_message"]}


@pytest.mark.parametrize("state", ["startup", "error", "shutdown", "ready"])
async def test_methods_are_registered_in_every_state(nursery: trio.Nursery, state: str) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.become(state)
    await bench.start()
    assert bench.state("main") == state
    assert set(main.connections[0].methods) == set(METHODS)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOTCONN, "Transport endpoint is not connected"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
async def test_a_refused_dial_is_tried_again_and_says_why(nursery: trio.Nursery, error: OSError) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.refuses = error
    await bench.start()
    assert bench.router.printers["main"].state.message == error.strerror
    await trio.sleep(30)
    main.refuses = None
    assert await bench.until_state("main", "ready", RECOVERED_WITHIN_S) > 0


async def test_redial_backs_off_from_a_tenth_of_a_second_to_one(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.refuses = ConnectionRefusedError()
    await bench.start()
    await trio.sleep(60)
    waits = [after - before for before, after in pairwise(main.dials)]
    for wait, expected in zip(waits, [0.1, 0.2, 0.4, 0.8, *[1.0] * (len(waits) - 4)], strict=True):
        assert expected * 0.79 < wait < expected * 1.21
    assert len({round(wait, 6) for wait in waits}) > 10  # jitter: several printers do not dial in step


async def test_a_lost_connection_is_redialled_after_a_tenth_of_a_second(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    for _ in range(3):
        await trio.sleep(100)
        main.restart()
        await settle()
        assert bench.state("main") == "disconnected"
        assert await bench.until_state("main", "ready", 0.15) > 0.05


def _lives_for(klippy: ScriptedKlippy, nursery: trio.Nursery, life_s: float) -> None:
    """Each connection from now on ends that long after it was made."""

    async def live(connection: Connection) -> None:
        await trio.sleep(life_s)
        connection.close()

    klippy.on_accept = lambda connection: nursery.start_soon(live, connection)


def _waits(klippy: ScriptedKlippy, life_s: float = 0.0) -> list[float]:
    """How long the router waited after the end of each connection before it dialled again."""
    return [after - before - life_s for before, after in pairwise(klippy.dials)]


@pytest.mark.parametrize("life_s", [0.001, 1, 4.9])
async def test_a_klippy_that_identifies_and_dies_is_redialled_with_back_off(
    nursery: trio.Nursery, life_s: float
) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    led.define("ROUTER_ON_DISCONNECTED")
    _lives_for(main, nursery, life_s)
    await bench.start()
    await trio.sleep(60)
    waits = _waits(main, life_s)
    for wait, expected in zip(waits, [0.1, 0.2, 0.4, 0.8, *[1.0] * (len(waits) - 4)], strict=True):
        assert expected * 0.79 < wait < expected * 1.21
    assert len(led.runs_of("ROUTER_ON_DISCONNECTED")) in (len(waits), len(waits) + 1)  # each time it was connected


@pytest.mark.parametrize("life_s", [5.01, 100])
async def test_a_klippy_that_lived_five_seconds_is_redialled_after_a_tenth_of_a_second_each_time(
    nursery: trio.Nursery, life_s: float
) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    _lives_for(main, nursery, life_s)
    await bench.start()
    await trio.sleep(10 * (life_s + 1))
    waits = _waits(main, life_s)
    assert len(waits) >= 9
    assert all(0.079 < wait < 0.121 for wait in waits)


async def test_a_long_life_ends_the_back_off_of_many_short_ones(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    _lives_for(main, nursery, 0.5)
    await bench.start()
    await trio.sleep(30)
    assert _waits(main, 0.5)[-1] > 0.79
    main.on_accept = None
    await trio.sleep(100)
    before = len(main.dials)
    main.restart()
    await settle()
    assert bench.state("main") == "disconnected"
    assert 0.05 < await bench.until_state("main", "ready", RECOVERED_WITHIN_S) < 0.15
    assert len(main.dials) == before + 1


@pytest.mark.parametrize("away_s", [0.01, 0.5, 3, 60, 3600])
async def test_a_printer_is_back_within_two_seconds_of_its_socket(nursery: trio.Nursery, away_s: float) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    main.die()
    await trio.sleep(away_s)
    main.live()
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)
    assert set(main.connections[0].methods) == set(METHODS)


async def test_a_connection_that_never_was_is_tried_again(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.on_accept = Connection.never_connect
    await bench.start()
    await trio.sleep(30)
    assert bench.state("main") == "disconnected"
    assert len(main.dials) > 20
    main.on_accept = None
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)


async def test_end_of_file_before_the_first_answer_is_tried_again_with_back_off(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.on_accept = Connection.close
    await bench.start()
    await trio.sleep(30)
    assert bench.state("main") == "disconnected"
    assert 20 < len(main.dials) < 45
    main.on_accept = None
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)


async def test_half_an_answer_to_info_and_then_close_is_tried_again(nursery: trio.Nursery) -> None:
    def half(connection: Connection) -> None:
        connection.send_bytes(b'{"id": 1, "resu')
        connection.close()

    bench = Bench(nursery, "main")
    (main,) = bench
    main.on_accept = half
    await bench.start()
    main.on_accept = None
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)


async def test_a_klippy_that_accepts_and_says_nothing_is_noticed_after_10_s_and_tried_again(
    nursery: trio.Nursery,
) -> None:
    bench = Bench(nursery, "main", "led")
    main, _ = bench
    main.stop()
    await bench.start()
    assert bench.state("led") == "ready"
    await trio.sleep(9.9)
    assert len(main.dials) == 1
    await trio.sleep(0.4)
    assert len(main.dials) == 2
    assert bench.router.printers["main"].state.message == "accepts connections but does not answer (for 10 s)"
    await trio.sleep(100)
    main.go_on()
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)


async def test_a_dial_that_hangs_is_given_up(nursery: trio.Nursery) -> None:
    dials: list[float] = []

    async def hang(sock: str) -> trio.abc.Stream:
        dials.append(trio.current_time())
        await trio.sleep_forever()
        raise AssertionError

    bench = Bench(nursery, "main")
    bench.router.printers["main"]._dial = hang
    await bench.start()
    await trio.sleep(25)
    assert len(dials) == 3


async def test_a_link_that_falls_silent_is_dropped_and_dialled_again(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led")
    main, led = bench
    led.define("ROUTER_ON_DISCONNECTED")
    await bench.start()
    await trio.sleep(50)
    assert len(main.dials) == 1
    main.stop()
    await trio.sleep(21)
    assert len(main.dials) >= 2
    assert bench.state("main") == "disconnected"
    assert led.runs_of("ROUTER_ON_DISCONNECTED") == [{"PRINTER": "main"}]
    main.go_on()
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)


@pytest.mark.parametrize("lives", [True, False])
async def test_a_klippy_with_too_many_calls_to_be_asked_is_dropped_only_if_it_answers_none_of_them(
    nursery: trio.Nursery, lives: bool
) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    main.hold("x")
    main.answers["x"] = lambda _: {}
    answers: list[Answer] = []
    for _ in range(link.MAX_CALLS_UNDER_WAY):
        bench.router.printers["main"].call("x", {}, answers.append)
    await settle()
    for _ in range(4):
        await trio.sleep(9)
        if lives:
            main.let_go("x")
            await settle()
            bench.router.printers["main"].call("x", {}, answers.append)
    assert (len(main.dials) == 1) is lives
    assert len(answers) == (4 if lives else link.MAX_CALLS_UNDER_WAY)
    assert all(isinstance(answer, bytes if lives else LinkLost) for answer in answers)


async def test_a_klippy_that_talks_is_not_asked_whether_it_is_there(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    before = len(main.requests)
    for number in range(100):
        await trio.sleep(1)
        main.become("ready", f"message {number}")
    assert len(main.requests) == before


async def test_a_klippy_stopped_for_a_short_while_keeps_its_link(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    main.stop()
    await trio.sleep(9)
    main.go_on()
    await trio.sleep(60)
    assert len(main.dials) == 1
    assert bench.state("main") == "ready"


@pytest.mark.parametrize("answer", [b'{"id": %d, "error": {"message": "busy"}}', b'{"id": %d, "result": {]}'])
async def test_any_answer_to_the_ping_is_a_sign_of_life(nursery: trio.Nursery, answer: bytes) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    main.raw_answers["info"] = answer
    await trio.sleep(60)
    assert len(main.dials) == 1
    assert bench.state("main") == "ready"


@pytest.mark.parametrize(
    "answer", [b'{"id": %d, "result": []}', b'{"id": %d, "result": {"state": 7}}', b'{"id": %d, "error": {}}']
)
async def test_an_identification_that_makes_no_sense_is_tried_again(nursery: trio.Nursery, answer: bytes) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    main.raw_answers["info"] = answer
    await bench.start()
    await trio.sleep(5)
    assert bench.state("main") == "disconnected"
    assert len(main.dials) > 5
    main.raw_answers.clear()
    await bench.until_state("main", "ready", RECOVERED_WITHIN_S)


async def test_a_printer_that_cannot_be_reached_delays_no_other(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main", "led", "afc")
    main, led, afc = bench
    main.stop()
    led.refuses = FileNotFoundError(2, "No such file or directory")
    await bench.start()
    assert trio.current_time() - afc.dials[0] == 0
    assert bench.state("afc") == "ready"


async def test_two_routers_lives_do_not_share_a_connection(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, "main")
    (main,) = bench
    await bench.start()
    for _ in range(5):
        main.restart()
        await bench.until_state("main", "disconnected", 1)
        await bench.until_state("main", "ready", RECOVERED_WITHIN_S)
    assert _open(main) == 1


def _open(klippy: ScriptedKlippy) -> int:
    return sum(not connection.closed for connection in klippy.connections)
