"""What may be configured, and the loading of it. The structs below are the reference of every section and option.

`load` takes the neutral form of `config_text` and returns a `Config`, or raises one `ConfigError` that tells every
problem found, each with its file and line. To add a section, write its struct and name it in `Config` and in
`_SINGLE` or `_NAMED`; to add an option, add a field: its type does the conversion.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from klipper_router import config_text
from klipper_router.config_text import Section, Sections, Setting
from klipper_router.errors import ConfigError, nearest
from klipper_router.gateway import problems, settings, values
from klipper_router.gateway.settings import CameraSection, ForwardSection, GatewaySection, KlippyOptions
from klipper_router.gcode import parameter_name

# Linux: sockaddr_un.sun_path holds 108 bytes, the last of them zero (man 7 unix).
MAX_SOCK_BYTES = 107


class RouterSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[router]``: the router itself. May be left out."""

    sock: str = "/tmp/klipper_router.sock"
    """Path of the router's own API socket, which it makes with mode 0660. ``~`` is the home directory; a relative
    path begins at the configuration file's directory."""

    default_instance: str | None = None
    """Name of the printer that a call means when it names none. None: such a call is an error."""

    sock_mode: str = "660"
    """Permissions of that socket, in octal digits. Who may write to it may run G-code on every printer."""

    sock_owner: str | None = None
    """Who owns that socket: ``user``, ``user:group`` or ``:group``. None: the router's own user and group."""

    crash_dir: str = "~/.local/state/klipper-router"
    """Where a crash of the router leaves its report, the newest few. Expanded as ``sock``."""


class KlippySection(KlippyOptions, frozen=True, kw_only=True):
    """``[klippy NAME]``: one printer. NAME is what macros give as TARGET. What the gateway reads is `KlippyOptions`."""

    sock: str
    """Path of that Klippy's API socket (its ``-a``). Expanded as the router's own."""

    on_connect: str = ""
    """G-code, one or several lines, run on that printer each time the router has connected and the printer is
    ready. Empty: none."""

    gcode_from: list[str] | None = None
    """Who may run G-code here: names of printers, ``clients`` (of the API socket), ``gateway``. None: everybody."""

    allow_gcode: list[str] | None = None
    """The commands that others may run here, with ``*`` as a wildcard: ``M117, SET_*``. None: all."""

    deny_gcode: list[str] = msgspec.field(default_factory=list)
    """The commands that others may not run here, also where ``allow_gcode`` has them."""

    endpoints_from: list[str] | None = None
    """Who may call Klippy endpoints here (router/call, handlers of type webhook). None: everybody."""

    allow_endpoints: list[str] | None = None
    """The Klippy endpoints that others may call here. None: all but ``emergency_stop``, which must be named."""

    events_from: list[str] | None = None
    """Whose events run handlers here. None: everybody's."""


