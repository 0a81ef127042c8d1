"""The methods ``server.database.*``: Moonraker's key/value store, of which the UIs keep their settings in."""

from __future__ import annotations

from typing import Any

import msgspec

from klipper_router.gateway.moonraker.api import Call, NoParams
from klipper_router.gateway.moonraker.database import FORBIDDEN, READ_ONLY, Key, Namespaces
from klipper_router.gateway.moonraker.rpc import ApiError


class ItemParams(msgspec.Struct):
    """server.database.get_item; without a key the whole namespace."""

    namespace: str
    key: Key | None = None


class DeleteItemParams(msgspec.Struct):
    """server.database.delete_item."""

    namespace: str
    key: Key


class PostItemParams(msgspec.Struct):
    """server.database.post_item."""

    namespace: str
    key: Key
    value: Any


def database_list(call: Call, params: NoParams) -> object:
    """server.database.list."""
    return call.api.database.ask(lambda store: {"namespaces": store.list(), "backups": []})


def database_get(call: Call, params: ItemParams) -> object:
    """server.database.get_item."""
    _check_namespace(params.namespace)
    return call.api.database.ask(lambda store: _item(params, store.read(params.namespace, params.key)))


def database_post(call: Call, params: PostItemParams) -> object:
    """server.database.post_item."""
    _check_namespace(params.namespace, write=True)

    def work(store: Namespaces) -> object:
        store.write(params.namespace, params.key, params.value)
        return _item(params, params.value)

    return call.api.database.ask(work)


def database_delete(call: Call, params: DeleteItemParams) -> object:
    """server.database.delete_item: the answer holds what it was."""
    _check_namespace(params.namespace, write=True)
    return call.api.database.ask(lambda store: _item(params, store.delete(params.namespace, params.key)))


def _item(params: ItemParams | PostItemParams | DeleteItemParams, value: object) -> object:
    return {"namespace": params.namespace, "key": params.key, "value": value}


def _check_namespace(namespace: str, *, write: bool = False) -> None:
    if namespace in FORBIDDEN:
        raise ApiError(403, f"Read/Write access to namespace '{namespace}' is forbidden")
    if write and namespace in READ_ONLY:
        raise ApiError(403, f"Write access to namespace '{namespace}' is forbidden")
