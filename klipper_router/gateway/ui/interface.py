"""One UI, from one release, for all printers. Which printer is meant it knows by ``request.prefix`` alone.

The release is read at the start and again when its directory was changed (Moonraker's update manager replaces it);
while it cannot be read the answer is 503. One that the rules of `patches` do not match is shown at own origins only.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import trio

from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse
from klipper_router.gateway.ui import negotiation, pages, patches, release
from klipper_router.gateway.ui.patches import Program
from klipper_router.gateway.ui.release import Changed, File, Release, ReleaseError
from klipper_router.gateway.ui.shelf import Shelf

log = logging.getLogger("klipper_router.gateway")

CHUNK_BYTES = 256 * 1024
# zlib's default; 9 costs three times as much for 1 %.
COMPRESSION_LEVEL = 6
MAX_COMPRESSED_FROM_BYTES = release.MAX_SCRIPT_BYTES
RETRY_AFTER_S = 5
# A directory that cannot be shown is not looked through for every request.
READ_AGAIN_S = 1.0
# Reading at once; the rest of trio's threads is for others.
MAX_THREADS = 4

_CONFIGS: dict[str, Callable[[bytes, str, str], bytes]] = {
    "mainsail": pages.mainsail_config,
    "fluidd": pages.fluidd_config,
}
T = TypeVar("T")
_MANIFEST = "manifest.webmanifest"


class UserInterface:
    """Mainsail or Fluidd (``patches.PROGRAMS``), from a directory that is read by `load` or for the first request."""

    def __init__(self, program: Program, directory: Path, shelf: Shelf) -> None:
        self.program = program
        self._directory = directory
        self._shelf = shelf
        self._release: Release | None = None
        self._reading = trio.Lock()
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._failure = ""
        self._failed_at = 0.0
        self._told = ""

    @property
    def version(self) -> str | None:
        """Of the release, as it says itself; None: there is none that can be read."""
        return self._release.version if self._release else None

    @property
    def prefix_problem(self) -> str | None:
        """Why the release, as read last, is shown at own origins only; None: it is shown below prefixes as well."""
        problems = self._release.prefix_problems if self._release else ()
        return f"{self._release_name()} is unknown to this router: {'; '.join(problems)}" if problems else None

    async def load(self) -> None:
        """Read the release now, so that its faults are known and in the log. Raises ReleaseError."""
        await self._read(self._release)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises HttpError: 404, 405, 501 (cannot be shown below a prefix), 503 (cannot be read)."""
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "only GET and HEAD", headers=[("allow", "GET, HEAD")])
        if slash := _missing_slash(request):
            return HttpResponse(302, [("location", slash), ("cache-control", negotiation.NEVER)])
        if request.path in pages.SERVICE_WORKER_PATHS:
            return _made(pages.SERVICE_WORKER, "sw.js")
        try:
            current = await self._current(request)
            try:
                return await self._answer(current, request)
            except Changed:
                return await self._answer(await self._read(current), request)
        except Changed:
            self._unavailable(f"{self._directory} is being changed right now")
        except ReleaseError as error:
            self._unavailable(str(error))

    def _unavailable(self, message: str) -> NoReturn:
        raise HttpError(503, message, headers=[("retry-after", str(RETRY_AFTER_S))])

    async def _current(self, request: HttpRequest) -> Release:
        """The release as it is now. Only a page asks the file system: its scripts must be of the same release.

        Raises ReleaseError.
        """
        known = self._release
        if known is not None and request.path.lstrip("/") in known.files and request.path != "/index.html":
            return known
        try:
            mark = await self._in_thread(partial(release.mark, self._directory))
        except OSError:
            mark = None
        return known if known is not None and known.mark == mark else await self._read(known)

    async def _read(self, stale: Release | None) -> Release:
        """Read the release, unless another request did while this one waited for its turn. Raises ReleaseError."""
        async with self._reading:
            if self._release is not None and self._release is not stale:
                return self._release
            if self._failure and trio.current_time() < self._failed_at + READ_AGAIN_S:
                raise ReleaseError(self._failure)
            try:
                self._release = await self._in_thread(partial(release.read, self.program, self._directory))
            except ReleaseError as error:
                self._release = None
                self._failure, self._failed_at = str(error), trio.current_time()
                self._tell(self._failure)
                raise
            self._failure = ""
            self._tell(self.prefix_problem or f"{self._release_name()} from {self._directory}")
            return self._release

    def _tell(self, message: str) -> None:
        """Log what changed, not what is asked again and again."""
        if message != self._told:
            self._told = message
            is_good = self._release is not None and not self._release.prefix_problems
            log.log(logging.INFO if is_good else logging.WARNING, "%s", message)

    def _release_name(self) -> str:
        return f"{self.program.title} {self.version or ''}".rstrip()

    async def _answer(self, current: Release, request: HttpRequest) -> HttpResponse:
        """Raises HttpError, Changed."""
        if request.prefix and current.prefix_problems:
            mend = "give the printer an origin of its own: 'origin' or 'host' in its section [klippy …]"
            raise HttpError(501, f"{self.prefix_problem}. It cannot be shown below {request.prefix}; {mend}")
        path = request.path.lstrip("/")
        if path == "config.json":
            made = _CONFIGS[self.program.name](await self._small(current, path), request.prefix, request.origin)
            return _made(made, path)
        if path == _MANIFEST and path in current.files:
            return _made(pages.manifest(await self._small(current, path), request.prefix), path)
        if file := current.files.get(path):
            if path != "index.html":
                return await self._file(file, request)
        elif path and not _is_page(current, path):
            raise HttpError(404, "Not Found")
        return _made(pages.index(current.page, request.prefix), "index.html")

    async def _small(self, current: Release, path: str) -> bytes:
        """A file that is rewritten for each printer; empty if the release has none. Raises Changed."""
        file = current.files.get(path)
        return await self._in_thread(partial(release.part, file, 0, release.MAX_PAGE_BYTES)) if file else b""

    async def _file(self, file: File, request: HttpRequest) -> HttpResponse:
        """Raises Changed."""
        patched = file.patched and bool(request.prefix)
        compressible = (
            negotiation.is_compressible(file.path, file.size_bytes) and file.size_bytes <= MAX_COMPRESSED_FROM_BYTES
        )
        compressed = compressible and negotiation.accepts_gzip(request.headers.get("accept-encoding") or "")
        etag = _etag(file, patched=patched, compressed=compressed)
        headers = [("etag", etag), ("cache-control", _cache_control(file, request.prefix))]
        if compressible:
            headers.append(("vary", "Accept-Encoding"))
        if negotiation.matches(request.headers.get("if-none-match") or "", etag):
            return HttpResponse(304, headers)
        headers.append(("content-type", negotiation.content_type(file.path)))
        if compressed:
            headers.append(("content-encoding", "gzip"))
        if compressed or patched:
            make = partial(_make, self.program, file, patched=patched, compressed=compressed)
            return HttpResponse(200, headers, await self._shelf.take((file, patched, compressed), make))
        if request.method == "HEAD" or file.size_bytes > CHUNK_BYTES:
            headers.append(("content-length", str(file.size_bytes)))
        if request.method == "HEAD":
            return HttpResponse(200, headers)
        first = await self._in_thread(partial(release.part, file, 0, CHUNK_BYTES))
        return HttpResponse(200, headers, first if file.size_bytes <= CHUNK_BYTES else self._chunks(file, first))

    async def _chunks(self, file: File, first: bytes) -> AsyncGenerator[bytes, None]:
        """Opened anew for each: a client that reads one an hour keeps no file open.

        Raises Changed; the response then ends short of its Content-Length.
        """
        yield first
        for start in range(len(first), file.size_bytes, CHUNK_BYTES):
            yield await self._in_thread(partial(release.part, file, start, CHUNK_BYTES))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(function, limiter=self._threads)


