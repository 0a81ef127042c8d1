"""[display_template]: templates that keep a pin or a light up to date (klippy/extras/output_pin.py, display/)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from ..clock import NEVER
from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode_command import GCodeCommand
from ..printer import Printer
from ..reactor import Timer
from ..template import Context, Template, Templates

RENDER_S = 0.5

SetText = Callable[[str], None]


class DisplayTemplate:
    def __init__(self, section: Section) -> None:
        names = section.name.split()
        if len(names) != 2:
            raise ConfigError(f"Section name [{section.name}] is not valid")
        self.name = names[1]
        self.params: dict[str, Any] = {}
        for option in section.options("param_"):
            try:
                self.params[option] = ast.literal_eval(section.get(option))
            except (ValueError, SyntaxError):
                raise ConfigError(f"Option '{option}' in section '{section.name}' is not a valid literal") from None
        self._template: Template = section.printer.require(Templates, section.config, "gcode_macro").load(
            section, "text"
        )

    def render(self, context: Context, params: dict[str, Any]) -> str:
        return self._template.render({**context, **self.params, **params})


class TemplateRunner:
    """Renders every assigned template twice a second, and nothing when there is none."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._assigned: dict[object, tuple[DisplayTemplate, dict[str, Any], SetText]] = {}
        self._timer: Timer = printer.reactor.register_timer(self._render_all)

    def assign(self, command: GCodeCommand, key: object, set_text: SetText) -> None:
        """TEMPLATE= of a command, with its PARAM_*. An empty name ends it."""
        name = command.get("TEMPLATE")
        if not name:
            self._assigned.pop(key, None)
            return
        template = self._printer.find(DisplayTemplate, f"display_template {name}")
        if template is None:
            raise CommandError(f"Unknown display_template '{name}'")
        params: dict[str, Any] = {}
        for option, value in command.params.items():
            if not option.startswith("PARAM_"):
                continue
            if option.lower() not in template.params:
                raise CommandError(f"Invalid display_template parameter: {option.lower()}")
            try:
                params[option.lower()] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise CommandError(f"Unable to parse '{value}' as a literal") from None
        self._assigned[key] = (template, params, set_text)
        if self._timer.waketime >= NEVER:
            self._printer.reactor.update_timer(self._timer, self._printer.reactor.now())

    def _render_all(self, eventtime: float) -> float:
        if not self._assigned:
            return NEVER
        context = self._printer.lookup(Templates, "gcode_macro").context(eventtime)
        context["render"] = lambda name, **params: self._render(name, context, params)
        for template, params, set_text in list(self._assigned.values()):
            try:
                text = template.render(context, params)
            except CommandError:
                text = ""
            set_text(text)
        return eventtime + RENDER_S

    def _render(self, name: str, context: Context, params: dict[str, Any]) -> str:
        return self._printer.lookup(DisplayTemplate, f"display_template {name}").render(context, params)


def template_runner(section: Section) -> TemplateRunner:
    printer = section.printer
    if "template_evaluator" not in printer.objects:
        printer.add_object("template_evaluator", TemplateRunner(printer))
    return printer.lookup(TemplateRunner, "template_evaluator")


def load(section: Section) -> DisplayTemplate:
    return DisplayTemplate(section)
