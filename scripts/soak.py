"""Chaos for a router, with an account of every script and status change: `scripts/soak.py --minutes 5 --printers 6`.

Virtual printers restart, shut down, stall, vanish, refuse, and come back with a broken configuration and a mended one;
clients flood, send garbage, never read and break off; the router itself is killed and started again. Meanwhile each
script that is sent bears a number, and each printer follows its neighbour. At the end the books must balance:

- lost: answered with success, but never run (must be 0)
- ghosts: answered with an error that says it was not run, but run (must be 0)
- doubled: run twice (must be 0)
- out of order: run after one that the same client sent to the same printer later, both with or both without `wait`
- wrong status: a follower whose newest callback is not the neighbour's newest value (must be 0)

Exit code 0 when they balance.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import trio

from klipper_router.virtual import VirtualKlippy

ROOT = Path(__file__).resolve().parent.parent

PRINTER_CFG = """
[include {root}/includes/router_api.cfg]
[mcu]
serial: /dev/null
[printer]
kinematics: none
max_velocity: 10
max_accel: 100
[respond]
[pause_resume]
[display_status]
[gcode_macro RUN]
gcode:
  {{action_respond_info("RUN " ~ params.N)}}
[gcode_macro TOLD]
gcode:
  {{action_respond_info("TOLD " ~ params.DISPLAY_STATUS_MESSAGE|default(''))}}
[gcode_macro ROUTER_ON_READY]
gcode:
  {{action_respond_info("GREETED")}}
  ROUTER_OBJECTS_SUBSCRIBE TARGET={neighbour} OBJECTS=display_status:message CALLBACK=TOLD
[gcode_macro ROUTER_ON_STATE]
gcode:
  M117 {{params.PRINTER}} {{params.STATE}}
{more}
"""
BROKEN = "[gcode_macro WRONG]\nno_gcode: here\n"
# Not run for certain, by the router's word; after a lost connection nobody can know.
UNCERTAIN = "connection to"


class Books:
    """The account of all scripts."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.sent: dict[int, tuple[str, str]] = {}  # number -> (client, printer)
        self.succeeded: set[int] = set()
        self.refused: set[int] = set()
        self.uncertain: set[int] = set()
        self.runs: dict[str, list[int]] = defaultdict(list)
        self.recovery_s: list[float] = []
        self.faults: Counter[str] = Counter()

    def answered(self, number: int, message: dict[str, object]) -> None:
        """Enter the answer to a script."""
        if "result" in message:
            self.succeeded.add(number)
        elif UNCERTAIN in str(message["error"]):
            self.uncertain.add(number)
        else:
            self.refused.add(number)

    def balance(self) -> dict[str, int]:
        """What must be 0, by name."""
        run = Counter(number for numbers in self.runs.values() for number in numbers)
        newest: dict[tuple[str, str], int] = {}
        out_of_order = 0
        for printer, numbers in self.runs.items():
            for number in numbers:
                key = (self.sent[number][0], printer)
                out_of_order += number < newest.get(key, 0)
                newest[key] = max(number, newest.get(key, 0))
        return {
            "lost": len(self.succeeded - run.keys()),
            "ghosts": len(self.refused & run.keys()),
            "doubled": sum(count > 1 for count in run.values()),
            "out of order": out_of_order,
        }


class Machine:
    """One virtual printer through all its lives, and what its console showed."""

    def __init__(self, name: str, neighbour: str, folder: Path, speed: float, books: Books) -> None:
        self.name = name
        self.neighbour = neighbour
        self.sock = folder / f"{name}.sock"
        self.config = folder / f"{name}.cfg"
        self.speed = speed
        self.books = books
        self.told = ""
        self.klippy = VirtualKlippy(self.config, apiserver=self.sock, speed=speed)
        self.configure()

    def configure(self, more: str = "") -> None:
        self.config.write_text(PRINTER_CFG.format(root=ROOT, neighbour=self.neighbour, more=more))

    async def live(self) -> None:
        """Be a process that is killed and started again."""
        while True:
            self.klippy = VirtualKlippy(self.config, apiserver=self.sock, speed=self.speed)
            self._mark = 0
            async with trio.open_nursery() as nursery:
                await nursery.start(self.klippy.run)
                nursery.start_soon(self._read_console, self.klippy)
                nursery.start_soon(self._time_recovery, self.klippy)
                self.killed = trio.Event()
                await self.killed.wait()
                nursery.cancel_scope.cancel()
            # Only now: up to its very end it may run a script and answer it.
            self._take(self.klippy, self._mark)
            await trio.sleep(random.uniform(0, 2))

    async def _read_console(self, klippy: VirtualKlippy) -> None:
        while True:
            await klippy.wait_console(lambda line: True, since=self._mark)
            self._take(klippy, self._mark)

    def _take(self, klippy: VirtualKlippy, mark: int) -> None:
        lines = list(klippy.console)[mark - klippy.console_mark :] if mark < klippy.console_mark else []
        self._mark = klippy.console_mark
        for line in lines:
            kind, _, rest = line.removeprefix("// ").partition(" ")
            if kind == "RUN":
                self.books.runs[self.name].append(int(rest))
            elif kind == "TOLD":
                self.told = rest

    async def _time_recovery(self, klippy: VirtualKlippy) -> None:
        """From Klipper's ready to the end of this printer's ROUTER_ON_READY."""
        while True:
            mark = klippy.console_mark
            await klippy.wait_state("ready")
            since = trio.current_time()
            await klippy.wait_console("GREETED", since=mark)
            self.books.recovery_s.append(trio.current_time() - since)
            await klippy.wait_console("Klipper state:", since=klippy.console_mark)


