"""The OpenAPI document says of the API what the API is; so does the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from klipper_router.gateway.http import HttpError
from klipper_router.gateway.page import openapi, static
from klipper_router.gateway.page.api import TABLE
from klipper_router.gateway.page.routes import Route
from klipper_router.remote_methods import METHODS

PARAMS = {name: method.params for name, method in METHODS.items()}
DOCUMENT: dict[str, Any] = msgspec.json.decode(openapi.document(TABLE, PARAMS))


def everything(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from everything(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything(inner)


@pytest.mark.parametrize("route", TABLE.routes, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_document(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["operationId"] == route.name
    assert str(route.status) in operation["responses"]
    assert {str(status) for status in route.errors} <= set(operation["responses"])
    assert ("requestBody" in operation) == (route.body is not None)
    named = [parameter["name"] for parameter in operation.get("parameters", [])]
    assert named == re.findall(r"\{(\w+)\}", route.path)
    assert ("security" in operation) == route.open


def test_the_document_has_nothing_but_routes() -> None:
    documented = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert documented == {(route.method, route.path) for route in TABLE.routes}


def test_every_operation_has_its_own_name() -> None:
    names = [route.name for route in TABLE.routes]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    refs = [each["$ref"] for each in everything(DOCUMENT) if "$ref" in each]
    assert refs
    schemas = DOCUMENT["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in refs} <= set(schemas)


def test_every_method_of_the_router_is_a_request_of_json_rpc() -> None:
    *single, _batch = DOCUMENT["components"]["schemas"]["JsonRpcRequest"]["anyOf"]
    assert {each["properties"]["method"]["const"] for each in single} == set(METHODS)


def test_the_options_of_a_printer_are_those_of_its_section() -> None:
    options = DOCUMENT["components"]["schemas"]["PrinterOptions"]
    assert options["required"] == ["sock"]
    assert options["properties"]["ui"] == {"type": "string", "enum": ["mainsail", "fluidd"]}
    assert {"moonraker", "on_connect", "origin"} <= set(options["properties"])
    assert DOCUMENT["components"]["schemas"]["NewPrinter"]["properties"]["options"] == {
        "$ref": "#/components/schemas/PrinterOptions"
    }


@pytest.mark.parametrize(
    ("method", "path", "name", "names"),
    [
        ("GET", "/", "dashboard", {}),
        ("HEAD", "/healthz", "health", {}),
        ("GET", "/router/api/v1/printers/a b", "readPrinter", {"name": "a b"}),
        ("PUT", "/router/api/v1/printers/x/cameras/y.z", "changeCamera", {"name": "x", "camera": "y.z"}),
        ("GET", "/router/page/app.js", "pageFile", {"file": "app.js"}),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, name: str, names: dict[str, str]) -> None:
    route, found = TABLE.find(method, path)
    assert (route.name, found) == (name, names)


@pytest.mark.parametrize("path", ["/router", "/router/api/v1/printers/", "/router/api/v1/printers/a/b", "/x"])
def test_an_unknown_path_is_not_found(path: str) -> None:
    with pytest.raises(HttpError) as caught:
        TABLE.find("GET", path)
    assert caught.value.status == 404


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes() -> None:
    with pytest.raises(HttpError) as caught:
        TABLE.find("PATCH", "/router/api/v1/printers/main")
    assert caught.value.status == 405
    assert caught.value.headers == [("allow", "GET, PUT, DELETE")]


def test_the_page_uses_only_files_that_there_are_and_nothing_from_elsewhere() -> None:
    files = {file.name: file.read_text() for file in static.FOLDER.iterdir()}
    for name, text in files.items():
        wanted = set(re.findall(r'(?:src|href)="router/page/([^"]+)"', text)) | set(
            re.findall(r'from "\./([^"]+)"', text)
        )
        assert wanted <= set(files), name
        assert not re.search(r"(?:src|href|from|url\()\s*=?\s*[\"']?(?:https?:)?//", text), name


def test_nothing_on_the_page_is_inline() -> None:
    html = (static.FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", "".join(p.read_text() for p in static.FOLDER.glob("*.js"))
    )
