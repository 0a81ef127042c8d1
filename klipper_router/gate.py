"""What passes and what does not: each printer's policy, and the protection against loops.

Decides by `policy` and `loop_guard`; knows, beyond them, the clock and who is to be told. A refusal is an error to
the caller, a count, and now and then a line on the console of the printer that it was meant for. Of a route that is
suspended the printers involved hear twice: when it is, and when it is served again, with the number of calls not
served.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from klipper_router import policy
from klipper_router.callers import Caller, PrinterCaller, Request
from klipper_router.config import KlippySection
from klipper_router.errors import CallError
from klipper_router.loop_guard import LoopGuard, Route
from klipper_router.printer import Printer

log = logging.getLogger("klipper_router.router")

# What a printer may call in all, as a multiple of what one route may: a loop may make up a new event at each turn.
ALL_ROUTES_ALLOWANCE = 4
# A line on a console is G-code, too: a printer must not be kept busy by what it refuses. Counted by group (a printer,
# all clients, the gateway), as a client can be another one for each call.
REFUSALS_TOLD_EVERY_S = 10.0


class Suspended(CallError):
    """The call is not served, and its caller has been told so, or will be."""


@dataclass(slots=True)
class _Refusals:
    """What one group was refused by one printer, as far as its console is concerned."""

    told_again_at_s: float = -math.inf
    untold: int = 0


class Gate:
    """The policies of all printers, and the guard of their calls.

    ``involved(route)`` names the printers that a route concerns, ``subscriptions(caller)`` counts what a caller
    follows; ``start_soon`` runs a task for the router.
    """

    def __init__(
        self,
        involved: Callable[[Route], Iterable[Printer[Caller]]],
        subscriptions: Callable[[Caller], int],
        start_soon: Callable[..., None],
    ) -> None:
        self.guard = LoopGuard()
        self._involved = involved
        self._subscriptions = subscriptions
        self._start_soon = start_soon
        self._refusals: dict[tuple[str, str], _Refusals] = {}  # by target and the caller's group
        self._suspensions: dict[Route, trio.CancelScope] = {}  # each is cancelled to end it

    # -- policy --------------------------------------------------------------------------------------------------

    def check_gcode(self, by: Caller, target: Printer[Caller], script: str) -> None:
        """Raises CallError when ``by`` may not run ``script`` on ``target``."""
        self._check(by, target, policy.check_gcode, script)

    def check_endpoint(self, by: Caller, target: Printer[Caller], endpoint: str) -> None:
        """Raises CallError when ``by`` may not call ``endpoint`` of ``target``."""
        self._check(by, target, policy.check_endpoint, endpoint)

    def check_emergency_stop(self, by: Caller, target: Printer[Caller]) -> None:
        """Raises CallError when ``by``, a person at a page that shows ``target``, may not stop it."""
        self._check(by, target, policy.check_emergency_stop)

    def check_everything(self, by: Caller, target: Printer[Caller]) -> None:
        """Raises CallError when ``by`` may not have a connection to ``target`` at which nobody looks."""
        self._check(by, target, policy.check_everything)

    def check_event(self, by: Caller, target: Printer[Caller]) -> None:
        """Raises CallError when an event that ``by`` triggers may run no handler on ``target``."""
        self._check(by, target, policy.check_event)

    def _check(self, by: Caller, target: Printer[Caller], check: Callable[..., None], *what: str) -> None:
        if by.own_printer == target.name:
            return  # what its macros do to itself they could do without us
        section: KlippySection = target.section
        try:
            check(target.name, section, by.group, *what)
        except CallError as error:
            target.counters.refused += 1
            self._tell_refusal(by, target, error)
            raise CallError(f"refused: {error}") from None

    def _tell_refusal(self, by: Caller, target: Printer[Caller], error: CallError) -> None:
        refusals = self._refusals.setdefault((target.name, by.group), _Refusals())
        now_s = trio.current_time()
        if now_s < refusals.told_again_at_s:
            refusals.untold += 1
            return
        more = f" (and {refusals.untold} more to {by.group} before)" if refusals.untold else ""
        target.tell_console(f"router: refused to {by.name}: {error}{more}")
        refusals.told_again_at_s, refusals.untold = now_s + REFUSALS_TOLD_EVERY_S, 0

    # -- loops ---------------------------------------------------------------------------------------------------

    def count(self, request: Request, subject: str) -> None:
        """Count a call of a printer's macros. Raises Suspended when it is not to be served.

        Clients are not counted: they are programs, have their own bounds, and may well be fast.
        """
        if not isinstance(caller := request.caller, PrinterCaller):
            return
        printer = caller.name
        now_s = trio.current_time()
        callbacks = caller.printer.counters.callbacks
        for route, allowance in (
            (Route(printer, request.method, subject), 1),
            (Route(printer), ALL_ROUTES_ALLOWANCE),
        ):
            if not self.guard.is_suspended(route):
                suspended_s = self.guard.count(route, now_s, allowance, callbacks, lambda: self._subscriptions(caller))
                if suspended_s is None:
                    continue
                if route.method:
                    self.guard.excuse(Route(printer))
                self._suspend(route, suspended_s)
            caller.printer.counters.suspended += 1
            raise Suspended("suspended, it looks like a loop")

    def forgive(self, printer: str) -> None:
        """The macros of this printer have ended, and their loops with them: serve those that come next.

        What its ROUTER_ON_READY subscribes would otherwise be missing until the next restart.
        """
        for route, suspension in self._suspensions.items():
            if route.printer == printer:
                suspension.cancel()

    def _suspend(self, route: Route, suspended_s: float) -> None:
        log.error("%s: %s looks like a loop and is suspended for %g s", route.printer, _what(route), suspended_s)
        self._tell(route, f"{_what(route)} from {route.printer} looks like a loop, not served for {suspended_s:g} s")
        suspension = self._suspensions[route] = trio.CancelScope()
        self._start_soon(self._resume_later, route, suspended_s, suspension)

    async def _resume_later(self, route: Route, suspended_s: float, suspension: trio.CancelScope) -> None:
        with suspension:
            await trio.sleep(suspended_s)
        del self._suspensions[route]
        refused = self.guard.resume(route)
        missed = "1 call was not" if refused == 1 else f"{refused} calls were not"
        log.warning("%s: %s is served again; %s", route.printer, _what(route), missed)
        self._tell(route, f"{_what(route)} from {route.printer} is served again; {missed}")

    def _tell(self, route: Route, text: str) -> None:
        for printer in self._involved(route):
            printer.tell_console(f"router: {text}")


def _what(route: Route) -> str:
    return f"{route.method} {route.subject}".rstrip() or "every call"
