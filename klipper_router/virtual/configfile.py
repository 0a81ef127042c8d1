"""The object `configfile`: the configuration as read, its warnings, and SAVE_CONFIG (klippy/configfile.py)."""

from __future__ import annotations

import configparser
import io
import time
from pathlib import Path
from typing import Any

from . import config_file
from .config import Config
from .config_reference import is_documented_option, is_klipper_section
from .errors import CommandError, ConfigError
from .gcode import GCode
from .gcode_command import GCodeCommand
from .printer import Printer, Status


class PrinterConfig:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self._autosave = config_file.new_parser()
        self._raw: dict[str, dict[str, str]] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        self._warnings: list[dict[str, str]] = []
        self._pending: dict[str, dict[str, str] | None] = {}
        self._save_pending = False
        printer.lookup(GCode, "gcode").register(
            "SAVE_CONFIG", self._cmd_save_config, "Overwrite config file and restart"
        )

    def read_main_config(self) -> Config:
        parser, self._autosave = config_file.load(self.printer.start_args.config_file)
        self._raw = {
            section: {option: parser.get(section, option) for option in parser.options(section)}
            for section in parser.sections()
        }
        return Config(self.printer, parser)

    def check_unused_options(self, config: Config) -> None:
        """Raises ConfigError for what no module asked for, as Klipper; warns of what Klipper has and we do not."""
        known_sections = set(self.printer.objects) | {section for section, _ in config.read}
        for section in config.sections():
            name = section.name.lower()
            if name not in known_sections and section.name not in self.printer.objects:
                if not is_klipper_section(name):
                    raise ConfigError(f"Section '{name}' is not a valid config section")
                self.runtime_warning(f"Section '{section.name}' is accepted but not simulated by the virtual Klippy")
                self._note_without_effect(config, section.name, section.options())
                continue
            unread = [option for option in section.options() if (name, option.lower()) not in config.read]
            for option in unread:
                saved = self._autosave.has_option(section.name, option)
                if not saved and not is_documented_option(name, option):
                    raise ConfigError(f"Option '{option.lower()}' is not valid in section '{name}'")
            self._note_without_effect(config, section.name, unread)
        self._settings = {}
        for (name, option), value in config.read.items():
            self._settings.setdefault(name, {})[option] = value

    def _note_without_effect(self, config: Config, section: str, options: list[str]) -> None:
        for option in options:
            config.read[section.lower(), option.lower()] = _guess(config.parser.get(section, option))

    # Warnings

    def deprecate(self, section: str, option: str, value: str | None = None) -> None:
        if value is None:
            warning = {"type": "deprecated_option"}
            message = f"Option '{option}' in section '{section}' is deprecated."
        else:
            warning = {"type": "deprecated_value", "value": value}
            message = f"Value '{value}' in option '{option}' in section '{section}' is deprecated."
        self._warn({**warning, "message": message, "section": section, "option": option})

    def runtime_warning(self, message: str) -> None:
        self._warn({"type": "runtime_warning", "message": message})

    def _warn(self, warning: dict[str, str]) -> None:
        if warning not in self._warnings:
            self._warnings = [*self._warnings, warning]
            self.printer.log.warning("%s", warning["message"])

    def get_status(self, eventtime: float) -> Status:
        return {
            "config": self._raw,
            "warnings": self._warnings,
            "save_config_pending": self._save_pending,
            "save_config_pending_items": self._pending,
            "settings": self._settings,
        }

    # SAVE_CONFIG

    def save(self, section: str, option: str, value: object) -> None:
        """Note a value for the next SAVE_CONFIG."""
        if not self._autosave.has_section(section):
            self._autosave.add_section(section)
        self._autosave.set(section, option, str(value))
        # A new dictionary each time, so that a subscription sees the change.
        self._pending = {**self._pending, section: {**(self._pending.get(section) or {}), option: str(value)}}
        self._save_pending = True

    def remove_section(self, section: str) -> None:
        if self._autosave.has_section(section):
            self._autosave.remove_section(section)
            self._pending = {**self._pending, section: None}
            self._save_pending = True

    async def _cmd_save_config(self, command: GCodeCommand) -> None:
        if not self._autosave.sections():
            return
        path = Path(self.printer.start_args.config_file)
        try:
            text = config_file.read_text(path)
        except ConfigError:
            raise CommandError("Unable to read existing config on SAVE_CONFIG") from None
        regular, _ = config_file.split_saved(text)
        regular = config_file.comment_out_options_of(self._autosave, regular)
        lines = ["\n" + config_file.SAVE_CONFIG_MARK.rstrip()]
        lines += [f"#*# {line}".strip() for line in _text_of(self._autosave).split("\n")]
        text = regular.rstrip() + "\n".join([*lines, ""])
        new_regular, saved = config_file.split_saved(text)
        if not saved:
            raise CommandError("Existing config autosave is corrupted. Can't complete SAVE_CONFIG")
        try:
            self._check_conflicts(config_file.parse_with_includes(new_regular, str(path)))
        except ConfigError:
            raise CommandError("Unable to parse existing config on SAVE_CONFIG") from None
        self._replace(path, text)
        await self.printer.lookup(GCode, "gcode").request_restart("restart")

    def _check_conflicts(self, regular: configparser.RawConfigParser) -> None:
        for section in self._autosave.sections():
            for option in self._autosave.options(section):
                if regular.has_option(section, option):
                    raise CommandError(
                        f"SAVE_CONFIG section '{section}' option '{option}' conflicts with included value"
                    )

    def _replace(self, path: Path, text: str) -> None:
        backup = path.with_name(f"{path.stem}-{time.strftime('%Y%m%d_%H%M%S')}{path.suffix}")
        temporary = path.with_name(f"{path.stem}_autosave{path.suffix}")
        try:
            temporary.write_text(text)
            path.rename(backup)
            temporary.rename(path)
        except OSError:
            self.printer.log.exception("SAVE_CONFIG")
            raise CommandError("Unable to write config file during SAVE_CONFIG") from None
        self.printer.log.info("SAVE_CONFIG to '%s' (backup in '%s')", path, backup)


def _text_of(parser: configparser.RawConfigParser) -> str:
    out = io.StringIO()
    parser.write(out)
    return out.getvalue().strip()


def _guess(text: str) -> object:
    """`settings` holds parsed values; for an option that nothing here parses, a number if it looks like one."""
    try:
        return float(text)
    except ValueError:
        return text
