"""The load of the status and event cases: stand-ins that report status, and clients or printers that follow them."""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import time
from collections.abc import Callable

from scripts.bench.standin import END, RECEIVE_BYTES, Connection, Klippys, frame, remote_call

# What a printing printer reports at a tick, six fields of five objects.
OBJECTS = ("toolhead", "gcode_move", "extruder", "heater_bed", "print_stats")
FIELDS = ("position", "speed", "temperature", "target", "power", "duration")
FOLLOWED = {name: list(FIELDS) for name in OBJECTS}
# As many different updates as are needed so that each differs from the one before in every field.
VARIANTS = 16


def update_frame(number: int, objects: int = 5) -> bytes:
    """A status update in which all fields of so many objects have changed."""
    fields = {name: round(number * 1.7 + place * 0.31, 3) for place, name in enumerate(FIELDS[1:])}
    status = {name: {"position": [number + 0.1, 20.5, 0.2, 7.25], **fields} for name in OBJECTS[:objects]}
    return frame({"method": "router/objects/update", "params": {"eventtime": 1000.0 + number, "status": status}})


class Broadcast(Klippys):
    """One stand-in, "main", and any number of API clients of the router that follow it."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, ["main"])
        gc.disable()
        self._router = f"{folder}/router.sock"
        self._updates = [update_frame(number) for number in range(VARIANTS)]
        self._sent = 0
        self._clients: list[Connection] = []
        self._followers = 0
        self.deliveries = 0

    def follow(self, subscribers: int, per_client: int = 1) -> None:
        """Have so many subscriptions in all, of 30 fields each; so many of them on one connection."""
        for link in self._clients:
            with contextlib.suppress(KeyError):
                self.selector.unregister(link.sock)
            link.sock.close()
        self._clients = []
        self._followers = subscribers
        self.serve_for(0.2)  # until the router has seen them go: it takes 100 clients
        for first in range(0, subscribers, per_client):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(self._router)
            link = Connection("", sock)
            self._clients.append(link)
            self.selector.register(sock, selectors.EVENT_READ, link)
            for number in range(first, min(first + per_client, subscribers)):
                params = {"target": "main", "objects": FOLLOWED, "response_template": {"method": "u", "n": number}}
                sock.sendall(frame({"id": 1, "method": "router/objects/subscribe", "params": params}))
        self.serve_for(0.3)
        self._send(1)
        self.serve_for(0.2)  # the first one is the full snapshot, with what the answer lacked
        self.deliveries = 0

    def run(self, updates: int, flight: int) -> float:
        """Seconds until every subscriber got ``updates``, of which ``flight`` at most are under way."""
        self.deliveries = 0
        sent = 0
        start = time.perf_counter()
        while self.deliveries < updates * self._followers:
            done = self.deliveries // self._followers
            if sent < updates and sent - done < flight:
                batch = min(flight, updates - sent)
                self._send(batch)
                sent += batch
            if time.perf_counter() - start > 60:
                raise TimeoutError(f"{self.deliveries} of {updates * self._followers} deliveries in a minute")
            for ready, _ in self.selector.select(1):
                if ready.data is not None:
                    self.serve(ready)
        return time.perf_counter() - start

    def serve(self, ready: selectors.SelectorKey) -> None:
        if isinstance(ready.data, Connection) and not ready.data.printer:
            data = ready.data.sock.recv(RECEIVE_BYTES)
            self.deliveries += data.count(END)
            if not data:  # the router was stopped
                self.selector.unregister(ready.data.sock)
        else:
            super().serve(ready)

    def _send(self, updates: int) -> None:
        batch = [self._updates[(self._sent + number) % VARIANTS] for number in range(updates)]
        self._sent += updates
        self.links["main"].sock.sendall(b"".join(batch))


class Ring(Klippys):
    """Stand-ins "p0", "p1" … each of which follows the next by a macro, or handles an event."""

    def __init__(self, folder: str, printers: int) -> None:
        self.names = [f"p{number}" for number in range(printers)]
        super().__init__(folder, self.names)
        gc.disable()
        self._router = f"{folder}/router.sock"
        self._updates = [update_frame(number, objects=2) for number in range(VARIANTS)]

    def follow(self) -> None:
        """Each printer's macro follows 12 fields of the next printer."""
        objects = {name: list(FIELDS) for name in OBJECTS[:2]}
        for name, target in zip(self.names, self.names[1:] + self.names[:1], strict=True):
            call = remote_call("router/objects/subscribe", target=target, objects=objects, gcode_callback="ON_STATUS")
            self.links[name].sock.sendall(call)
        self.serve_for(0.5)

    def report(self, seconds: float, hz: float) -> int:
        """Every printer reports ``hz`` times a second, spread evenly over time; how many callbacks were run."""

        def act(number: int) -> None:
            turn, printer = divmod(number, len(self.names))
            self.links[self.names[printer]].sock.sendall(self._updates[turn % VARIANTS])

        return self._pace(seconds, hz * len(self.names), act)

    def subscribe_event(self, handlers: int) -> None:
        """Have so many handlers of the event "bench/tick", on the printers in turns."""
        for number in range(handlers):
            call = remote_call("router/event/subscribe", event="bench/tick", gcode=f"ON_TICK HANDLER={number}")
            self.links[self.names[number % len(self.names)]].sock.sendall(call)
        self.serve_for(0.2)

    def unsubscribe_event(self) -> None:
        for name in self.names:
            self.links[name].sock.sendall(remote_call("router/event/unsubscribe", event="bench/tick"))
        self.serve_for(0.2)

    def trigger(self, seconds: float, hz: float) -> int:
        """An API client triggers the event ``hz`` times a second; how many handlers were run.

        Not a macro: 200 calls a second, second after second, are what the router takes for a loop of macros.
        """
        calls = [
            frame({"method": "router/event/trigger", "params": {"event": "bench/tick", "context": {"n": number}}})
            for number in range(VARIANTS)
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(self._router)
            return self._pace(seconds, hz, lambda number: client.sendall(calls[number % VARIANTS]))

    def _pace(self, seconds: float, hz: float, act: Callable[[int], None]) -> int:
        """Act ``hz`` times a second, and answer between; the scripts received."""
        before = self.received
        start = time.perf_counter()
        for number in range(round(seconds * hz)):
            due = start + number / hz
            if (wait := due - time.perf_counter()) > 0:
                self.serve_for(wait)
            act(number)
        self.serve_for(0.1)
        return self.received - before
