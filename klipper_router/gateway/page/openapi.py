"""The OpenAPI document (3.1), made from the table of routes and the structs that serve it; nothing of it is by hand."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from klipper_router import __version__, config
from klipper_router.gateway.page.models import ErrorAnswer
from klipper_router.gateway.page.routes import Route, Table
from klipper_router.gateway.page.rpc import MAX_BATCH
from klipper_router.gateway.settings import CameraSection

_REF = "#/components/schemas/{name}"
# What the server may say to any request, before a route is asked.
_ALWAYS = (400, 401, 403, 421, 429)

# Bodies whose options are those of a section of the configuration.
_OPTIONS = {
    "NewPrinter": "PrinterOptions",
    "ChangedPrinter": "PrinterOptions",
    "NewCamera": "CameraOptions",
    "ChangedCamera": "CameraOptions",
}


def document(table: Table, methods: Mapping[str, Any]) -> bytes:
    """The document as JSON. ``methods``: the type of the parameters of each method that /router/jsonrpc takes."""
    bodies = [route.body for route in table.routes if route.body not in (None, "JsonRpcRequest")]
    results = [route.result for route in table.routes if route.result is not None]
    of_kinds, schemas = _schemas([*bodies, *results, ErrorAnswer, *methods.values()])
    for body, options in _OPTIONS.items():
        schemas[body]["properties"]["options"] = {"$ref": _REF.format(name=options)}
    schemas["PrinterOptions"] = _options(config.KlippySection)
    schemas["CameraOptions"] = _options(CameraSection)
    schemas["JsonRpcRequest"] = _rpc_request({name: of_kinds(kind) for name, kind in methods.items()})
    paths: dict[str, dict[str, Any]] = {}
    for route in table.routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of_kinds)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Klipper Router",
            "version": __version__,
            "description": "The router's own API. Printers' Moonrakers, below /printers/NAME, are not part of it.",
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "oneshotToken": {"type": "apiKey", "in": "query", "name": "token"},
            },
        },
        # A trusted client needs neither.
        "security": [{}, {"apiKey": []}, {"oneshotToken": []}],
    }
    return msgspec.json.encode(whole)


class _SchemaOf(typing.Protocol):
    def __call__(self, kind: Any) -> dict[str, Any]: ...


def _schemas(kinds: Iterable[Any]) -> tuple[_SchemaOf, dict[str, Any]]:
    """How to say each kind, and the components that it takes."""
    listed = list(kinds)
    made, components = msgspec.json.schema_components(listed, ref_template=_REF)
    by_kind = dict(zip(map(repr, listed), made, strict=True))

    def schema_of(kind: Any) -> dict[str, Any]:
        if kind == "JsonRpcRequest":
            return {"$ref": _REF.format(name=kind)}
        return by_kind[repr(kind)]

    return schema_of, dict(components)


def _operation(route: Route, schema_of: _SchemaOf) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if names := re.findall(r"\{(\w+)\}", route.path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if route.body is not None:
        content = {"application/json": {"schema": schema_of(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.open:
        operation["security"] = []
    responses = {str(route.status): _response(route, schema_of)}
    if route.body == "JsonRpcRequest":
        responses["204"] = {"description": "Only notifications, done"}
        of_rpc = {"application/json": {"schema": schema_of(route.result)}}
        responses["400"] = {"description": "The call failed", "content": of_rpc}
        responses["404"] = {"description": "No such method", "content": of_rpc}
    error = {"application/json": {"schema": {"$ref": _REF.format(name="ErrorAnswer")}}}
    for status in (*route.errors, *_ALWAYS):
        if str(status) in responses:
            continue
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": error}
    operation["responses"] = dict(sorted(responses.items()))
    return operation


def _response(route: Route, schema_of: _SchemaOf) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.media is None:
        return response
    schema = {"type": "string"} if route.result is None else schema_of(route.result)
    if route.body == "JsonRpcRequest":
        schema = {"anyOf": [schema, {"type": "array", "items": schema}]}
    response["content"] = {route.media: {"schema": schema}}
    return response


def _options(section: type[msgspec.Struct]) -> dict[str, Any]:
    """The options of a section as they are written: texts."""
    fields = msgspec.structs.fields(section)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {each.name: _option(each.type) for each in fields},
        "additionalProperties": False,
    }
    if required := [each.name for each in fields if each.required]:
        schema["required"] = required
    return schema


def _option(kind: Any) -> dict[str, Any]:
    choices = [
        value for each in _union(kind) for value in typing.get_args(each) if typing.get_origin(each) is typing.Literal
    ]
    return {"type": "string", "enum": choices} if choices else {"type": "string"}


def _union(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _rpc_request(params: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    one = [
        {
            "type": "object",
            "title": method,
            "properties": {
                "jsonrpc": {"const": "2.0"},
                "method": {"const": method},
                "params": schema,
                "id": {"type": ["string", "number", "null"]},
            },
            "required": ["jsonrpc", "method"],
        }
        for method, schema in params.items()
    ]
    # What is wrong in a batch is answered by itself, with the rest served: so anything may be in one.
    batch = {"type": "array", "description": "several requests", "items": {}, "minItems": 1, "maxItems": MAX_BATCH}
    return {"anyOf": [*one, batch]}
