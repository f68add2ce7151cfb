"""Where the service's engine could lose a run: cancels at any moment, odd workflows, servers that come and go."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi import HTTPException

from plait.app import App, find_app
from plait.errors import StoreError
from plait.service.clients import EventStream
from plait.service.options import ServiceOptions
from plait.service.running.requests import Outcome
from plait.service.services import Service
from plait.store.service.records import RunRecord
from tests.serving import settings_in
from tests.test_service_runs import APP, asking, ended, seen, service_in, told, values

ODD = """
import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from operator import add
from typing import Annotated, Any
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

user: ContextVar[str] = ContextVar("user", default="nobody")
entered = asyncio.Event()
release = asyncio.Event()

class State(TypedDict, total=False):
    value: Any
    trail: Annotated[list[str], add]

def one(node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()

class Sour:
    def __repr__(self):
        raise ZeroDivisionError("sour")

class SourError(Exception):
    def __str__(self):
        raise ZeroDivisionError("sour")

async def sour(state):
    return {"value": Sour()}

async def sour_error(state):
    raise SourError

async def cancelled(state):
    raise asyncio.CancelledError

async def who(state):
    return {"value": user.get()}

async def hold(state):
    entered.set()
    await release.wait()
    return {"value": user.get()}

async def surrogate(state):
    raise ValueError("half \\ud800 of a pair")

@asynccontextmanager
async def leaving():
    yield one(who)
    raise ZeroDivisionError("at the end")

def raising():
    raise ZeroDivisionError("at the beginning")

async def before(state):
    if state.get("value") == 2:
        entered.set()
        await asyncio.Event().wait()
    return {"trail": ["before"]}

async def ask(state):
    return {"trail": [interrupt("go on?")]}

async def settle(state):
    if state["trail"][-1] == "hold":
        entered.set()
        await asyncio.Event().wait()
    return {"trail": ["settled"]}

asking = (
    StateGraph(State).add_node("before", before).add_node("ask", ask).add_node("settle", settle)
    .add_edge(START, "before").add_edge("before", "ask").add_edge("ask", "settle").add_edge("settle", END).compile()
)
inner = (
    StateGraph(State).add_node("first", before).add_node("second", before)
    .add_edge(START, "first").add_edge("first", "second").add_edge("second", END).compile(interrupt_before=["second"])
)
nested = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").add_edge("inner", END).compile()
stubborn_seen = 0

async def stubborn(state):
    entered.set()
    try:
        await release.wait()
    except asyncio.CancelledError:
        global stubborn_seen
        stubborn_seen += 1
        await release.wait()
    return {"value": 1}

graphs = {
    "sour": one(sour), "sour_error": one(sour_error), "cancelled": one(cancelled), "who": one(who), "hold": one(hold),
    "surrogate": one(surrogate), "asking": asking, "nested": nested, "stubborn": one(stubborn),
}
globals().update({f"graph_{name}": graph for name, graph in graphs.items()})
"""
NAMES = ("sour", "sour_error", "cancelled", "who", "hold", "surrogate", "asking", "nested", "stubborn")


def odd_in(folder: Path) -> App:
    """An app of odd workflows, in modules of its own: they keep events of the test's loop."""
    name = f"odd_{uuid4().hex}"
    (folder / f"{name}.py").write_text(ODD)
    graphs = {graph: f"./{name}.py:graph_{graph}" for graph in NAMES}
    graphs |= {factory: f"./{name}.py:{factory}" for factory in ("leaving", "raising")}
    (folder / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    return find_app(folder)


@pytest.fixture
def odd(tmp_path: Path) -> App:
    return odd_in(tmp_path)


def module_of(service: Service) -> Any:
    """The module of the odd workflows; None before one of them was opened."""
    name = service.app.workflows["who"].target.rpartition(":")[0].removeprefix("./")
    modules = list(sys.modules.values())
    return next((found for found in modules if str(getattr(found, "__file__", "")).endswith(name)), None)


async def over(service: Service, run: RunRecord) -> Outcome | None:
    """How it ended; a run that does not end fails the test."""
    async with asyncio.timeout(20):
        return await service.runner.outcome(run.run_id)


@pytest.mark.parametrize("graph", ["sour", "sour_error", "cancelled", "surrogate", "raising"])
async def test_a_run_of_an_odd_workflow_ends_with_an_error_and_frees_its_thread(
    tmp_path: Path, odd: App, graph: str
) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as service:
        run = await service.runner.start(asking(graph, {"value": 1}, thread, streamed=True))
        async with asyncio.timeout(20):
            parts = await told(service, run, after=None)
        outcome = await over(service, run)
        assert outcome is not None
        assert outcome.status == "error"
        assert outcome.error is not None
        assert any(part.event == "error" for part in parts)
        assert (await seen(service, run))["status"] == "error"
        record = await service.store.threads.get(thread)
        assert record is not None
        assert record.status == "error"
        again = await service.runner.start(asking("who", {"value": 1}, thread))
        assert (await ended(service, again))[0] == "success"


async def test_a_factory_that_fails_as_it_closes_does_not_undo_a_run_that_succeeded(tmp_path: Path, odd: App) -> None:
    async with service_in(tmp_path, app=odd) as service:
        run = await service.runner.start(asking("leaving", {"value": 1}, str(uuid4())))
        outcome = await over(service, run)
        assert outcome is not None
        assert (outcome.status, outcome.values) == ("success", {"value": "nobody", "trail": []})


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_cancel_at_any_moment_ends_the_run_once(tmp_path: Path, resumable: bool) -> None:
    async with service_in(tmp_path) as service:
        thread = str(uuid4())
        for ticks in range(0, 120, 3):
            run = await service.runner.start(asking("steps", {"topic": "x"}, thread, kwargs={"resumable": resumable}))
            for _ in range(ticks):
                await asyncio.sleep(0)
            async with asyncio.timeout(20):
                await service.runner.cancel(run.run_id, wait=True)
            assert (await seen(service, run))["status"] in ("interrupted", "success")
            assert service.runner.course(run.run_id) is None
        state = await service.store.threads.get(thread)
        assert state is not None
        assert state.status != "busy"
        assert service.runner.running == 0


async def test_a_cancel_when_the_last_event_is_out_ends_the_run_once(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        for ticks in range(40):
            run = await service.runner.start(
                asking("steps", {"topic": "x"}, str(uuid4()), kwargs={"resumable": True}, streamed=True)
            )
            async with aclosing(service.runner.follow(run.run_id, after="-1")) as following:
                async for parts in following:
                    if any(loads_total(part.data) == 3 for part in parts if part.event == "values"):
                        break
            for _ in range(ticks):
                await asyncio.sleep(0)
            async with asyncio.timeout(20):
                await service.runner.cancel(run.run_id, wait=True)
            assert (await seen(service, run))["status"] in ("interrupted", "success")
            assert service.runner.course(run.run_id) is None


def loads_total(data: bytes) -> object:
    found = json.loads(data)
    return found.get("total") if isinstance(found, dict) else None


async def test_a_run_does_not_see_the_context_of_a_request_or_of_another_run(tmp_path: Path, odd: App) -> None:
    async with service_in(tmp_path, app=odd, max_running=1) as service:
        warm = await service.runner.start(asking("who", {}))
        await over(service, warm)
        user: ContextVar[str] = module_of(service).user

        async def asked(name: str) -> RunRecord:
            user.set(name)
            return await service.runner.start(asking("who", {}))

        runs = [await asyncio.create_task(asked(name)) for name in ("alice", "bob")]
        for run in runs:
            outcome = await over(service, run)
            assert outcome is not None
            assert outcome.values == {"value": "nobody", "trail": []}


async def test_a_start_that_is_cancelled_leaves_no_run_that_never_begins(tmp_path: Path) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path) as service:
        await over(service, await service.runner.start(asking("steps", {"topic": "x"}, thread)))
        for ticks in range(12):
            starting = asyncio.create_task(service.runner.start(asking("steps", {"topic": "x"}, thread)))
            for _ in range(ticks):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
        last = await service.runner.start(asking("steps", {"topic": "last"}, thread))
        assert (await over(service, last)) is not None
        assert await service.store.runs.open() == []
        record = await service.store.threads.get(thread)
        assert record is not None
        assert record.status == "idle"


async def test_a_server_that_drains_keeps_its_running_runs(tmp_path: Path, odd: App) -> None:
    async with service_in(tmp_path, app=odd) as other:
        async with service_in(tmp_path, app=odd, grace_s=6.0) as leaving:
            run = await leaving.runner.start(asking("hold", {"value": 1}, str(uuid4())))
            await wait_for_hold(leaving)
            closing = asyncio.create_task(adopted_elsewhere(other, run))
        assert not await closing
        assert await seen(other, run) == {"status": "success", "attempt": 1}


async def wait_for_hold(service: Service) -> None:
    async with asyncio.timeout(10):
        while not hasattr(found := module_of(service), "release"):  # noqa: ASYNC110 - nobody tells of an import
            await asyncio.sleep(0.01)
        await found.entered.wait()


async def adopted_elsewhere(other: Service, run: RunRecord) -> bool:
    """Whether the other server takes it over in three of its beats; lets the run go on after that."""
    try:
        for _ in range(60):
            if other.runner.course(run.run_id) is not None:
                return True
            await asyncio.sleep(0.05)
        return False
    finally:
        module_of(other).release.set()


async def test_a_run_that_was_cancelled_does_not_go_on_at_the_next_start(tmp_path: Path, odd: App) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as service:
        run = await service.runner.start(asking("stubborn", {"value": 1}, thread))
        await wait_for_hold(service)
        await service.runner.cancel(run.run_id)
    async with service_in(tmp_path, app=odd) as service:
        await over(service, run)
        assert (await seen(service, run))["status"] == "interrupted"


async def test_a_cancel_that_was_asked_for_survives_the_death_of_the_server(tmp_path: Path, odd: App) -> None:
    async with service_in(tmp_path, app=odd) as service:
        run = await service.runner.start(asking("stubborn", {"value": 1}, str(uuid4())))
        await wait_for_hold(service)
        await service.runner.cancel(run.run_id)
        found = await service.store.runs.get(run.run_id)
        assert found is not None
        assert found.cancel == "interrupt"
        module_of(service).release.set()


async def test_a_run_that_waits_for_one_of_another_server_is_cancelled_at_once(tmp_path: Path, odd: App) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as one, service_in(tmp_path, app=odd) as other:
        first = await one.runner.start(asking("hold", {"value": 1}, thread))
        await wait_for_hold(one)
        for ticks in range(10):
            behind = await other.runner.start(asking("who", {"value": 1}, thread))
            for _ in range(ticks):
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await other.runner.cancel(behind.run_id, wait=True)
            assert (await seen(one, behind))["status"] == "interrupted"
        module_of(one).release.set()
        await over(one, first)


async def test_a_run_from_a_chosen_checkpoint_goes_on_with_its_own_state_after_a_restart(tmp_path: Path) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path) as service:
        await over(service, await service.runner.start(asking("slow", {"steps": 2}, thread)))
        async with service.graphs.opened("slow") as graph:
            states = [state async for state in graph.aget_state_history({"configurable": {"thread_id": thread}})]
        chosen = states[-1].config.get("configurable", {})["checkpoint_id"]
        more = {"checkpoint": {"checkpoint_id": chosen}, "durability": "sync", "resumable": True}
        run = await service.runner.start(asking("slow", {"steps": 110, "count": 100}, thread, kwargs=more))
        async with aclosing(service.runner.follow(run.run_id, after="-1")) as following:
            count = 0
            async for parts in following:
                count += len(values(parts))
                if count >= 3:
                    break
    async with service_in(tmp_path) as service:
        status, left = await ended(service, run)
        assert (status, left) == ("success", {"steps": 110, "count": 110})


async def test_a_subgraph_that_stops_before_a_node_leaves_its_thread_interrupted(tmp_path: Path, odd: App) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as service:
        await over(service, await service.runner.start(asking("nested", {"value": 1}, thread)))
        record = await service.store.threads.get(thread)
        assert record is not None
        assert record.status == "interrupted"
        await over(service, await service.runner.start(asking("nested", None, thread)))
        record = await service.store.threads.get(thread)
        assert record is not None
        assert record.status == "idle"


async def test_a_thread_that_waited_for_an_answer_waits_again_after_a_rollback(tmp_path: Path, odd: App) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as service:
        await over(service, await service.runner.start(asking("asking", {"value": 1}, thread)))
        before = await service.store.threads.get(thread)
        run = await service.runner.start(asking("asking", {"value": 2}, thread))
        await wait_for_hold(service)
        await service.runner.cancel(run.run_id, action="rollback", wait=True)
        after = await service.store.threads.get(thread)
        assert before is not None
        assert after is not None
        assert (after.status, after.interrupts, after.values) == (before.status, before.interrupts, before.values)


async def test_an_answer_that_was_rolled_back_does_not_count(tmp_path: Path, odd: App) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as service:
        await over(service, await service.runner.start(asking("asking", {"value": 1}, thread)))
        before = await service.store.threads.get(thread)
        run = await service.runner.start(asking("asking", None, thread, kwargs={"command": {"resume": "hold"}}))
        await wait_for_hold(service)
        await service.runner.cancel(run.run_id, action="rollback", wait=True)
        after = await service.store.threads.get(thread)
        assert before is not None
        assert after is not None
        assert (after.status, after.interrupts) == (before.status, before.interrupts)
        run = await service.runner.start(asking("asking", None, thread, kwargs={"command": {"resume": "yes"}}))
        outcome = await over(service, run)
        assert outcome is not None
        assert outcome.values == {"value": 1, "trail": ["before", "yes", "settled"]}


async def test_what_is_lined_up_while_a_server_ends_is_left_for_the_next(tmp_path: Path) -> None:
    async with service_in(tmp_path, grace_s=0.0) as service:
        runs = [asyncio.create_task(service.runner.start(asking("slow", {"steps": 3}, str(uuid4())))) for _ in range(8)]
        await asyncio.sleep(0)
        await service.runner.drain(0.0)
        found = await asyncio.gather(*runs, return_exceptions=True)
        begun = [run for run in found if isinstance(run, RunRecord)]
        assert all(isinstance(run, RunRecord | HTTPException) for run in found)
        assert service.runner.running == 0
        assert [run for run in begun if service.runner.course(run.run_id)] == []
        open_runs = await service.store.runs.open()
        assert {run.status for run in open_runs} <= {"pending"}
        assert {run.run_id for run in open_runs} == {run.run_id for run in begun}
    async with service_in(tmp_path) as service:
        for run in begun:
            assert (await ended(service, run))[0] == "success"


async def test_a_later_run_that_interrupts_lets_none_of_the_earlier_begin(tmp_path: Path, odd: App) -> None:
    thread = str(uuid4())
    async with service_in(tmp_path, app=odd) as service:
        first = await service.runner.start(asking("hold", {"value": 1}, thread))
        await wait_for_hold(service)
        behind = [await service.runner.start(asking("who", {"value": 1}, thread)) for _ in range(3)]
        last = await service.runner.start(asking("who", {"value": 9}, thread, strategy="interrupt"))
        outcome = await over(service, last)
        assert outcome is not None
        assert outcome.status == "success"
        assert [await seen(service, run) for run in behind] == [{"status": "interrupted", "attempt": 0}] * 3
        assert (await seen(service, first))["status"] == "interrupted"


async def test_a_stream_of_a_run_that_is_parked_says_so(tmp_path: Path, odd: App) -> None:
    async with service_in(tmp_path, app=odd, grace_s=0.05) as service:
        run = await service.runner.start(asking("hold", {"value": 1}, str(uuid4()), streamed=True))
        await wait_for_hold(service)
        reading = asyncio.create_task(told(service, run, after=None))
        await asyncio.sleep(0)
    parts = await reading
    assert [part.event for part in parts][-1] == "error"
    assert json.loads(parts[-1].data)["error"] == "ServerStopped"


async def test_a_server_that_ends_waits_no_longer_for_runs_of_others(tmp_path: Path, odd: App) -> None:
    async with service_in(tmp_path, app=odd) as one:
        run = await one.runner.start(asking("hold", {"value": 1}, str(uuid4()), kwargs={"resumable": True}))
        await wait_for_hold(one)
        async with service_in(tmp_path, app=odd) as other:
            waiting = asyncio.create_task(other.runner.outcome(run.run_id))
            reading = asyncio.create_task(told(other, run))
            await asyncio.sleep(0)
            await other.runner.drain(0.0)
            async with asyncio.timeout(10):
                with pytest.raises(HTTPException) as refused:
                    await waiting
                assert [part.event for part in await reading][:1] in ([], ["metadata"])
        assert refused.value.status_code == 503
        module_of(one).release.set()


async def test_a_stream_whose_client_is_gone_before_it_begins_cancels_its_run(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"never"

    async def note() -> None:
        left.set()

    async def send(_: object) -> None:
        raise OSError("gone")

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await EventStream(chunks(), left=note)({"type": "http"}, receive, send)
    assert left.is_set()


async def test_a_client_that_goes_while_it_is_sent_to_leaves_no_reader_behind(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        run = await service.runner.start(asking("slow", {"steps": 1000}, str(uuid4()), streamed=True))
        course = service.runner.course(run.run_id)
        assert course is not None
        sending = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                sending.set()
                await asyncio.Event().wait()

        async def receive() -> Any:
            await sending.wait()
            return {"type": "http.disconnect"}

        async def frames() -> AsyncGenerator[bytes]:
            async with aclosing(service.runner.follow(run.run_id)) as following:
                async for parts in following:
                    yield parts[0].data

        async def stay() -> None:
            assert course is not None
            assert not course.topic.is_read

        await EventStream(frames(), left=stay)({"type": "http"}, receive, send)


async def test_who_waits_for_a_run_whose_end_a_broken_file_does_not_take_is_told_of_that(
    tmp_path: Path, odd: App
) -> None:
    service = service_in(tmp_path, app=odd)
    opened = await service.__aenter__()
    run = await opened.runner.start(asking("hold", {"value": 1}, str(uuid4()), streamed=True))
    await wait_for_hold(opened)
    reading = asyncio.create_task(told(opened, run, after=None))
    waiting = asyncio.create_task(over(opened, run))
    await asyncio.sleep(0)
    await asyncio.to_thread(opened.store.writer.close)
    module_of(opened).release.set()
    with pytest.raises(HTTPException) as refused:
        await waiting
    assert refused.value.status_code == 503
    async with asyncio.timeout(10):
        parts = await reading
    assert [part.event for part in parts][-1] == "error"
    assert json.loads(parts[-1].data)["error"] == "StoreError"
    assert (await seen(opened, run))["status"] == "running"
    with pytest.raises(StoreError):  # the server cannot say that it leaves
        await service.__aexit__(None, None, None)


async def test_nothing_is_taken_from_a_server_that_was_heard_of_again(tmp_path: Path) -> None:
    async with service_in(tmp_path) as one, service_in(tmp_path) as other:
        run = await one.runner.start(asking("slow", {"steps": 3}, str(uuid4())))
        found = await other.store.runs.adopt(one.runner.server, other.runner.server, max_attempts=3, silent_s=10.0)
        assert found.resumed == []
        await over(one, run)
        assert await seen(one, run) == {"status": "success", "attempt": 1}


async def test_a_service_that_could_not_be_opened_can_be_opened_later(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "service.db"
    await asyncio.to_thread((tmp_path / "folder").write_text, "no folder")
    service = Service(app=APP, settings=settings_in(tmp_path), address=file, options=ServiceOptions(grace_s=0.05))
    with pytest.raises(StoreError):
        await service.__aenter__()
    await asyncio.to_thread((tmp_path / "folder").unlink)
    async with service:
        assert (await ended(service, await service.runner.start(asking("steps", {"topic": "x"}))))[0] == "success"
