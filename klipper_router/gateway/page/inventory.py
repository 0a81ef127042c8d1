"""What is configured: the configuration's files, and over them what was added, changed or removed at run time.

The changes are kept in one file of the gateway's ``data`` folder, as whole sections: a section there replaces the one
of the same title in the files, ``null`` removes it. Everything is checked by `config`, as `klipper-router check` does
it, before anything is written or applied; so the file is never one that the router would not start with.

Knows files and sections; not what the router does with a changed configuration: that is the ``apply`` it is given.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import trio

from klipper_router import config, config_text
from klipper_router.config import Config
from klipper_router.config_text import Section, Sections, Setting
from klipper_router.errors import ConfigError
from klipper_router.gateway.cameras.site import check as check_cameras

FILE_NAME = "printers.json"
# Some thousand printers; a larger file is none of ours.
MAX_FILE_BYTES = 4 * 1024 * 1024

Options = dict[str, str]
Changes = dict[str, Options | None]
Apply = Callable[[Config], object]


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """The file: sections by title; null removes one of the configuration's files."""

    version: Literal[1] = 1
    sections: Changes = {}


class Listed(NamedTuple):
    """A section in force. ``kept`` tells that it comes from the data folder, not from the configuration's files."""

    options: Options
    kept: bool


class Inventory:
    """The sections in force. Build it by `read`."""

    def __init__(self, path: Path, files: Sections, data: Path | None, changes: Changes) -> None:
        self.path = path
        self._files = files
        self._data = data
        self._changes = changes
        self._writing = trio.Lock()
        try:
            self.config = self._checked(changes)
        except ConfigError as error:
            if not changes:
                raise
            note = f"{self.file} is laid over these files: what was changed on the dashboard is in it"
            raise ConfigError(f"{error}\n{note}", key=error.key) from None

    @classmethod
    def read(cls, path: Path | str, data: Path | str | None) -> Inventory:
        """The files of a configuration, and the changes kept in ``data`` (None: there is no such folder).

        Raises ConfigError, for the files as well as for the changes.
        """
        path = Path(path)
        folder = Path(data) if data is not None else None
        return cls(path, config_text.read(path), folder, _read_changes(folder / FILE_NAME) if folder else {})

    def reread(self) -> Config:
        """Read the configuration's files again (SIGHUP), and lay the kept changes over them.

        Raises ConfigError; then all is as it was.
        """
        again = Inventory.read(self.path, self._data)
        self._files, self._changes, self.config = again._files, again._changes, again.config
        return self.config

    def notes(self) -> list[str]:
        """What is no mistake, but may not be what was meant; with file and line."""
        places = config.Places(self._files)
        found = []
        for title in self._files:
            if title in self._changes:
                gone = self._changes[title] is None
                what = "the dashboard removed it, which is" if gone else "what the dashboard changed is"
                message = f"{what} kept in {self.file} and goes before this section"
                found.append(places.told(title, "", message))
        return [*found, *self.config.notes()]

    @property
    def file(self) -> Path | None:
        """Where changes are kept."""
        return self._data / FILE_NAME if self._data else None

    def of_kind(self, kind: str) -> dict[str, Listed]:
        """The sections ``[kind NAME]`` in force, by name, in order."""
        sections = self._over_files(self._changes)
        return {
            title.partition(" ")[2]: Listed(
                {key: _text(setting.value) for key, setting in section.settings.items()}, title in self._changes
            )
            for title, section in sections.items()
            if title.startswith(f"{kind} ")
        }

    async def change(self, changes: Mapping[str, Options | None], apply: Apply) -> None:
        """Set sections (None: remove), for good and at once.

        Raises ConfigError when the result would be no configuration, OSError when it cannot be kept; what ``apply``
        raises goes through. In each case all is as it was.
        """
        async with self._writing:
            wanted = {
                title: options
                for title, options in {**self._changes, **changes}.items()
                if self._differs(title, options)
            }
            self._checked(wanted)
            before = self._changes
            await self._keep(wanted)
            try:
                checked = self._checked(wanted)  # over the files as they are now: they may have been read again
                apply(checked)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._keep(before)
                raise
            self._changes, self.config = wanted, checked

    def _differs(self, title: str, options: Options | None) -> bool:
        """Whether a change changes anything of the files."""
        section = self._files.get(title)
        if section is None or options is None:
            return section is not None or options is not None
        return options != {key: _text(setting.value) for key, setting in section.settings.items()}

    def _checked(self, changes: Changes) -> Config:
        checked = config.convert(self._over_files(changes), self.path)
        check_cameras(checked)
        return checked

    def _over_files(self, changes: Changes) -> Sections:
        """The sections of the files with changes over them; a changed one keeps its place, new ones follow."""
        sections: Sections = {}
        for title in [*self._files, *(title for title in changes if title not in self._files)]:
            if title not in changes:
                sections[title] = self._files[title]
            elif (options := changes[title]) is not None:
                sections[title] = self._section(options, self._files.get(title))
        return sections

    def _section(self, options: Options, in_files: Section | None) -> Section:
        """A value that is the files' own keeps its place there: a relative path begins at that file's directory."""
        settings = {}
        for key, value in options.items():
            written = in_files.settings.get(key) if in_files else None
            same = written is not None and _text(written.value) == value
            settings[key] = written if written is not None and same else Setting(value, self.path, 0)
        return Section(self.path, 0, settings)

    async def _keep(self, changes: Changes) -> None:
        if self._data is None:
            raise ConfigError("[gateway] has no 'data': name a folder there in which changes are kept")
        content = msgspec.json.format(msgspec.json.encode(Kept(sections=changes)), indent=2) + b"\n"
        await trio.to_thread.run_sync(_replace, self._data / FILE_NAME, content)


def _text(value: config_text.Value) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _read_changes(file: Path) -> Changes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=file) from None
    try:
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
        return msgspec.json.decode(content, type=Kept).sections
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        mend = "Mend or remove it; printers and cameras that were changed on the dashboard are in it"
        raise ConfigError(f"this is no list of changed printers: {error}. {mend}", file=file) from None


def _replace(file: Path, content: bytes) -> None:
    """Write a file so that at every moment, even of a power cut, the old or the new one is there. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(fd, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        Path(temporary).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    folder_fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)  # else the old name may be back after a power cut
    finally:
        os.close(folder_fd)
