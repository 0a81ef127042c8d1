"""Configuration files, in Klipper's writing and in YAML, with includes.

Invariant: a Config whose printers have a name and a socket each, or a ConfigError that names a file; nothing else.
Input: the first byte says which writing; the rest is the file. It can include ``more.cfg`` and ``more.yaml``.
"""

from __future__ import annotations

import atexit
import re
import tempfile
from pathlib import Path

from klipper_router.config import load
from klipper_router.errors import ConfigError

WORDS = (
    *(b"[klippy main]\n", b"[router]\n", b"sock: ", b"on_connect: ", b"default_instance: ", b"[include more.cfg]"),
    *(b"klippy:\n", b"  main:\n", b"    sock: /a\n", b"include: [more.yaml]", b"&a", b"*a", b"<<: ", b"!!int ", b"|\n"),
    *(b"\xef\xbb\xbf", b"\r\n", b"\t", b"# ", b" ;", b"---\n", b"? ", b"~", b'"\\U0010ffff"', b"{", b"[", b"]"),
)

_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-config-")
atexit.register(_FOLDER.cleanup)
_PATH = Path(_FOLDER.name)
(_PATH / "more.cfg").write_text("[klippy more]\nsock: more.sock\n")
(_PATH / "more.yaml").write_text("klippy:\n  yaml: {sock: yaml.sock}\n")

# What else is on this machine is nobody's business, and may be endless.
_ELSEWHERE = re.compile(rb"include[^\n]*[/~\\*?\[]|include:\s*\n")


def one_input(data: bytes) -> None:
    if not data or _ELSEWHERE.search(data.replace(b"[include", b"include")):
        return
    path = _PATH / ("r.yaml" if data[0] % 2 else "r.cfg")
    path.write_bytes(data[1:])
    problem = None
    try:
        config = load(path)
    except ConfigError as error:
        problem = error
    if problem is not None:
        assert str(problem)
        assert problem.file
        return
    assert config.klippy
    for name, section in config.klippy.items():
        assert name.isprintable()
        assert name.split() == [name]
        assert Path(section.sock).is_absolute()
    assert len({section.sock for section in config.klippy.values()} | {config.router.sock}) == 1 + len(config.klippy)
    assert config.router.default_instance is None or config.router.default_instance in config.klippy