def _make(program: Program, file: File, *, patched: bool, compressed: bool) -> bytes:
    """A file as it goes over the wire; runs in a thread. Raises Changed."""
    content = release.content(file)
    if patched:
        content = patches.apply(program, file.path, content)
    return gzip.compress(content, COMPRESSION_LEVEL, mtime=0) if compressed else content


def _made(content: bytes, path: str) -> HttpResponse:
    """What is made for each request is small, and kept by nobody: a new release must be seen."""
    headers = [("content-type", negotiation.content_type(path)), ("cache-control", negotiation.NEVER)]
    return HttpResponse(200, headers, content)


def _etag(file: File, *, patched: bool, compressed: bool) -> str:
    parts = [f"{file.identity.mtime_ns:x}", f"{file.size_bytes:x}"]
    if patched:
        parts.append(patches.REVISION)
    if compressed:
        parts.append("gz")
    return f'"{"-".join(parts)}"'


def _cache_control(file: File, prefix: str) -> str:
    """Below a prefix a new version of this router may patch what the last one did not: scripts are asked for."""
    may_be_patched = prefix and negotiation.suffix(file.path) in (".js", ".css")
    return (
        negotiation.FOR_EVER
        if negotiation.is_named_by_content(file.path) and not may_be_patched
        else negotiation.ASK_FIRST
    )


def _is_page(current: Release, path: str) -> bool:
    """Whether a path that is no file is one of the program's own pages, rather than a file that is missing."""
    first, _, _ = path.partition("/")
    return current.program.has_history_routes and first not in current.folders and "." not in path.rpartition("/")[2]


def _missing_slash(request: HttpRequest) -> str | None:
    """Where ``/printers/NAME/UI`` leads to: addresses on the page are relative to the slash at its end."""
    path, mark, query = request.raw_target.partition(b"?")
    if not request.prefix or request.path != "/" or path.endswith(b"/"):
        return None
    return pages.url_path(request.prefix) + "/" + (mark + query).decode("latin-1")
