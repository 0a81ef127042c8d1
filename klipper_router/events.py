"""Who handles which event, in the order of registration, and what a context is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from klipper_router.errors import CallError
from klipper_router.gcode import parameter_text
from klipper_router.template import Template

Caller = TypeVar("Caller")

# More than any set of macros needs; a macro that makes up a new handler at each call must not fill the memory.
MAX_HANDLERS_PER_CALLER = 500


@dataclass(frozen=True, slots=True)
class GcodeHandler:
    """Runs G-code on printer ``target``."""

    target: str
    template: Template


@dataclass(frozen=True, slots=True)
class WebhookHandler:
    """Calls a Klippy endpoint of printer ``target``, with the context as its params."""

    target: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class FrameHandler:
    """Tells the API client that registered it, by a frame made of its ``response_template``."""

    response_template: Mapping[str, Any]


Handler = GcodeHandler | WebhookHandler | FrameHandler


class EventRegistry(Generic[Caller]):
    """The handlers of all events. A handler is known by its caller, its event and its gcode: registered once."""

    def __init__(self) -> None:
        self._handlers: dict[str, dict[tuple[Caller, str | None], Handler]] = {}

    def subscribe(self, caller: Caller, event: str, gcode: str | None, handler: Handler) -> None:
        """Register a handler, or replace the same caller's same one in its place.

        Raises CallError when the caller has too many.
        """
        handlers = self._handlers.get(event, {})
        if (caller, gcode) not in handlers and self.count(caller) >= MAX_HANDLERS_PER_CALLER:
            raise CallError(f"{MAX_HANDLERS_PER_CALLER} event handlers are registered already, the most per caller")
        self._handlers.setdefault(event, handlers)[caller, gcode] = handler

    def unsubscribe(self, caller: Caller, event: str, gcode: str | None = None) -> int:
        """Remove the caller's handler with this gcode, or all that it has for the event; return how many there were."""
        handlers = self._handlers.get(event, {})
        gone = [key for key in handlers if key[0] == caller and gcode in (None, key[1])]
        for key in gone:
            del handlers[key]
        if not handlers:
            self._handlers.pop(event, None)
        return len(gone)

    def drop(self, caller: Caller) -> None:
        """Remove everything that the caller registered."""
        for event in list(self._handlers):
            self.unsubscribe(caller, event)

    def drop_target(self, printer: str) -> list[Caller]:
        """Remove every handler that runs on this printer; returns whose they were."""
        owners = []
        for event, handlers in list(self._handlers.items()):
            for key in [key for key, handler in handlers.items() if getattr(handler, "target", None) == printer]:
                owners.append(key[0])
                del handlers[key]
            if not handlers:
                del self._handlers[event]
        return owners

    def handlers(self, event: str) -> list[tuple[Caller, Handler]]:
        """The handlers of an event in the order of their registration, each with the caller that registered it."""
        return [(caller, handler) for (caller, _), handler in self._handlers.get(event, {}).items()]

    def count(self, caller: Caller) -> int:
        """How many handlers the caller has registered."""
        return sum(key[0] == caller for handlers in self._handlers.values() for key in handlers)


def parse_context(context: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    """A context as a map: given as one, or as text ``k=v,k2=v2``. Raises CallError naming the part that is neither."""
    if context is None:
        return {}
    if not isinstance(context, str):
        return context
    parts = [part for part in context.split(",") if part.strip()]
    values: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise CallError(f"context {context!r}: {part.strip()!r} is not KEY=VALUE")
        values[key.strip()] = value.strip()
    return values


def context_texts(context: Mapping[str, Any]) -> dict[str, str]:
    """Each value as the text that G-code gets, by the same rules as a status value."""
    return {
        key: value if isinstance(value, str) else parameter_text(msgspec.json.encode(value))
        for key, value in context.items()
    }
