"""Runs of the service: in turn, once, resumable, over restarts; how they end for whoever waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from plait.app import find_app
from plait.flow.registry import gate_for
from plait.service import create_app, create_router
from plait.service.callers import Caller
from plait.service.graphs import assistant_id
from plait.service.json_texts import loads
from plait.service.options import ServiceOptions
from plait.service.running.requests import Part, RunRequest
from plait.service.running.topics import MOST_AHEAD
from plait.service.services import Service
from plait.settings import from_env
from plait.simulator import Profile, Simulator, running
from plait.store.service.records import AssistantRecord, RunRecord
from tests.serving import served, settings_in

APP = find_app(Path(__file__).parent / "apps" / "service_app")
STOCK = find_app(Path(__file__).parent.parent)


@asynccontextmanager
async def service_in(folder: Path, app: Any = APP, **options: Any) -> AsyncGenerator[Service]:
    bounds = ServiceOptions(**{"grace_s": 0.05, **options})
    settings = settings_in(folder)
    async with Service(app=app, settings=settings, address=folder / "service.db", options=bounds) as service:
        yield service


def asking(graph: str, given: object, thread: str | None = None, **more: Any) -> RunRequest:
    kwargs = {"input": given, "stream_mode": ["values"], **more.pop("kwargs", {})}
    assistant = AssistantRecord(assistant_id(graph), graph, graph)
    return RunRequest(assistant, Caller(), thread_id=thread, kwargs=kwargs, create_thread=True, **more)


async def told(service: Service, run: RunRecord, *, after: str | None = "-1") -> list[Part]:
    return [part async for parts in service.runner.follow(run.run_id, after=after) for part in parts]


def values(parts: list[Part]) -> list[Any]:
    return [loads(part.data) for part in parts if part.event == "values"]


async def ended(service: Service, run: RunRecord) -> tuple[str, Any]:
    """The run's status and the values it left, when it is over."""
    outcome = await service.runner.outcome(run.run_id)
    assert outcome is not None
    return outcome.status, outcome.values


async def seen(service: Service, run: RunRecord) -> Mapping[str, Any]:
    found = await service.store.runs.get(run.run_id)
    assert found is not None
    return {"status": found.status, "attempt": found.attempt}


async def test_what_happens_before_the_first_reader_comes_is_kept_for_it(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("steps", {"topic": "cats"}, streamed=True))
        course = service.runner.course(run.run_id)
        assert course is not None
        following = aiter(service.runner.follow(run.run_id))
        first = await anext(following)
        await course.topic.ended.wait()
        rest = [part async for parts in following for part in parts]
        assert [part.event for part in [*first, *rest]] == ["metadata", *["values"] * 4]


async def test_a_run_that_is_streamed_tells_everything_once_in_order(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("steps", {"topic": "cats"}, streamed=True))
        parts = await told(service, run, after=None)
        assert [part.event for part in parts] == ["metadata", *["values"] * 4]
        assert values(parts)[-1] == {"topic": "cats", "trail": ["first", "second", "third cats"], "total": 3}
        assert await seen(service, run) == {"status": "success", "attempt": 1}


async def test_a_resumable_stream_goes_on_behind_any_event_while_it_runs_and_after(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("slow", {"steps": 6}, kwargs={"resumable": True}, streamed=True))
        whole = await told(service, run)
        ids = [part.id for part in whole]
        assert len(set(ids)) == len(ids)
        for position, last in enumerate(ids):
            rest = await told(service, run, after=last)
            assert [part.id for part in rest] == ids[position + 1 :]

        again = await service.runner.start(asking("slow", {"steps": 8}, kwargs={"resumable": True}))
        first: list[Part] = []
        async with aclosing(service.runner.follow(again.run_id, after="-1")) as following:
            async for parts in following:
                first += parts
                if len(first) >= 3:
                    break
        rest = await told(service, again, after=first[-1].id)
        assert [part.id for part in (await told(service, again))] == [part.id for part in [*first, *rest]]
        assert values(rest)[-1]["count"] == 8


async def test_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("steps", {"topic": "x"}, kwargs={"resumable": True}))
        with pytest.raises(HTTPException) as refused:
            await told(service, run, after="nonsense")
        assert refused.value.status_code == 422


