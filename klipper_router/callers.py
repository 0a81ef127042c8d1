"""Who calls remote methods, and how each is answered: a printer's macros, or (in `api_socket`) an API client.

A macro gets its answer as the parameters of the macro that it named, and an error on its console and in its
error_callback; nothing ever comes back to the macro itself (Klipper gcode_macro.py action_call_remote_method).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import trio

from klipper_router import gcode
from klipper_router.errors import CallError, ParameterError, RouterError
from klipper_router.messages import ObjectsSubscribeParams
from klipper_router.printer import Printer
from klipper_router.script_queue import Job
from klipper_router.subscriptions import Subscription

log = logging.getLogger("klipper_router.router")

Parameters = list[tuple[str, str]]


class Request:
    """One call of a remote method. Exactly one of `answer` and `fail` is called, once."""

    def __init__(self, caller: Caller, method: str) -> None:
        self.caller = caller
        self.method = method
        self.target = ""
        self.gcode_callback: str | None = None
        self.error_callback: str | None = None

    def answer(self, result: bytes, parameters: Callable[[], Parameters]) -> None:
        """Serve the result: as JSON text to a client, as ``parameters()`` to a macro."""
        log.debug("%s: %s %s: done", self.caller.name, self.method, self.target)
        self.caller.answered(self, result, parameters)

    def fail(self, error: RouterError) -> None:
        """Tell the caller why it cannot be served."""
        log.warning("%s: %s", self.caller.name, self.complaint(error))
        self.caller.failed(self, error)

    def complaint(self, error: RouterError) -> str:
        """The error as a line for a console: method, target and cause."""
        to_target = f" to {self.target}" if self.target else ""
        return f"{self.method}{to_target}: {error}"

    def answer_to_client(self, error: RouterError) -> str:
        """The error for one who knows what was called: with the target, where that is what the error is about."""
        text = str(error)
        told = not self.target or self.target in text or isinstance(error, ParameterError)
        return text if told else f"{self.target}: {text}"


class Caller(Protocol):
    """Who may call remote methods, subscribe and handle events. Compared and hashed by identity."""

    @property
    def name(self) -> str:
        """The name for log lines and messages."""

    @property
    def own_printer(self) -> str | None:
        """The printer that runs this caller's G-code; None where there is none."""

    @property
    def group(self) -> str:
        """What a printer's policy calls this caller: the name of a printer, ``clients`` or ``gateway``."""

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        """Take the result of a request."""

    def failed(self, request: Request, error: RouterError) -> None:
        """Take the error of a request."""

    def tell(self, text: str) -> None:
        """Show an error that belongs to no request under way."""

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> None:
        """Subscribe to ``target`` in the way of this kind of caller, and answer the request."""

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        """A subscription of this caller on ``target`` has news."""

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        """An event was triggered that this caller handles by frames."""


class PrinterCaller:
    """The macros of one printer."""

    def __init__(self, printer: Printer[Caller]) -> None:
        self.printer = printer
        # One for each callback under way or waiting for its turn; bounded by the subscriptions that a caller may have.
        self._callbacks: dict[tuple[Printer[Caller], str], Job] = {}

    @property
    def name(self) -> str:
        return self.printer.name

    @property
    def own_printer(self) -> str | None:
        return self.printer.name

    @property
    def group(self) -> str:
        return self.printer.name

    def answered(self, request: Request, result: bytes, parameters: Callable[[], Parameters]) -> None:
        if request.gcode_callback:
            self._run_callback(request.gcode_callback, parameters())

    def failed(self, request: Request, error: RouterError) -> None:
        self.printer.counters.errors += 1
        self.tell(request.complaint(error))
        if request.error_callback:
            parameters = [("ERROR", str(error)), ("METHOD", request.method), ("TARGET", request.target)]
            self._run_callback(request.error_callback, parameters)

    def tell(self, text: str) -> None:
        self.printer.tell_console(f"router: {text}")

    def follow(self, target: Printer[Caller], request: Request, params: ObjectsSubscribeParams) -> None:
        if not params.gcode_callback:
            raise ParameterError("missing parameter 'gcode_callback'")
        target.follow(self, params.gcode_callback, params.objects)
        request.gcode_callback = None  # it is for the status, there is no other answer
        request.answer(b"{}", list)

    def deliver(self, target: Printer[Caller], subscription: Subscription[Caller]) -> None:
        """At most one callback per subscription is under way; what changes meanwhile is merged into the next."""
        following, callback = target.feed.following, subscription.callback
        key = (target, callback)
        if key in self._callbacks:
            self.printer.counters.merges += 1
            return
        since = trio.current_time()

        def render() -> gcode.Script | None:
            # Whichever subscription has this callback by now: one may have taken the other's place.
            current = following.get(self, callback)
            values = current.take() if current is not None else {}
            if not values:
                return None
            self.printer.counters.callbacks += 1
            log.debug("%s → %s: %s (%d values)", target.name, self.name, callback, len(values))
            return gcode.command_line(callback, status_parameters(values))

        def done(error: RouterError | None) -> None:
            del self._callbacks[key]
            self.printer.callback_latency.add(trio.current_time() - since)
            if error is not None:
                # Klipper has shown it on this printer's console already.
                log.warning("%s: callback %s failed: %s", self.name, callback, error)
            current = following.get(self, callback)
            if current is not None and current.has_news and self.printer.state.connected:
                self.deliver(target, current)

        self._forget_ended(target)
        job = self._callbacks[key] = Job(render, done, when_ready=True)
        try:
            self.printer.run(job)
        except CallError as error:
            del self._callbacks[key]
            self.printer.counters.drops += 1
            log.warning("%s: callback %s is not run: %s", self.name, callback, error)

    def _forget_ended(self, target: Printer[Caller]) -> None:
        """A macro that subscribes and unsubscribes under ever new names must not fill the queue."""
        for (followed, callback), job in list(self._callbacks.items()):
            gone = followed is target and target.feed.following.get(self, callback) is None
            if gone and self.printer.scripts.withdraw(job):
                del self._callbacks[target, callback]

    def push_event(self, response_template: Mapping[str, Any], event: str, context: Mapping[str, Any]) -> None:
        raise NotImplementedError("a printer handles events by G-code")  # refused when it subscribes

    def _run_callback(self, macro: str, parameters: Parameters) -> None:
        def done(error: RouterError | None) -> None:
            if error is not None:
                log.warning("%s: callback %s failed: %s", self.name, macro, error)

        try:
            self.printer.run(Job.of(gcode.command_line(macro, parameters), done))
        except CallError as error:
            self.printer.counters.drops += 1
            log.error("%s: callback %s is lost: %s", self.name, macro, error)
            self.tell(f"callback {macro}: {error}")


def status_parameters(values: Mapping[tuple[str, str], bytes]) -> Parameters:
    """Status values as G-code parameters (CONTRACT: Status as G-code parameters)."""
    return [(gcode.parameter_name(name, field), gcode.parameter_text(value)) for (name, field), value in values.items()]


def map_parameters(values: Iterable[tuple[str, bytes]]) -> Parameters:
    """The keys of an answer as G-code parameters, values by the same rules as a status."""
    return [(gcode.parameter_name(key), gcode.parameter_text(value)) for key, value in values]
