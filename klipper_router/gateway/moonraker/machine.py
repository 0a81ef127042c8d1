"""The machine and this process, in the shapes of Moonraker's ``machine.system_info`` and ``machine.proc_stats``.

Functions that read /proc and /sys run in a thread: a sensor there may take its time. `Machine` keeps the last 30
samples; it takes one when somebody wants one and the last is a second old, for all printers together.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import platform
import re
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trio

SAMPLE_EVERY_S = 1.0
SAMPLES_KEPT = 30

# Linux: bits/ioctls.h SIOCGIFADDR; struct ifreq is 40 bytes, a sockaddr_in begins at 16.
_SIOCGIFADDR = 0x8915
_IFREQ = struct.Struct("16s24x")

_NET_FIELDS = {
    "rx_bytes": 0,
    "tx_bytes": 8,
    "rx_packets": 1,
    "tx_packets": 9,
    "rx_errs": 2,
    "tx_errs": 10,
    "rx_drop": 3,
    "tx_drop": 11,
}


class _Times(NamedTuple):
    """Of one processor, in ticks since the start."""

    all: int
    idle: int


class Machine:
    """Samples of what is used. One for all printers of a gateway."""

    def __init__(self) -> None:
        self._samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES_KEPT)
        self._network: dict[str, dict[str, float]] = {}
        self._cpu_usage: dict[str, float] = {}
        self._times: dict[str, _Times] = {}
        self._memory: dict[str, int] = {}
        self._cpu_temp: float | None = None
        self._sampled_at = time.monotonic()
        self._process_s = time.process_time()
        self._has_sample = False
        self._lock = trio.Lock()

    async def sample(self) -> None:
        """See to it that there is a sample that is not older than a second."""
        async with self._lock:
            if not self._has_sample or time.monotonic() - self._sampled_at > SAMPLE_EVERY_S * 0.9:
                await trio.to_thread.run_sync(self._read)

    def proc_stats(self, websocket_connections: int) -> dict[str, Any]:
        """``machine.proc_stats``. Memory in kB, bandwidth in bytes/s, usage in percent."""
        return {
            **self._now(list(self._samples), websocket_connections),
            "throttled_state": None,
            "system_uptime": time.clock_gettime(time.CLOCK_BOOTTIME),
        }

    def proc_stat_update(self, websocket_connections: int) -> dict[str, Any]:
        """``notify_proc_stat_update``: as above, with the newest sample only."""
        return self._now(self._samples[-1], websocket_connections)

    def _now(self, samples: object, websocket_connections: int) -> dict[str, Any]:
        return {
            "moonraker_stats": samples,
            "cpu_temp": self._cpu_temp,
            "network": self._network,
            "system_cpu_usage": self._cpu_usage,
            "system_memory": self._memory,
            "websocket_connections": websocket_connections,
        }

    def _read(self) -> None:
        """In a thread."""
        now, process_s = time.monotonic(), time.process_time()
        passed_s = max(now - self._sampled_at, 0.001)
        network = {}
        for name, stats in _network().items():
            last = self._network.get(name)
            transferred = stats["rx_bytes"] + stats["tx_bytes"]
            before = last["rx_bytes"] + last["tx_bytes"] if last else transferred
            network[name] = {**stats, "bandwidth": round((transferred - before) / passed_s, 2)}
        times = _cpu_times()
        # The first time it is the mean since the machine was started.
        usage = {name: _usage(self._times.get(name, _Times(0, 0)), each) for name, each in times.items()}
        self._samples.append(
            {
                "time": time.time(),
                "cpu_usage": round((process_s - self._process_s) / passed_s * 100, 2),
                "memory": _resident_kb(),
                "mem_units": "kB",
            }
        )
        self._network, self._times, self._cpu_usage = network, times, usage
        self._memory, self._cpu_temp = _memory(), _cpu_temperature()
        self._sampled_at, self._process_s, self._has_sample = now, process_s, True


def system_info(printer: str) -> dict[str, Any]:
    """``machine.system_info`` without what it takes a system's services to know. Reads files: call it in a thread."""
    meminfo, cpuinfo = _text("/proc/meminfo"), _text("/proc/cpuinfo")
    return {
        "python": {"version": list(sys.version_info), "version_string": sys.version.replace("\n", " ")},
        "cpu_info": {
            "cpu_count": os.cpu_count() or 1,
            "bits": platform.architecture()[0],
            "processor": platform.processor() or platform.machine(),
            "cpu_desc": _found(r"^model name\s*:\s*(.+)$", cpuinfo),
            "serial_number": "",  # identifies the board; Moonraker tells it to every client, we do not
            "hardware_desc": _found(r"^Hardware\s*:\s*(.+)$", cpuinfo),
            "model": _found(r"^Model\s*:\s*(.+)$", cpuinfo),
            "total_memory": int(_found(r"^MemTotal:\s*(\d+)", meminfo) or 0),
            "memory_units": "kB",
        },
        "sd_info": {},
        "distribution": _distribution(),
        "virtualization": {"virt_type": "none", "virt_identifier": "none"},
        "network": _interfaces(),
        "canbus": {},
        "provider": "none",
        "available_services": [],
        "service_state": {},
        "instance_ids": {"moonraker": "klipper-router", "klipper": printer},
    }


