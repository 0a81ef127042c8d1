"""The three ways in which something a user wrote can be wrong.

The class names and modules are visible to users: Klipper prints `gcode.CommandError: ...` when a macro raises, so our
classes answer to the names that Klipper's have (traceback.format_exception_only, klippy/extras/gcode_macro.py).
"""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration is wrong. Klippy stays up in state "error" (klippy/klippy.py: _connect)."""


class CommandError(Exception):
    """A G-code command failed: it goes to the console and ends the script."""


class WebRequestError(CommandError):
    """An API request failed: it goes to the client that asked."""


ConfigError.__module__, ConfigError.__qualname__ = "configparser", "Error"
CommandError.__module__ = "gcode"
WebRequestError.__module__ = "webhooks"
