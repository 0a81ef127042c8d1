"""Jinja2 templates of macros, and the `printer` they see (klippy/extras/gcode_macro.py)."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jinja2

from .config import Section
from .errors import CommandError, ConfigError
from .gcode import GCode
from .printer import Printer, Status
from .webhooks import WebHooks

Context = dict[str, Any]


class GetStatusWrapper:
    """`printer["object name"]` in a template: the status of each object, taken once per rendering.

    Has the name that it has in Klipper: Jinja2 says it to whoever misspells an object.
    """

    __module__ = "extras.gcode_macro"

    def __init__(self, printer: Printer, eventtime: float | None = None) -> None:
        self._printer = printer
        self._eventtime = eventtime
        self._cache: dict[str, Status] = {}

    def __getitem__(self, name: object) -> Status:
        key = str(name).strip()
        if key not in self._cache:
            if self._eventtime is None:
                self._eventtime = self._printer.reactor.now()
            status = self._printer.status_of(key, self._eventtime)
            if status is None:
                raise KeyError(name)
            self._cache[key] = copy.deepcopy(status)
        return self._cache[key]

    def __contains__(self, name: object) -> bool:
        try:
            self[name]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return (name for name in list(self._printer.objects) if name in self)


class Template:
    def __init__(self, templates: Templates, environment: jinja2.Environment, name: str, text: str) -> None:
        self._templates = templates
        self._name = name
        try:
            self._template = environment.from_string(text)
        except jinja2.TemplateSyntaxError as e:
            line = text.splitlines()[e.lineno - 1]
            # Klipper raises a command error here, which its connect reports as an internal error.
            raise CommandError(f"Error loading template '{name}'\nline {e.lineno}: {line} # {e.message}") from None
        except Exception as e:
            raise ConfigError(f"Error loading template '{name}': {_last_line(e)}") from None

    def render(self, context: Context | None = None) -> str:
        """Raises CommandError with Klipper's text, whatever goes wrong inside."""
        try:
            return str(self._template.render(self._templates.context() if context is None else context))
        except Exception as e:
            message = f"Error evaluating '{self._name}': {_last_line(e)}"
            self._templates.printer.log.exception("%s", message)
            raise CommandError(message) from None


class Templates:
    """The object `gcode_macro`: makes templates and what they may call."""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self._environment = jinja2.Environment("{%", "%}", "{", "}")
        self._actions: dict[str, Callable[..., str]] = {
            "action_emergency_stop": self._emergency_stop,
            "action_respond_info": self._respond_info,
            "action_raise_error": self._raise_error,
            "action_call_remote_method": self._call_remote_method,
        }

    def load(self, section: Section, option: str, default: str | None = None) -> Template:
        text = section.get(option) if default is None else section.get(option, default)
        return self.parse(f"{section.name}:{option}", text)

    def parse(self, name: str, text: str) -> Template:
        return Template(self, self._environment, name, text)

    def context(self, eventtime: float | None = None) -> Context:
        return {"printer": GetStatusWrapper(self.printer, eventtime), **self._actions}

    def _emergency_stop(self, msg: object = "action_emergency_stop") -> str:
        self.printer.invoke_shutdown(f"Shutdown due to {msg}")
        return ""

    def _respond_info(self, msg: str) -> str:
        self.printer.lookup(GCode, "gcode").respond_info(msg)
        return ""

    def _raise_error(self, msg: object) -> NoReturn:
        raise CommandError(msg)

    def _call_remote_method(self, method: str, **params: object) -> str:
        try:
            self.printer.lookup(WebHooks, "webhooks").call_remote_method(method, params)
        except CommandError:
            self.printer.log.exception("Remote Call Error")
        return ""


def _last_line(error: Exception) -> str:
    # With its line end, as in Klipper: the console shows a first line and the error on several.
    return traceback.format_exception_only(type(error), error)[-1]
