"""Items over HTTP: kept, found, listed, deleted; each owner's apart."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import Auth

from tests.service_api import Api, api_in, by_header

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Api]:
    async with api_in(tmp_path_factory.mktemp("service"), by_header()) as api:
        yield api


@pytest.fixture
def user() -> str:
    """Somebody nobody has heard of."""
    return f"user-{uuid4()}"


@pytest_asyncio.fixture(loop_scope="module")
async def client(api: Api, user: str) -> AsyncGenerator[httpx.AsyncClient]:
    async with api.client(user) as client:
        yield client


async def put(client: httpx.AsyncClient, namespace: list[str], key: str, **value: object) -> None:
    body = {"namespace": namespace, "key": key, "value": value}
    answered = await client.put("/store/items", json=body)
    assert (answered.status_code, answered.content) == (204, b""), answered.text


async def found(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answered = await client.post("/store/items/search", json=query)
    assert answered.status_code == 200, answered.text
    return [item["key"] for item in answered.json()["items"]]


async def test_an_item_is_kept_until_it_is_deleted(client: httpx.AsyncClient) -> None:
    await put(client, ["notes", "ann"], "k", x=1)
    place = {"namespace": "notes.ann", "key": "k"}
    item = (await client.get("/store/items", params=place)).json()
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    assert (item["namespace"], item["key"], item["value"]) == (["notes", "ann"], "k", {"x": 1})
    assert item["created_at"].endswith("+00:00")
    await put(client, ["notes", "ann"], "k", x=2)
    assert (await client.get("/store/items", params=place)).json()["value"] == {"x": 2}
    deleting = {"namespace": ["notes", "ann"], "key": "k"}
    for _ in range(2):
        assert (await client.request("DELETE", "/store/items", json=deleting)).status_code == 204
    gone = await client.get("/store/items", params=place)
    assert (gone.status_code, gone.json()) == (200, None)


async def test_a_search_finds_what_is_under_a_namespace(client: httpx.AsyncClient) -> None:
    await put(client, ["a"], "one", x=1, kind="n")
    await put(client, ["a", "b"], "two", x=2, kind="n")
    await put(client, ["c"], "three", x=3)
    assert set(await found(client, namespace_prefix=["a"])) == {"one", "two"}
    assert set(await found(client)) == {"one", "two", "three"}
    assert await found(client, namespace_prefix=["a", "b"]) == ["two"]
    assert await found(client, namespace_prefix=["a"], filter={"x": 1}) == ["one"]
    assert await found(client, namespace_prefix=["a"], filter={"x": {"$gt": 1}}) == ["two"]
    assert len(await found(client, filter={"x": {"$gte": 1, "$lt": 3}, "kind": "n"}, limit=1, offset=1)) == 1
    assert await found(client, namespace_prefix=["a"], offset=2) == []
    (item,) = (await client.post("/store/items/search", json={"namespace_prefix": ["c"]})).json()["items"]
    assert (item["value"], item["score"]) == ({"x": 3}, None)


async def test_namespaces_are_listed(client: httpx.AsyncClient) -> None:
    for namespace in (["a"], ["a", "b"], ["a", "b", "c"], ["d", "b"]):
        await put(client, namespace, "k", x=1)

    async def listed(**query: Any) -> list[list[str]]:
        answered = await client.post("/store/namespaces", json=query)
        namespaces: list[list[str]] = answered.json()["namespaces"]
        return sorted(namespaces)

    assert await listed() == [["a"], ["a", "b"], ["a", "b", "c"], ["d", "b"]]
    assert await listed(prefix=["a"], max_depth=2) == [["a"], ["a", "b"]]
    assert await listed(suffix=["b"]) == [["a", "b"], ["d", "b"]]
    assert len(await listed(limit=1, offset=1)) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "items", {"namespace": ["a.x"], "key": "k", "value": {}}, 422),
        ("PUT", "items", {"namespace": ["a", ""], "key": "k", "value": {}}, 422),
        ("PUT", "items", {"namespace": [], "key": "k", "value": {}}, 422),
        ("PUT", "items", {"namespace": ["langgraph"], "key": "k", "value": {}}, 400),
        ("PUT", "items", {"namespace": ["a"], "key": "k", "value": 5}, 422),
        ("PUT", "items", {"namespace": ["a"], "key": "k"}, 422),
        ("PUT", "items", {"namespace": ["a\0"], "key": "k", "value": {}}, 422),
        ("PUT", "items", {"namespace": ["a"], "key": "k\0", "value": {}}, 422),
        ("PUT", "items", {"namespace": ["a"], "key": 5, "value": {}}, 422),
        ("PUT", "items", {"namespace": ["a"], "key": "k", "value": {}, "ttl": -1}, 422),
        ("PUT", "items", {"namespace": ["a"], "key": "k", "value": {}, "index": True}, 422),
        ("PUT", "items", {"namespace": ["a"], "key": "k", "value": {}, "index": 0}, 422),
        ("DELETE", "items", {"namespace": ["a"]}, 422),
        ("DELETE", "items", {"key": "k"}, 422),
        ("POST", "items/search", {"namespace_prefix": ["a.b"]}, 422),
        ("POST", "items/search", {"limit": 0}, 422),
        ("POST", "items/search", {"limit": 1001}, 422),
        ("POST", "items/search", {"offset": 2**53}, 422),
        ("POST", "items/search", {"filter": []}, 422),
        ("POST", "items/search", {"filter": {"x": {"$foo": 0}}}, 400),
        ("POST", "namespaces", {"max_depth": 0}, 422),
        ("POST", "namespaces", {"limit": 0}, 422),
        ("POST", "namespaces", {"prefix": "a"}, 422),
    ],
)
async def test_bad_input_is_refused(client: httpx.AsyncClient, method: str, path: str, body: Any, status: int) -> None:
    await put(client, ["a"], "there", x=1)
    answered = await client.request(method, f"/store/{path}", json=body)
    assert (answered.status_code, bool(answered.json()["detail"])) == (status, True)


@pytest.mark.parametrize(
    "params", [{"key": "k"}, {"namespace": "a"}, {"namespace": "", "key": "k"}, {"namespace": "a..b", "key": "k"}]
)
async def test_an_item_needs_a_whole_name(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    assert (await client.get("/store/items", params=params)).status_code == 422


async def test_odd_values_come_back_as_they_were_sent(client: httpx.AsyncClient) -> None:
    value = {"nul": "a\0b", "\0": 1, "deep": [[{"": None}]], "n": 2**53, "emoji": "\U0001f600"}
    body = {"namespace": ["odd \U0001f600"], "key": "", "value": value}
    assert (await client.put("/store/items", json=body)).status_code == 204
    item = await client.get("/store/items", params={"namespace": "odd \U0001f600", "key": ""})
    assert item.json()["value"] == value


@pytest.mark.parametrize(
    "wanted", [{"a\0": "\0"}, {"": 10**30}, {"a.b": {"c": [1]}}, {"x": {"$gt": {"a": 1}}}, {"x": []}]
)
async def test_odd_filters_find_nothing(client: httpx.AsyncClient, wanted: dict[str, Any]) -> None:
    await put(client, ["a"], "k", x=1)
    answered = await client.post("/store/items/search", json={"filter": wanted})
    assert (answered.status_code, answered.json()) == (200, {"items": []}) or answered.status_code in (400, 422)


async def test_each_users_items_are_their_own(api: Api, client: httpx.AsyncClient) -> None:
    space = f"space-{uuid4()}"
    async with api.client("ann") as ann:
        await put(ann, [space], "k", x=1)
        assert (await client.get("/store/items", params={"namespace": space, "key": "k"})).json() is None
        assert await found(client, namespace_prefix=[space]) == []
        assert (await client.post("/store/namespaces", json={"prefix": [space]})).json() == {"namespaces": []}
        await put(client, [space], "k", x=2)
        await client.request("DELETE", "/store/items", json={"namespace": [space], "key": "k"})
        assert (await ann.get("/store/items", params={"namespace": space, "key": "k"})).json()["value"] == {"x": 1}


async def test_workflows_find_the_items_of_whoever_runs_them(api: Api, client: httpx.AsyncClient, user: str) -> None:
    await put(client, ["notes", "zoe"], "first", text="likes cats")
    mine = await api.ran("memory", {"user": "zoe", "note": "likes dogs"}, user=user)
    assert (await client.get(f"/threads/{mine}")).json()["values"]["notes"] == ["likes cats", "likes dogs"]
    somebody = f"somebody-{uuid4()}"
    others = await api.ran("memory", {"user": "zoe", "note": "likes fish"}, user=somebody)
    async with api.client(somebody) as another:
        assert (await another.get(f"/threads/{others}")).json()["values"]["notes"] == ["likes fish"]
    assert set(await found(client, namespace_prefix=["notes"])) == {"first", "likes dogs"}


async def test_the_sdk_keeps_finds_and_deletes_items(api: Api, user: str) -> None:
    store = api.sdk(user).store
    await store.put_item(["a", "b"], "k", {"x": 1}, index=False, ttl=5)
    assert (await store.get_item(["a", "b"], "k", refresh_ttl=False))["value"] == {"x": 1}
    assert [one["key"] for one in (await store.search_items(["a"], filter={"x": 1}))["items"]] == ["k"]
    assert (await store.list_namespaces(prefix=["a"]))["namespaces"] == [["a", "b"]]
    await store.delete_item(["a", "b"], "k")
    assert (await store.search_items(["a"]))["items"] == []


async def test_an_apps_auth_may_move_a_namespace(tmp_path: Path) -> None:
    auth, asked = by_header(), []

    @auth.on.store
    async def within(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
        asked.append((ctx.action, deepcopy(value)))
        value["namespace"] = ("mine", *(value["namespace"] or ()))

    async with api_in(tmp_path, auth) as api, api.client("ann") as ann:
        await put(ann, ["a"], "k", x=1)
        item = (await ann.get("/store/items", params={"namespace": "a", "key": "k"})).json()
        assert item["namespace"] == ["mine", "a"]
        assert await found(ann, namespace_prefix=["a"]) == ["k"]
        assert (await ann.post("/store/namespaces", json={})).json() == {"namespaces": [["mine", "a"]]}
        await ann.request("DELETE", "/store/items", json={"namespace": ["a"], "key": "k"})
        assert await found(ann) == []
    assert [action for action, _ in asked] == ["put", "get", "search", "list_namespaces", "delete", "search"]
    assert asked[0][1] == {"namespace": ("a",), "key": "k", "value": {"x": 1}, "index": None}
    assert set(asked[2][1]) == {"namespace", "filter", "limit", "offset", "query"}
