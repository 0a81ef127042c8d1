"""A plain run goes without OpenSSL, and whoever needs it still gets it."""

from __future__ import annotations

import os
import subprocess
import sys

HEAD = "import sys; from klipper_router import lean; lean.without_openssl(); import trio; "


def run(code: str) -> str:
    """In a Python of its own: what is imported once stays."""
    # Not under coverage, which loads OpenSSL itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_trio_alone_loads_no_openssl() -> None:
    code = "import klipper_router.app; print('libcrypto' in open('/proc/self/maps').read(), '_ssl' in sys.modules)"
    assert run(HEAD + code) == "False False"


def test_hashes_are_the_same_without_it() -> None:
    code = "import hashlib, hmac; print(hashlib.sha256(b'x').hexdigest(), hmac.new(b'k', b'x', 'sha1').hexdigest())"
    assert run(HEAD + code) == run(code)


def test_whoever_uses_ssl_gets_it_whole_and_once() -> None:
    code = (
        "import ssl; context = ssl.create_default_context(); import ssl as again; import trio._ssl as theirs; "
        "print(type(context) is again.SSLContext, again is sys.modules['ssl'], "
        "theirs._stdlib_ssl.SSLError is again.SSLError)"
    )
    assert run(HEAD + code) == "True True True"


def test_where_openssl_is_loaded_already_nothing_changes() -> None:
    code = "import ssl; before = ssl; from klipper_router import lean; lean.without_openssl(); import ssl, hashlib; "
    assert run(code + "print(ssl is before, hashlib.sha256.__module__)") == "True _hashlib"
