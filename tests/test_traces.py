"""Traces: which execution of a node a model call belongs to, whatever stands between the two."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypedDict

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send

import plait
from plait.branches import node_in
from plait.experiments import Definition, Experiment, evaluate
from plait.experiments.evaluators import evaluator
from plait.experiments.records import NodeTrace
from plait.runs import Graph
from plait.settings import Settings, from_env
from plait.simulator import Simulator


def latest(_: str, topic: str) -> str:
    return topic


class State(TypedDict):
    topic: Annotated[str, latest]
    said: Annotated[list[str], operator.add]


class Said(TypedDict):
    said: list[str]


@pytest.fixture
async def settings(provider: Simulator, tmp_path: Path) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "PLAIT_SHARE": "0", "PLAIT_HOME": str(tmp_path)}).override(
        model="openai:gpt-4.1-mini", max_attempts=2
    )


async def write(state: State) -> Said:
    return {"said": [(await plait.chat_model().ainvoke(f"write {state['topic']}")).text]}


async def write_in_a_chain(state: State) -> Said:
    chain = ChatPromptTemplate.from_template("write {topic}") | plait.chat_model() | StrOutputParser()
    return {"said": [await chain.ainvoke({"topic": state["topic"]})]}


def write_in_a_thread(state: State) -> Said:
    chain = ChatPromptTemplate.from_template("write {topic}") | plait.chat_model() | StrOutputParser()
    return {"said": [chain.invoke({"topic": state["topic"]})]}


def graph_of(name: str, node: object, *, retry: RetryPolicy | None = None) -> Graph:
    builder = StateGraph(State)
    builder.add_node(name, node, retry_policy=retry)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    builder.add_edge(START, name)
    return builder.compile(name="story")


def topic(name: str) -> State:
    return {"topic": name, "said": []}


async def traced(graph: Graph, settings: Settings, *evaluators: object) -> Experiment:
    definition = Definition(
        name="stories",
        workflow=graph,
        dataset=[{"topic": "all", "said": []}],
        evaluators=evaluators,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )
    experiment = await evaluate(definition, name="traced", settings=settings)
    assert [run.status for run in experiment.runs] == ["success"]
    return experiment


def calls_of(experiment: Experiment) -> list[tuple[str, int]]:
    # LangGraph's own node, which routes the inputs.
    found = [node for node in experiment.runs[0].nodes if node.name != START]
    return sorted((node.name, len(node.calls)) for node in found)


def within(node: NodeTrace) -> bool:
    """Whether every call lies in the time of its node."""
    end_s = node.began_s + node.duration_s
    return all(node.began_s <= call.began_s and call.began_s + call.duration_s <= end_s for call in node.calls)


def test_numbers_between_nodes_are_no_nodes() -> None:
    assert node_in("outer:1a|1|inner:2b") == "outer/inner"
    assert node_in("outer:1a|inner:2b|12|deep:3c") == "outer/inner/deep"
    assert node_in("outer:1a") == "outer"
    assert node_in("2:1a") == "2"


@pytest.mark.parametrize("node", [write, write_in_a_chain, write_in_a_thread])
async def test_graphs_that_a_node_runs_one_after_another_have_their_own_calls(node: object, settings: Settings) -> None:
    sub = graph_of("inner", node)

    async def outer(state: State) -> Said:
        one = await sub.ainvoke(topic("a"))
        await plait.chat_model().ainvoke("between")
        other = await sub.ainvoke(topic("b"))
        return {"said": [*one["said"], *other["said"]]}

    experiment = await traced(graph_of("outer", outer), settings)
    assert calls_of(experiment) == [("outer", 1), ("outer/inner", 1), ("outer/inner", 1)]
    _, first, second = experiment.runs[0].nodes
    assert first.began_s + first.duration_s <= second.began_s
    assert all(map(within, experiment.runs[0].nodes))


@pytest.mark.parametrize("node", [write, write_in_a_chain, write_in_a_thread])
async def test_graphs_that_a_node_runs_at_once_have_their_own_calls(node: object, settings: Settings) -> None:
    sub = graph_of("inner", node)

    async def outer(state: State) -> Said:
        found = await asyncio.gather(*(sub.ainvoke(topic(name)) for name in "abc"))
        return {"said": [text for each in found for text in each["said"]]}

    seen: list[object] = []

    def inner_output(outputs: Mapping[str, list[str]]) -> bool:
        seen.append(outputs)
        return len(outputs["said"]) == 1

    experiment = await traced(graph_of("outer", outer), settings, evaluator(inner_output, node="outer/inner"))
    assert calls_of(experiment) == [("outer", 0), ("outer/inner", 1), ("outer/inner", 1), ("outer/inner", 1)]
    assert all(map(within, experiment.runs[0].nodes))
    assert len(seen) == 3
    assert [score.score for score in experiment.runs[0].scores] == [1.0]


def _synchronous(sub: Graph) -> object:
    def outer(state: State) -> Said:
        return {"said": [sub.invoke(topic(name))["said"][0] for name in "ab"]}

    return outer


async def test_a_synchronous_node_runs_graphs_whose_calls_are_their_own(settings: Settings) -> None:
    experiment = await traced(graph_of("outer", _synchronous(graph_of("inner", write_in_a_thread))), settings)
    assert calls_of(experiment) == [("outer", 0), ("outer/inner", 1), ("outer/inner", 1)]


async def test_a_graph_within_a_chain_of_a_node_has_its_own_calls(settings: Settings) -> None:
    async def ask(state: State) -> State:
        await plait.chat_model().ainvoke("in the chain")
        return state

    chain = RunnableLambda(ask) | graph_of("inner", RunnableLambda(ask) | write_in_a_chain) | RunnableLambda(ask)
    experiment = await traced(graph_of("outer", chain), settings)
    assert calls_of(experiment) == [("outer", 2), ("outer/inner", 2)]


async def test_siblings_that_were_sent_into_a_graph_have_their_own_calls(settings: Settings) -> None:
    builder = StateGraph(State)
    builder.add_node("fan", graph_of("inner", write_in_a_chain))
    builder.add_conditional_edges(START, lambda _: [Send("fan", topic(name)) for name in "abc"], ["fan"])
    experiment = await traced(builder.compile(name="story"), settings)
    assert calls_of(experiment) == [*[("fan", 0)] * 3, *[("fan/inner", 1)] * 3]
    branches = Counter(node.branch for node in experiment.runs[0].nodes if node.calls)
    assert branches == {f"fan@1[{number}]/inner@1": 1 for number in range(3)}


async def test_tasks_of_the_functional_api_are_executions_of_their_own(settings: Settings) -> None:
    sub = graph_of("inner", write)

    @task
    async def ask(name: str) -> list[str]:
        text = (await plait.chat_model().ainvoke(f"ask {name}")).text
        return [text, *(await sub.ainvoke(topic(name)))["said"]]

    @entrypoint()
    async def flow(state: State) -> Said:
        found = await asyncio.gather(ask("a"), ask("b"))
        await plait.chat_model().ainvoke("at the end")
        return {"said": [text for each in found for text in each]}

    seen: list[object] = []

    def two_answers(outputs: list[str]) -> bool:
        seen.append(outputs)
        return len(outputs) == 2

    async def outer(state: State) -> Said:
        return {"said": (await flow.ainvoke(topic("all")))["said"]}

    found = evaluator(two_answers, node="outer/flow/ask")
    experiment = await traced(graph_of("outer", outer), settings, found)
    assert len(seen) == 2
    assert [(score.node, score.score) for score in experiment.runs[0].scores] == [("outer/flow/ask", 1.0)]
    assert calls_of(experiment) == [
        ("outer", 0),
        ("outer/flow", 1),
        *[("outer/flow/ask", 1)] * 2,
        *[("outer/flow/ask/inner", 1)] * 2,
    ]
    assert all(map(within, experiment.runs[0].nodes))


async def test_a_task_that_is_tried_again_is_two_executions(settings: Settings) -> None:
    tries: list[str] = []

    @task(retry_policy=RetryPolicy(initial_interval=0.001, retry_on=ValueError))  # type: ignore[arg-type]  # as mypy reads its overloads
    async def ask(name: str) -> str:
        text = (await plait.chat_model().ainvoke(f"ask {name} {len(tries)}")).text
        tries.append(text)
        if len(tries) == 1:
            raise ValueError("not this one")
        return text

    async def outer(state: State) -> Said:
        return {"said": [await ask("a")]}  # type: ignore[arg-type]

    experiment = await traced(graph_of("outer", outer), settings)
    asked = [node for node in experiment.runs[0].nodes if node.name == "outer/ask"]
    assert [(node.error, len(node.calls)) for node in asked] == [("ValueError", 1), (None, 1)]


async def test_a_task_goes_by_the_name_it_was_given(settings: Settings) -> None:
    @task(name="question")  # type: ignore[arg-type]
    async def ask(name: str) -> str:
        return (await plait.chat_model().ainvoke(f"ask {name}")).text

    async def outer(state: State) -> Said:
        return {"said": [await ask("a")]}  # type: ignore[arg-type]

    experiment = await traced(graph_of("outer", outer), settings)
    assert calls_of(experiment) == [("outer", 0), ("outer/question", 1)]


async def test_tools_in_nested_graphs_are_told_in_their_order(settings: Settings) -> None:
    @tool
    async def look(thing: str) -> str:
        """Look."""
        return (await plait.chat_model().ainvoke(f"look at {thing}")).text

    async def search(state: State) -> Said:
        return {"said": [await look.ainvoke({"thing": state["topic"]})]}

    sub = graph_of("inner", search)

    async def outer(state: State) -> Said:
        for name in "ab":
            await sub.ainvoke(topic(name))
        return {"said": []}

    experiment = await traced(graph_of("outer", outer), settings)
    assert [(each.name, each.args) for each in experiment.runs[0].tools] == [
        ("look", {"thing": "a"}),
        ("look", {"thing": "b"}),
    ]
    assert calls_of(experiment) == [("outer", 0), ("outer/inner", 1), ("outer/inner", 1)]


async def test_a_node_that_is_tried_again_has_an_execution_for_each_try(settings: Settings) -> None:
    tries: list[str] = []

    async def fragile(state: State) -> Said:
        tries.append((await plait.chat_model().ainvoke(f"write {len(tries)}")).text)
        if len(tries) == 1:
            raise ValueError("not this one")
        return {"said": tries[1:]}

    retry = RetryPolicy(initial_interval=0.001, retry_on=ValueError)
    experiment = await traced(graph_of("fragile", fragile, retry=retry), settings)
    assert [(node.error, len(node.calls)) for node in experiment.runs[0].nodes] == [("ValueError", 1), (None, 1)]
