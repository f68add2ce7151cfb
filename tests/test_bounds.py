"""`config["max_concurrency"]` bounds the calls of a run and of everything below it."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import Send

from plait import chat_model, run
from plait.bounds import bound, bound_all_graphs
from plait.process import own_process
from plait.settings import Settings, from_env
from plait.simulator import Simulator


class State(TypedDict):
    items: list[str]
    answers: Annotated[list[str], operator.add]


class Item(TypedDict):
    item: str


class Out(TypedDict):
    answers: Annotated[list[str], operator.add]


@pytest.fixture
async def settings(provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("PLAIT_MODEL", "openai:m")
    return from_env()


async def answer(state: Item) -> dict[str, list[str]]:
    return {"answers": [(await chat_model().ainvoke(state["item"])).text]}


def fan_out_graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    builder = StateGraph(State)
    builder.add_node("answer", answer, input_schema=Item)
    builder.add_conditional_edges(START, lambda s: [Send("answer", {"item": i}) for i in s["items"]], ["answer"])
    return builder.compile()


def nested_graph(inner_bound: int | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    inner: Any = fan_out_graph()
    if inner_bound is not None:
        inner = inner.with_config(max_concurrency=inner_bound)

    async def branch(state: Item) -> Out:
        result = await inner.ainvoke({"items": [f"{state['item']}-{n}" for n in range(4)], "answers": []})
        return {"answers": result["answers"]}

    builder = StateGraph(State)
    builder.add_node("branch", branch, input_schema=Item)
    builder.add_conditional_edges(START, lambda s: [Send("branch", {"item": i}) for i in s["items"]], ["branch"])
    return builder.compile()


async def drain(provider: Simulator, running: asyncio.Task[Any], at_once: int) -> Any:
    """Let requests pile up until no more come, then answer all."""
    provider.gate = asyncio.Event()
    await provider.arrived(at_once)
    provider.gate.set()
    return await running


INPUT = {"items": ["a", "b", "c"], "answers": []}
BOUND: RunnableConfig = {"max_concurrency": 4}


async def test_a_run_keeps_its_bound_over_nested_graphs(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()
    running = asyncio.create_task(run(nested_graph(), INPUT, config=BOUND, settings=settings))
    result = await drain(provider, running, 4)
    assert len(result.outputs["answers"]) == 12
    assert provider.peak == 4


async def test_a_bound_set_with_with_config_holds(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()
    graph = nested_graph().with_config(max_concurrency=2)
    running = asyncio.create_task(run(graph, INPUT, settings=settings))
    await drain(provider, running, 2)
    assert provider.peak == 2


async def test_langgraphs_own_calls_of_a_loaded_graph_keep_the_bound(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()
    graph = bound(nested_graph())
    running = asyncio.create_task(graph.ainvoke(INPUT, BOUND))
    await drain(provider, running, 4)
    assert provider.peak == 4
    assert isinstance(graph, CompiledStateGraph)


async def test_a_batch_keeps_the_bound_over_all_its_items(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()
    running = asyncio.create_task(bound(fan_out_graph()).abatch([INPUT] * 5, BOUND))
    results = await drain(provider, running, 4)
    assert len(results) == 5
    assert provider.peak == 4


async def test_results_as_completed_keep_the_bound_too(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()

    async def collect() -> list[int]:
        found = bound(fan_out_graph()).abatch_as_completed([INPUT] * 3, BOUND)
        return sorted([index async for index, _ in found])

    assert await drain(provider, asyncio.create_task(collect()), 4) == [0, 1, 2]
    assert provider.peak == 4


async def test_in_our_own_process_an_inner_bound_holds_within_the_outer(
    provider: Simulator, settings: Settings
) -> None:
    with own_process(settings):
        provider.gate = asyncio.Event()
        running = asyncio.create_task(run(nested_graph(inner_bound=1), INPUT, config=BOUND, settings=settings))
        await drain(provider, running, 3)  # three branches, one call each
    assert provider.peak == 3


async def test_a_bound_ends_with_its_run(provider: Simulator, settings: Settings) -> None:
    await run(fan_out_graph(), INPUT, config={"max_concurrency": 1}, settings=settings)
    provider.counters.peak = 0
    provider.gate = asyncio.Event()
    running = asyncio.create_task(run(fan_out_graph(), INPUT, settings=settings))
    await drain(provider, running, 3)
    assert provider.peak == 3


def test_langgraph_is_as_it_was_after_the_block() -> None:
    before = dict(vars(Pregel))
    with bound_all_graphs():
        assert vars(Pregel)["astream"] is not before["astream"]
    assert dict(vars(Pregel)) == before
