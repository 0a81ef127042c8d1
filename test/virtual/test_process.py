"""The process: command line, signals, serial console, many printers, and what it must not import."""

from __future__ import annotations

import ast
import os
import resource
import signal
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

import klipper_router.virtual
from klipper_router.virtual import command
from test.virtual.rig import BASE, PATIENCE_S, Api, virtual_klippy

FOLDER = Path(klipper_router.virtual.__file__).parent


def test_it_shares_no_code_with_the_router() -> None:
    for path in FOLDER.rglob("*.py"):
        depth = len(path.relative_to(FOLDER).parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth, f"{path} reaches out of the package"
                assert not (node.module or "").startswith("klipper_router"), path
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("klipper_router") for alias in node.names), path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_serves_until_a_signal_and_exits_with_0(number: signal.Signals) -> None:
    async with virtual_klippy(BASE) as rig:  # for its folder and configuration
        address = rig.folder / "p"
        arguments = [str(rig.config), "-a", str(address), "-l", str(rig.folder / "log"), "--speed", "20"]
        program = [sys.executable, "-m", "klipper_router.virtual", *arguments]
        async with trio.open_nursery() as nursery:
            process = await nursery.start(partial(trio.run_process, program, cwd=FOLDER.parent.parent, check=False))
            with trio.fail_after(PATIENCE_S):
                async with await _open(str(address)) as stream:
                    assert (await Api(stream).call("info"))["process_id"] == process.pid
            process.send_signal(number)
            with trio.fail_after(PATIENCE_S):
                assert await process.wait() == 0
        assert address.exists()
        assert "Starting Klippy" in (rig.folder / "log").read_text()


def test_wrong_arguments_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        command.main(["printer.cfg", "--speed", "-1"])
    assert exit_info.value.code == 2
    assert "speed" in capsys.readouterr().err


def test_an_address_that_cannot_be_taken_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "printer.cfg").write_text(BASE)
    sock = tmp_path / "none" / "s"
    assert command.main([str(tmp_path / "printer.cfg"), "-a", str(sock), "-l", str(tmp_path / "l")]) == 1
    assert capsys.readouterr().err == f"klipper-router virtual: {sock}: No such file or directory\n"


async def test_the_serial_console_acknowledges_every_line() -> None:
    async with virtual_klippy(BASE, tty=True) as rig:
        fd = os.open(rig.folder / "tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            os.write(fd, b"M118 typed\nM105\nM115\nFOO\nG20\n")
            read = b""
            with trio.fail_after(PATIENCE_S):
                while read.count(b"ok") < 5:
                    await trio.lowlevel.wait_readable(fd)
                    read += os.read(fd, 4096)
            lines = [line for line in read.decode().splitlines() if not line.startswith("// Klipper state")]
            assert lines == [
                "echo: typed",
                "ok",
                "ok T:0",
                f"ok FIRMWARE_NAME:Klipper FIRMWARE_VERSION:{rig.klippy.printer.start_args.software_version}",
                '// Unknown command:"FOO"',
                "ok",
                "!! Machine does not support G20 (inches) command",
                "ok",
            ]
        finally:
            os.close(fd)


async def test_m112_on_the_serial_console_overtakes_waiting_lines() -> None:
    async with virtual_klippy(BASE, tty=True, speed=2.0) as rig:
        fd = os.open(rig.folder / "tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            os.write(fd, b"G4 P100000\nM118 late\nM112\n")
            await rig.wait_state("shutdown")
            assert rig.klippy.state_message.startswith("Shutdown due to M112 command")
        finally:
            os.close(fd)


async def test_twenty_printers_run_in_one_process_and_idle_without_work() -> None:
    async with AsyncExitStack() as stack:
        rigs = [await stack.enter_async_context(virtual_klippy(BASE, speed=5.0, ready=False)) for _ in range(20)]
        for rig in rigs:
            await rig.wait_state("ready")
        used = _cpu_s()
        await trio.sleep(0.5)
        assert _cpu_s() - used < 0.1


async def _open(address: str) -> trio.SocketStream:
    while True:
        try:
            return await trio.open_unix_socket(address)
        except OSError:
            await trio.sleep(0.02)  # another process: there is no event to wait for


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