def _distribution() -> dict[str, Any]:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', _text("/etc/os-release"), re.MULTILINE))
    version = release.get("VERSION_ID", "")
    major, _, minor = version.partition(".")
    return {
        "name": release.get("PRETTY_NAME", "Linux"),
        "id": release.get("ID", ""),
        "version": version,
        "version_parts": {"major": major, "minor": minor, "build_number": ""},
        "like": release.get("ID_LIKE", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "release_info": {},
        "kernel_version": platform.release(),
    }


def _interfaces() -> dict[str, Any]:
    found: dict[str, Any] = {}
    six = _text("/proc/net/if_inet6").split("\n")
    for name in _interface_names():
        addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [
            *_ipv4(name),
            *(ipaddress.IPv6Address(bytes.fromhex(line[:32])) for line in six if line.endswith(f" {name}")),
        ]
        if addresses and name != "lo":
            found[name] = {
                "mac_address": _text(f"/sys/class/net/{name}/address").strip(),
                "ip_addresses": [
                    {"family": f"ipv{each.version}", "address": str(each), "is_link_local": each.is_link_local}
                    for each in addresses
                ],
            }
    return found


def _interface_names() -> list[str]:
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:  # a service manager may forbid netlink
        return []


def _ipv4(name: str) -> Iterator[ipaddress.IPv4Address]:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, _IFREQ.pack(name.encode()))
    except OSError:
        return  # it has none
    yield ipaddress.IPv4Address(answer[20:24])


def _network() -> dict[str, dict[str, int]]:
    stats = {}
    for name, text in re.findall(r"^\s*([^\s:]+):(.+)$", _text("/proc/net/dev"), re.MULTILINE):
        columns = text.split()
        if len(columns) >= 16 and all(map(str.isdecimal, columns)):
            stats[name] = {field: int(columns[column]) for field, column in _NET_FIELDS.items()}
    return stats


def _cpu_times() -> dict[str, _Times]:
    times = {}
    for name, text in re.findall(r"^(cpu\d*)\s+(.+)$", _text("/proc/stat"), re.MULTILINE):
        ticks = [int(number) for number in text.split()]
        times[name] = _Times(sum(ticks), ticks[3])
    return times


def _usage(before: _Times, now: _Times) -> float:
    passed = now.all - before.all
    return round(100 * (1 - (now.idle - before.idle) / passed), 2) if passed > 0 else 0.0


def _memory() -> dict[str, int]:
    text = _text("/proc/meminfo")
    total = int(_found(r"^MemTotal:\s*(\d+)", text) or 0)
    available = int(_found(r"^MemAvailable:\s*(\d+)", text) or 0)
    return {"total": total, "available": available, "used": total - available}


def _resident_kb() -> int:
    pages = _text("/proc/self/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") // 1024 if pages else 0


def _cpu_temperature() -> float | None:
    text = _text("/sys/class/thermal/thermal_zone0/temp").strip()
    return int(text) / 1000 if re.fullmatch(r"-?\d+", text) else None


def _text(path: str) -> str:
    """Empty where there is no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""