class Chaos:
    """What goes wrong."""

    def __init__(self, machines: list[Machine], books: Books, router: RouterProcess) -> None:
        self.machines = machines
        self.books = books
        self.router = router
        self.over = False

    async def rage(self) -> None:
        faults = [self.restart, self.restart, self.shutdown, self.stall, self.vanish, self.drop, self.refuse]
        faults += [self.broken_config, self.say]
        while True:
            await trio.sleep(random.uniform(0.05, 0.5))
            fault, machine = random.choice(faults), random.choice(self.machines)
            self.books.faults[fault.__name__] += 1
            with contextlib.suppress(RuntimeError):  # between two lives nothing can go wrong
                await fault(machine)

    async def gcode(self, machine: Machine, script: str) -> None:
        from klipper_router.virtual import CommandError

        with contextlib.suppress(CommandError):
            await machine.klippy.run_gcode(script)

    async def restart(self, machine: Machine) -> None:
        machine.configure(random.choice(["", "[gcode_macro OTHER]\ngcode:\n  M117 other\n"]))
        await self.gcode(machine, random.choice(["RESTART", "FIRMWARE_RESTART"]))

    async def shutdown(self, machine: Machine) -> None:
        machine.klippy.invoke_shutdown("soak")
        await trio.sleep(random.uniform(0, 1))
        await self.gcode(machine, "FIRMWARE_RESTART")

    async def stall(self, machine: Machine) -> None:
        machine.klippy.stall()
        await trio.sleep(random.uniform(0, 2))
        machine.klippy.resume()

    async def vanish(self, machine: Machine) -> None:
        machine.killed.set()

    async def drop(self, machine: Machine) -> None:
        machine.klippy.drop_clients()

    async def refuse(self, machine: Machine) -> None:
        machine.klippy.refuse(True)
        await trio.sleep(random.uniform(0, 1))
        machine.klippy.refuse(False)

    async def broken_config(self, machine: Machine) -> None:
        machine.configure(BROKEN)
        await self.gcode(machine, "RESTART")
        await trio.sleep(random.uniform(0.5, 2))
        machine.configure()
        await self.gcode(machine, "FIRMWARE_RESTART")

    async def say(self, machine: Machine) -> None:
        await self.gcode(machine, f"M117 {random.choice(['a', 'b', chr(39), '; M112', 'x#y*z'])}{random.random()}")


class RouterProcess:
    """The router, killed and started again."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.sock = folder / "router.sock"
        self.log = folder / "router.log"
        self._config = folder / "router.cfg"
        sections = "".join(f"[klippy {name}]\nsock: {folder / name}.sock\n" for name in names)
        self._config.write_text(f"[router]\nsock: {self.sock}\n{sections}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "klipper_router", "-c", str(self._config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, cwd=ROOT)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return await trio.to_thread.run_sync(self._process.wait)

    def measure(self) -> dict[str, int]:
        """Resident memory (kB) and open files."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        rss_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return {"rss_kb": rss_kb, "files": len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))}


async def send_scripts(name: str, router: RouterProcess, targets: list[str], books: Books) -> None:
    """A client that has up to ten scripts under way, and comes back when the router went away."""
    for life in itertools.count():
        with contextlib.suppress(OSError):
            stream = await trio.open_unix_socket(str(router.sock))
            async with stream, trio.open_nursery() as nursery:
                waiting: dict[int, int] = {}
                room = trio.Semaphore(10)
                nursery.start_soon(read_answers, stream, waiting, room, books, nursery.cancel_scope)
                with contextlib.suppress(trio.BrokenResourceError):
                    for id_ in itertools.count():
                        await room.acquire()
                        number, target = next(books.numbers), random.choice(targets)
                        wait_s = random.choice([0, 0, 1, 5])
                        kind = "waits" if wait_s else "does not wait"
                        books.sent[number] = (f"{name}.{life}, {kind}", target)
                        waiting[id_] = number
                        params = {"target": target, "script": f"RUN N={number}", "wait": wait_s}
                        await send(stream, {"id": id_, "method": "router/gcode/script", "params": params})
                        await trio.sleep(random.uniform(0, 0.05))
                nursery.cancel_scope.cancel()
        await trio.sleep(0.1)


async def send(stream: trio.SocketStream, message: object) -> None:
    await stream.send_all(json.dumps(message).encode() + b"\x03")


