"""The same methods by HTTP: paths, arguments, statuses; and what is not served by it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from klipper_router.gateway.http import Headers, HttpError, HttpRequest
from klipper_router.gateway.moonraker.methods import METHODS, PATHS
from klipper_router.gateway.moonraker.rpc import METHOD_NOT_FOUND
from test.gateway.moonraker.rig import STRANGER, Rig, rig

JSON = Headers([("content-type", "application/json; charset=utf-8")])


async def ask(made: Rig, method: str, path: str, *, body: bytes = b"", headers: Headers = JSON, **query: str) -> Any:
    """The result. Raises HttpError."""

    async def source() -> AsyncGenerator[bytes, None]:
        yield body

    answer = await answer_to(made, HttpRequest(method, path, query=query, headers=headers, body_source=source))
    return answer["result"] if path != "/server/jsonrpc" else answer


async def answer_to(made: Rig, request: HttpRequest) -> Any:
    response = await made.site.handle(request)
    assert response.status == 200
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


async def test_objects_are_named_by_the_query() -> None:
    async with rig() as made:
        answer = await ask(made, "GET", "/printer/objects/query", webhooks="", print_stats="state,none")
        assert answer["status"] == {
            "webhooks": {"state": "ready", "state_message": "Printer is ready"},
            "print_stats": {"state": "standby", "none": None},
        }


async def test_objects_are_named_by_a_body() -> None:
    async with rig() as made:
        body = json.dumps({"objects": {"webhooks": ["state"]}}).encode()
        answer = await ask(made, "POST", "/printer/objects/query", body=body)
        assert answer["status"] == {"webhooks": {"state": "ready"}}


async def test_a_resource_has_one_path_for_its_methods() -> None:
    async with rig() as made:
        path = "/server/database/item"
        body = json.dumps({"namespace": "fluidd", "key": "a.b", "value": {"c": 1}}).encode()
        assert (await ask(made, "POST", path, body=body))["value"] == {"c": 1}
        assert (await ask(made, "GET", path, namespace="fluidd", key="a"))["value"] == {"b": {"c": 1}}
        assert (await ask(made, "DELETE", path, namespace="fluidd", key="a"))["key"] == "a"
        with pytest.raises(HttpError, match="404: Namespace fluidd not found"):
            await ask(made, "GET", path, namespace="fluidd")


async def test_an_argument_may_name_its_type() -> None:
    async with rig() as made:
        for hint, text, value in (
            ("json", '{"a": [1]}', {"a": [1]}),
            ("int", "3", 3),
            ("int", "x", "x"),
            ("no", "1", "1"),
        ):
            request = HttpRequest(
                "POST",
                "/server/database/item",
                query={"namespace": "s", "key": "k", f"value:{hint}": text, "token": "t"},
            )
            assert (await answer_to(made, request))["result"]["value"] == value
        await ask(made, "POST", "/printer/gcode/script", script="M118 hello")
        assert len((await ask(made, "GET", "/server/gcode_store", count="1"))["gcode_store"]) == 1


async def test_gcode_is_run_by_post_only() -> None:
    async with rig() as made:
        assert await ask(made, "POST", "/printer/gcode/script", script="M118 by post") == "ok"
        for path in ("/printer/gcode/script", "/printer/emergency_stop", "/printer/pause_resume/pause"):
            with pytest.raises(HttpError, match="405"):
                await ask(made, "GET", path, script="M118 by get")
        with pytest.raises(HttpError, match="400: The value 'none' is not valid for HEATER"):
            await ask(made, "POST", "/printer/gcode/script", script="SET_HEATER_TEMPERATURE HEATER=none")


async def test_the_api_key_has_one_path() -> None:
    async with rig() as made:
        new = await ask(made, "POST", "/access/api_key")
        assert await ask(made, "GET", "/access/api_key") == new


async def test_endpoints_of_klippy_that_nobody_named_are_served() -> None:
    async with rig() as made:
        assert await ask(made, "POST", "/printer/pause_resume/pause") == "ok"


@pytest.mark.parametrize(
    "path",
    [
        "/printer/list_endpoints",
        "/printer/register_remote_method",
        "/printer/gcode/subscribe_output",
        "/printer/no/such",
        "/server/websocket/id",
        "/server/connection/identify",
        "/server/files/config/.theme/default.json",
        "/server/files/upload",
        "/api/version",
        "/",
    ],
)
async def test_what_there_is_none_of_is_not_found(path: str) -> None:
    async with rig() as made:
        for method in ("GET", "POST"):
            with pytest.raises(HttpError, match="404: Not Found"):
                await ask(made, method, path)


async def test_a_subscription_needs_a_websocket() -> None:
    async with rig() as made:
        with pytest.raises(HttpError, match="400: No connection associated"):
            await ask(made, "GET", "/printer/objects/subscribe", webhooks="")


async def test_a_form_is_not_taken_for_json() -> None:
    async with rig() as made:
        with pytest.raises(HttpError, match="415"):
            await ask(made, "POST", "/printer/gcode/script", body=b'{"script": "M118 x"}', headers=Headers())
        for body in (b"no json", b"[1]", b'"x"', b"\xff", b"[" * 100_000):
            with pytest.raises(HttpError, match="400"):
                await ask(made, "POST", "/printer/gcode/script", body=body)


async def test_jsonrpc_is_served_by_http() -> None:
    async with rig() as made:
        body = (
            b'[{"jsonrpc":"2.0","method":"server.info","id":1},{"jsonrpc":"2.0","method":"server.websocket.id","id":2}]'
        )
        info, refused = await ask(made, "POST", "/server/jsonrpc", body=body)
        assert info["result"]["klippy_state"] == "ready"
        assert refused["error"] == {"code": METHOD_NOT_FOUND, "message": "Method not found for transport HTTP"}


async def test_a_disconnected_printer_is_a_503() -> None:
    async with rig() as made:
        made.kill_klippy()
        await made.klippy_state("disconnected")
        with pytest.raises(HttpError, match="503: Klippy Host not connected"):
            await ask(made, "GET", "/printer/info")
        assert (await ask(made, "GET", "/server/info"))["klippy_connected"] is False


async def test_strangers_may_open_a_websocket_and_ask_whether_they_must_log_in() -> None:
    async with rig() as made:
        opened = {
            path
            for path in (*PATHS, "/websocket", "/klippysocket", "/server/jsonrpc")
            if made.site.is_open(HttpRequest("GET", path, peer=STRANGER, authorized=False))
        }
        assert opened == {"/websocket", "/access/info", "/server/jsonrpc"}
        request = HttpRequest("GET", "/klippysocket", peer=STRANGER, authorized=False)
        with pytest.raises(HttpError, match="401"):
            made.site.check_websocket(request)


def test_every_method_but_those_of_a_connection_has_a_path() -> None:
    by_path = {name for names in PATHS.values() for name in names.values()}
    assert {name for name, method in METHODS.items() if not method.socket_only} == by_path
    assert PATHS["/server/database/item"] == {
        "GET": "server.database.get_item",
        "POST": "server.database.post_item",
        "DELETE": "server.database.delete_item",
    }
    assert PATHS["/access/user"] == {"GET": "access.get_user"}
    assert PATHS["/server/files/directory"] == {"GET": "server.files.get_directory"}
