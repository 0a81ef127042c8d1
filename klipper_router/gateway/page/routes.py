"""The form of a route, and finding the one that a request means. Pure. What the routes do is in `api`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from klipper_router.gateway.http import HttpError, HttpRequest, HttpResponse


class Route(NamedTuple):
    """One method of one path. `openapi` says of it exactly what is written here."""

    method: str
    path: str
    """A template: ``/router/api/v1/printers/{name}``; a name is one segment."""

    name: str
    """OpenAPI's operationId."""

    summary: str
    serve: Callable[[Any, HttpRequest, Mapping[str, str]], Awaitable[HttpResponse]]
    """Gets the `site.Page`, the request and the names in the path."""

    body: Any = None
    """The type of the JSON body; None: there is none, or it is not looked at."""

    result: Any = None
    """The type of the JSON result, where ``media`` is JSON."""

    status: int = 200
    media: str | None = "application/json"
    """The content type of the result; None: it has no content."""

    errors: tuple[int, ...] = ()
    """Statuses of errors besides those of every route (400, 401, 403, 421, 429)."""

    open: bool = False
    """Whether it needs no authorization."""


class Table:
    """Routes by path. A path with names is looked at after those without."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._paths: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            self._paths.setdefault(route.path, {})[route.method] = route
        self._templates = [(_pattern(path), of_path) for path, of_path in self._paths.items() if "{" in path]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and the names in the path. Raises HttpError: 404, or 405 with the methods that there are."""
        for of_path, names in self._matches(path):
            if route := of_path.get("GET" if method == "HEAD" else method):
                return route, names
            allowed = ", ".join(of_path)
            raise HttpError(405, f"{path} takes {allowed}, not {method}", headers=[("allow", allowed)])
        raise HttpError(404, "Not Found")

    def _matches(self, path: str) -> Iterable[tuple[dict[str, Route], dict[str, str]]]:
        if of_path := self._paths.get(path):
            yield of_path, {}
        for pattern, of_path in self._templates:
            if match := pattern.fullmatch(path):
                yield of_path, match.groupdict()


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    literals, names = parts[::2], parts[1::2]
    text = re.escape(literals[0])
    for name, literal in zip(names, literals[1:], strict=True):
        text += f"(?P<{name}>[^/]+){re.escape(literal)}"
    return re.compile(text)
