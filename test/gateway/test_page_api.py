"""The router's own API over HTTP: printers and cameras that are changed live and kept, JSON-RPC, metrics, health."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from klipper_router.config import Config
from klipper_router.errors import ConfigError, RouterError
from klipper_router.gateway.page.inventory import Changes, Inventory
from test.gateway.page_rig import KLIPPY, Rig, http, rig

API = "/router/api/v1"
MAIN = "[klippy main]\nsock: main.sock\n"


def kept(made: Rig) -> object:
    return json.loads((made.folder / "data/printers.json").read_text())["sections"]


async def test_a_printer_is_added_live_and_kept_for_the_next_start() -> None:
    async with rig(MAIN) as made:
        await made.start("led", KLIPPY, wait=False)
        body = {"name": "led", "options": {"sock": str(made.folder / "led.sock"), "on_connect": "M118 hello"}}
        answer = await http(made.origin, "POST", f"{API}/printers", body)
        assert (answer.status, answer.json["source"]) == (201, "dashboard")
        await made.announced("led")
        file = made.folder / "data/printers.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        again = Inventory.read(made.folder / "router.cfg", made.folder / "data")
        assert list(again.config.klippy) == ["main", "led"]
        assert again.config.klippy["led"].on_connect == "M118 hello"


async def test_what_the_check_would_say_the_api_says_and_nothing_is_changed() -> None:
    async with rig(MAIN) as made:
        for body, message in [
            ({"name": "led", "options": {"sok": "x"}}, "[klippy led] has no option 'sok'. Did you mean 'sock'?"),
            ({"name": "led", "options": {"sock": "main.sock"}}, "which is the sock of [klippy main]"),
            ({"name": "l d", "options": {"sock": "l.sock"}}, "a name may not hold ' '"),
            ({"name": "MAIN", "options": {"sock": "l.sock"}}, "are both MAIN as G-code parameters"),
            ({"name": "a/b", "options": {"sock": "l.sock"}}, "a name may not hold '/'"),
            ({"name": "", "options": {"sock": "l.sock"}}, "give it a name"),
            ({"name": "led"}, "missing required field `options`"),
            ({"name": "led", "options": {"sock": 5}}, "Expected `str`"),
        ]:
            answer = await http(made.origin, "POST", f"{API}/printers", body)
            assert answer.status == 400, body
            assert message in answer.json["error"]["message"]
            assert str(made.folder) not in answer.json["error"]["message"].replace(str(made.folder / "main.sock"), "")
        assert list(made.router.printers) == ["main"]
        assert not (made.folder / "data/printers.json").exists()


async def test_a_changed_printer_keeps_its_place_and_its_relative_path() -> None:
    async with rig(f"{MAIN}[klippy led]\nsock: led.sock\n") as made:
        options = {"sock": "main.sock", "on_connect": "M118 x"}
        answer = await http(made.origin, "PUT", f"{API}/printers/main", {"options": options})
        assert (answer.status, answer.json["options"]) == (200, options)
        assert list(made.router.config.klippy) == ["main", "led"]
        assert made.router.config.klippy["main"].sock == str(made.folder / "main.sock")
        assert made.router.printers["main"].section.on_connect == "M118 x"


async def test_a_change_back_to_the_files_is_no_longer_kept() -> None:
    async with rig(MAIN) as made:
        await http(made.origin, "PUT", f"{API}/printers/main", {"options": {"sock": "main.sock", "on_connect": "M118"}})
        assert kept(made) == {"klippy main": {"sock": "main.sock", "on_connect": "M118"}}
        answer = await http(made.origin, "PUT", f"{API}/printers/main", {"options": {"sock": "main.sock"}})
        assert answer.json["source"] == "configuration"
        assert kept(made) == {}


async def test_a_removed_printer_goes_with_its_cameras_and_stays_away() -> None:
    config = f"{MAIN}[klippy led]\nsock: led.sock\n[camera led strip]\nurl: http://cam/\n"
    async with rig(config) as made:
        assert (await http(made.origin, "DELETE", f"{API}/printers/led")).status == 204
        assert list(made.router.printers) == ["main"]
        assert (await http(made.origin, "GET", f"{API}/printers/led")).status == 404
        again = Inventory.read(made.folder / "router.cfg", made.folder / "data")
        assert (list(again.config.klippy), again.config.camera) == (["main"], {})


async def test_the_last_printer_cannot_be_removed() -> None:
    async with rig(MAIN) as made:
        answer = await http(made.origin, "DELETE", f"{API}/printers/main")
        assert (answer.status, "main" in made.router.printers) == (409, True)
        assert "no printer is configured" in answer.json["error"]["message"]


async def test_cameras_are_added_changed_and_removed() -> None:
    async with rig(MAIN) as made:
        cameras = f"{API}/printers/main/cameras"
        new = {"name": "nozzle", "options": {"url": "http://cam/?action=stream"}}
        assert (await http(made.origin, "POST", cameras, new)).status == 201
        assert (await http(made.origin, "POST", cameras, new)).status == 409
        wrong = {"name": "bed", "options": {"url": "rtsp://cam/"}}
        assert "is no camera's address" in (await http(made.origin, "POST", cameras, wrong)).json["error"]["message"]
        wrong = {"name": "bed", "options": {"url": "http://cam/", "service": "mjpgstreamer"}}
        answer = await http(made.origin, "POST", cameras, wrong)
        assert (answer.status, answer.json["error"]["message"].rpartition(". ")[2]) == (
            400,
            "Did you mean 'mjpegstreamer'?",
        )
        changed = {"options": {"url": "http://cam/other", "service": "mjpegstreamer"}}
        assert (await http(made.origin, "PUT", f"{cameras}/nozzle", changed)).json["options"] == changed["options"]
        assert made.router.config.camera["main nozzle"].url == "http://cam/other"
        listed = (await http(made.origin, "GET", cameras)).json["cameras"]
        assert [(each["name"], each["source"]) for each in listed] == [("nozzle", "dashboard")]
        assert (await http(made.origin, "DELETE", f"{cameras}/nozzle")).status == 204
        assert (await http(made.origin, "DELETE", f"{cameras}/nozzle")).status == 404
        assert (await http(made.origin, "GET", f"{API}/printers/gone/cameras")).status == 404


async def test_secrets_are_never_returned_and_survive_a_change_of_something_else() -> None:
    secret = "http://user:hidden@cam/?token=abc"
    async with rig(f"{MAIN}[camera main nozzle]\nurl: {secret}\n") as made:
        for path in ("/printers", "/printers/main", "/printers/main/cameras", "/printers/main/cameras/nozzle"):
            answer = await http(made.origin, "GET", API + path)
            assert b"***" in answer.body
            assert b"hidden" not in answer.body
            assert b"abc" not in answer.body
        shown = (await http(made.origin, "GET", f"{API}/printers/main/cameras/nozzle")).json["options"]
        changed = {"options": {**shown, "service": "mjpegstreamer"}}
        assert (await http(made.origin, "PUT", f"{API}/printers/main/cameras/nozzle", changed)).status == 200
        assert made.router.config.camera["main nozzle"].url == secret
        moved = {"options": {"url": shown["url"].replace("cam", "elsewhere")}}
        assert (await http(made.origin, "PUT", f"{API}/printers/main/cameras/nozzle", moved)).status == 400
        new = {"name": "other", "options": shown}
        assert (await http(made.origin, "POST", f"{API}/printers/main/cameras", new)).status == 400


async def test_a_found_camera_is_told_without_its_secret() -> None:
    async with rig(MAIN) as made:
        answer = await http(made.origin, "POST", f"{API}/printers/main/camera-discovery", {})
        assert answer.json["found"][0]["options"]["url"] == "http://user:***@127.0.0.1:8080/?action=stream"
        assert (await http(made.origin, "POST", f"{API}/printers/gone/camera-discovery", {})).status == 404


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_foreign_page_can_send_unasked_is_no_command(kind: str) -> None:
    async with rig(MAIN) as made:
        for method, path in [("POST", f"{API}/printers"), ("POST", "/router/jsonrpc"), ("PUT", f"{API}/printers/main")]:
            answer = await http(made.origin, method, path, b'{"options": {}}', {"Content-Type": kind})
            assert answer.status == 415


async def test_a_page_of_another_origin_is_refused() -> None:
    async with rig(MAIN) as made:
        evil = {"Origin": "http://evil.example"}
        assert (await http(made.origin, "DELETE", f"{API}/printers/main", headers=evil)).status == 403
        assert (await http(made.origin, "POST", "/router/jsonrpc", {}, evil)).status == 403


async def test_without_the_key_a_stranger_sees_the_page_but_nothing_of_the_printers() -> None:
    async with rig(f"trusted_proxies: 127.0.0.1\n{MAIN}") as made:
        stranger = {"X-Real-IP": "203.0.113.9"}
        for path in ("/", "/router/page/app.js", "/healthz", "/router/openapi.json"):
            assert (await http(made.origin, "GET", path, headers=stranger)).status == 200
        for path in (f"{API}/printers", f"{API}/activity", f"{API}/oneshot_token", "/metrics", "/router/websocket"):
            assert (await http(made.origin, "GET", path, headers=stranger)).status == 401
        assert (await http(made.origin, "DELETE", f"{API}/printers/main", headers=stranger)).status == 401
        known = {**stranger, "X-Api-Key": made.access.api_key() or ""}
        token = (await http(made.origin, "GET", f"{API}/oneshot_token", headers=known)).json["token"]
        once = f"{API}/printers?token={token}"
        assert [(await http(made.origin, "GET", once, headers=stranger)).status for _ in range(2)] == [200, 401]


async def test_when_it_cannot_be_kept_nothing_is_changed() -> None:
    async with rig(MAIN) as made:
        (made.folder / "data/printers.json").mkdir()  # nothing can be written there
        body = {"name": "led", "options": {"sock": "led.sock"}}
        answer = await http(made.origin, "POST", f"{API}/printers", body)
        assert answer.status == 507
        assert list(made.router.printers) == ["main"]


async def test_when_it_cannot_be_applied_it_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "router.cfg").write_text(MAIN)
    inventory = Inventory.read(tmp_path / "router.cfg", tmp_path / "data")

    def refuse(config: object) -> None:
        raise RouterError("no")

    with pytest.raises(RouterError, match="no"):
        await inventory.change({"klippy led": {"sock": "led.sock"}}, refuse)
    assert list(inventory.config.klippy) == ["main"]
    assert list(Inventory.read(tmp_path / "router.cfg", tmp_path / "data").config.klippy) == ["main"]


async def test_without_a_data_folder_nothing_can_be_changed(tmp_path: Path) -> None:
    (tmp_path / "router.cfg").write_text(MAIN)
    inventory = Inventory.read(tmp_path / "router.cfg", None)
    with pytest.raises(ConfigError, match="has no 'data'"):
        await inventory.change({"klippy led": {"sock": "led.sock"}}, lambda config: None)


async def test_files_that_are_read_again_while_a_change_is_kept_are_not_forgotten(tmp_path: Path) -> None:
    class ReadAgain(Inventory):
        async def _keep(self, changes: Changes) -> None:
            await super()._keep(changes)
            self.path.write_text(f"{MAIN}[klippy led]\nsock: led.sock\n")
            self.reread()

    (tmp_path / "router.cfg").write_text(MAIN)
    inventory = ReadAgain.read(tmp_path / "router.cfg", tmp_path / "data")
    applied: list[Config] = []
    await inventory.change({"klippy mmu": {"sock": "mmu.sock"}}, applied.append)
    assert list(inventory.config.klippy) == ["main", "led", "mmu"]
    assert applied == [inventory.config]


@pytest.mark.parametrize("content", ["{", '{"version": 2}', '{"sections": {"klippy led": 5}}', '{"printers": {}}'])
def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "router.cfg").write_text(MAIN)
    (tmp_path / "printers.json").write_text(content)
    with pytest.raises(ConfigError, match=r"printers\.json: this is no list of changed printers"):
        Inventory.read(tmp_path / "router.cfg", tmp_path)
    assert (tmp_path / "printers.json").read_text() == content


def test_a_conflict_with_the_edited_files_names_both(tmp_path: Path) -> None:
    (tmp_path / "router.cfg").write_text(f"{MAIN}[klippy led]\nsock: led.sock\n")
    (tmp_path / "printers.json").write_text('{"sections": {"klippy mmu": {"sock": "led.sock"}}}')
    with pytest.raises(ConfigError) as caught:
        Inventory.read(tmp_path / "router.cfg", tmp_path)
    assert "which is the sock of [klippy led]" in str(caught.value)
    assert os.fspath(tmp_path / "printers.json") in str(caught.value)


def test_files_that_are_read_again_keep_the_changes_over_them(tmp_path: Path) -> None:
    (tmp_path / "router.cfg").write_text(MAIN)
    (tmp_path / "printers.json").write_text('{"sections": {"klippy mmu": {"sock": "mmu.sock"}}}')
    inventory = Inventory.read(tmp_path / "router.cfg", tmp_path)
    (tmp_path / "router.cfg").write_text(f"{MAIN}[klippy led]\nsock: led.sock\n")
    assert list(inventory.reread().klippy) == ["main", "led", "mmu"]
    (tmp_path / "router.cfg").write_text("[klippy main]\n")
    with pytest.raises(ConfigError, match="lacks 'sock'"):
        inventory.reread()
    assert list(inventory.config.klippy) == ["main", "led", "mmu"]


async def test_json_rpc_serves_every_method_of_the_router() -> None:
    async with rig(MAIN, {"main": KLIPPY}) as made:

        async def rpc(method: str, params: object = None, **more: object) -> tuple[int, object]:
            body = {"jsonrpc": "2.0", "id": "x", "method": method, "params": params or {}, **more}
            answer = await http(made.origin, "POST", "/router/jsonrpc", body)
            return answer.status, answer.json

        status, answer = await rpc("router/printers/list")
        assert status == 200
        assert isinstance(answer, dict)
        assert (answer["id"], answer["jsonrpc"]) == ("x", "2.0")
        assert answer["result"]["printers"][0]["name"] == "main"
        assert (await rpc("router/gcode/script", {"target": "main", "script": "M118 by web"}))[0] == 200
        await made.klippys["main"].wait_console("by web")
        status, answer = await rpc("router/gcode/script", {"target": "main", "script": "SET_GCODE_VARIABLE"})
        assert (status, "missing MACRO" in str(answer)) == (400, True)
        assert (await rpc("router/nope"))[0] == 404
        assert (await rpc("router/objects/subscribe", {"target": "main", "objects": {"toolhead": None}}))[0] == 400
        assert (await rpc("router/printers/list", jsonrpc="1.0"))[0] == 400
        assert (await rpc("router/printers/list", params=[1]))[0] == 400


async def test_a_batch_is_answered_together_and_notifications_not_at_all() -> None:
    async with rig(MAIN) as made:
        one = {"jsonrpc": "2.0", "id": 1, "method": "router/printers/list"}
        batch = [one, {**one, "id": 2, "method": "nope"}, {"jsonrpc": "2.0", "method": "router/printers/list"}, 5]
        answer = await http(made.origin, "POST", "/router/jsonrpc", batch)
        assert answer.status == 200
        codes = {each["id"]: each.get("error", {}).get("code") for each in answer.json}
        assert codes == {1: None, 2: -32601, None: -32600}
        silent = await http(
            made.origin, "POST", "/router/jsonrpc", {"jsonrpc": "2.0", "method": "router/printers/list"}
        )
        assert (silent.status, silent.body) == (204, b"")
        for bad in ([], [one] * 51):
            assert (await http(made.origin, "POST", "/router/jsonrpc", bad)).json["error"]["code"] == -32600


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"target": "main", "scrpt": "M117"}, "unknown parameter 'scrpt', did you mean 'script'?"),
        ({"target": "main", "script": "M117", "wait": -1}, "parameter 'wait': -1 is no number of seconds up to 86400"),
        ({"target": "gone", "script": "M117"}, "gone: no printer of that name, the router has main"),
    ],
)
async def test_an_error_names_the_printer_only_where_it_is_about_it(params: dict[str, object], message: str) -> None:
    async with rig(MAIN) as made:
        call = {"jsonrpc": "2.0", "id": 1, "method": "router/gcode/script", "params": params}
        answer = await http(made.origin, "POST", "/router/jsonrpc", call)
        assert answer.json["error"]["message"].startswith(message)


async def test_an_emergency_stop_need_not_be_named_as_with_the_printers_own_page() -> None:
    async with rig(f"{MAIN}allow_endpoints: info\n", {"main": KLIPPY}) as made:
        target = {"target": "main"}
        call = {"jsonrpc": "2.0", "id": 1, "method": "router/call", "params": {**target, "method": "emergency_stop"}}
        refused = await http(made.origin, "POST", "/router/jsonrpc", call)
        assert "refused" in refused.json["error"]["message"]
        stop = {"jsonrpc": "2.0", "id": 1, "method": "router/emergency_stop", "params": target}
        assert (await http(made.origin, "POST", "/router/jsonrpc", stop)).status == 200
        await made.klippys["main"].wait_state("shutdown")
        stop["params"] = {"target": "gone"}
        assert (
            "no printer 'gone'" in (await http(made.origin, "POST", "/router/jsonrpc", stop)).json["error"]["message"]
        )


async def test_an_emergency_stop_is_refused_where_the_gateway_may_nothing() -> None:
    async with rig(f"{MAIN}endpoints_from: main\n", {"main": KLIPPY}) as made:
        stop = {"jsonrpc": "2.0", "id": 1, "method": "router/emergency_stop", "params": {"target": "main"}}
        answer = await http(made.origin, "POST", "/router/jsonrpc", stop)
        assert answer.json["error"]["message"] == "refused: gateway is not in endpoints_from of [klippy main]"
        assert made.router.printers["main"].counters.refused == 1
        assert made.klippys["main"].state == "ready"


async def test_health_and_metrics_tell_of_every_printer() -> None:
    async with rig(f"{MAIN}[klippy led]\nsock: led.sock\n", {"main": KLIPPY}) as made:
        assert (await http(made.origin, "GET", "/healthz")).json == {"status": "ok", "printers": 2, "ready": 1}
        metrics = await http(made.origin, "GET", "/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'klipper_router_printer_connected{printer="main"} 1.0' in metrics.body.decode()
        assert 'klipper_router_printer_connected{printer="led"} 0.0' in metrics.body.decode()


async def test_the_page_comes_with_a_strict_policy_and_is_not_sent_twice() -> None:
    async with rig(MAIN) as made:
        page = await http(made.origin, "GET", "/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        again = await http(made.origin, "GET", "/", headers={"If-None-Match": page.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        assert (await http(made.origin, "GET", "/router/page/none.js")).status == 404
        head = await http(made.origin, "HEAD", "/router/page/app.js")
        assert (head.status, head.body) == (200, b"")
        wrong = await http(made.origin, "POST", "/healthz", {})
        assert (wrong.status, wrong.headers["allow"]) == (405, "GET")
        assert (await http(made.origin, "GET", "/router/websocket")).status == 426