async def read_answers(
    stream: trio.SocketStream,
    waiting: dict[int, int],
    room: trio.Semaphore,
    books: Books,
    scope: trio.CancelScope,
) -> None:
    """Enter the answers; cancels ``scope`` when the connection ends."""
    buffer = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(65536):
            *frames, buffer = (buffer + data).split(b"\x03")
            for frame in frames:
                message = json.loads(frame)
                books.answered(waiting.pop(message["id"]), message)
                room.release()
    scope.cancel()


async def misbehave(router: RouterProcess) -> None:
    """Clients that send garbage, half frames, floods, or never read."""
    flood = json.dumps({"id": 1, "method": "router/printers/list"}).encode() + b"\x03"
    while True:
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            stream = await trio.open_unix_socket(str(router.sock))
            async with stream:
                data = random.choice(
                    [random.randbytes(2000), b"\x03" * 100, b'{"id": 1, "meth', flood * 3000, b"[" * 5000 + b"\x03"]
                )
                with trio.move_on_after(2):
                    await stream.send_all(data)
                await trio.sleep(random.uniform(0, 1))
        await trio.sleep(random.uniform(0, 1))


async def soak(options: argparse.Namespace) -> int:
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    names = [f"p{number}" for number in range(options.printers)]
    books = Books()
    router = RouterProcess(folder, names)
    machines = [Machine(name, names[i - 1], folder, options.speed, books) for i, name in enumerate(names)]
    chaos = Chaos(machines, books, router)
    try:
        async with trio.open_nursery() as nursery:
            for machine in machines:
                nursery.start_soon(machine.live)
            router.start()
            await trio.sleep(2)
            first = router.measure()
            async with trio.open_nursery() as troubles:
                for number in range(3):
                    troubles.start_soon(send_scripts, f"c{number}", router, names, books)
                troubles.start_soon(chaos.rage)
                troubles.start_soon(misbehave, router)
                kills = math.ceil(options.minutes / options.kill_every) - 1
                for _ in range(kills):
                    await trio.sleep(options.kill_every * 60)
                    await router.end(random.choice([signal.SIGKILL, signal.SIGTERM]))
                    router.start()
                    await trio.sleep(2)
                    first = router.measure()
                await trio.sleep((options.minutes - kills * options.kill_every) * 60)
                troubles.cancel_scope.cancel()
            wrong = await settle(machines)
            last = router.measure()
            code = await router.end(signal.SIGTERM)
            nursery.cancel_scope.cancel()
        return report(books, wrong, first, last, code, router)
    finally:
        if options.keep:
            print("kept:", folder)
        else:
            shutil.rmtree(folder)


async def settle(machines: list[Machine]) -> list[str]:
    """All printers back and quiet; then each follower must know its neighbour's newest value. Returns who does not."""
    for machine in machines:
        machine.configure()
        with contextlib.suppress(RuntimeError):
            machine.klippy.resume()
            machine.klippy.refuse(False)
        with trio.move_on_after(20):
            while machine.klippy.state != "ready":
                with contextlib.suppress(Exception):
                    await machine.klippy.run_gcode("FIRMWARE_RESTART")
                await trio.sleep(0.5)
    await trio.sleep(6)
    for machine in machines:
        await machine.klippy.run_gcode(f"M117 end of {machine.name}")
    await trio.sleep(3)
    told = {machine.name: (machine.told, f"end of {machine.neighbour}") for machine in machines}
    return [f"{name}: {have!r} is not {want!r}" for name, (have, want) in told.items() if have != want]


def report(
    books: Books, wrong: list[str], first: dict[str, int], last: dict[str, int], code: int, router: RouterProcess
) -> int:
    """Print the account; the exit code."""
    times = sorted(books.recovery_s) or [math.nan]
    never = len(books.sent) - len(books.succeeded) - len(books.refused) - len(books.uncertain)
    balance = books.balance() | {"wrong status": len(wrong)}
    log = router.log.read_text()
    balance["tracebacks"] = log.count("Traceback")
    print(f"faults        {sum(books.faults.values())}: {dict(books.faults)}")
    print(f"scripts sent  {len(books.sent)}")
    print(f"  done        {len(books.succeeded)}")
    print(f"  refused     {len(books.refused)}")
    print(f"  uncertain   {len(books.uncertain)} (the connection was lost while they ran)")
    print(f"  no answer   {never} (the router was killed, or they were under way at the end)")
    for name, count in balance.items():
        print(f"{name:13} {count}{'' if not count else '  <- must be 0'}")
    print(
        f"recovery      p50 {times[len(times) // 2]:.2f} s, p99 {times[int(len(times) * 0.99)]:.2f} s of {len(times)}"
    )
    print(f"memory        {first['rss_kb']} kB after the last start, {last['rss_kb']} kB at the end")
    print(f"open files    {first['files']} after the last start, {last['files']} at the end")
    print(f"exit code     {code}")
    for line in wrong:
        print("wrong status:", line)
    return 0 if not any(balance.values()) and code == 0 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--printers", type=int, default=6)
    parser.add_argument("--speed", type=float, default=4.0, help="of the printers' time (default: 4)")
    parser.add_argument("--kill-every", type=float, default=5.0, help="minutes between two ends of the router")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    return trio.run(soak, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
