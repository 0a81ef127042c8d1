"""Printers, event handlers, and what one printer's life means to the others.

Knows every printer and caller, no socket and no method by name: the remote methods are a table handed in
(`remote_methods.METHODS`). All of it is synchronous, called from the readers, so what arrives in order is served in
order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from klipper_router import __version__, gcode, messages
from klipper_router.callers import Caller, PrinterCaller, Request
from klipper_router.config import Config
from klipper_router.errors import CallError, RouterError
from klipper_router.events import EventRegistry, FrameHandler, GcodeHandler, Handler, WebhookHandler, context_texts
from klipper_router.link import Answer, Dial
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


class Router:
    """All printers of one configuration. Run each `Printer.keep_linked` to bring it to life."""

    def __init__(self, config: Config, *, dial: Dial, methods: Mapping[str, Method]) -> None:
        self.default_instance = config.router.default_instance
        self.methods = methods
        self.events: EventRegistry[Caller] = EventRegistry()
        self.printers: dict[str, Printer[Caller]] = {
            name: Printer(
                name,
                section.sock,
                section.on_connect,
                dial=dial,
                methods=list(methods),
                client_info=CLIENT_INFO,
                reports=self,
            )
            for name, section in config.klippy.items()
        }
        self._callers = {name: PrinterCaller(printer) for name, printer in self.printers.items()}

    # -- remote methods ------------------------------------------------------------------------------------------

    def serve(self, request: Request, params: bytes) -> None:
        """Serve one call of a remote method: the request is answered or failed, now or later."""
        try:
            method = self.methods.get(request.method)
            if method is None:
                raise CallError(f"unknown method, the router has {', '.join(self.methods)}")
            _peek(request, params)
            decoded: object = messages.decode_params(params, method.params)
            log.debug("%s: %s %s", request.caller.name, request.method, decoded)
            method.serve(self, request, decoded)
        except CallError as error:
            request.fail(error)
        except Exception:
            # One of the two fences: a bug in one method must not take the other printers' connections down.
            log.exception("%s: %s: internal error; parameters: %r", request.caller.name, request.method, params[:1000])
            request.fail(CallError("internal error of the router, see its log"))

    def target(self, request: Request, name: str | None) -> Printer[Caller]:
        """The printer that a call names, or the default one. Raises CallError when there is none."""
        name = name or self.default_instance
        if not name:
            raise CallError("missing parameter 'target' (the router has no default_instance)")
        request.target = name
        if name not in self.printers:
            raise CallError(f"no printer of that name, the router has {', '.join(self.printers)}")
        return self.printers[name]

    def drop(self, caller: Caller) -> None:
        """A caller is gone: end everything that it subscribed."""
        self.events.drop(caller)
        for printer in self.printers.values():
            printer.unfollow(caller)

    # -- events --------------------------------------------------------------------------------------------------

    def trigger(self, event: str, context: Mapping[str, Any]) -> tuple[int, list[str]]:
        """Run the handlers of an event in the order of their registration.

        Returns how many were started, and for each that was not, why. What fails later is told to its owner.
        """
        started, problems = 0, []
        texts = context_texts(context)
        for owner, handler in self.events.handlers(event):
            try:
                self._start(owner, handler, event, context, texts)
                started += 1
            except CallError as error:
                problems.append(f"event {event}: handler of {owner.name}: {error}")
        return started, problems

    def _start(
        self, owner: Caller, handler: Handler, event: str, context: Mapping[str, Any], texts: Mapping[str, str]
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
        if not target.state.connected:
            raise CallError(f"{target.name} is not connected: {target.state.message}")
        log.debug("event %s → %s (handler of %s)", event, target.name, owner.name)
        if isinstance(handler, GcodeHandler):
            if not target.state.ready:
                raise CallError(f"{target.name} is not ready: {target.state.state}, {target.state.message}")
            target.run(Job.of(handler.template.fill(texts), done))
        elif handler.endpoint == "gcode/script" and isinstance(text := context.get("script"), str):
            target.run(Job.of(gcode.Script.of(text), done))  # in the queue, as every script, so that they stay in order
        else:
            target.call(handler.endpoint, dict(context), lambda answer: done(_error(answer)))

    def _trigger_builtin(self, event: str, printer: Printer[Caller]) -> None:
        _, problems = self.trigger(event, {"printer": printer.name})
        for problem in problems:
            log.warning("%s", problem)

    # -- what printers report (printer.Reports) ------------------------------------------------------------------

    def remote_call(self, printer: Printer[Caller], method: str, params: bytes) -> None:
        self.serve(Request(self._callers[printer.name], method), params)

    def news(self, printer: Printer[Caller], subscription: Subscription[Caller]) -> None:
        subscription.caller.deliver(printer, subscription)

    def effect(self, printer: Printer[Caller], effect: Effect) -> None:
        name, state = printer.name, printer.state.state
        match effect:
            case Effect.CONNECTED:
                self._trigger_builtin("router/connected", printer)
            case Effect.STATE:
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
                self._tell_others(printer, "ROUTER_ON_DISCONNECTED", [("PRINTER", name)])
                self._trigger_builtin("router/disconnected", printer)
            case Effect.GREET:
                pass  # the printer's own business

    def _announced_others(self, printer: Printer[Caller]) -> list[Printer[Caller]]:
        return [other for other in self.printers.values() if other is not printer and other.state.announced]

    def _tell_others(self, printer: Printer[Caller], macro: str, parameters: list[tuple[str, str]]) -> None:
        for other in self._announced_others(printer):
            other.run_hook(macro, parameters)


def script_job(request: Request, script: str) -> Job:
    """A job that runs ``script`` and answers ``request``."""

    def done(error: RouterError | None) -> None:
        if error is None:
            request.answer(b"{}", list)
        else:
            request.fail(error)

    return Job.of(gcode.Script.of(script), done)


def _error(answer: Answer) -> RouterError | None:
    return answer if isinstance(answer, RouterError) else None


def _peek(request: Request, params: bytes) -> None:
    """Note whom to answer even where the parameters as a whole turn out to be wrong.

    Raises CallError for a callback that is no macro's name: values must never be read as anything but parameters.
    """
    try:
        given = _PEEK.decode(params or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if isinstance(target := given.get("target"), str):
        request.target = target
    for key in ("error_callback", "gcode_callback"):
        if isinstance(text := given.get(key), str):
            if not gcode.is_macro_name(text):
                raise CallError(f"parameter '{key}': {text!r} is not the name of a macro that Klipper can call")
            setattr(request, key, text)
