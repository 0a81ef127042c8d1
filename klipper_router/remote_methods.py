"""The remote methods of the contract, one function each, and the table that registers them.

A function gets its decoded parameters, and answers or fails its request, now or when Klipper has answered. What it
refuses it refuses by CallError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from klipper_router import callers, gcode, messages, stats
from klipper_router.callers import Parameters, Request
from klipper_router.errors import CallError, ParameterError, ProtocolError, RouterError
from klipper_router.events import FrameHandler, GcodeHandler, Handler, WebhookHandler, parse_context
from klipper_router.gateway.settings import INSTALL
from klipper_router.link import Answer, OnAnswer
from klipper_router.router import Method, Router
from klipper_router.template import Template

# These change what a connection is subscribed to, and the router has one connection for all.
_OF_THE_CONNECTION = {
    "objects/subscribe": "router/objects/subscribe does this",
    "gcode/subscribe_output": "it would replace the router's own subscription",
    "register_remote_method": "the router's own methods are registered already",
}
# Klipper motion_report.py, adxl345.py …: these stream to the connection that asked, until it is closed.
_STREAMS = re.compile(r"(?!bed_mesh/dump_mesh).*/dump_")  # bed_mesh.py: dump_mesh is answered once
MAX_WAIT_S = 86_400

_STATUS = msgspec.json.Decoder(messages.StatusParams)
_MAP = msgspec.json.Decoder(dict[str, Raw])


def gcode_script(router: Router, request: Request, params: messages.ScriptParams) -> None:
    """router/gcode/script: run G-code on another printer; answered when it is done, perhaps in an hour."""
    if not 0 <= params.wait <= MAX_WAIT_S:
        raise ParameterError(f"parameter 'wait': {params.wait:g} is no number of seconds up to {MAX_WAIT_S}, a day")
    target = router.target(request, params.target)

    def done(error: RouterError | None) -> None:
        if error is None:
            request.answer(b"{}", list)
        else:
            request.fail(error)

    router.run_gcode(request.caller, target, gcode.Script.of(params.script), done, params.wait)


def event_subscribe(router: Router, request: Request, params: messages.EventSubscribeParams) -> None:
    """router/event/subscribe: register a handler; the same one again is registered once."""
    router.events.subscribe(request.caller, params.event, params.gcode, _handler(router, request, params))
    request.answer(b"{}", list)


def _handler(router: Router, request: Request, params: messages.EventSubscribeParams) -> Handler:
    if params.gcode is None:
        if request.caller.own_printer is not None:
            raise ParameterError("missing parameter 'gcode'")
        template = params.response_template or {"method": "router/event"}
        messages.check_response_template(template)
        return FrameHandler(template)
    name = params.callback_target or request.caller.own_printer
    if name is None:
        raise ParameterError("missing parameter 'callback_target': this client has no printer that could run the gcode")
    target = router.target(request, name).name
    if params.callback_type == "gcode":
        return GcodeHandler(target, Template(params.gcode))
    if params.callback_type == "webhook":
        if len(params.gcode) > messages.MAX_NAME_CHARACTERS:
            raise ParameterError(
                f"parameter 'gcode': an endpoint has at most {messages.MAX_NAME_CHARACTERS} characters"
            )
        return WebhookHandler(target, _callable_endpoint(params.gcode))
    raise ParameterError(f"parameter 'callback_type': {params.callback_type!r} is neither 'gcode' nor 'webhook'")


def event_trigger(router: Router, request: Request, params: messages.EventTriggerParams) -> None:
    """router/event/trigger: run the handlers of an event. The result counts those that were started."""
    started, problems = router.trigger(params.event, parse_context(params.context), request.caller)
    if problems:
        request.fail(CallError("; ".join(problems)))
    else:
        request.answer(msgspec.json.encode({"handlers": started}), lambda: [("HANDLERS", str(started))])


def event_unsubscribe(router: Router, request: Request, params: messages.EventUnsubscribeParams) -> None:
    """router/event/unsubscribe: drop the caller's handlers. None there is no error."""
    removed = router.events.unsubscribe(request.caller, params.event, params.gcode)
    request.answer(msgspec.json.encode({"removed": removed}), lambda: [("REMOVED", str(removed))])


def printers_list(router: Router, request: Request, params: messages.PrintersListParams) -> None:
    """router/printers/list: every printer with its state. A macro gets PRINTERS='a,b' and A_STATE= and so on.

    ``ready``: Klipper is ready and the printer's ROUTER_ON_READY is done, so that it handles what it subscribed.
    """
    printers = [
        {
            "name": printer.name,
            "connected": printer.state.connected,
            "ready": printer.state.announced,
            "state": printer.state.state,
            "state_message": printer.state.message,
            "subscriptions": len(printer.feed.following),
            "queue": len(printer.scripts),
        }
        for printer in router.printers.values()
    ]

    def parameters() -> Parameters:
        of_each = [
            (gcode.parameter_name(name, key), str(printer[key]))
            for name, printer in zip(router.printers, printers, strict=True)
            for key in ("connected", "ready", "state")
        ]
        return [("PRINTERS", ",".join(router.printers)), *of_each]

    request.answer(msgspec.json.encode({"printers": printers}), parameters)


