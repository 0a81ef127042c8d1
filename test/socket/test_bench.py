"""The benchmark can be run: one short case end to end, as a process. `scripts/bench.py --quick` runs them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_case_is_measured_printed_and_written(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "scripts/bench.py"), "--quick", "--case", "gcode-latency"]
    done = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "router ÷ socat, p50" in done.stdout or "skipped: socat is missing" in done.stdout
    if "skipped" not in done.stdout:
        figures = {figure["what"]: figure["value"] for figure in json.loads(file.read_text())["figures"]}
        assert 0 < figures["router, p50"] < 1e6
