"""States and histories of threads over HTTP: read at any checkpoint, changed by hand, as RemoteGraph reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from operator import add
from typing import Annotated, Any, cast
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from plait.service.snapshots import thread_state
from plait.store.service.threads import ThreadOutcome
from tests.service_api import Api, api_in, by_header

EMPTY: dict[str, object] = {
    "values": {}, "next": [], "tasks": [], "metadata": None, "created_at": None, "checkpoint": None,
    "parent_checkpoint": None, "interrupts": [], "checkpoint_id": None, "parent_checkpoint_id": None,
}  # fmt: skip

NO_CHECKPOINT = "1ef00000-0000-6000-8000-000000000000"
TRAIL = ["first", "second", "third cats"]
DONE = {"topic": "cats", "trail": TRAIL, "total": 3}


class _Words(TypedDict, total=False):
    words: Annotated[list[str], add]


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


@pytest_asyncio.fixture(loop_scope="module")
async def steps(api: Api, user: str) -> str:
    """A thread on which `steps` has run."""
    return f"/threads/{await api.ran('steps', {'topic': 'cats'}, user=user)}"


async def empty_thread(client: httpx.AsyncClient, **metadata: object) -> str:
    made = await client.post("/threads", json={"metadata": metadata})
    return f"/threads/{made.json()['thread_id']}"


async def history(client: httpx.AsyncClient, thread: str, **query: Any) -> list[dict[str, Any]]:
    answered = await client.post(f"{thread}/history", json={"limit": 100, **query})
    assert answered.status_code == 200, answered.text
    found: list[dict[str, Any]] = answered.json()
    return found


@pytest.mark.parametrize("metadata", [{}, {"graph_id": "steps"}])
async def test_a_thread_without_runs_has_an_empty_state(client: httpx.AsyncClient, metadata: dict[str, str]) -> None:
    thread = await empty_thread(client, **metadata)
    for path in ("state", "state?subgraphs=true"):
        assert (await client.get(f"{thread}/{path}")).json() == EMPTY
    assert (await client.post(f"{thread}/state/checkpoint", json={"checkpoint": {}})).json() == EMPTY
    assert (await client.get(f"{thread}/state/{NO_CHECKPOINT}")).json()["values"] == {}
    assert (await client.get(f"{thread}/history")).json() == []
    assert (await client.post(f"{thread}/history", json={"limit": 5})).json() == []


async def test_the_latest_state(client: httpx.AsyncClient, steps: str) -> None:
    state = (await client.get(f"{steps}/state")).json()
    assert set(state) == set(EMPTY)
    assert (state["values"], state["next"], state["tasks"], state["interrupts"]) == (DONE, [], [], [])
    assert (state["metadata"]["source"], state["metadata"]["step"]) == ("loop", 3)
    assert state["checkpoint"] == {
        "thread_id": steps.removeprefix("/threads/"), "checkpoint_ns": "", "checkpoint_id": state["checkpoint_id"],
    }  # fmt: skip
    assert state["parent_checkpoint"]["checkpoint_id"] == state["parent_checkpoint_id"]
    assert state["created_at"].endswith("+00:00")


async def test_an_older_state_by_its_checkpoint(client: httpx.AsyncClient, steps: str) -> None:
    latest = (await client.get(f"{steps}/state")).json()
    before = latest["parent_checkpoint_id"]
    state = (await client.get(f"{steps}/state/{before}")).json()
    assert (state["values"]["total"], state["next"]) == (2, ["third"])
    (task,) = state["tasks"]
    assert task["id"]
    assert {**task, "id": ""} == {
        "id": "", "name": "third", "path": ["__pregel_pull", "third"], "error": None, "interrupts": [],
        "checkpoint": None, "state": None, "result": {"trail": ["third cats"], "total": 3},
    }  # fmt: skip
    by_body = await client.post(f"{steps}/state/checkpoint", json={"checkpoint": {"checkpoint_id": before}})
    assert by_body.json() == state
    without_id = {"checkpoint": {"thread_id": "of nobody", "checkpoint_ns": ""}, "subgraphs": None}
    assert (await client.post(f"{steps}/state/checkpoint", json=without_id)).json() == latest


@pytest.mark.parametrize("checkpoint", [NO_CHECKPOINT, "not-a-uuid", "\U0001f600", "' OR 1=1 --"])
async def test_a_checkpoint_that_is_not_there_keeps_nothing(
    client: httpx.AsyncClient, steps: str, checkpoint: str
) -> None:
    state = (await client.get(f"{steps}/state/{checkpoint}")).json()
    assert (state["values"], state["metadata"], state["checkpoint_id"]) == ({}, None, checkpoint)
    at = {"checkpoint": {"checkpoint_id": checkpoint}}
    assert (await client.post(f"{steps}/state/checkpoint", json=at)).json()["values"] == {}
    assert await history(client, steps, **at) == []


async def test_a_namespace_without_a_subgraph_keeps_nothing(client: httpx.AsyncClient, steps: str) -> None:
    at = {"checkpoint": {"checkpoint_ns": "nope"}}
    assert (await client.post(f"{steps}/state/checkpoint", json=at)).json() == EMPTY
    assert await history(client, steps, **at) == []
    refused = await client.post(f"{steps}/state", json={"values": {}, **at})
    assert (refused.status_code, refused.json()["detail"]) == (400, "Subgraph nope not found")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"checkpoint": None}, {"checkpoint": "x"}, {"checkpoint": {"checkpoint_id": 5}}, [],
        {"checkpoint": {"checkpoint_id": "a\0b"}}, {"checkpoint": {}, "subgraphs": "yes"},
        {"checkpoint": {"checkpoint_map": {"a": 1}}},
    ],
)  # fmt: skip
async def test_a_bad_checkpoint_is_a_422(client: httpx.AsyncClient, steps: str, body: Any) -> None:
    answered = await client.post(f"{steps}/state/checkpoint", json=body)
    assert (answered.status_code, bool(answered.json()["detail"])) == (422, True)


async def test_a_task_tells_what_it_asks_and_what_it_raised(api: Api, client: httpx.AsyncClient, user: str) -> None:
    thread = await api.ran("approve", {"text": "hi"}, user=user)
    state = (await client.get(f"/threads/{thread}/state")).json()
    (asking,) = state["tasks"][0]["interrupts"]
    assert asking == {"id": asking["id"], "value": {"question": "publish?", "text": "hi!"}}
    assert state["interrupts"] == [asking]
    kept = (await client.get(f"/threads/{thread}")).json()
    assert (kept["status"], kept["interrupts"]) == ("interrupted", {state["tasks"][0]["id"]: [asking]})
    with pytest.raises(ValueError, match="always fails"):
        await api.ran("broken", {"topic": "x"}, user=user)
    (found,) = (await client.post("/threads/search", json={"metadata": {"graph_id": "broken"}})).json()
    broken = (await client.get(f"/threads/{found['thread_id']}/state")).json()
    assert (broken["next"], broken["tasks"][0]["error"]) == (["fail"], "ValueError('this graph always fails')")


async def test_a_subgraph_that_has_not_begun_has_an_empty_state(api: Api, client: httpx.AsyncClient, user: str) -> None:
    thread = f"/threads/{await api.ran('parent', {'words': ['x']}, user=user, before=['child'])}"
    (task,) = (await client.get(f"{thread}/state")).json()["tasks"]
    assert (task["name"], task["state"]) == ("child", None)
    (task,) = (await client.get(f"{thread}/state", params={"subgraphs": "true"})).json()["tasks"]
    assert (task["checkpoint"], task["state"]) == (None, EMPTY)


async def test_a_subgraph_that_asks_shows_where_its_state_is_and_what_it_is() -> None:
    async def ask(state: _Words) -> _Words:
        return {"words": [interrupt("go on?")]}

    inner = StateGraph(_Words).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(_Words).add_node("child", inner).add_edge(START, "child").compile(InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    await outer.ainvoke({"words": ["x"]}, config)
    (task,) = cast("list[dict[str, Any]]", thread_state(await outer.aget_state(config))["tasks"])
    assert task["state"] is None
    assert task["checkpoint"] == {"thread_id": "t", "checkpoint_ns": f"child:{task['id']}"}
    assert [one["value"] for one in task["interrupts"]] == ["go on?"]
    (task,) = cast("list[dict[str, Any]]", thread_state(await outer.aget_state(config, subgraphs=True))["tasks"])
    assert task["checkpoint"] is None
    assert (task["state"]["values"], task["state"]["next"]) == ({"words": ["x"]}, ["ask"])
    assert task["state"]["checkpoint"]["checkpoint_ns"] == f"child:{task['id']}"
    assert task["state"]["checkpoint"]["checkpoint_map"]


async def test_a_history_goes_from_the_latest_state_to_the_first(client: httpx.AsyncClient, steps: str) -> None:
    states = await history(client, steps)
    assert [state["metadata"]["step"] for state in states] == [3, 2, 1, 0, -1]
    assert [state["next"] for state in states] == [[], ["third"], ["second"], ["first"], ["__start__"]]
    assert await history(client, steps, limit=2) == states[:2]
    assert (await client.get(f"{steps}/history")).json() == states[:1]
    assert (await client.post(f"{steps}/history", json={})).json() == states[:1]
    assert (await client.get(f"{steps}/history", params={"limit": 1000})).json() == states
    second = states[1]["checkpoint"]
    for before in (second["checkpoint_id"], second, {"configurable": second}):
        assert await history(client, steps, before=before) == states[2:]
    by_query = await client.get(f"{steps}/history", params={"limit": 9, "before": second["checkpoint_id"]})
    assert by_query.json() == states[2:]
    assert await history(client, steps, metadata={"step": 0}) == [states[3]]
    assert await history(client, steps, checkpoint={"checkpoint_ns": ""}) == states
    assert await history(client, steps, checkpoint=second) == [states[1]]


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0}, {"limit": 5000}, {"limit": "x"}, {"before": 5}, {"before": "a\0"}, {"metadata": 5},
        {"checkpoint": 5}, [],
    ],
)  # fmt: skip
async def test_a_bad_history_is_a_422(client: httpx.AsyncClient, steps: str, body: Any) -> None:
    assert (await client.post(f"{steps}/history", json=body)).status_code == 422
    if isinstance(body, dict) and "limit" in body:
        assert (await client.get(f"{steps}/history", params=body)).status_code == 422


@pytest.mark.parametrize("metadata", [{"a b": 1}, {"a\0": "\0"}, {"a": {"b": [1]}}, {"'": 10**30}])
async def test_odd_metadata_finds_nothing_in_a_history(
    client: httpx.AsyncClient, steps: str, metadata: dict[str, Any]
) -> None:
    answered = await client.post(f"{steps}/history", json={"metadata": metadata})
    assert (answered.status_code, answered.json()) == (200, []) or answered.status_code == 400


async def test_a_state_is_changed_by_hand(client: httpx.AsyncClient, steps: str) -> None:
    written = (await client.post(f"{steps}/state", json={"values": {"topic": "dogs", "trail": ["me"]}})).json()
    assert written["checkpoint"] == written["configurable"]
    assert written["checkpoint"] == {
        "thread_id": steps.removeprefix("/threads/"), "checkpoint_ns": "", "checkpoint_id": written["checkpoint_id"],
    }  # fmt: skip
    state = (await client.get(f"{steps}/state")).json()
    assert state["checkpoint_id"] == written["checkpoint_id"]
    assert state["values"] == {"topic": "dogs", "trail": [*TRAIL, "me"], "total": 3}
    assert state["metadata"]["source"] == "update"
    kept = (await client.get(steps)).json()
    assert (kept["values"], kept["status"]) == (state["values"], "idle")
    assert kept["state_updated_at"] > kept["created_at"]


async def test_a_state_is_changed_as_a_node(client: httpx.AsyncClient, steps: str) -> None:
    body = {"values": {"topic": "fish"}, "as_node": "first"}
    assert (await client.post(f"{steps}/state", json=body)).status_code == 200
    assert (await client.get(f"{steps}/state")).json()["next"] == ["second"]
    assert (await client.get(steps)).json()["status"] == "interrupted"
    for nothing in ({"values": None}, {}):
        assert (await client.post(f"{steps}/state", json=nothing)).status_code == 200


@pytest.mark.parametrize("by", ["checkpoint", "checkpoint_id", "another thread"])
async def test_a_change_branches_off_an_older_state(client: httpx.AsyncClient, steps: str, by: str) -> None:
    second = (await history(client, steps))[1]["checkpoint"]
    places: dict[str, Any] = {
        "checkpoint": {"checkpoint": {"checkpoint_id": second["checkpoint_id"], "checkpoint_ns": ""}},
        "checkpoint_id": {"checkpoint_id": second["checkpoint_id"]},
        "another thread": {"checkpoint": {**second, "thread_id": str(uuid4())}},
    }
    assert (await client.post(f"{steps}/state", json={"values": {"topic": "x"}, **places[by]})).status_code == 200
    state = (await client.get(f"{steps}/state")).json()
    assert (state["values"]["topic"], state["next"]) == ("x", ["third"])
    assert state["parent_checkpoint_id"] == second["checkpoint_id"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"values": {"topic": "x"}, "as_node": "nope"}, 400, "Node nope does not exist"),
        ({"values": [{"topic": "a"}, {"topic": "b"}]}, 400, "Expected dict"),
        ({"values": {"trail": 5}}, 400, "list"),
        ({"values": {"topic": "x"}, "as_node": "__end__"}, 400, "__end__"),
        ({"values": "text"}, 422, "values"),
        ({"values": {}, "as_node": 5}, 422, "as_node"),
        ({"values": {}, "checkpoint": []}, 422, "checkpoint"),
    ],
)
async def test_a_change_that_does_not_fit_changes_nothing(
    client: httpx.AsyncClient, steps: str, body: Any, status: int, detail: str
) -> None:
    answered = await client.post(f"{steps}/state", json=body)
    assert answered.status_code == status
    assert detail in answered.json()["detail"]
    assert (await client.get(f"{steps}/state")).json()["values"] == DONE


async def test_a_change_needs_a_graph(client: httpx.AsyncClient) -> None:
    nowhere = await empty_thread(client)
    refused = await client.post(f"{nowhere}/state", json={"values": {}})
    assert (refused.status_code, "no assigned graph ID" in refused.json()["detail"]) == (400, True)
    gone = await empty_thread(client, graph_id="gone")
    for method, path in (("POST", "state"), ("GET", "state"), ("GET", "history")):
        answered = await client.request(method, f"{gone}/{path}", json={"values": {}} if method == "POST" else None)
        assert (answered.status_code, "'gone'" in answered.json()["detail"]) == (404, True)
    first = await empty_thread(client, graph_id="steps")
    assert (await client.post(f"{first}/state", json={"values": {"topic": "x"}})).status_code == 200


async def test_a_busy_thread_is_not_changed(api: Api, client: httpx.AsyncClient, steps: str) -> None:
    await api.service.store.threads.set_state(steps.removeprefix("/threads/"), ThreadOutcome("busy"))
    refused = await client.post(f"{steps}/state", json={"values": {"topic": "x"}})
    assert (refused.status_code, "not over" in refused.json()["detail"]) == (409, True)
    assert (await client.get(f"{steps}/state")).json()["values"] == DONE


async def test_messages_are_answered_as_clients_know_them(api: Api, client: httpx.AsyncClient, user: str) -> None:
    thread = await api.ran("echo", {"messages": [{"role": "user", "content": "hello"}]}, user=user)
    values = (await client.get(f"/threads/{thread}/state")).json()["values"]
    said = [(one["type"], one["content"]) for one in values["messages"]]
    assert said == [("human", "hello"), ("ai", "You said: hello")]
    added = {"values": {"messages": [{"role": "user", "content": "more"}]}}
    assert (await client.post(f"/threads/{thread}/state", json=added)).status_code == 200
    kept = (await client.get(f"/threads/{thread}")).json()["values"]
    assert [one["content"] for one in kept["messages"]] == ["hello", "You said: hello", "more"]


async def test_remote_graph_reads_and_writes_states(api: Api, user: str, steps: str) -> None:
    remote = RemoteGraph("steps", client=api.sdk(user))
    config: Any = {"configurable": {"thread_id": steps.removeprefix("/threads/")}}
    state = await remote.aget_state(config)
    assert (state.values, state.next) == (DONE, ())
    states = [one async for one in remote.aget_state_history(config, limit=10)]
    assert [one.next for one in states] == [(), ("third",), ("second",), ("first",), ("__start__",)]
    earlier = [one async for one in remote.aget_state_history(config, before=states[2].config)]
    assert [one.config for one in earlier] == [one.config for one in states[3:]]
    assert (await remote.aget_state(states[1].config)).next == ("third",)
    written = await remote.aupdate_state(config, {"topic": "dogs"}, as_node="first")
    assert (await remote.aget_state(written)).next == ("second",)
    assert "first" in (await remote.aget_graph()).nodes


async def test_the_sdk_reads_and_writes_states(api: Api, user: str, steps: str) -> None:
    threads, thread_id = api.sdk(user).threads, steps.removeprefix("/threads/")
    state: Any = await threads.get_state(thread_id, subgraphs=True)
    assert state["values"] == DONE
    assert await threads.get_state(thread_id, checkpoint_id=state["checkpoint"]["checkpoint_id"]) == state
    assert await threads.get_state(thread_id, checkpoint=state["checkpoint"]) == state
    assert len(await threads.get_history(thread_id, before=state["checkpoint"]["checkpoint_id"])) == 4
    assert len(await threads.get_history(thread_id, metadata={"source": "input"})) == 1
    await threads.update_state(thread_id, {"topic": "x"}, as_node="third", checkpoint=state["checkpoint"])
    kept: Any = await threads.get(thread_id)
    assert kept["values"]["topic"] == "x"
