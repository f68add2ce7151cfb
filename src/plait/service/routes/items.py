"""Routes about the items that workflows remember over threads; each caller has their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query, Response
from langgraph.store.base import Item as KeptItem

from plait.errors import PlaitError
from plait.service.bodies.items import (
    FoundItems,
    Item,
    ItemDelete,
    ItemPut,
    ItemSearch,
    Namespaces,
    NamespaceSearch,
)
from plait.service.problems import documented, problem
from plait.service.routes.answers import answer
from plait.service.routes.asks import Asked
from plait.service.routes.service_routes import ServiceRoute

router = APIRouter(prefix="/store", tags=["store"], route_class=ServiceRoute)

_BODY = (413, 415, 422)
_GUARDED = (401, 403)


@router.put("/items", status_code=204, responses=documented(400, *_GUARDED, *_BODY, 500, 503))
async def put_item(asked: Asked, body: ItemPut) -> Response:
    """Keep an item, in place of one with the same name."""
    value: dict[str, object] = {
        "namespace": tuple(body.namespace),
        "key": body.key,
        "value": body.value,
        "index": body.index,
    }
    await asked.access("store", "put", value)
    items = asked.service.items.of(asked.caller.identity)
    with _refusals():
        await items.aput(_namespace(value), body.key, body.value, body.index, ttl=body.ttl)
    return Response(status_code=204)


@router.get("/items", response_model=Item | None, responses=documented(400, *_GUARDED, 422, 500, 503))
async def get_item(
    asked: Asked,
    namespace: Annotated[
        str,
        Query(
            pattern=r"^[^.\x00]+(\.[^.\x00]+)*$", max_length=10_000, description="The path, its labels joined by dots."
        ),
    ],
    key: Annotated[str, Query(pattern=r"^[^\x00]*$", max_length=10_000, description="Its name within the namespace.")],
    refresh_ttl: Annotated[bool | None, Query(description="Whether reading it begins its time anew.")] = None,
) -> Response:
    """An item; null where there is none."""
    value: dict[str, object] = {"namespace": tuple(namespace.split(".")), "key": key}
    await asked.access("store", "get", value)
    items = asked.service.items.of(asked.caller.identity)
    with _refusals():
        found = await items.aget(_namespace(value), key, refresh_ttl=refresh_ttl)
    return answer(None if found is None else _item_json(found))


@router.delete("/items", status_code=204, responses=documented(400, *_GUARDED, *_BODY, 500, 503))
async def delete_item(asked: Asked, body: ItemDelete) -> Response:
    """Delete an item; nothing happens where there is none."""
    value: dict[str, object] = {"namespace": tuple(body.namespace), "key": body.key}
    await asked.access("store", "delete", value)
    items = asked.service.items.of(asked.caller.identity)
    with _refusals():
        await items.adelete(_namespace(value), body.key)
    return Response(status_code=204)


@router.post("/items/search", response_model=FoundItems, responses=documented(400, *_GUARDED, *_BODY, 500, 503))
async def search_items(asked: Asked, body: ItemSearch) -> Response:
    """List items under a namespace."""
    value: dict[str, object] = {
        "namespace": tuple(body.namespace_prefix or ()),
        "filter": body.filter,
        "limit": body.limit,
        "offset": body.offset,
        "query": body.query,
    }
    await asked.access("store", "search", value)
    items = asked.service.items.of(asked.caller.identity)
    with _refusals():
        found = await items.asearch(
            _namespace(value),
            query=body.query,
            filter=body.filter,
            limit=body.limit,
            offset=body.offset,
            refresh_ttl=body.refresh_ttl,
        )
    return answer({"items": [{**_item_json(item), "score": item.score} for item in found]})


@router.post("/namespaces", response_model=Namespaces, responses=documented(400, *_GUARDED, *_BODY, 500, 503))
async def list_namespaces(asked: Asked, body: NamespaceSearch) -> Response:
    """List the namespaces that hold items."""
    value: dict[str, object] = {
        "namespace": tuple(body.prefix) if body.prefix else None,
        "suffix": tuple(body.suffix) if body.suffix else None,
        "max_depth": body.max_depth,
        "limit": body.limit,
        "offset": body.offset,
    }
    await asked.access("store", "list_namespaces", value)
    items = asked.service.items.of(asked.caller.identity)
    with _refusals():
        found = await items.alist_namespaces(
            prefix=_namespace(value) or None,
            suffix=tuple(body.suffix) if body.suffix else None,
            max_depth=body.max_depth,
            limit=body.limit,
            offset=body.offset,
        )
    return answer({"namespaces": [list(namespace) for namespace in found]})


def _namespace(value: dict[str, object]) -> tuple[str, ...]:
    """The namespace as an Auth handler left it."""
    found = value["namespace"]
    return tuple(str(label) for label in found) if isinstance(found, tuple | list) else ()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except PlaitError:
        raise
    except (ValueError, TypeError, NotImplementedError) as error:
        raise problem(400, str(error) or type(error).__name__) from error


def _item_json(item: KeptItem) -> dict[str, object]:
    return {
        "namespace": list(item.namespace),
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at.isoformat(),
        "updated_at": item.updated_at.isoformat(),
    }
