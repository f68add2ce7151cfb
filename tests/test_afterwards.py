"""Work after the answer: never in its way, never lost."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

import plait
from plait import chat_model
from plait.errors import RunFailed
from plait.settings import Settings, from_env
from plait.simulator import Simulator


class State(TypedDict):
    text: str


class Ledger:
    """Notes what is billed, when it is allowed to."""

    def __init__(self) -> None:
        self.allowed = asyncio.Event()
        self.entries: list[str] = []

    async def bill(self, text: str) -> None:
        await self.allowed.wait()
        self.entries.append(text)


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m")


def billed(ledger: Ledger, *, fail: bool = False) -> CompiledStateGraph[Any, Any, Any, Any]:
    async def answer(state: State) -> State:
        await plait.after_answer(ledger.bill, state["text"])
        if fail:
            raise ValueError("no answer")
        return {"text": "done"}

    return StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile(name="billed")


async def test_a_run_without_an_owner_for_it_waits_for_the_work(settings: Settings) -> None:
    ledger = Ledger()
    running = asyncio.create_task(plait.run(billed(ledger), {"text": "a"}, settings=settings))
    done, _ = await asyncio.wait([running], timeout=0.05)
    assert not done
    ledger.allowed.set()
    assert (await running).outputs == {"text": "done"}
    assert ledger.entries == ["a"]


async def test_with_an_owner_the_answer_comes_first_and_the_work_is_awaited(settings: Settings) -> None:
    ledger = Ledger()
    async with plait.Afterwards() as afterwards:
        result = await plait.run(billed(ledger), {"text": "a"}, settings=settings, afterwards=afterwards)
        assert result.outputs == {"text": "done"}
        assert ledger.entries == []
        ledger.allowed.set()
    assert ledger.entries == ["a"]


async def test_work_of_finished_runs_survives_an_exception_out_of_the_block(settings: Settings) -> None:
    ledger = Ledger()

    async def serve() -> None:
        async with plait.Afterwards() as afterwards:
            await plait.run(billed(ledger), {"text": "a"}, settings=settings, afterwards=afterwards)
            asyncio.get_running_loop().call_soon(ledger.allowed.set)
            raise ConnectionError("the service goes down")

    with pytest.raises(ConnectionError):
        await serve()
    assert ledger.entries == ["a"]


async def test_a_stream_ends_its_answer_before_the_work_and_itself_after_it(settings: Settings) -> None:
    ledger = Ledger()
    seen: list[str] = []
    async for event in plait.stream(billed(ledger), {"text": "a"}, settings=settings):
        if event.type == "end":
            seen.append(f"end, {len(ledger.entries)} billed")
            ledger.allowed.set()
    assert seen == ["end, 0 billed"]
    assert ledger.entries == ["a"]


async def test_closing_a_stream_after_its_end_waits_for_the_work(settings: Settings) -> None:
    ledger = Ledger()
    events = plait.stream(billed(ledger), {"text": "a"}, settings=settings)
    async for event in events:
        if event.type == "end":
            break
    asyncio.get_running_loop().call_soon(ledger.allowed.set)
    await events.aclose()
    assert ledger.entries == ["a"]


async def test_work_is_done_when_the_run_failed_too(settings: Settings) -> None:
    ledger = Ledger()
    ledger.allowed.set()
    with pytest.raises(RunFailed):
        await plait.run(billed(ledger, fail=True), {"text": "a"}, settings=settings)
    assert ledger.entries == ["a"]


async def test_work_that_fails_is_logged_and_noted(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise OSError("the ledger is gone")

    async def answer(state: State) -> State:
        await plait.after_answer(fail)
        return state

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
    async with plait.Afterwards() as afterwards:
        await plait.run(graph, {"text": "a"}, settings=settings, afterwards=afterwards)
    assert [str(error) for error in afterwards.failures] == ["the ledger is gone"]
    assert "work after the answer" in caplog.text


async def test_calls_of_the_work_are_gated_and_not_in_the_result(provider: Simulator, settings: Settings) -> None:
    async def judge() -> None:
        await chat_model().ainvoke("was it good?")

    async def answer(state: State) -> State:
        await plait.after_answer(judge)
        return {"text": (await chat_model().ainvoke(state["text"])).text}

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
    result = await plait.run(graph, {"text": "a"}, settings=settings)
    assert result.usage.calls == 1
    assert len(provider.requests) == 2


async def test_outside_a_run_the_work_is_done_at_once() -> None:
    ledger = Ledger()
    ledger.allowed.set()
    await plait.after_answer(ledger.bill, "now")
    assert ledger.entries == ["now"]
