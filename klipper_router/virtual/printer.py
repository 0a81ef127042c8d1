"""One life of the printer, from reading the configuration to the next restart.

Knows the states, the objects and the events that tie modules together (klippy/klippy.py: Printer); knows nothing of any
module, of G-code or of sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import trio

from .config import Config, Section
from .errors import ConfigError
from .reactor import Reactor

State = Literal["startup", "ready", "shutdown", "error"]
Dialect = Literal["v0.13", "v0.12"]
Status = dict[str, Any]
T = TypeVar("T")

MESSAGE_READY = "Printer is ready"
MESSAGE_STARTUP = """
Printer is not ready
The klippy host software is attempting to connect.  Please
retry in a few moments.
"""
MESSAGE_RESTART = """
Once the underlying issue is corrected, use the "RESTART"
command to reload the config and restart the host software.
Printer is halted
"""
MESSAGE_SHUTDOWN = """
Once the underlying issue is corrected, use the
"FIRMWARE_RESTART" command to reset the firmware, reload the
config, and restart the host software.
Printer is shutdown
"""

# How long real Klipper took from its start to ready with a micro-controller that answers at once (KLIPPER_FACTS.md).
CONNECT_S = 0.7


@runtime_checkable
class HasStatus(Protocol):
    def get_status(self, eventtime: float) -> Status: ...


class ConfigFile(Protocol):
    """What sections need of the object `configfile`."""

    def deprecate(self, section: str, option: str, value: str | None = None) -> None: ...
    def runtime_warning(self, message: str) -> None: ...
    def save(self, section: str, option: str, value: object) -> None: ...
    def remove_section(self, section: str) -> None: ...
    def read_main_config(self) -> Config: ...
    def check_unused_options(self, config: Config) -> None: ...


@dataclass(frozen=True)
class StartArgs:
    config_file: Path
    apiserver: Path | None
    log_file: Path | None
    dialect: Dialect
    start_reason: str
    software_version: str
    cpu_info: str


class Loaders(Protocol):
    """The simulated modules by section name."""

    def find(self, section: str) -> Callable[[Section], object] | None: ...
    def load_core(self, printer: Printer) -> None: ...
    def load_last(self, config: Config) -> None: ...


class Printer:
    configfile: ConfigFile

    def __init__(self, reactor: Reactor, start_args: StartArgs, log: logging.Logger, loaders: Loaders) -> None:
        self.reactor = reactor
        self.start_args = start_args
        self.log = log
        self.objects: dict[str, object] = {}
        self.loaders = loaders
        self.state_message = MESSAGE_STARTUP
        self.is_shutdown = False
        self.exit_reason: str | None = None
        self.exit_requested = trio.Event()
        self._handlers: dict[str, list[Callable[..., object]]] = {}
        loaders.load_core(self)

    # State

    @property
    def state(self) -> State:
        if self.state_message == MESSAGE_READY:
            return "ready"
        if self.state_message == MESSAGE_STARTUP:
            return "startup"
        return "shutdown" if self.is_shutdown else "error"

    def _set_state(self, message: str) -> None:
        # The first message of a shutdown or an error stays.
        if self.state_message in (MESSAGE_READY, MESSAGE_STARTUP):
            self.state_message = message
            self.send_event("virtual:state")

    def invoke_shutdown(self, message: str, explanation: str | None = None) -> None:
        """The printer stops. `explanation` is the long text that users see; by default `message` with the usual hint.

        klippy/extras/error_mcu.py adds the hint after the handlers of klippy:shutdown have run.
        """
        if self.is_shutdown:
            return
        self.log.error("Transition to shutdown state: %s", message)
        self.is_shutdown = True
        self._set_state(message)
        self.send_event("klippy:shutdown")
        if self.state_message == message and "mcu" in self.objects:
            self.state_message = explanation or message + MESSAGE_SHUTDOWN
            self.log.error("%s", self.state_message)
        self.send_event("klippy:analyze_shutdown")
        self.send_event("virtual:state")

    def request_exit(self, reason: str) -> None:
        if self.exit_reason is None:
            self.exit_reason = reason
        self.exit_requested.set()

    # Events

    def on(self, event: str, handler: Callable[..., object]) -> None:
        self._handlers.setdefault(event, []).append(handler)

    def send_event(self, event: str, *args: object) -> None:
        for handler in self._handlers.get(event, []):
            handler(*args)

    # Objects

    def add_object(self, name: str, item: object) -> None:
        if name in self.objects:
            raise ConfigError(f"Printer object '{name}' already created")
        self.objects[name] = item

    def lookup(self, kind: type[T], name: str) -> T:
        item = self.objects.get(name)
        if not isinstance(item, kind):
            raise ConfigError(f"Unknown config object '{name}'")
        return item

    def find(self, kind: type[T], name: str) -> T | None:
        item = self.objects.get(name)
        return item if isinstance(item, kind) else None

    def find_all(self, kind: type[T]) -> Iterator[T]:
        return (item for item in list(self.objects.values()) if isinstance(item, kind))

    def status_of(self, name: str, eventtime: float) -> Status | None:
        get_status = getattr(self.objects.get(name), "get_status", None)  # asking a Protocol each time is slow
        status: Status | None = None if get_status is None else get_status(eventtime)
        return status

    def load_object(self, config: Config, section: str) -> object:
        """The object of `section`, made now if need be. Raises ConfigError when no such module is simulated."""
        if section not in self.objects:
            loader = self.loaders.find(section)
            if loader is None:
                raise ConfigError(f"Unable to load module '{section}'")
            self.objects[section] = loader(config.section(section))
        return self.objects[section]

    def require(self, kind: type[T], config: Config, section: str) -> T:
        item = self.load_object(config, section)
        assert isinstance(item, kind), section
        return item

    # Life

    async def connect(self) -> None:
        """startup -> ready, or error. Never raises for what the configuration says."""
        try:
            config = self._read_config()
            await self.reactor.pause(self.reactor.now() + CONNECT_S)
            for handler in self._handlers.get("klippy:connect", []):
                if self.state != "startup":
                    return
                handler()
        except ConfigError as e:
            self.log.error("Config error: %s", e)
            self._set_state(f"{e}\n{MESSAGE_RESTART}")
            return
        except Exception as e:
            self.log.exception("Unhandled exception during connect")
            self._set_state(f"Internal error during connect: {e}\n{MESSAGE_RESTART}")
            return
        del config
        self._set_state(MESSAGE_READY)
        try:
            for handler in self._handlers.get("klippy:ready", []):
                if self.state != "ready":
                    return
                handler()
        except Exception as e:
            self.log.exception("Unhandled exception during ready callback")
            self.invoke_shutdown(f"Internal error during ready callback: {e}")

    def _read_config(self) -> Config:
        config = self.configfile.read_main_config()
        for name in ("mcu", *(s.name for s in config.sections("mcu "))):
            self.load_object(config, name)
        for section in config.sections():
            if self.loaders.find(section.name) is not None:
                self.load_object(config, section.name)
        self.loaders.load_last(config)
        self.configfile.check_unused_options(config)
        return config
