"""Processes on the cores where they belong, and what they cost: CPU time and memory as Linux counts them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import selectors
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

_CORES = sorted(os.sched_getaffinity(0))
# The load generators and stand-ins share one core, what is measured has the other.
LOAD_CORE = _CORES[0]
MEASURED_CORE = _CORES[min(1, len(_CORES) - 1)]
STOP_WITHIN_S = 5.0

# The checkout whose router is measured.
tree = Path(__file__).parents[2]
START_WITHIN_S = 30.0


def settle_on_load_core(*, realtime: bool) -> bool:
    """Pin this process, and so all that it starts, and raise its priority; returns whether it could.

    ``realtime``: above every ordinary process, so that a busy machine disturbs little (and is disturbed).
    """
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        if realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        else:
            os.setpriority(os.PRIO_PROCESS, 0, -5)
    except PermissionError:
        return False
    return True


class Measured:
    """A process on the measured core; its output goes to a file, which is told when it fails."""

    def __init__(self, command: Sequence[str], output: Path, core: int = MEASURED_CORE) -> None:
        self.output = output
        environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}  # not from where we stand
        os.sched_setaffinity(0, {core})  # a child inherits it, and no code runs between fork and exec
        try:
            with output.open("ab") as file:
                self.started_at = time.perf_counter()
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
                )
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})

    def cpu_s(self) -> float:
        """CPU time of all its threads so far, to the nanosecond (/proc/PID/task/TID/schedstat)."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def rss_mb(self) -> float:
        """Resident memory, shared libraries included, in MB of 1e6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024 / 1e6

    def check(self) -> None:
        """Raises RuntimeError with what it printed when the process has ended."""
        if self.process.poll() is not None:
            said = self.output.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.returncode}:\n{said}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def measured(command: Sequence[str], output: Path, core: int = MEASURED_CORE) -> Iterator[Measured]:
    """A process on the measured core (or another), stopped at the end."""
    process = Measured(command, output, core)
    try:
        yield process
    finally:
        process.stop()


class Load(Protocol):
    """A load generator. Between the calls that `Remote` makes it serves whatever its selector tells of."""

    @property
    def selector(self) -> selectors.BaseSelector: ...

    def serve(self, ready: selectors.SelectorKey) -> None: ...


class Remote:
    """A `Load` in a process of its own; its methods are called by name."""

    def __init__(self, load: Callable[..., Load], *args: Any) -> None:
        spawn = multiprocessing.get_context("spawn")  # not forked: the child shall have nothing of this process
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, load, args), daemon=True)
        self._process.start()
        theirs.close()
        self.result()  # it is there

    def __call__(self, method: str, *args: Any) -> Any:
        """Call a method, and wait for its result. Raises RuntimeError with the traceback of the other process."""
        self.begin(method, *args)
        return self.result()

    def begin(self, method: str, *args: Any) -> None:
        """Call a method; its `result` must be taken before the next call."""
        self._pipe.send((method, args))

    def result(self) -> Any:
        problem, result = self._pipe.recv()
        if problem:
            raise RuntimeError(f"in a load generator:\n{problem}")
        return result

    def close(self) -> None:
        self._pipe.close()
        self._process.join(STOP_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def remote(load: Callable[..., Load], *args: Any) -> Iterator[Remote]:
    """A load generator in a process of its own, ended at the end."""
    running = Remote(load, *args)
    try:
        yield running
    finally:
        running.close()


def _serve(pipe: connection.Connection, make: Callable[..., Load], args: Sequence[Any]) -> None:
    try:
        load = make(*args)
    except Exception:
        pipe.send((traceback.format_exc(), None))
        return
    pipe.send(("", None))
    load.selector.register(pipe, selectors.EVENT_READ)
    while True:
        for ready, _ in load.selector.select():
            if ready.fileobj is not pipe:
                load.serve(ready)
                continue
            try:
                method, arguments = pipe.recv()
            except EOFError:
                return
            try:
                result = getattr(load, method)(*arguments)
            except Exception:
                pipe.send((traceback.format_exc(), None))
            else:
                pipe.send(("", result))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for sockets; short, as a Unix socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="krb") as name:
        yield Path(name)


def until(condition: Callable[[], Any], what: str, within_s: float = START_WITHIN_S) -> Any:
    """The first true value of ``condition``. Raises TimeoutError naming what did not come."""
    give_up_at = time.monotonic() + within_s
    while not (result := condition()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(0.01)
    return result
