"""The API's requests: endpoints, remote methods (klippy/webhooks.py: WebHooks, GCodeHelper)."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from . import wire
from .errors import CommandError, ConfigError, WebRequestError
from .gcode import GCode
from .printer import Printer, Status
from .server import Client, Server

D = TypeVar("D")
Endpoint = Callable[["WebRequest"], "Awaitable[None] | None"]


class Required:
    """Stands for "no default"."""


REQUIRED = Required()


class WebRequest:
    def __init__(self, client: Client, frame: bytes) -> None:
        """Raises wire.FrameError for what gets no answer at all."""
        message = wire.decode(frame)
        self.client = client
        self.id = message.get("id")
        method, params = message.get("method"), message.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict):
            raise wire.FrameError("Invalid request type")
        self.method = method
        self.params: dict[str, Any] = params
        self.result: object = None
        self._is_error = False

    def get(self, name: str, default: D | Required = REQUIRED, *types: type) -> Any | D:
        value = self.params.get(name, default)
        if isinstance(value, Required):
            raise WebRequestError(f"Missing Argument [{name}]")
        # type(), not isinstance: Klipper refuses true where it wants a number
        if types and name in self.params and type(value) not in types:
            raise WebRequestError(f"Invalid Argument Type [{name}]")
        return value

    def get_str(self, name: str, default: D | Required = REQUIRED) -> str | D:
        value: str | D = self.get(name, default, str)
        return value

    def get_float(self, name: str, default: float | Required = REQUIRED) -> float:
        return float(self.get(name, default, int, float))

    def get_dict(self, name: str, default: D | Required = REQUIRED) -> dict[str, Any] | D:
        value: dict[str, Any] | D = self.get(name, default, dict)
        return value

    def send(self, result: object) -> None:
        self.result = result

    def fail(self, message: str) -> None:
        self._is_error = True
        self.result = {"error": "WebRequestError", "message": message}

    def answer(self) -> dict[str, object] | None:
        """None when the request has no id: then nobody wants one."""
        if self.id is None:
            return None
        kind = "error" if self._is_error else "result"
        return {"id": self.id, kind: {} if self.result is None else self.result}


class WebHooks:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self.server = Server(printer, printer.start_args.apiserver, self._on_frame)
        self._endpoints: dict[str, Endpoint] = {}
        self._mux: dict[str, tuple[str, dict[str | None, Endpoint]]] = {}
        self._remote_methods: dict[str, dict[Client, dict[str, Any]]] = {}
        self.register("list_endpoints", self._list_endpoints)
        self.register("info", self._info)
        self.register("emergency_stop", self._emergency_stop)
        self.register("register_remote_method", self._register_remote_method)

    def register(self, path: str, endpoint: Endpoint) -> None:
        if path in self._endpoints:
            raise WebRequestError("Path already registered to an endpoint")
        self._endpoints[path] = endpoint

    def register_mux(self, path: str, key: str, value: str | None, endpoint: Endpoint) -> None:
        if path not in self._mux:
            values: dict[str | None, Endpoint] = {}
            self._mux[path] = (key, values)
            self.register(path, lambda request: self._run_mux(key, values, request))
        previous_key, values = self._mux[path]
        if previous_key != key:
            raise ConfigError(f"mux endpoint {path} {key} {value} may have only one key ({previous_key})")
        if value in values:
            raise ConfigError(f"mux endpoint {path} {key} {value} already registered ({values})")
        values[value] = endpoint

    def _run_mux(self, key: str, values: dict[str | None, Endpoint], request: WebRequest) -> Awaitable[None] | None:
        value = request.get(key, None) if None in values else request.get(key)
        if value not in values:
            raise WebRequestError(f"The value '{value}' is not valid for {key}")
        return values[value](request)

    # Requests

    def _on_frame(self, client: Client, frame: bytes) -> None:
        try:
            request = WebRequest(client, frame)
        except wire.FrameError as e:
            self.printer.log.error("webhooks: Error decoding Server Request %r: %s", frame, e)
            return
        self.printer.reactor.call_soon(lambda: self._begin(request))

    def _begin(self, request: WebRequest) -> Awaitable[None] | None:
        """Run what does not wait at once; the rest comes back as a coroutine."""
        try:
            endpoint = self._endpoints.get(request.method)
            if endpoint is None:
                message = f"webhooks: No registered callback for path '{request.method}'"
                self.printer.log.info("%s", message)
                raise WebRequestError(message)
            result = endpoint(request)
        except Exception as e:
            self._note_failure(request, e)
        else:
            if result is not None:
                return self._finish(request, result)
        self._answer(request)
        return None

    async def _finish(self, request: WebRequest, result: Awaitable[None]) -> None:
        try:
            await result
        except Exception as e:
            self._note_failure(request, e)
        self._answer(request)

    def _note_failure(self, request: WebRequest, error: Exception) -> None:
        request.fail(str(error))
        if not isinstance(error, CommandError):
            # The printer stops for anything that a handler did not foresee.
            message = f"Internal Error on WebRequest: {request.method}"
            self.printer.log.error("%s", message, exc_info=error)
            self.printer.invoke_shutdown(message)

    def _answer(self, request: WebRequest) -> None:
        answer = request.answer()
        if answer is not None:
            request.client.send(answer)

    # Remote methods

    def _register_remote_method(self, request: WebRequest) -> None:
        template = request.get_dict("response_template")
        method = request.get_str("remote_method")
        self._remote_methods.setdefault(method, {})[request.client] = template

    def call_remote_method(self, method: str, params: dict[str, Any]) -> None:
        """To every connection that registered it. Raises CommandError when there is none."""
        clients = self._remote_methods.get(method)
        if clients is None:
            raise CommandError(f"Remote method '{method}' not registered")
        alive = {client: template for client, template in clients.items() if not client.closed}
        for client, template in alive.items():
            client.send({"params": params, **template})  # the template wins
        if not alive:
            del self._remote_methods[method]
            raise CommandError(f"No active connections for method '{method}'")
        self._remote_methods[method] = alive

    # Endpoints

    def _list_endpoints(self, request: WebRequest) -> None:
        request.send({"endpoints": list(self._endpoints)})

    def _info(self, request: WebRequest) -> None:
        client_info = request.get_dict("client_info", None)
        if client_info is not None:
            self.printer.log.info("webhooks client %s: Client info %r", id(request.client), client_info)
        args = self.printer.start_args
        request.send(
            {
                "state": self.printer.state,
                "state_message": self.printer.state_message,
                "hostname": socket.gethostname(),
                "klipper_path": str(Path(__file__).parent),
                "python_path": sys.executable,
                "process_id": os.getpid(),
                "user_id": os.getuid(),
                "group_id": os.getgid(),
                "log_file": None if args.log_file is None else str(args.log_file),
                "config_file": str(args.config_file),
                "software_version": args.software_version,
                "cpu_info": args.cpu_info,
            }
        )

    def _emergency_stop(self, request: WebRequest) -> None:
        self.printer.invoke_shutdown("Shutdown due to webhooks request")

    def get_status(self, eventtime: float) -> Status:
        return {"state": self.printer.state, "state_message": self.printer.state_message}


class GCodeEndpoints:
    """gcode/*: scripts and the console."""

    def __init__(self, printer: Printer) -> None:
        self._gcode = printer.lookup(GCode, "gcode")
        self._subscribers: dict[Client, dict[str, Any]] = {}
        webhooks = printer.lookup(WebHooks, "webhooks")
        webhooks.register("gcode/help", lambda request: request.send(self._gcode.help()))
        webhooks.register("gcode/script", lambda request: self._gcode.run_script(request.get_str("script")))
        webhooks.register("gcode/restart", lambda request: self._gcode.run_script("restart"))
        webhooks.register("gcode/firmware_restart", lambda request: self._gcode.run_script("firmware_restart"))
        webhooks.register("gcode/subscribe_output", self._subscribe_output)
        self._gcode.on_output(self._on_output)

    def _subscribe_output(self, request: WebRequest) -> None:
        self._subscribers[request.client] = request.get_dict("response_template", {})

    def _on_output(self, message: str) -> None:
        for client, template in list(self._subscribers.items()):
            if client.closed:
                del self._subscribers[client]
            else:
                client.send({**template, "params": {"response": message}})
