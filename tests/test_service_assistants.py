"""Assistants over HTTP: found, looked at, made, changed, deleted; each owner's apart."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import Auth

from tests.service_api import GRAPHS, Api, api_in, by_header

STEPS = str(uuid5(UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), "steps"))
NOBODYS = "3f6d7a1e-0000-4000-8000-000000000000"
ASSISTANT_FIELDS = {
    "assistant_id", "graph_id", "config", "context", "metadata", "name", "created_at", "updated_at", "version",
    "description",
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


async def test_every_workflow_has_an_assistant_of_its_own(client: httpx.AsyncClient) -> None:
    found = (await client.post("/assistants/search", json={"limit": 100})).json()
    assert {one["graph_id"] for one in found} == set(GRAPHS)
    steps = next(one for one in found if one["graph_id"] == "steps")
    assert set(steps) == ASSISTANT_FIELDS
    assert steps["assistant_id"] == STEPS
    assert (steps["name"], steps["version"], steps["metadata"]) == ("steps", 1, {"created_by": "system"})
    assert steps["description"] == "Three nodes and a reducer"


async def test_a_page_tells_whether_there_is_more(client: httpx.AsyncClient) -> None:
    first = await client.post("/assistants/search", json={"limit": 2})
    assert (first.headers["x-pagination-total"], first.headers["x-pagination-next"]) == ("3", "2")
    last = await client.post("/assistants/search", json={"limit": 2, "offset": len(GRAPHS) - 2, "select": ["name"]})
    assert last.headers["x-pagination-total"] == str(len(GRAPHS))
    assert "x-pagination-next" not in last.headers
    assert all(set(one) == {"name"} for one in last.json())
    assert (await client.post("/assistants/count", json={})).json() == len(GRAPHS)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"graph_id": "steps"}, ["steps"]),
        ({"name": "STEP"}, ["steps"]),
        ({"metadata": {"created_by": "somebody"}}, []),
        ({"sort_by": "name", "sort_order": "asc", "limit": 2}, ["approve", "broken"]),
    ],
)
async def test_a_search_finds_what_it_asks_for(client: httpx.AsyncClient, body: Any, names: list[str]) -> None:
    assert [one["name"] for one in (await client.post("/assistants/search", json=body)).json()] == names
    if "limit" not in body:
        assert (await client.post("/assistants/count", json=body)).json() == len(names)


@pytest.mark.parametrize("path", ["/assistants/search", "/assistants/count"])
async def test_a_search_in_an_unknown_graph_names_the_graphs(client: httpx.AsyncClient, path: str) -> None:
    answered = await client.post(path, json={"graph_id": "nope"})
    assert answered.status_code == 404
    assert "'nope' not found" in answered.json()["detail"]
    assert "'steps'" in answered.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": "1"}, {"limit": 10**30}, {"offset": -1}, {"offset": 2**53},
        {"sort_by": "nope"}, {"sort_order": "up"}, {"select": ["nope"]}, {"metadata": []}, {"name": "a\0b"},
        {"metadata": {str(number): number for number in range(101)}}, [], None, 5,
    ],
)  # fmt: skip
async def test_a_bad_search_is_a_422(client: httpx.AsyncClient, body: Any) -> None:
    answered = await client.post("/assistants/search", json=body)
    assert answered.status_code == 422
    assert answered.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"{bad", b'{"name":"\xff"}', b'{"name":"\\ud800"}'])
async def test_a_body_that_is_no_json_is_a_422(client: httpx.AsyncClient, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert (await client.post("/assistants/search", content=content, headers=headers)).status_code == 422


async def test_odd_metadata_is_looked_for_without_a_fault(client: httpx.AsyncClient) -> None:
    odd = {"a\0b": "\0", "": 10**40, 'x"]': {"$gt": [1.5, None, {"y": True}]}}
    assert (await client.post("/assistants/search", json={"metadata": odd})).json() == []


@pytest.mark.parametrize("name", [STEPS, "steps"])
async def test_a_workflows_name_stands_for_its_assistant(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/assistants/{name}")).json()["assistant_id"] == STEPS
    schemas = (await client.get(f"/assistants/{name}/schemas")).json()
    assert schemas["graph_id"] == "steps"
    assert set(schemas["input_schema"]["properties"]) == {"topic", "trail", "total"}
    assert schemas["state_schema"]["title"] == "steps_state"
    assert schemas["state_schema"]["properties"]["topic"] == {"default": None, "title": "Topic", "type": "string"}
    assert (schemas["config_schema"], schemas["context_schema"]) == ({}, None)


async def test_a_context_has_a_schema(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/assistants/configured/schemas")).json()
    assert schemas["context_schema"]["properties"] == {"tone": {"title": "Tone", "type": "string"}}
    assert schemas["config_schema"] == schemas["context_schema"]


@pytest.mark.parametrize("path", ["", "/schemas", "/graph", "/subgraphs", "/subgraphs/child"])
async def test_an_assistant_that_is_not_there(client: httpx.AsyncClient, path: str) -> None:
    unknown = await client.get(f"/assistants/nope{path}")
    assert unknown.status_code == 422
    assert ", ".join(GRAPHS) in unknown.json()["detail"]
    absent = await client.get(f"/assistants/{NOBODYS}{path}")
    assert absent.status_code == 404
    assert NOBODYS in absent.json()["detail"]


async def test_a_graph_is_drawn(client: httpx.AsyncClient) -> None:
    drawn = (await client.get("/assistants/parent/graph")).json()
    assert drawn["nodes"][1] == {"id": "before", "type": "runnable", "data": {"name": "before"}}
    assert drawn["nodes"][-1] == {"id": "__end__"}
    assert {"source": "before", "target": "child"} in drawn["edges"]
    for xray in ("true", "1", "True"):
        inside = (await client.get("/assistants/parent/graph", params={"xray": xray})).json()
        assert "child:inside" in [node["id"] for node in inside["nodes"]]
    tick = (await client.get("/assistants/slow/graph")).json()
    assert {"source": "tick", "target": "tick", "conditional": True} in tick["edges"]


@pytest.mark.parametrize("xray", ["bad", "-1", "0", "", "1e3", "99999999999"])
async def test_a_bad_xray_is_a_422(client: httpx.AsyncClient, xray: str) -> None:
    assert (await client.get("/assistants/parent/graph", params={"xray": xray})).status_code == 422


async def test_subgraphs_are_told_by_namespace(client: httpx.AsyncClient) -> None:
    found = (await client.get("/assistants/parent/subgraphs", params={"recurse": "true"})).json()
    assert list(found) == ["child"]
    assert found["child"]["state_schema"]["properties"]["words"]["type"] == "array"
    assert (await client.get("/assistants/parent/subgraphs/child")).json() == found
    assert (await client.get("/assistants/parent/subgraphs/nope")).json() == {}
    assert (await client.get("/assistants/steps/subgraphs")).json() == {}


async def test_an_assistant_is_made_changed_and_set_back_by_the_sdk(api: Api, user: str) -> None:
    sdk = api.sdk(user)
    made = await sdk.assistants.create(
        "configured", context={"tone": "kind"}, metadata={"k": "v"}, name="mine", description="d"
    )
    assert (made["version"], made["config"]) == (1, {"configurable": {"tone": "kind"}})
    changed = await sdk.assistants.update(
        made["assistant_id"], context={"tone": "cold"}, metadata={"k2": "v2"}, name="mine2"
    )
    assert (changed["version"], changed["name"], changed["context"]) == (2, "mine2", {"tone": "cold"})
    assert changed["config"] == {"configurable": {"tone": "cold"}}
    assert changed["metadata"] == {"k": "v", "k2": "v2"}
    assert changed["created_at"] == made["created_at"]
    versions = await sdk.assistants.get_versions(made["assistant_id"])
    assert [one["version"] for one in versions] == [2, 1]
    only = await sdk.assistants.get_versions(made["assistant_id"], metadata={"k2": "v2"})
    assert [one["version"] for one in only] == [2]
    latest = await sdk.assistants.set_latest(made["assistant_id"], 1)
    assert (latest["name"], latest["context"]) == ("mine", {"tone": "kind"})
    assert await sdk.assistants.get(made["assistant_id"]) == latest
    await sdk.assistants.delete(made["assistant_id"])
    async with api.client(user) as client:
        assert (await client.get(f"/assistants/{made['assistant_id']}")).status_code == 404
        assert (await client.delete(f"/assistants/{made['assistant_id']}")).status_code == 404


async def test_configurable_and_context_are_two_names_of_one_thing(client: httpx.AsyncClient) -> None:
    config = {"configurable": {"tone": "grim", "thread_id": "x", "__secret": 1}, "tags": ["t"]}
    made = (await client.post("/assistants", json={"graph_id": "configured", "config": config})).json()
    assert made["config"] == {"configurable": {"tone": "grim"}, "tags": ["t"]}
    assert (made["context"], made["name"]) == ({"tone": "grim"}, "Untitled")
    both = {"graph_id": "configured", "config": config, "context": {"tone": "x"}}
    assert (await client.post("/assistants", json=both)).status_code == 400
    forged = {"graph_id": "configured", "config": {"configurable": {"langgraph_auth_user": {"identity": "root"}}}}
    assert (await client.post("/assistants", json=forged)).status_code == 400
    change = {"context": {"tone": "soft", "thread_id": "x"}}
    changed = await client.patch(f"/assistants/{made['assistant_id']}", json=change)
    assert changed.json()["config"] == {"configurable": {"tone": "soft"}, "tags": ["t"]}


@pytest.mark.parametrize("name", [STEPS, STEPS.upper(), "steps"])
async def test_a_run_finds_what_comes_with_the_app(client: httpx.AsyncClient, name: str) -> None:
    answered = await client.post("/runs/wait", json={"assistant_id": name, "input": {"topic": "cats"}})
    assert answered.json()["trail"][-1] == "third cats"


async def test_a_run_finds_the_callers_own_assistants_only(api: Api, client: httpx.AsyncClient) -> None:
    async with api.client("ann") as ann:
        body = {"graph_id": "configured", "context": {"tone": "kind"}}
        anns = (await ann.post("/assistants", json=body)).json()["assistant_id"]
        run = {"assistant_id": anns, "input": {}}
        assert (await ann.post("/runs/wait", json=run)).json()["tone"] == "kind"
        for unknown in (anns, NOBODYS, "nope", "a\0", ""):
            refused = await client.post("/runs/wait", json={**run, "assistant_id": unknown})
            assert refused.status_code == (404 if len(unknown) == 36 else 422)
            if unknown in ("nope", ""):
                assert f"registered graphs: {GRAPHS[0]}, {GRAPHS[1]}" in refused.json()["detail"]


async def test_an_id_that_is_taken(client: httpx.AsyncClient) -> None:
    new = str(uuid4())
    body = {"graph_id": "steps", "assistant_id": new.upper(), "name": "one"}
    made = await client.post("/assistants", json=body)
    assert made.json()["assistant_id"] == new
    taken = await client.post("/assistants", json=body)
    assert taken.status_code == 409
    assert new in taken.json()["detail"]
    again = await client.post("/assistants", json={**body, "name": "two", "if_exists": "do_nothing"})
    assert again.json() == made.json()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422), ({"graph_id": "nope"}, 404), ({"graph_id": 5}, 422), ({"graph_id": "a\0"}, 422),
        ({"graph_id": "steps", "assistant_id": "x"}, 422), ({"graph_id": "steps", "if_exists": "x"}, 422),
        ({"graph_id": "steps", "config": {"configurable": 5}}, 422), ({"graph_id": "steps", "metadata": 5}, 422),
    ],
)  # fmt: skip
async def test_a_bad_assistant_is_refused(client: httpx.AsyncClient, body: Any, status: int) -> None:
    answered = await client.post("/assistants", json=body)
    assert (answered.status_code, bool(answered.json()["detail"])) == (status, True)


@pytest.mark.parametrize(
    ("path", "body"), [("", {"name": "x"}), ("/versions", {}), ("/latest", {"version": 1}), ("", {"graph_id": "nope"})]
)
async def test_what_is_not_there_is_not_changed(client: httpx.AsyncClient, path: str, body: Any) -> None:
    method = "POST" if path else "PATCH"
    assert (await client.request(method, f"/assistants/{NOBODYS}{path}", json=body)).status_code == 404
    assert (await client.request(method, f"/assistants/nope{path}", json={"version": 1})).status_code == 422


@pytest.mark.parametrize(("version", "status"), [(99, 404), (0, 422), (2**40, 422), ("1", 422), (None, 422)])
async def test_a_version_that_is_not_there(client: httpx.AsyncClient, version: Any, status: int) -> None:
    made = (await client.post("/assistants", json={"graph_id": "steps"})).json()["assistant_id"]
    answered = await client.post(f"/assistants/{made}/latest", json={"version": version})
    assert (answered.status_code, bool(answered.json()["detail"])) == (status, True)


async def test_others_assistants_are_as_if_they_were_not_there(api: Api) -> None:
    async with api.client("ann") as ann, api.client("bob") as bob:
        body = {"graph_id": "steps", "name": "ann's"}
        made = (await ann.post("/assistants", json=body)).json()["assistant_id"]
        for path in ("", "/schemas", "/graph", "/subgraphs", "/subgraphs/child"):
            assert (await bob.get(f"/assistants/{made}{path}")).status_code == 404
            assert (await ann.get(f"/assistants/{made}{path}")).status_code == 200
        assert (await bob.patch(f"/assistants/{made}", json={"name": "mine"})).status_code == 404
        assert (await bob.post(f"/assistants/{made}/versions", json={})).status_code == 404
        assert (await bob.post(f"/assistants/{made}/latest", json={"version": 1})).status_code == 404
        assert (await bob.delete(f"/assistants/{made}")).status_code == 404
        taken = {**body, "assistant_id": made, "if_exists": "do_nothing"}
        assert (await bob.post("/assistants", json=taken)).status_code == 409
        for path in ("search", "count"):
            answered = (await bob.post(f"/assistants/{path}", json={"name": "ann"})).json()
            assert answered in ([], 0)
        assert (await ann.get(f"/assistants/{made}")).json()["name"] == "ann's"


async def test_what_comes_with_the_app_is_seen_by_all_and_changed_by_none(api: Api) -> None:
    async with api.client("ann") as ann:
        assert (await ann.get("/assistants/steps")).status_code == 200
        refused = await ann.patch("/assistants/steps", json={"name": "mine"})
        assert refused.status_code == 403
        assert "POST /assistants" in refused.json()["detail"]
        assert (await ann.post("/assistants/steps/latest", json={"version": 1})).status_code == 403
        assert (await ann.delete("/assistants/steps")).status_code == 403
        assert (await ann.get("/assistants/steps")).json()["version"] == 1


async def test_deleting_an_assistant_may_take_its_threads_along(client: httpx.AsyncClient) -> None:
    made = (await client.post("/assistants", json={"graph_id": "steps"})).json()["assistant_id"]
    mine = [
        (await client.post("/threads", json={"metadata": {"assistant_id": made}})).json()["thread_id"] for _ in range(3)
    ]
    other = (await client.post("/threads", json={})).json()["thread_id"]
    assert (await client.delete(f"/assistants/{made}", params={"delete_threads": "true"})).status_code == 204
    assert [(await client.get(f"/threads/{one}")).status_code for one in (*mine, other)] == [404, 404, 404, 200]


async def test_an_apps_auth_sees_what_is_asked_and_may_add_to_it(tmp_path: Path) -> None:
    auth, asked = by_header(), []

    @auth.on.assistants
    async def note(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
        asked.append((ctx.action, dict(value)))
        if ctx.action == "create":
            value["metadata"] = {**value["metadata"], "owner": ctx.user.identity}
        return {"owner": ctx.user.identity} if ctx.action != "search" else None

    async with api_in(tmp_path, auth) as api, api.client("ann") as ann, api.client("bob") as bob:
        body = {"graph_id": "steps", "assistant_id": NOBODYS, "metadata": {"k": 1}}
        assert (await ann.post("/assistants", json=body)).json()["metadata"] == {"k": 1, "owner": "ann"}
        assert (await ann.get(f"/assistants/{NOBODYS}")).status_code == 200
        assert (await bob.get(f"/assistants/{NOBODYS}")).status_code == 404
        assert len((await bob.post("/assistants/search", json={"graph_id": "steps"})).json()) == 2
    assert [action for action, _ in asked] == ["create", "read", "read", "search"]
    assert asked[0][1]["assistant_id"] == UUID(NOBODYS)
    assert asked[0][1]["graph_id"] == "steps"
    assert asked[1][1] == {"assistant_id": UUID(NOBODYS)}
