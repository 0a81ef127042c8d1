"""The life of one printer as the router sees it, as a table of steps without I/O.

States are Klipper's own (``startup ready shutdown error``, webhooks.py), and ``disconnected``. A printer is
*announced* when it was ready and its own ROUTER_ON_READY is done: only then do the others hear of it, so that an
event that they trigger at once finds its handlers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class PrinterState:
    """What is known of a printer now. ``message`` is Klipper's state_message, or why there is no connection."""

    state: str = DISCONNECTED
    message: str = "not connected yet"
    announced: bool = False

    @property
    def connected(self) -> bool:
        return self.state != DISCONNECTED

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    @property
    def has_objects(self) -> bool:
        """In startup and error Klipper has not read its configuration, or not to its end: objects are missing."""
        return self.state in ("ready", "shutdown")


class Effect(Enum):
    """What is to be done about a step, in this order."""

    CONNECTED = auto()  # event router/connected
    STATE = auto()  # ROUTER_ON_STATE on the others; events router/shutdown, router/error
    GREET = auto()  # on_connect and ROUTER_ON_READY on the printer itself
    ANNOUNCE = auto()  # ROUTER_ON_CONNECTED both ways; event router/ready
    DISCONNECTED = auto()  # ROUTER_ON_DISCONNECTED on the others; event router/disconnected


Step = tuple[PrinterState, tuple[Effect, ...]]


def identified(now: PrinterState, state: str, message: str) -> Step:
    """A Klippy answered ``info`` on a new connection."""
    after, effects = changed(replace(now, announced=False), state, message)
    return after, (Effect.CONNECTED, *effects)


def changed(now: PrinterState, state: str, message: str) -> Step:
    """Klipper reports a state; also one that is known already."""
    if state == now.state:
        return replace(now, message=message), ()
    effects = (Effect.STATE, Effect.GREET) if state == "ready" else (Effect.STATE,)
    return PrinterState(state, message), effects


def greeted(now: PrinterState) -> Step:
    """The printer's own ROUTER_ON_READY is done."""
    if not now.ready or now.announced:
        return now, ()
    return replace(now, announced=True), (Effect.ANNOUNCE,)


def lost(now: PrinterState, why: str) -> Step:
    """The connection ended, or could not be made."""
    effects = (Effect.DISCONNECTED,) if now.connected else ()
    return PrinterState(DISCONNECTED, why), effects
