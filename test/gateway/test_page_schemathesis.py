"""Schemathesis against the OpenAPI document, with a virtual printer behind it.

It is a program of its own here (``pip install schemathesis``, or SCHEMATHESIS names it): it brings many packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from test.gateway.page_rig import KLIPPY, rig

RPC = "/router/jsonrpc"
# Left out: what a sock or a host name may be is more than a schema says (positive_data_acceptance); TRACE is refused
# by the server, for all sites (unsupported_method).
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,missing_required_header,ignored_auth"
)
CONFIG = "[klippy main]\nsock: main.sock\n[camera main nozzle]\nurl: http://127.0.0.1:8080/\n"


def program() -> str | None:
    beside = Path(sys.executable).parent / "schemathesis"
    return os.environ.get("SCHEMATHESIS") or (str(beside) if beside.exists() else shutil.which("schemathesis"))


@pytest.mark.skipif(program() is None, reason="no schemathesis here: pip install schemathesis, or set SCHEMATHESIS")
@pytest.mark.parametrize(
    "chosen",
    [
        ["--exclude-path", "/router/websocket", "--exclude-path", RPC, "--checks", f"{CHECKS},negative_data_rejection"],
        ["--include-path", RPC, "--checks", CHECKS],  # a notification is not answered, right or wrong
    ],
    ids=["resources", "methods"],
)
async def test_the_api_is_what_its_document_says(chosen: list[str]) -> None:
    async with rig(CONFIG, {"main": KLIPPY}) as made:
        command = [program() or "", "run", f"{made.origin}/router/openapi.json", *chosen]
        command += ["--phases", "coverage,fuzzing", "--max-examples", "8", "--seed", "1", "--no-color"]
        run = partial(subprocess.run, command, capture_output=True, text=True, cwd=made.folder)
        result = await trio.to_thread.run_sync(run)
        assert result.returncode == 0, result.stdout[-6000:]
