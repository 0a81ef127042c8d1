"""The report that a crash of the router leaves: what a bug report needs, and nothing that is to stay secret.

A crash is an exception that none of our own errors tells, a bug. The report has the versions, the traceback, the
printers' names and the last lines of the log. Local variables are not in it, G-code and values only as far as log
lines of the normal level show them, and whatever looks like a key or a password is blotted out.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from klipper_router import __version__
from klipper_router.config import Config

log = logging.getLogger("klipper_router")

EXIT_CODE = 70  # sysexits.h EX_SOFTWARE
MAX_REPORTS = 5
_PACKAGES = ("trio", "msgspec", "PyYAML", "httptools", "wsproto")
# A name, and behind `=` or `:` a text in quotes (which a repr may have escaped), or what stands there up to the next
# blank or separator; of a header the whole line. The quotes may be cut off, as log lines are.
_SECRET = re.compile(
    r"""(?imx)
    (?<![\w-])
    ( [\w-]*(?:token|passw\w*|passphrase|psk|secret|api[_-]?key|credentials?|(authorization|cookie))
      \\*['"]?\s*[:=]\s* )
    (?: \\+".*?(?:\\+"|$) | "(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'? | (?(2) [^\n]+ | [^\s'"&,;]+ ) )
    """
)
_CREDENTIALS_IN_URL = re.compile(r"(?<!\w)(\w+://)[^/\s'\"]+@")


def write(error: BaseException, config: Config, log_lines: Iterable[str]) -> int:
    """Write the report of ``error``, and say in the log where it is; returns the exit code of the process."""
    text = render(error, config, log_lines)
    try:
        file = _new_file(Path(config.router.crash_dir).expanduser())
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))  # whatever the locale is
    except (OSError, RuntimeError) as why:
        log.critical("the router crashed; the report could not be written (%s), here it is:\n%s", why, text)
        print(text, file=sys.stderr)
    else:
        log.critical("the router crashed: %s. A report for its developers is in %s", _last_line(error), file)
        traceback.print_exception(error)
    return EXIT_CODE


def render(error: BaseException, config: Config, log_lines: Iterable[str]) -> str:
    """The report as text."""
    versions = [f"klipper-router {__version__}", f"Python {platform.python_version()}", platform.platform()]
    versions += [f"{name} {found}" for name in _PACKAGES if (found := _version(name))]
    parts = [
        f"Klipper Router crash report, {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        "; ".join(versions),
        f"printers: {', '.join(config.klippy)}",
        "".join(traceback.format_exception(error)),
        "The last lines of the log:",
        *log_lines,
    ]
    text = "\n".join(parts) + "\n"
    if len(home := os.environ.get("HOME", "")) > 1:
        text = text.replace(home + "/", "~/")
    return _CREDENTIALS_IN_URL.sub(r"\1***@", _SECRET.sub(r"\1***", text))


def _new_file(folder: Path) -> Path:
    """A place for one more report; the oldest make room. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    reports = sorted(folder.glob("crash-*.txt"))
    for old in reports[: max(0, len(reports) - MAX_REPORTS + 1)]:
        old.unlink()
    return folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"


def _last_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return traceback.format_exception_only(error)[-1].strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
