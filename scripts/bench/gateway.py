"""Cases: the HTTP gateway beside nginx, in front of the same upstreams.

Each has the measured core for itself in turns. Where a load generator could not fill that core, what counts is the
CPU time per request, message or megabyte, so that a ratio is that of what one core can carry; nginx is stock Debian
with the usual options of a printer's host (no buffering of uploads and cameras), one worker.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from scripts.bench.cases import Effort, Figure, Skipped, at_least, at_most, case
from scripts.bench.machine import LOAD_CORE, MEASURED_CORE, Measured, Remote, folder, measured, remote, until
from scripts.bench.peers import router_command
from scripts.bench.rounds import interleaved, ratios
from scripts.bench.web import Clients, Upstream

GIB = 1 << 30
CAMERAS = 20
INFO = "/printers/main/server/info"

STATIC = """
daemon off; master_process off; pid {home}/static.pid; error_log {home}/static.err;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; sendfile on; {temporary}
  server {{ listen 127.0.0.1:{port} backlog=511; root {home}/www;
    location /server/info {{ default_type application/json; return 200 '{{"result": {{"filler": "{filler}"}}}}'; }}
  }} }}
"""
PROXY = """
daemon off; master_process off; pid {home}/proxy.pid; error_log {home}/proxy.err;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; proxy_request_buffering off; {temporary}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream static {{ server 127.0.0.1:{static}; keepalive 32; }}
  upstream live {{ server 127.0.0.1:{live}; keepalive 32; }}
  server {{ listen 127.0.0.1:{port} backlog=511;
    proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Scheme $scheme;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_read_timeout 86400;
    location /printers/main/ {{ proxy_pass http://static/; }}
    location /printers/live/ {{ proxy_pass http://live/; }}
    location /cameras/ {{ proxy_pass http://live/; proxy_buffering off; }} }} }}
"""
GATEWAY = """
[gateway]
listen: 127.0.0.1:{port}
[klippy main]
sock: {home}/main.sock
moonraker: http://127.0.0.1:{static}
[klippy live]
sock: {home}/live.sock
moonraker: http://127.0.0.1:{live}
"""


class Sides(NamedTuple):
    """Both gateways, their ports, and what loads them."""

    router: Measured
    nginx: Measured
    router_port: int
    nginx_port: int
    clients: Remote


@contextlib.contextmanager
def _sides(download_bytes: int = 0) -> Iterator[Sides]:
    """``download_bytes``: the size of ``/server``. Raises Skipped without nginx."""
    if not (nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")):
        raise Skipped("nginx is missing: apt install nginx-light")
    with folder() as home, remote(Upstream) as upstream, remote(Clients) as clients, contextlib.ExitStack() as stack:
        live = upstream("port")
        static, port, peer = (_free_port() for _ in range(3))
        temporary = " ".join(
            f"{name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        common = {"home": home, "static": static, "live": live, "temporary": temporary, "filler": "x" * 180}
        (home / "www").mkdir()
        with (home / "www" / "server").open("wb") as file:
            file.truncate(download_bytes)

        def start(name: str, text: str, number: int, core: int = MEASURED_CORE) -> Measured:
            (home / f"{name}.conf").write_text(text.format(port=number, **common))
            command = [nginx, "-c", str(home / f"{name}.conf"), "-e", str(home / f"{name}.err")]
            output = home / f"{name}.out"
            return stack.enter_context(
                measured(command, output, core) if core is not None else measured(command, output)
            )

        start("static", STATIC, static, LOAD_CORE)
        proxy = start("proxy", PROXY, peer)
        command = router_command(home, [])
        cameras = "".join(
            f"[camera live c{number}]\nurl: http://127.0.0.1:{live}/?fps=30&n={number}\nservice: mjpegstreamer\n"
            for number in range(CAMERAS)
        )
        flat_out = f"[camera live flat]\nurl: http://127.0.0.1:{live}/?flat\nservice: mjpegstreamer\n"
        text = Path(command[-1]).read_text() + GATEWAY.format(port=port, **common) + cameras + flat_out
        Path(command[-1]).write_text(text)
        router = stack.enter_context(measured(command, home / "router.log"))
        until(lambda: _answers(proxy, peer), "an answer through nginx")
        until(lambda: _answers(router, port), "an answer through the gateway")
        yield Sides(router, proxy, port, peer, clients)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def _answers(process: Measured, port: int) -> bool:
    process.check()
    with contextlib.suppress(urllib.error.URLError, OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}{INFO}", timeout=5).status == 200)
    return False


def _wrk(port: int, connections: int, seconds: int) -> float:
    """Requests per second."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Skipped("wrk is missing: apt install wrk")
    command = [wrk, f"-c{connections}", "-t1", f"-d{seconds}", f"http://127.0.0.1:{port}{INFO}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or (found := re.search(r"Requests/sec: +([0-9.]+)", said)) is None:
        raise RuntimeError(f"wrk says:\n{said}")
    return float(found[1])


@case("gateway-get", "A small GET through the gateway, and through nginx")
def small_get(effort: Effort) -> Iterator[Figure]:
    seconds = effort.of(3, 1)
    with _sides() as sides:
        ours, theirs = interleaved(
            effort.rounds, lambda: _wrk(sides.router_port, 1, seconds), lambda: _wrk(sides.nginx_port, 1, seconds)
        )
        yield Figure("gateway, 1 at once", "requests/s", ours)
        yield Figure("nginx, 1 at once", "requests/s", theirs)
        yield Figure("gateway ÷ nginx, 1 at once", "×", ratios(ours, theirs), at_least(0.8))

        def per_core(process: Measured, port: int) -> Callable[[], float]:
            def measure() -> float:
                before = process.cpu_s()
                return _wrk(port, 16, seconds) * seconds / (process.cpu_s() - before)

            return measure

        ours, theirs = interleaved(
            effort.rounds, per_core(sides.router, sides.router_port), per_core(sides.nginx, sides.nginx_port)
        )
        yield Figure("gateway, 16 at once", "requests/s of CPU", ours)
        yield Figure("nginx, 16 at once", "requests/s of CPU", theirs)
        yield Figure("gateway ÷ nginx, 16 at once", "×", ratios(ours, theirs), at_least(0.35))


@case("gateway-websocket", "A WebSocket's message of 200 bytes there and back, 16 at once")
def websocket(effort: Effort) -> Iterator[Figure]:
    seconds = effort.of(3.0, 0.5)
    with _sides() as sides:

        def per_core(process: Measured, port: int, path: str) -> Callable[[], float]:
            def measure() -> float:
                before = process.cpu_s()
                count, _ = sides.clients("echo", port, path, 16, seconds)
                return float(count / (process.cpu_s() - before))

            return measure

        spliced, seen, theirs = interleaved(
            effort.rounds,
            per_core(sides.router, sides.router_port, "/printers/live/klippysocket"),
            per_core(sides.router, sides.router_port, "/printers/live/websocket"),
            per_core(sides.nginx, sides.nginx_port, "/printers/live/websocket"),
        )
        yield Figure("gateway, as it is (/klippysocket)", "messages/s of CPU", spliced)
        yield Figure("gateway, looked into for webcams (/websocket)", "messages/s of CPU", seen)
        yield Figure("nginx", "messages/s of CPU", theirs)
        yield Figure("gateway ÷ nginx, as it is", "×", ratios(spliced, theirs), at_least(0.28))
        yield Figure("gateway ÷ nginx, looked into", "×", ratios(seen, theirs), at_least(0.28))


@case("gateway-streams", "Much through the gateway: a download, an upload, a camera flat out")
def streams(effort: Effort) -> Iterator[Figure]:
    size_bytes = effort.of(GIB, GIB // 16)
    seconds = effort.of(3.0, 0.5)
    with _sides(size_bytes) as sides:

        def download(process: Measured, port: int) -> Callable[[], float]:
            def measure() -> float:
                before = process.cpu_s()
                received, _ = sides.clients("read", port, "/printers/main/server", 60.0)
                assert received == size_bytes
                return float(received / 1e6 / (process.cpu_s() - before))

            return measure

        def upload(process: Measured, port: int) -> Callable[[], float]:
            def measure() -> float:
                before = process.cpu_s()
                sides.clients("upload", port, "/printers/live/server/files/upload", size_bytes)
                return float(size_bytes / 1e6 / (process.cpu_s() - before))

            return measure

        def camera(process: Measured, port: int, path: str) -> Callable[[], float]:
            def measure() -> float:
                before = process.cpu_s()
                received, _ = sides.clients("read", port, path, seconds)
                return float(received / 1e6 / (process.cpu_s() - before))

            return measure

        size = f"{size_bytes / GIB:g} GiB"
        pairs = (
            (f"{size} download", download(sides.router, sides.router_port), download(sides.nginx, sides.nginx_port)),
            (f"{size} upload", upload(sides.router, sides.router_port), upload(sides.nginx, sides.nginx_port)),
            (
                "camera flat out",
                camera(sides.router, sides.router_port, "/printers/live/cameras/flat/stream"),
                camera(sides.nginx, sides.nginx_port, "/cameras/?flat"),
            ),
        )
        for what, ours_of, theirs_of in pairs:
            ours, theirs = interleaved(effort.of(5, 1), ours_of, theirs_of)
            yield Figure(f"gateway, {what}", "MB/s of CPU", ours)
            yield Figure(f"nginx, {what}", "MB/s of CPU", theirs)
            yield Figure(f"gateway ÷ nginx, {what}", "×", ratios(ours, theirs), at_least(1))


@case("gateway-cameras", f"{CAMERAS} cameras of 30 frames/s and 50 KB, one viewer each; memory")
def cameras(effort: Effort) -> Iterator[Figure]:
    seconds = effort.of(10.0, 1.0)
    with _sides() as sides:

        def percent(process: Measured, port: int, path: str) -> Callable[[], float]:
            def measure() -> float:
                before = process.cpu_s()
                received, took_s = sides.clients("read", port, path, seconds, CAMERAS)
                assert received > CAMERAS * 30 * 50_000 * seconds * 0.7
                return float((process.cpu_s() - before) / took_s * 100)

            return measure

        with_gateway = [sides.router.rss_mb()]
        ours, theirs = interleaved(
            effort.of(3, 1),
            percent(sides.router, sides.router_port, "/printers/live/cameras/c%d/stream"),
            percent(sides.nginx, sides.nginx_port, "/cameras/?fps=30&n=%d"),
        )
        yield Figure("gateway", "% of a core", ours, at_most(8))
        yield Figure("nginx", "% of a core", theirs)
        yield Figure("memory of the router with the gateway", "MB", with_gateway)
    with folder() as home, measured(router_command(home, ["p0", "p1"]), home / "router.log") as plain:
        until(lambda: (home / "router.sock").exists(), "the router's socket")
        without = plain.rss_mb()
    yield Figure("of it, the gateway", "MB", [each - without for each in with_gateway], at_most(10))
