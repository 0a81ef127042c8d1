"""Printers, event handlers, and what one printer's life means to the others.

Knows every printer and caller, no socket and no method by name: the remote methods are a table handed in
(`remote_methods.METHODS`). All of it is synchronous, called from the readers, so what arrives in order is served in
order. G-code and calls of endpoints that somebody asked for pass the `gate` here, and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import trio

from klipper_router import __version__, gcode, messages
from klipper_router.callers import Caller, PrinterCaller, Request
from klipper_router.config import Config, KlippySection
from klipper_router.counters import ClientCounters, EventCounters
from klipper_router.errors import CallError, ParameterError, RouterError
from klipper_router.events import EventRegistry, FrameHandler, GcodeHandler, Handler, WebhookHandler, context_texts
from klipper_router.gate import Gate, Suspended
from klipper_router.link import Answer, Dial, OnAnswer
from klipper_router.loop_guard import Route
from klipper_router.printer import Printer
from klipper_router.printer_state import Effect
from klipper_router.script_queue import Job
from klipper_router.subscriptions import Subscription

log = logging.getLogger("klipper_router.router")

CLIENT_INFO = {"program": "klipper-router", "version": __version__}

_PEEK = msgspec.json.Decoder(dict[str, Any])


class Method(NamedTuple):
    """A remote method: the struct of its parameters, and what it does with them (raising CallError to refuse)."""

    params: type
    serve: Callable[[Router, Request, Any], None]


class Activity(NamedTuple):
    """Something that passed through the router, for whoever watches it."""

    time_s: float  # trio's clock
    kind: str  # call, event, callback or state
    source: str  # a printer or a client
    target: str  # a printer, or empty
    text: str  # the method, the event, the macro or the state


class Router:
    """All printers of one configuration. `run` brings them to life."""

    def __init__(self, config: Config, *, dial: Dial, methods: Mapping[str, Method]) -> None:
        self.config = config
        self.methods = methods
        self.events: EventRegistry[Caller] = EventRegistry()
        self.event_counters = EventCounters()
        self.client_counters = ClientCounters()
        self.clients = 0  # of the API socket, now
        self.started_at_s = 0.0  # trio's clock
        self.gate = Gate(self._involved, self._subscriptions, self._start_soon)
        self.on_activity: list[Callable[[Activity], None]] = []
        self.before_change: list[Callable[[Config], None]] = []  # may refuse a configuration, by ConfigError
        self.on_change: list[Callable[[], None]] = []  # called when the configuration was changed
        self._dial = dial
        self._nursery: trio.Nursery | None = None
        self.printers: dict[str, Printer[Caller]] = {}
        self._callers: dict[str, PrinterCaller] = {}
        for name, section in config.klippy.items():
            self._add(name, section)

    # -- its life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep every printer linked, also those that come later; for ever."""
        self.started_at_s = trio.current_time()
        async with trio.open_nursery() as self._nursery:
            for printer in self.printers.values():
                self._nursery.start_soon(printer.keep_linked, name=printer.name)
            await trio.sleep_forever()

    def _start_soon(self, task: Callable[..., Any], *args: Any) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *args)

    def reconfigure(self, config: Config) -> list[str]:
        """Take on another configuration, live; returns what changed, a line each.

        Printers that stay keep their connection and all that was subscribed, one with a new socket what was
        subscribed on it. What others asked of a printer that is gone ends. The router's own socket stays. Raises
        ConfigError, with nothing changed, when a part of the router cannot follow.
        """
        for check in self.before_change:
            check(config)
        changes = []
        for name in [name for name in self.printers if name not in config.klippy]:
            self._remove(name)
            changes.append(f"{name}: removed")
        for name, section in config.klippy.items():
            printer = self.printers.get(name)
            if printer is None:
                printer = self._add(name, section)
                if self._nursery is not None:
                    self._nursery.start_soon(printer.keep_linked, name=name)
                changes.append(f"{name}: added")
            elif printer.section != section:
                old, printer.section = printer.section, section
                changes.append(f"{name}: changed")
                if old.sock != section.sock:
                    printer.redial("its socket was changed in the configuration")
        self.printers = {name: self.printers[name] for name in config.klippy}
        self.config = config
        for change in changes:
            log.info("configuration: %s", change)
        for observer in self.on_change:
            observer()
        return changes

    def _add(self, name: str, section: KlippySection) -> Printer[Caller]:
        printer: Printer[Caller] = Printer(
            name, section, dial=self._dial, methods=list(self.methods), client_info=CLIENT_INFO, reports=self
        )
        self.printers[name] = printer
        self._callers[name] = PrinterCaller(printer)
        return printer

    def _remove(self, name: str) -> None:
        printer = self.printers.pop(name)
        why = f"{name} was removed from the router's configuration"
        callers = dict.fromkeys([each.caller for each in printer.feed.following] + self.events.drop_target(name))
        for caller in callers:
            printer.unfollow(caller)
        printer.end("removed from the configuration")
        self.drop(self._callers.pop(name))
        for caller in callers:
            if caller.own_printer != name:
                caller.tell(f"{why}; what followed it or handled events on it has ended")

    # -- remote methods ------------------------------------------------------------------------------------------

    def serve(self, request: Request, params: bytes) -> None:
        """Serve one call of a remote method: the request is answered or failed, now or later."""
        try:
            method = self.methods.get(request.method)
            if method is None:
                raise CallError(f"unknown method, the router has {', '.join(self.methods)}")
            self.gate.count(request, _peek(request, params) or self.config.router.default_instance or "")
            decoded: object = messages.decode_params(params, method.params)
            log.debug("%s: %s %s", request.caller.name, request.method, decoded)
            self.note("call", request.caller.name, request.target, request.method)
            method.serve(self, request, decoded)
        except Suspended:
            pass  # told once for all of them; a callback of each could keep the loop alive
        except CallError as error:
            request.fail(error)
        except Exception:
            # One of the fences: a bug in one method must not take the other printers' connections down.
            log.exception("%s: %s: internal error; parameters: %r", request.caller.name, request.method, params[:1000])
            request.fail(CallError("internal error of the router, see its log"))

    def target(self, request: Request, name: str | None) -> Printer[Caller]:
        """The printer that a call names, or the default one. Raises CallError when there is none."""
        name = name or self.config.router.default_instance
        if not name:
            raise ParameterError("missing parameter 'target' (the router has no default_instance)")
        request.target = name
        if name not in self.printers:
            raise CallError(f"no printer of that name, the router has {', '.join(self.printers)}")
        return self.printers[name]

    def drop(self, caller: Caller) -> None:
        """A caller is gone: end everything that it subscribed."""
        self.events.drop(caller)
        for printer in self.printers.values():
            printer.unfollow(caller)

    def run_gcode(
        self,
        by: Caller,
        target: Printer[Caller],
        script: gcode.Script,
        done: Callable[[RouterError | None], None],
        wait_s: float = 0.0,
    ) -> None:
        """Queue G-code that ``by`` wants run on ``target``. Raises CallError when it is refused or not taken."""
        self.gate.check_gcode(by, target, script.exact)
        checked = target.section

        def render() -> gcode.Script:
            if target.section is not checked:  # it may have waited for a day, and rules count at once
                self.gate.check_gcode(by, target, script.exact)
            return script

        job = Job.of(script, done)
        job.render = render
        target.run(job, wait_s)

    def call_endpoint(
        self, by: Caller, target: Printer[Caller], endpoint: str, params: Mapping[str, Any], on_answer: OnAnswer
    ) -> None:
        """Call a Klippy endpoint for ``by``. Raises CallError when it is refused; else ``on_answer`` is called once."""
        self.gate.check_endpoint(by, target, endpoint)
        if endpoint != "gcode/script":
            target.call(endpoint, params, on_answer)
            return
        if not isinstance(text := params.get("script"), str):
            raise ParameterError("gcode/script: missing parameter 'script', a text")
        # The one way for scripts, so that they stay in order.
        self.run_gcode(by, target, gcode.Script.of(text), lambda error: on_answer(b"{}" if error is None else error))

    def note(self, kind: str, source: str, target: str, text: str) -> None:
        """Tell whoever watches what passes through."""
        if self.on_activity:
            activity = Activity(trio.current_time(), kind, source, target, text)
            for watcher in self.on_activity:
                watcher(activity)

    def handlers_of(self, printer: str) -> int:
        """How many event handlers the macros of a printer have registered."""
        return self.events.count(self._callers[printer])

    # -- events --------------------------------------------------------------------------------------------------

    def trigger(self, event: str, context: Mapping[str, Any], by: Caller | None = None) -> tuple[int, list[str]]:
        """Run the handlers of an event in the order of their registration; ``by``: who triggers it, None: the router.

        Returns how many were started, and for each that was not, why. What fails later is told to its owner.
        """
        started, problems = 0, []
        texts = context_texts(context)
        self.note("event", by.name if by is not None else "router", "", event)
        for owner, handler in self.events.handlers(event):
            try:
                self._start(owner, handler, event, context, texts, by)
                started += 1
            except CallError as error:
                problems.append(f"event {event}: handler of {owner.name}: {error}")
        self.event_counters.triggered += 1
        self.event_counters.handlers += started
        self.event_counters.failed += len(problems)
        return started, problems

    def _start(
        self,
        owner: Caller,
        handler: Handler,
        event: str,
        context: Mapping[str, Any],
        texts: Mapping[str, str],
        by: Caller | None,
    ) -> None:
        def done(error: RouterError | None) -> None:
            if error is None:
                return
            complaint = f"event {event}: handler on {target.name}: {error}"
            log.warning("%s: %s", owner.name, complaint)
            if owner.own_printer != target.name or isinstance(handler, WebhookHandler):
                owner.tell(complaint)  # else Klipper has shown it there already

        if isinstance(handler, FrameHandler):
            owner.push_event(handler.response_template, event, context)
            return
        target = self.printers[handler.target]
        if by is not None:
            self.gate.check_event(by, target)
        if not target.state.connected:
            raise CallError(f"{target.name} is not connected: {target.state.message}")
        log.debug("event %s → %s (handler of %s)", event, target.name, owner.name)
        if isinstance(handler, GcodeHandler):
            if not target.state.ready:
                raise CallError(f"{target.name} is not ready: {target.state.state}, {target.state.message}")
            self.run_gcode(owner, target, handler.template.fill(texts), done)
        else:
            self.call_endpoint(owner, target, handler.endpoint, context, lambda answer: done(_error(answer)))

    def _trigger_builtin(self, event: str, printer: Printer[Caller]) -> None:
        _, problems = self.trigger(event, {"printer": printer.name})
        for problem in problems:
            log.warning("%s", problem)

    # -- what printers report (printer.Reports) ------------------------------------------------------------------

    def remote_call(self, printer: Printer[Caller], method: str, params: bytes) -> None:
        printer.counters.remote_calls += 1
        self.serve(Request(self._callers[printer.name], method), params)

    def news(self, printer: Printer[Caller], subscription: Subscription[Caller]) -> None:
        if subscription.caller.own_printer:  # a web page that follows a printer is no route worth telling of
            self.note("callback", printer.name, subscription.caller.name, subscription.callback)
        subscription.caller.deliver(printer, subscription)

    def effect(self, printer: Printer[Caller], effect: Effect) -> None:
        name, state = printer.name, printer.state.state
        match effect:
            case Effect.CONNECTED:
                self._trigger_builtin("router/connected", printer)
            case Effect.STATE:
                self.note("state", name, "", state)
                self._tell_others(printer, "ROUTER_ON_STATE", [("PRINTER", name), ("STATE", state)])
                if state in ("shutdown", "error"):
                    self._trigger_builtin(f"router/{state}", printer)
            case Effect.ANNOUNCE:
                log.info("%s: ready and registered", name)
                self._tell_others(printer, "ROUTER_ON_CONNECTED", [("PRINTER", name)])
                for other in self._announced_others(printer):
                    printer.run_hook("ROUTER_ON_CONNECTED", [("PRINTER", other.name)])
                self._trigger_builtin("router/ready", printer)
            case Effect.DISCONNECTED:
                self.drop(self._callers[name])
                self.gate.forgive(name)
                self._tell_others(printer, "ROUTER_ON_DISCONNECTED", [("PRINTER", name)])
                self._trigger_builtin("router/disconnected", printer)
            case Effect.GREET:
                pass  # the printer's own business

    def _involved(self, route: Route) -> list[Printer[Caller]]:
        """The printers that take part in what a route does: who calls, and who is called or handles the event."""
        names = [route.printer, route.subject]
        names += [handler.target for _, handler in self.events.handlers(route.subject) if hasattr(handler, "target")]
        return [self.printers[name] for name in dict.fromkeys(names) if name in self.printers]

    def _subscriptions(self, caller: Caller) -> int:
        return sum(len(printer.feed.following.of(caller)) for printer in self.printers.values())

    def _announced_others(self, printer: Printer[Caller]) -> list[Printer[Caller]]:
        return [other for other in self.printers.values() if other is not printer and other.state.announced]

    def _tell_others(self, printer: Printer[Caller], macro: str, parameters: list[tuple[str, str]]) -> None:
        for other in self._announced_others(printer):
            other.run_hook(macro, parameters)


def _error(answer: Answer) -> RouterError | None:
    return answer if isinstance(answer, RouterError) else None


def _peek(request: Request, params: bytes) -> str:
    """Note whom to answer even where the parameters as a whole turn out to be wrong. Returns what the call is about.

    Raises CallError for a callback that is no macro's name: values must never be read as anything but parameters.
    What is too long to be a name is refused later; it is not noted, or not as a whole.
    """
    try:
        given = _PEEK.decode(params or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if isinstance(target := given.get("target"), str):
        request.target = target[: messages.MAX_NAME_CHARACTERS]
    for key in ("error_callback", "gcode_callback"):
        if isinstance(text := given.get(key), str) and len(text) <= messages.MAX_NAME_CHARACTERS:
            if not gcode.is_macro_name(text):
                raise ParameterError(f"parameter '{key}': {text!r} is not the name of a macro that Klipper can call")
            setattr(request, key, text)
    event = given.get("event")
    return event[: messages.MAX_NAME_CHARACTERS] if isinstance(event, str) else request.target
