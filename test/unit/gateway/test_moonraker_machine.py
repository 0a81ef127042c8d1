"""What is told of the machine is what this machine says."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from klipper_router.gateway.moonraker.machine import Machine, system_info


def test_the_machine_is_this_one() -> None:
    info = system_info("led")
    assert info["cpu_info"]["cpu_count"] == os.cpu_count()
    assert info["python"]["version"][:2] == [*sys.version_info[:2]]
    assert info["distribution"]["kernel_version"] == platform.release()
    total_kb = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert info["cpu_info"]["total_memory"] == total_kb
    assert info["instance_ids"]["klipper"] == "led"
    assert "lo" not in info["network"]


async def test_a_sample_is_of_this_process_and_not_taken_twice_a_second() -> None:
    machine = Machine()
    await machine.sample()
    await machine.sample()
    stats = machine.proc_stats(3)
    (sample,) = stats["moonraker_stats"]
    assert 5_000 < sample["memory"] < 2_000_000
    assert stats["websocket_connections"] == 3
    assert stats["system_memory"]["used"] == stats["system_memory"]["total"] - stats["system_memory"]["available"]
    assert 0 <= stats["system_cpu_usage"]["cpu"] <= 100
    assert stats["network"]["lo"]["rx_bytes"] >= 0
    assert machine.proc_stat_update(3)["moonraker_stats"] == sample
