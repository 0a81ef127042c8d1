"""One section of the configuration, read with types, limits and Klipper's words for what is wrong.

Every option read is noted: what nobody read is an error at the end (klippy/configfile.py: ConfigValidate), and what was
read is the `settings` of the object `configfile`.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ConfigError

if TYPE_CHECKING:
    from .printer import Printer

D = TypeVar("D")
V = TypeVar("V")


class Required:
    """Stands for "no default"."""


REQUIRED = Required()


class Config:
    """What all sections share: the parsed file and the notes about what was read."""

    def __init__(self, printer: Printer, parser: configparser.RawConfigParser) -> None:
        self.printer = printer
        self.parser = parser
        self.read: dict[tuple[str, str], Any] = {}

    def section(self, name: str) -> Section:
        return Section(self, name)

    def sections(self, prefix: str = "") -> list[Section]:
        return [Section(self, name) for name in self.parser.sections() if name.startswith(prefix)]

    def has_section(self, name: str) -> bool:
        return self.parser.has_section(name)


class Section:
    def __init__(self, config: Config, name: str) -> None:
        self.config = config
        self.name = name

    @property
    def printer(self) -> Printer:
        return self.config.printer

    @property
    def own_name(self) -> str:
        """The part after the module: `my_pin` of `[output_pin my_pin]`."""
        return self.name.split()[-1]

    def has(self, option: str) -> bool:
        return self.config.parser.has_option(self.name, option)

    def options(self, prefix: str = "") -> list[str]:
        return [option for option in self.config.parser.options(self.name) if option.startswith(prefix)]

    def get(self, option: str, default: D | Required = REQUIRED, *, note: bool = True) -> str | D:
        return self._read(option, default, lambda text: text, note=note)

    def getint(
        self,
        option: str,
        default: D | Required = REQUIRED,
        *,
        minval: int | None = None,
        maxval: int | None = None,
        note: bool = True,
    ) -> int | D:
        value = self._read(option, default, int, note=note)
        if self.has(option):
            self._check(option, value, minval, maxval, None, None)
        return value

    def getfloat(
        self,
        option: str,
        default: D | Required = REQUIRED,
        *,
        minval: float | None = None,
        maxval: float | None = None,
        above: float | None = None,
        below: float | None = None,
        note: bool = True,
    ) -> float | D:
        value = self._read(option, default, float, note=note)
        if self.has(option):
            self._check(option, value, minval, maxval, above, below)
        return value

    def getboolean(self, option: str, default: D | Required = REQUIRED, *, note: bool = True) -> bool | D:
        return self._read(option, default, _boolean, note=note)

    def getchoice(
        self, option: str, choices: Mapping[str, V] | Sequence[str], default: str | Required = REQUIRED
    ) -> V | str:
        value = self.get(option, default)
        if value not in choices:
            raise ConfigError(f"Choice '{value}' for option '{option}' in section '{self.name}' is not a valid choice")
        return choices[value] if isinstance(choices, Mapping) else value

    def getlist(
        self,
        option: str,
        default: D | Required = REQUIRED,
        *,
        sep: str = ",",
        count: int | None = None,
        note: bool = True,
    ) -> tuple[str, ...] | D:
        return self._read(option, default, lambda text: self._split(option, text, sep, count, str), note=note)

    def getintlist(
        self, option: str, default: D | Required = REQUIRED, *, sep: str = ",", note: bool = True
    ) -> tuple[int, ...] | D:
        return self._read(option, default, lambda text: self._split(option, text, sep, None, int), note=note)

    def getfloatlist(
        self,
        option: str,
        default: D | Required = REQUIRED,
        *,
        sep: str = ",",
        count: int | None = None,
        note: bool = True,
    ) -> tuple[float, ...] | D:
        return self._read(option, default, lambda text: self._split(option, text, sep, count, float), note=note)

    def getpath(self, option: str) -> Path:
        """With a home for ``~`` and ``~user``; one that is not known stays as it is written, as in Klipper."""
        return Path(os.path.expanduser(self.get(option)))  # noqa: PTH111 - Path's own raises then

    def getpoints(self, option: str) -> tuple[tuple[float, ...], ...]:
        """Lines of numbers, as in `points:`."""
        return self._read(
            option,
            REQUIRED,
            lambda text: tuple(
                self._split(option, line, ",", None, float) for line in text.split("\n") if line.strip()
            ),
        )

    def deprecate(self, option: str, value: str | None = None) -> None:
        if self.has(option):
            self.printer.configfile.deprecate(self.name, option, value)

    def _split(self, option: str, text: str, sep: str, count: int | None, parse: Callable[[str], V]) -> tuple[V, ...]:
        parts = tuple(parse(part.strip()) for part in text.split(sep)) if text.strip() else ()
        if count is not None and len(parts) != count:
            raise ConfigError(f"Option '{option}' in section '{self.name}' must have {count} elements")
        return parts

    def _read(self, option: str, default: D | Required, parse: Callable[[str], V], *, note: bool = True) -> V | D:
        key = (self.name.lower(), option.lower())
        if not self.has(option):
            if isinstance(default, Required):
                raise ConfigError(f"Option '{option}' in section '{self.name}' must be specified")
            if note and default is not None:
                self.config.read[key] = default
            return default
        try:
            value = parse(self.config.parser.get(self.name, option))
        except ValueError:
            raise ConfigError(f"Unable to parse option '{option}' in section '{self.name}'") from None
        if note:
            self.config.read[key] = value
        return value

    def _check(
        self,
        option: str,
        value: Any,
        minval: float | None,
        maxval: float | None,
        above: float | None,
        below: float | None,
    ) -> None:
        where = f"Option '{option}' in section '{self.name}' must"
        if minval is not None and value < minval:
            raise ConfigError(f"{where} have minimum of {minval}")
        if maxval is not None and value > maxval:
            raise ConfigError(f"{where} have maximum of {maxval}")
        if above is not None and value <= above:
            raise ConfigError(f"{where} be above {above}")
        if below is not None and value >= below:
            raise ConfigError(f"{where} be below {below}")


def _boolean(text: str) -> bool:
    try:
        return configparser.RawConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError(text) from None
