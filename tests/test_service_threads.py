"""Threads over HTTP: begun, found, changed, copied, pruned, deleted; each owner's apart."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import Auth

from tests.service_api import Api, api_in, by_header

NOBODYS = "3f6d7a1e-0000-4000-8000-000000000000"
THREAD_FIELDS = {
    "thread_id", "created_at", "updated_at", "state_updated_at", "metadata", "status", "config", "values", "error",
    "interrupts",
}  # fmt: skip

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


async def begun(client: httpx.AsyncClient, **body: Any) -> str:
    answered = await client.post("/threads", json=body)
    assert answered.status_code == 200, answered.text
    return str(answered.json()["thread_id"])


async def test_a_thread_begins_empty(client: httpx.AsyncClient) -> None:
    made = (
        await client.post("/threads", json={"metadata": {"k": "v"}, "ttl": {"ttl": 5, "strategy": "delete"}})
    ).json()
    assert set(made) == THREAD_FIELDS
    assert (made["status"], made["values"], made["metadata"]) == ("idle", None, {"k": "v"})
    assert (made["config"], made["error"], made["interrupts"]) == ({}, None, {})
    assert made["created_at"].endswith("+00:00")
    assert UUID(made["thread_id"]).version == 7
    assert (await client.get(f"/threads/{made['thread_id']}", params={"include": "ttl"})).json() == made


async def test_an_id_that_is_taken(client: httpx.AsyncClient) -> None:
    new = str(uuid4())
    await begun(client, thread_id=new.upper(), metadata={"k": "v"})
    taken = await client.post("/threads", json={"thread_id": new})
    assert taken.status_code == 409
    assert new in taken.json()["detail"]
    again = await client.post("/threads", json={"thread_id": new, "if_exists": "do_nothing", "metadata": {"z": 1}})
    assert again.json()["metadata"] == {"k": "v"}


@pytest.mark.parametrize(
    "body",
    [
        {"thread_id": "bad"}, {"metadata": "x"}, {"ttl": 5}, {"if_exists": "nope"}, {"supersteps": [5]},
        {"supersteps": [{"updates": [{"command": {"goto": 5}}]}]}, {"supersteps": {}}, [], None,
    ],
)  # fmt: skip
async def test_a_bad_thread_is_a_422(client: httpx.AsyncClient, body: Any) -> None:
    answered = await client.post("/threads", json=body)
    assert answered.status_code == 422
    assert answered.json()["detail"]


async def test_metadata_is_added_to_what_is_there(client: httpx.AsyncClient) -> None:
    thread = await begun(client, metadata={"k": "v"})
    assert (await client.patch(f"/threads/{thread}", json={"metadata": {"k2": "v2"}})).json()["metadata"] == {
        "k": "v", "k2": "v2",
    }  # fmt: skip
    changed = (await client.patch(f"/threads/{thread}", json={"metadata": {"k": None}})).json()
    assert changed["metadata"] == {"k": None, "k2": "v2"}
    minimal = await client.patch(f"/threads/{thread}", json={"metadata": {}}, headers={"Prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (204, b"")


async def test_odd_metadata_comes_back_as_it_was_sent(client: httpx.AsyncClient) -> None:
    odd = {"nul": "a\0b", "\0": 1, "": {"deep": [None, True, 1.5, -(2**63), 2**64 - 1]}, "emoji": "\U0001f600"}
    thread = await begun(client, metadata=odd)
    assert (await client.get(f"/threads/{thread}")).json()["metadata"] == odd
    large = await begun(client, metadata={"n": 10**30})
    assert (await client.get(f"/threads/{large}")).json()["metadata"]["n"] == pytest.approx(1e30)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None), ("PATCH", "", {}), ("DELETE", "", None), ("POST", "/copy", None), ("GET", "/state", None),
        ("GET", f"/state/{NOBODYS}", None), ("POST", "/state/checkpoint", {"checkpoint": {}}),
        ("POST", "/state", {"values": {}}), ("GET", "/history", None), ("POST", "/history", {}),
    ],
)  # fmt: skip
async def test_what_is_not_there_or_another_users_is_not_found(
    api: Api, client: httpx.AsyncClient, method: str, path: str, body: Any
) -> None:
    async with api.client("ann") as ann:
        anns = await begun(ann, metadata={"graph_id": "steps"})
        for thread in (NOBODYS, anns):
            answered = await client.request(method, f"/threads/{thread}{path}", json=body)
            assert answered.status_code == 404
            assert thread in answered.json()["detail"]
        bad = await client.request(method, f"/threads/bad{path}", json=body)
        assert (bad.status_code, "thread_id" in bad.json()["detail"]) == (422, True)
        assert (await ann.get(f"/threads/{anns}")).json()["metadata"] == {"graph_id": "steps"}


async def test_another_users_thread_is_in_no_list_and_its_id_is_taken(api: Api, client: httpx.AsyncClient) -> None:
    async with api.client("ann") as ann:
        anns = await begun(ann, metadata={"mark": "only here"})
        for query in ({"metadata": {"mark": "only here"}}, {"ids": [anns]}):
            assert (await client.post("/threads/search", json=query)).json() == []
        assert (await client.post("/threads/count", json={"metadata": {"mark": "only here"}})).json() == 0
        for strategy in ("delete", "keep_latest"):
            pruning = {"thread_ids": [anns], "strategy": strategy}
            assert (await client.post("/threads/prune", json=pruning)).json() == {"pruned_count": 0}
        taken = await client.post("/threads", json={"thread_id": anns, "if_exists": "do_nothing"})
        assert taken.status_code == 409
        assert (await ann.get(f"/threads/{anns}")).status_code == 200


async def test_a_search_finds_what_it_asks_for(api: Api, client: httpx.AsyncClient, user: str) -> None:
    first = await begun(client, metadata={"k": {"deep": [1, 2]}, "n": 1})
    second = await begun(client, metadata={"k": "v"})
    done = await api.ran("steps", {"topic": "cats"}, user=user)
    asking = await api.ran("approve", {"text": "hi"}, user=user)
    asked: list[tuple[dict[str, Any], list[str]]] = [
        ({"metadata": {"k": {"deep": [2]}}}, [first]),
        ({"metadata": {"k": "v"}}, [second]),
        ({"status": "interrupted"}, [asking]),
        ({"values": {"topic": "cats"}}, [done]),
        ({"metadata": {"graph_id": "approve"}}, [asking]),
        ({"status": "busy"}, []),
    ]
    for query, wanted in asked:
        found = await client.post("/threads/search", json={**query, "select": ["thread_id"]})
        assert found.json() == [{"thread_id": one} for one in wanted]
        assert (await client.post("/threads/count", json=query)).json() == len(wanted)
    by_id = await client.post("/threads/search", json={"ids": [first, NOBODYS], "select": ["metadata"]})
    assert by_id.json() == [{"metadata": {"k": {"deep": [1, 2]}, "n": 1}}]
    assert len((await client.post("/threads/search", json={"ids": []})).json()) == 4


async def test_a_page_tells_whether_there_is_more(client: httpx.AsyncClient) -> None:
    made = [await begun(client) for _ in range(3)]
    query = {"sort_by": "created_at", "sort_order": "asc", "limit": 2, "select": ["thread_id"]}
    first = await client.post("/threads/search", json=query)
    assert (first.headers["x-pagination-total"], first.headers["x-pagination-next"]) == ("3", "2")
    rest = await client.post("/threads/search", json={**query, "offset": 2})
    assert (rest.headers["x-pagination-total"], "x-pagination-next" in rest.headers) == ("3", False)
    assert [one["thread_id"] for one in (*first.json(), *rest.json())] == made
    assert (await client.post("/threads/search", json={"offset": 10_000})).headers["x-pagination-total"] == "10000"


async def test_a_search_extracts_parts(api: Api, client: httpx.AsyncClient, user: str) -> None:
    thread = await api.ran("steps", {"topic": "cats"}, user=user)
    paths = {"t": "values.topic", "l": "values.trail[-1]", "none": "values.trail[9]", "no": "a.b", "m": "metadata"}
    query = {"ids": [thread], "select": ["thread_id"], "extract": paths}
    (found,) = (await client.post("/threads/search", json=query)).json()
    assert found == {
        "thread_id": thread,
        "extracted": {"t": "cats", "l": "third cats", "none": None, "no": None, "m": {"graph_id": "steps"}},
    }


@pytest.mark.parametrize(
    "body",
    [
        {"status": "nope"}, {"sort_by": "nope"}, {"limit": 0}, {"limit": 1001}, {"offset": -1}, {"offset": 10**20},
        {"select": ["nope"]}, {"ids": ["bad"]}, {"extract": {"a": ""}}, {"extract": {"a": "b..c"}},
        {"extract": {"a": "b[x]"}}, {"extract": {str(number): "values" for number in range(11)}}, {"values": 5},
        {"metadata": {str(number): 1 for number in range(101)}},
    ],
)  # fmt: skip
async def test_a_bad_search_is_a_422(client: httpx.AsyncClient, body: Any) -> None:
    answered = await client.post("/threads/search", json=body)
    assert answered.status_code == 422
    assert answered.json()["detail"]


async def test_a_copy_has_the_state_and_a_life_of_its_own(api: Api, client: httpx.AsyncClient, user: str) -> None:
    thread = await api.ran("steps", {"topic": "cats"}, user=user)
    copied = (await client.post(f"/threads/{thread}/copy")).json()
    assert copied["thread_id"] != thread
    assert copied["metadata"] == {"graph_id": "steps"}
    of_copy = f"/threads/{copied['thread_id']}"
    state = (await client.get(f"{of_copy}/state")).json()
    assert state["values"]["trail"] == ["first", "second", "third cats"]
    assert state["checkpoint"]["thread_id"] == copied["thread_id"]
    assert len((await client.get(f"{of_copy}/history", params={"limit": 100})).json()) == 5
    await client.post(f"{of_copy}/state", json={"values": {"topic": "dogs"}})
    assert (await client.get(f"/threads/{thread}/state")).json()["values"]["topic"] == "cats"
    assert (await client.delete(f"/threads/{thread}")).status_code == 204
    assert (await client.get(f"{of_copy}/state")).json()["values"]["topic"] == "dogs"


async def test_a_deleted_thread_leaves_nothing(api: Api, client: httpx.AsyncClient, user: str) -> None:
    thread = await api.ran("steps", {"topic": "cats"}, user=user)
    assert (await client.delete(f"/threads/{thread}")).status_code == 204
    assert (await client.delete(f"/threads/{thread}")).status_code == 404
    assert await api.service.saver.aget_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}) is None
    await begun(client, thread_id=thread, metadata={"graph_id": "steps"})
    assert (await client.get(f"/threads/{thread}/state")).json()["values"] == {}


async def test_the_runs_of_a_deleted_thread_end_with_it(api: Api, client: httpx.AsyncClient) -> None:
    thread = await begun(client)
    body = {"assistant_id": "slow", "input": {"steps": 10_000}, "config": {"recursion_limit": 1000}}
    run = (await client.post(f"/threads/{thread}/runs", json=body)).json()
    assert (await client.get(f"/threads/{thread}")).json()["status"] == "busy"
    assert (await client.post(f"/threads/{thread}/state", json={"values": {"count": 1}})).status_code == 409
    assert (await client.delete(f"/threads/{thread}")).status_code == 204
    assert (await client.get(f"/threads/{thread}")).status_code == 404
    assert await api.service.store.runs.get(run["run_id"]) is None
    assert (api.service.runner.queued, api.service.runner.running) == (0, 0)
    assert await api.service.saver.aget_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}) is None


async def test_pruning_deletes_threads_or_their_history(api: Api, client: httpx.AsyncClient, user: str) -> None:
    short, gone = [await api.ran("steps", {"topic": "cats"}, user=user) for _ in range(2)]
    keeping = {"thread_ids": [short, NOBODYS, short], "strategy": "keep_latest"}
    assert (await client.post("/threads/prune", json=keeping)).json() == {"pruned_count": 1}
    kept = (await client.get(f"/threads/{short}/history", params={"limit": 100})).json()
    assert [state["values"]["total"] for state in kept] == [3]
    assert (await client.post("/threads/prune", json={"thread_ids": [gone]})).json() == {"pruned_count": 1}
    assert (await client.get(f"/threads/{gone}")).status_code == 404
    assert (await client.post("/threads/prune", json={"thread_ids": []})).json() == {"pruned_count": 0}
    for bad in ({"thread_ids": ["bad"]}, {"thread_ids": [], "strategy": "x"}, {}):
        assert (await client.post("/threads/prune", json=bad)).status_code == 422


async def test_supersteps_write_a_state_as_if_it_had_been_run(api: Api, user: str) -> None:
    sdk = api.sdk(user)
    thread = await sdk.threads.create(
        graph_id="steps",
        supersteps=[
            {"updates": [{"values": {"topic": "a"}, "as_node": "__input__"}]},
            {"updates": [{"values": {"trail": ["q"]}, "as_node": "first"}]},
        ],
    )
    assert (thread["status"], thread["values"]) == ("interrupted", {"trail": ["q"]})
    state = await sdk.threads.get_state(thread["thread_id"])
    assert (state["next"], (state["metadata"] or {})["source"]) == (["second"], "update")
    assert len(await sdk.threads.get_history(thread["thread_id"])) == 2
    command = {"update": {"topic": "z"}, "goto": ["third", {"node": "second", "input": {}}]}
    sent = await sdk.threads.create(
        graph_id="steps",
        supersteps=[{"updates": [{"values": None, "command": command, "as_node": "first"}]}],
    )
    assert sent["values"] == {"topic": "z", "trail": []}


@pytest.mark.parametrize(
    ("metadata", "updates", "status"),
    [
        ({}, [{"values": {}}], 400), ({"graph_id": "nope"}, [{"values": {}}], 404), ({"graph_id": "steps"}, [], 400),
        ({"graph_id": "steps"}, [{"values": {"topic": "a"}, "as_node": "nope"}], 400),
        ({"graph_id": "steps"}, [{"values": {"trail": 5}, "as_node": "first"}], 400),
    ],
)  # fmt: skip
async def test_supersteps_that_do_not_fit_leave_no_thread(
    client: httpx.AsyncClient, metadata: Any, updates: Any, status: int
) -> None:
    new = str(uuid4())
    body = {"thread_id": new, "metadata": metadata, "supersteps": [{"updates": updates}]}
    answered = await client.post("/threads", json=body)
    assert (answered.status_code, bool(answered.json()["detail"])) == (status, True)
    assert (await client.get(f"/threads/{new}")).status_code == 404


async def test_the_sdk_goes_through_a_threads_life(api: Api, user: str) -> None:
    threads = api.sdk(user).threads
    made = await threads.create(metadata={"k": "v"}, if_exists="raise")
    assert await threads.get(made["thread_id"]) == made
    assert (await threads.update(made["thread_id"], metadata={"a": 1}))["metadata"] == {"k": "v", "a": 1}
    await threads.update(made["thread_id"], metadata={"a": 2}, return_minimal=True)
    assert [one["metadata"] for one in await threads.search(metadata={"a": 2})] == [{"k": "v", "a": 2}]
    assert await threads.count(metadata={"a": 2}) == 1
    await threads.copy(made["thread_id"])
    assert await threads.count(metadata={"a": 2}) == 2
    assert (await threads.prune([made["thread_id"]]))["pruned_count"] == 1
    assert await threads.count() == 1


async def test_an_apps_auth_sees_what_is_asked_and_may_add_to_it(tmp_path: Path) -> None:
    auth, asked = by_header(), []

    @auth.on.threads
    async def note(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
        asked.append((ctx.action, deepcopy(value)))
        if ctx.action == "create":
            value.setdefault("metadata", {})["owner"] = ctx.user.identity
        return {"owner": ctx.user.identity}

    async with api_in(tmp_path, auth) as api, api.client("ann") as ann, api.client("bob") as bob:
        thread = await begun(ann, thread_id=NOBODYS)
        assert (await ann.get(f"/threads/{thread}")).json()["metadata"] == {"owner": "ann"}
        assert (await bob.get(f"/threads/{thread}")).status_code == 404
        assert (await bob.post("/threads/search", json={})).json() == []
        assert (await bob.delete(f"/threads/{thread}")).status_code == 404
        copied = (await ann.post(f"/threads/{thread}/copy")).json()["thread_id"]
    assert [action for action, _ in asked] == ["create", "read", "read", "search", "delete", "read", "create"]
    assert asked[0][1] == {"thread_id": UUID(NOBODYS), "metadata": {}, "if_exists": "raise"}
    assert asked[1][1] == {"thread_id": UUID(NOBODYS)}
    assert {"metadata", "values", "status", "limit", "offset", "ids"} == set(asked[3][1])
    assert asked[6][1]["thread_id"] == UUID(copied)
