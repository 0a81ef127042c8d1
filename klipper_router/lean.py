"""Keeps OpenSSL out of the process.

trio imports it for TLS and nonces, which a router on Unix sockets has no use for; its libraries take 5.5 MB of 32.
Knows nothing else. To be called before trio is imported; whoever does need ssl later gets it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_OWN_HASHES = ("_md5", "_sha1", "_sha3", "_blake2")


class _SslWhenUsed(ModuleType):
    """Stands for `ssl` until somebody looks into it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        if sys.modules.get("ssl") is self:
            del sys.modules["ssl"]
        real = importlib.import_module("ssl")
        self.__dict__.update(real.__dict__)
        return getattr(real, name)


def without_openssl() -> None:
    """Let `import ssl` cost nothing until it is used, and `hashlib` use Python's own hashes.

    Does nothing where OpenSSL is there already, or where a distribution left out Python's own hashes.
    """
    if "ssl" in sys.modules or "_hashlib" in sys.modules:
        return
    try:
        for name in _OWN_HASHES:
            importlib.import_module(name)
    except ImportError:
        return
    sys.modules["ssl"] = _SslWhenUsed("ssl")
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # to Python: there is no such module