def report_stats(router: Router, request: Request, params: messages.StatsParams) -> None:
    """router/stats: what is counted since the start, and what is true now. A macro gets its printers' numbers."""
    if params.format == "prometheus":
        if request.caller.own_printer is not None:
            raise ParameterError("parameter 'format': a macro can make nothing of 'prometheus'")
        request.answer(msgspec.json.encode(_prometheus_text(router)), list)
        return
    if params.format != "json":
        raise ParameterError(f"parameter 'format': {params.format!r} is neither 'json' nor 'prometheus'")
    report = stats.report(router)

    def parameters() -> Parameters:
        of_each = [
            (gcode.parameter_name(name, key), str(value))
            for name, printer in report.printers.items()
            for key, value in msgspec.structs.asdict(printer).items()
            if isinstance(value, int)
        ]
        return [("TASKS", str(report.tasks)), ("RSS_KB", str(report.rss_kb)), *of_each]

    request.answer(msgspec.json.encode(report), parameters)


def _prometheus_text(router: Router) -> str:
    try:
        from klipper_router import prometheus
    except ImportError:
        raise CallError(f"prometheus_client is missing: {INSTALL}") from None
    return prometheus.text(stats.report(router))


def objects_list(router: Router, request: Request, params: messages.ObjectsListParams) -> None:
    """router/objects/list: Klipper's objects/list of the target."""
    router.target(request, params.target).call("objects/list", {}, _pass_on(request, _map_parameters))


def objects_query(router: Router, request: Request, params: messages.ObjectsQueryParams) -> None:
    """router/objects/query: Klipper's objects/query of the target. A macro gets the values as it gets a status."""
    target = router.target(request, params.target)
    target.call("objects/query", {"objects": params.objects}, _pass_on(request, _status_parameters))


def objects_subscribe(router: Router, request: Request, params: messages.ObjectsSubscribeParams) -> None:
    """router/objects/subscribe: status of the target, now (as soon as it is ready) and at every change."""
    target = router.target(request, params.target)
    if not params.objects:
        raise ParameterError("parameter 'objects' names no object; router/objects/unsubscribe ends a subscription")
    request.caller.follow(target, request, params)


def objects_unsubscribe(router: Router, request: Request, params: messages.ObjectsUnsubscribeParams) -> None:
    """router/objects/unsubscribe: end one callback's subscription on the target, or all of the caller's there."""
    removed = router.target(request, params.target).unfollow(request.caller, params.gcode_callback)
    request.gcode_callback = None  # it names what to end, not where to answer
    request.answer(msgspec.json.encode({"removed": removed}), list)


def objects_update(router: Router, request: Request, params: dict[str, Any]) -> None:
    """router/objects/update: the response template of our own subscription; nobody calls it."""
    raise CallError("this is the router's own; router/objects/subscribe follows a printer")


def call(router: Router, request: Request, params: messages.CallParams) -> None:
    """router/call: any Klippy endpoint of the target, but for those that belong to a connection."""
    target = router.target(request, params.target)
    if (params.method is None) == (params.endpoint is None):
        raise ParameterError("exactly one of the parameters 'method' and (for macros) 'endpoint' must be given")
    endpoint = _callable_endpoint(params.method or params.endpoint or "")
    router.call_endpoint(request.caller, target, endpoint, params.params, _pass_on(request, _map_parameters))


def _callable_endpoint(endpoint: str) -> str:
    if endpoint in _OF_THE_CONNECTION:
        raise CallError(f"{endpoint} cannot be called through the router: {_OF_THE_CONNECTION[endpoint]}")
    if _STREAMS.match(endpoint):
        raise CallError(f"{endpoint} streams to its caller; call it on Klipper's own socket")
    return endpoint


def _pass_on(request: Request, parameters: Callable[[bytes], Parameters]) -> OnAnswer:
    """Hand Klipper's answer to the caller."""

    def answered(answer: Answer) -> None:
        if isinstance(answer, RouterError):
            request.fail(answer)
            return
        try:
            # A callback is rendered here, not later: an answer that cannot be shown is an error of this request.
            rendered = parameters(answer) if request.gcode_callback else []
        except ProtocolError as error:
            request.fail(error)
            return
        request.answer(answer, lambda: rendered)

    return answered


def _map_parameters(result: bytes) -> Parameters:
    return callers.map_parameters((key, bytes(value)) for key, value in messages.decode(result, _MAP).items())


def _status_parameters(result: bytes) -> Parameters:
    status = messages.decode(result, _STATUS).status
    return callers.status_parameters(
        {(name, field): bytes(value) for name, fields in status.items() for field, value in fields.items()}
    )


METHODS: dict[str, Method] = {
    "router/gcode/script": Method(messages.ScriptParams, gcode_script),
    "router/event/subscribe": Method(messages.EventSubscribeParams, event_subscribe),
    "router/event/trigger": Method(messages.EventTriggerParams, event_trigger),
    "router/event/unsubscribe": Method(messages.EventUnsubscribeParams, event_unsubscribe),
    "router/printers/list": Method(messages.PrintersListParams, printers_list),
    "router/stats": Method(messages.StatsParams, report_stats),
    "router/objects/list": Method(messages.ObjectsListParams, objects_list),
    "router/objects/query": Method(messages.ObjectsQueryParams, objects_query),
    "router/objects/subscribe": Method(messages.ObjectsSubscribeParams, objects_subscribe),
    "router/objects/unsubscribe": Method(messages.ObjectsUnsubscribeParams, objects_unsubscribe),
    "router/objects/update": Method(dict[str, Any], objects_update),
    "router/call": Method(messages.CallParams, call),
}