async def test_runs_go_on_where_they_were_when_the_server_starts_again(tmp_path: Path) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path) as service:
        run = await service.runner.start(
            asking("slow", {"steps": 30}, thread, kwargs={"resumable": True, "durability": "sync"}, streamed=True)
        )
        queued = await service.runner.start(asking("steps", {"topic": "next"}, thread))
        before: list[Part] = []
        async with aclosing(service.runner.follow(run.run_id, after="-1")) as following:
            async for parts in following:
                before += parts
                if len(values(before)) >= 3:
                    break
    async with service_in(tmp_path) as service:
        after = await told(service, run, after=before[-1].id)
        everything = [*before, *after]
        counts = [found["count"] for found in values(everything) if "count" in found]
        assert counts[-1] == 30
        assert len({part.id for part in everything}) == len(everything)
        assert [part.event for part in after].count("metadata") == 1
        assert (await ended(service, queued))[1]["topic"] == "next"
        assert (await seen(service, run))["status"] == "success"


@pytest.fixture
def provider() -> Generator[Simulator]:
    with running(Profile(latency_s=0.3)) as found:
        yield found


async def test_calls_that_were_paid_before_a_restart_are_not_paid_again(tmp_path: Path, provider: Simulator) -> None:
    settings = settings_in(tmp_path, base_url=provider.base_url)

    def service() -> Service:
        options = ServiceOptions(grace_s=0.01)
        return Service(app=STOCK, settings=settings, address=tmp_path / "service.db", options=options)

    async with service() as first:
        one_at_a_time = {"config": {"max_concurrency": 1}}
        request = asking("stories", {"topics": ["a", "b", "c"]}, str(uuid4()), kwargs=one_at_a_time)
        run = await first.runner.start(request)
        while provider.counters.accepted < 2:  # noqa: ASYNC110 - the first is answered, the second in flight
            await asyncio.sleep(0.01)
    async with service() as second:
        status, left = await ended(second, run)
        assert status == "success"
        assert len(left["stories"]) == 3
    assert provider.counters.accepted == 4
    assert provider.counters.duplicates == 1