class Places:
    """Where each section and option was written. All are equal: the same, written elsewhere, is no change."""

    def __init__(self, sections: Sections | None = None) -> None:
        sections = sections or {}
        self._places: dict[tuple[str, str], tuple[Path | str, int]] = {}
        for title, section in sections.items():
            self._places[title, ""] = (section.file, section.line)
            self._places |= {(title, key): (each.file, each.line) for key, each in section.settings.items()}

    def of(self, title: str, key: str = "") -> tuple[Path | str, int]:
        """File and line of an option, or of its section; no text and 0 for what was not read from a file."""
        nowhere: tuple[Path | str, int] = ("", 0)
        return self._places.get((title, key), self._places.get((title, ""), nowhere))

    def error(self, title: str, key: str, message: str) -> ConfigError:
        """The error that tells of the option ``key`` of ``[title]`` (no key: of the section), with file and line."""
        file, line = self.of(title, key)
        return ConfigError(f"[{title}] {message}", file=file, line=line, key=key)

    def told(self, title: str, key: str, message: str) -> str:
        """The same as a text, for what is no error."""
        return str(self.error(title, key, message))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration without fault in itself. `error` is for what shows only where it is used: a file, a port."""

    router: RouterSection
    klippy: dict[str, KlippySection]
    """By name, in the order of the files; never empty."""

    gateway: GatewaySection | None = None
    """None: there is no such section, and no gateway."""

    camera: dict[str, CameraSection] = {}
    """By ``PRINTER NAME``."""

    forward: dict[str, ForwardSection] = {}
    """By port."""

    places: Places = Places()

    def error(self, title: str, key: str, message: str) -> ConfigError:
        """See `Places`."""
        return self.places.error(title, key, message)

    def notes(self) -> list[str]:
        """What is no mistake, but may not be what was meant; with file and line."""
        found = problems.notes(self.gateway, dict(self.klippy))
        return [self.told(note.section, note.key, note.message) for note in found]

    def told(self, title: str, key: str, message: str) -> str:
        """See `Places`."""
        return self.places.told(title, key, message)


_SINGLE: dict[str, type[msgspec.Struct]] = {"router": RouterSection, "gateway": GatewaySection}
_NAMED: dict[str, type[msgspec.Struct]] = {"klippy": KlippySection, "camera": CameraSection, "forward": ForwardSection}
_OPTIONAL = {"gateway"}  # a section that means something by being there
_PATH_OPTIONS = {"sock", "crash_dir"} | settings.PATH_OPTIONS
# Who may be named beside printers in ``gcode_from`` and its like.
GROUPS = ("clients", "gateway")
_FROM_OPTIONS = ("gcode_from", "endpoints_from", "events_from")
# Options as another program calls them: here Moonraker, of its webcams.
_ELSEWHERE = {"stream_url": "url"}
_EXAMPLES = {
    "sock": "~/printer_data/comms/klippy.sock",
    "to": "192.168.1.7:7125",
    "url": "http://127.0.0.1:8080/?action=stream",
}
# As Klipper reads them (Python's configparser).
_BOOLEANS = {**dict.fromkeys(("1", "yes", "true", "on"), True), **dict.fromkeys(("0", "no", "false", "off"), False)}
_MODE = re.compile(r"0?[0-7]{3}")

# Whitespace and commas end a name in a list, `#`, `;` and `*` end a line of G-code on a Klipper up to v0.12, the
# others mean something in G-code parameters, templates or events (`router/ready`).
_NOT_IN_NAMES = re.compile(r"""[\s,#;*'"=\\{}]""")


def load(path: Path | str) -> Config:
    """Read, check and convert a configuration.

    :raises ConfigError: its ``file``, ``line`` and ``key`` are those of the first problem, its text has one line for
        each problem.
    """
    path = Path(path)
    return convert(config_text.read(path), path)


def convert(sections: Sections, path: Path) -> Config:
    """Check and convert sections that were read; ``path`` is named where a problem is of no file. Raises as `load`."""
    check = _Check(sections)
    single = {
        name: check.section(name, kind) for name, kind in _SINGLE.items() if name in sections or name not in _OPTIONAL
    }
    named: dict[str, dict[str, Any]] = {kind: {} for kind in _NAMED}
    for title in sections:
        kind, _, name = title.partition(" ")
        if kind in _NAMED and name:
            named[kind][name] = check.section(title, _NAMED[kind])
        elif title not in _SINGLE:
            check.unknown_section(title)
    check.printers(path)
    if not check.problems:
        check.gateway(single.get("gateway"), named)
    if check.problems:
        first, *more = check.problems
        text = "\n".join([first.message, *(str(ConfigError(p.message, file=p.file, line=p.line)) for p in more)])
        raise ConfigError(text, file=first.file, line=first.line, key=first.key)
    whole: dict[str, Any] = single | named
    return Config(**whole, places=Places(sections))


class _Problem(NamedTuple):
    message: str
    file: Path
    line: int
    key: str


class _Check:
    """Converts sections and gathers what is wrong with them."""

    def __init__(self, sections: Sections) -> None:
        self._sections = sections
        self.problems: list[_Problem] = []

    def section(self, title: str, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
        """The section as a struct, or None when it has problems."""
        section = self._sections.get(title)
        if section is None:
            return kind()  # only a section that may be left out is asked for without being there
        own_first = sorted(msgspec.structs.fields(kind), key=lambda each: each.name not in kind.__annotations__)
        fields = {each.name: each for each in own_first}
        values = {}
        problems_before = len(self.problems)
        for key, setting in section.settings.items():
            if key in fields:
                values[key] = self._value(title, key, setting, fields[key].type)
            else:
                hint = _did_you_mean(_ELSEWHERE.get(key, key), fields, _quoted)
                self._problem(f"[{title}] has no option '{key}'.{hint}", setting, key)
        for key, each in fields.items():
            if each.required and key not in values:
                example = f" such as '{key}: {_EXAMPLES[key]}'" if key in _EXAMPLES else ""
                self._problem(f"[{title}] lacks '{key}': add a line{example}", section, key)
        return kind(**values) if len(self.problems) == problems_before else None

    def unknown_section(self, title: str) -> None:
        kind, _, name = title.partition(" ")
        section = self._sections[title]
        if kind in _NAMED:
            self._problem(f"[{kind}] needs a name, for example [{kind} main]", section)
        elif kind in _SINGLE:
            self._problem(f"[{title}] takes no name, write [{kind}]", section)
        else:
            hint = _did_you_mean(kind, [*_SINGLE, *_NAMED], lambda near: f"[{near} {name}]" if name else f"[{near}]")
            self._problem(f"there is no section [{title}].{hint}", section)

    def printers(self, path: Path) -> None:
        """What concerns several sections: names, sockets used twice, the default instance."""
        printers = {t.partition(" ")[2]: s for t, s in self._sections.items() if t.startswith("klippy ")}
        if not printers:
            self.problems.append(_Problem("no printer is configured: add a section such as [klippy main]", path, 0, ""))
        names: dict[str, str] = {}
        socks: dict[str, str] = {}
        router = self._sections.get("router", Section(path, 0))
        router_sock = router.settings.get("sock", Setting(RouterSection().sock, path, 0))
        socks[_same_sock(router_sock)] = "the router's own socket"
        if (mode := router.settings.get("sock_mode")) and not _MODE.fullmatch(str(mode.value)):
            self._problem(
                f"[router] has sock_mode '{mode.value}': write three octal digits, such as 660", mode, "sock_mode"
            )
        for name, section in printers.items():
            self._name(name, section, names)
            self._from(name, section, printers)
            sock, mine = section.settings.get("sock"), f"the sock of [klippy {name}]"
            if sock and (other := socks.setdefault(_same_sock(sock), mine)) != mine:
                self._problem(f"[klippy {name}] has '{sock.value}', which is {other}: give each its own", sock, "sock")
        default = router.settings.get("default_instance")
        if default and default.value not in printers:
            hint = _did_you_mean(str(default.value), printers, _quoted)
            message = f"[router] names '{default.value}', but no printer has that name.{hint}"
            self._problem(message, default, "default_instance")

    def gateway(self, gateway: Any, named: dict[str, dict[str, Any]]) -> None:
        """What the gateway's sections have wrong together, each right by itself."""
        for problem in problems.problems(gateway, named["klippy"], named["camera"], named["forward"]):
            section = self._sections[problem.section]
            place = section.settings.get(problem.key, section)
            self._problem(f"[{problem.section}]: {problem.message}", place, problem.key)

    def _from(self, name: str, section: Section, printers: Iterable[str]) -> None:
        known = [*printers, *GROUPS]
        for option in _FROM_OPTIONS:
            setting = section.settings.get(option)
            if setting is None:
                continue
            for given in _as_list(setting.value):
                if given not in known:
                    message = f"[klippy {name}] has '{given}' in {option}, which is no printer and no group."
                    self._problem(message + _did_you_mean(given, known, _quoted), setting, option)

    def _name(self, name: str, section: Section, seen: dict[str, str]) -> None:
        title = f"[klippy {name}]"
        if name in GROUPS:
            self._problem(f"{title}: '{name}' stands for a group in gcode_from and its like, rename it", section)
        if bad := _NOT_IN_NAMES.search(name):
            self._problem(f"{title}: a name may not hold {bad[0]!r}. Use letters, digits, '_' and '-'", section)
        elif not name.isprintable():
            self._problem(f"[klippy {name!r}]: a name may hold no unprintable character", section)
        other = seen.setdefault(parameter_name(name), name)
        if other != name:
            same = parameter_name(name)
            self._problem(f"{title} and [klippy {other}] are both {same} as G-code parameters: rename one", section)

    def _value(self, title: str, key: str, setting: Setting, kind: Any) -> Any:
        if setting.value == "" and key in _PATH_OPTIONS:
            self._problem(f"[{title}] has an empty '{key}'", setting, key)
            return None
        try:
            given = _as_list(setting.value) if _is_list(kind) else setting.value
            if kind is bool:
                given = _BOOLEANS.get(str(given).lower())
                if given is None:
                    raise _BadValue("write yes or no")
            choices = next((get_args(each) for each in (kind, *get_args(kind)) if get_origin(each) is Literal), None)
            if choices and given not in choices:
                near = nearest(str(given), choices)
                hint = f". Did you mean '{near}'?" if near else ""
                raise _BadValue(f"this is none of {', '.join(choices)}{hint}")
            if kind is int and not (isinstance(given, str) and re.fullmatch(r"0*[1-9][0-9]{0,8}", given)):
                raise _BadValue("write a whole number, 1 or more")
            value = msgspec.convert(given, kind, strict=False, dec_hook=values.decode)
            if key not in _PATH_OPTIONS:
                return value
            return _sock(value, setting) if key == "sock" else _expanded(value, setting)
        except (msgspec.ValidationError, _BadValue) as error:
            self._problem(f"[{title}] has {key} '{setting.value}': {error}", setting, key)
            return None

    def _problem(self, message: str, place: Setting | Section, key: str = "") -> None:
        self.problems.append(_Problem(message, place.file, place.line, key))


def _is_list(kind: Any) -> bool:
    return list[str] in (kind, *get_args(kind))


def _as_list(value: Any) -> Any:
    """``a, b`` as a list of texts; what YAML gave as a list stays one."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in re.split(r"[,\n]", value) if part.strip()]


class _BadValue(Exception):
    """What an option cannot be, such as a path that no file, or no Unix socket, can have."""


def _expanded(path: str, setting: Setting) -> str:
    if not path.isprintable():
        raise _BadValue("a path may hold no unprintable character")
    try:
        whole = Path(path).expanduser()
    except RuntimeError:
        raise _BadValue("there is no such home directory") from None
    return os.path.normpath(setting.file.parent.absolute() / whole)


def _sock(path: str, setting: Setting) -> str:
    full = _expanded(path, setting)
    size_bytes = len(os.fsencode(full))
    if size_bytes > MAX_SOCK_BYTES:
        raise _BadValue(f"a socket's path is at most {MAX_SOCK_BYTES} bytes long, '{full}' is {size_bytes}")
    return full


def _same_sock(setting: Setting) -> str:
    """What two ways of writing one path have in common, symbolic links included."""
    try:
        return os.path.realpath(_sock(str(setting.value), setting))
    except _BadValue:
        return str(setting.value)


def _quoted(name: str) -> str:
    return f"'{name}'"


def _did_you_mean(wrong: str, known: Iterable[str], form: Callable[[str], str]) -> str:
    known = list(known)
    if near := nearest(wrong, known):
        return f" Did you mean {form(near)}?"
    return f" Known: {', '.join(map(form, known))}" if known else ""