async def test_a_run_that_ends_with_its_client_ends_with_its_server(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        parked = await service.runner.start(asking("slow", {"steps": 1000}, str(uuid4())))
        ends = await service.runner.start(asking("slow", {"steps": 1000}, str(uuid4()), cancel_on_disconnect=True))
        waits = asyncio.create_task(service.runner.outcome(ends.run_id))
        course = service.runner.course(ends.run_id)
        async with asyncio.timeout(10):
            while course is None or course.execution is None:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
    outcome = await waits
    assert outcome is not None
    assert outcome.status == "interrupted"
    async with service_in(tmp_path) as service:
        assert (await seen(service, ends))["status"] == "interrupted"
        assert service.runner.course(parked.run_id) is not None


async def test_a_batch_is_begun_whole_or_not_at_all(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bounds = ServiceOptions(max_running=2, max_queued=2, grace_s=0.05)
    made = create_app(APP, settings=settings, options=bounds)
    body = [{"assistant_id": "steps", "input": {"topic": "x"}}]

    def asked() -> tuple[int, object]:
        with TestClient(made, base_url="http://localhost") as client:
            return client.post("/runs/batch", json=body * 5).status_code, client.get("/runs/recent").json()

    assert await asyncio.to_thread(asked) == (429, {"runs": []})


async def test_a_full_queue_refuses_with_the_time_to_come_back(tmp_path: Path) -> None:
    async with service_in(tmp_path, max_running=1, max_queued=1) as service:
        await service.runner.start(asking("slow", {"steps": 1000}))
        await service.runner.start(asking("slow", {"steps": 1000}))
        with pytest.raises(HTTPException) as refused:
            await service.runner.start(asking("steps", {"topic": "x"}))
        assert refused.value.status_code == 429
        assert refused.value.headers is not None
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert service.runner.queued == 1
        assert service.runner.running == 1


async def test_two_servers_on_one_store_run_each_run_once(tmp_path: Path) -> None:
    async with service_in(tmp_path) as one, service_in(tmp_path) as other:
        thread = str(uuid4())
        servers = [one, other]
        runs = [
            await servers[number % 2].runner.start(asking("steps", {"topic": str(number)}, thread))
            for number in range(6)
        ]
        for number, run in enumerate(runs):
            assert (await ended(servers[(number + 1) % 2], run))[0] == "success"  # asked at the other one
        assert [(await seen(one, run))["attempt"] for run in runs] == [1] * 6
        state = await one.store.threads.get(thread)
        assert state is not None
        assert state.status == "idle"
        assert state.values is not None
        assert len(cast("list[str]", state.values["trail"])) == 18


async def test_a_run_is_cancelled_from_another_server(tmp_path: Path) -> None:
    async with service_in(tmp_path) as one, service_in(tmp_path) as other:
        run = await one.runner.start(asking("slow", {"steps": 10_000}, str(uuid4())))
        await other.runner.cancel(run.run_id, wait=True)
        assert (await seen(one, run))["status"] == "interrupted"


CHATTER = """
from typing import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
class State(TypedDict):
    count: int
async def chatter(state: State) -> State:
    for number in range(state["count"]):
        get_stream_writer()(number)
    return {"count": 0}
graph = StateGraph(State).add_node(chatter).add_edge(START, "chatter").compile()
"""


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_reader_that_is_too_slow_loses_the_stream_or_reads_it_from_the_store(
    tmp_path: Path, resumable: bool
) -> None:
    await asyncio.to_thread((tmp_path / f"chatter_{resumable}.py").write_text, CHATTER)
    names = {"graphs": {"chatter": f"./chatter_{resumable}.py:graph"}}
    await asyncio.to_thread((tmp_path / "langgraph.json").write_text, json.dumps(names))
    async with service_in(tmp_path, app=await asyncio.to_thread(find_app, tmp_path)) as service:
        more = {"resumable": resumable, "stream_mode": ["custom"]}
        run = await service.runner.start(asking("chatter", {"count": 2 * MOST_AHEAD}, kwargs=more, streamed=True))
        course = service.runner.course(run.run_id)
        assert course is not None
        found: list[Part] = []
        async with aclosing(service.runner.follow(run.run_id, after="-1" if resumable else None)) as following:
            async for parts in following:
                await course.topic.ended.wait()
                found += parts
        if resumable:
            numbers = [loads(part.data) for part in found if part.event == "custom"]
            assert numbers == list(range(2 * MOST_AHEAD))
        else:
            assert found[-1].event == "error"
            assert loads(found[-1].data)["error"] == "ReaderTooSlow"


async def test_a_run_whose_thread_cannot_be_read_any_more_ends_with_an_error(tmp_path: Path) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("echo", {"messages": [{"role": "x", "content": "y"}]}, thread))
        assert (await ended(service, run))[0] == "error"
        record = await service.store.threads.get(thread)
        assert record is not None
        assert record.status == "error"


async def test_nothing_is_left_of_stateless_runs_and_of_paid_answers_when_they_are_over(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("steps", {"topic": "x"}))
        await service.runner.outcome(run.run_id)
        count = await service.store.read(
            lambda connection: connection.execute("SELECT count(*) FROM calls").fetchone()[0]
        )
        assert count == 0
        assert await service.store.threads.search() == []


SELF_CALLER = """
import os
from typing import TypedDict
from langgraph.graph import START, StateGraph
from openai import AsyncOpenAI
from plait import chat_model
class State(TypedDict):
    question: str
async def outer(state: State) -> State:
    async with AsyncOpenAI(base_url=os.environ["OWN_URL"] + "/v1", api_key="none", max_retries=0) as client:
        said = await client.chat.completions.create(
            model="inner", messages=[{"role": "user", "content": state["question"]}]
        )
    return {"question": said.choices[0].message.content or ""}
async def inner(state: State) -> State:
    return {"question": str((await chat_model().ainvoke(state["question"])).text)}
outer_graph = StateGraph(State).add_node(outer).add_edge(START, "outer").compile()
inner_graph = StateGraph(State).add_node(inner).add_edge(START, "inner").compile()
"""


def test_a_workflow_that_calls_its_own_service_holds_no_permit_meanwhile(
    tmp_path: Path, provider: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self_caller.py").write_text(SELF_CALLER)
    names = {"graphs": {name: f"./self_caller.py:{name}_graph" for name in ("outer", "inner")}}
    (tmp_path / "langgraph.json").write_text(json.dumps(names))
    settings = settings_in(tmp_path, base_url=provider.base_url, PLAIT_MAX_CONCURRENCY="1")
    with served(tmp_path, settings=settings) as found:
        gate_for(settings).serve_at(found.url)
        monkeypatch.setenv("OWN_URL", found.url)
        body = {"workflow": "outer", "inputs": {"question": "who?"}}
        answer = httpx.post(f"{found.url}/generate", json=body, timeout=30)
    assert answer.status_code == 200
    assert provider.counters.accepted == 1


def test_a_router_whose_lifespan_did_not_run_says_so(tmp_path: Path) -> None:
    host = FastAPI()
    host.include_router(create_router(APP, settings=settings_in(tmp_path)))
    answer = TestClient(host).post("/assistants/search", json={})
    assert answer.status_code == 503
    assert "lifespan" in answer.json()["detail"]


def test_a_mounted_service_without_a_model_says_so_instead_of_answering_from_the_embedded_one(tmp_path: Path) -> None:
    host = FastAPI()
    host.include_router(create_router(STOCK, settings=from_env({"PLAIT_HOME": str(tmp_path), "HOME": str(tmp_path)})))
    with TestClient(host) as client:
        answer = client.post("/generate", json={"workflow": "story", "inputs": {"topic": "x"}})
    assert answer.status_code == 500
    assert "PLAIT_MODEL" in answer.json()["detail"]
