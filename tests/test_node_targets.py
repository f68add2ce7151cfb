"""Nodes that run alone: the inputs of their own, what they write, and what the whole graph gives them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, Command, RetryPolicy, Send
from pydantic import BaseModel

import plait
from plait.app import App, find_app, open_workflow
from plait.errors import InputError, RunFailed
from plait.experiments.nodes import node_graph
from plait.inputs import check_inputs, input_fields
from plait.runs import Graph
from plait.settings import Settings, from_env
from plait.simulator import Simulator
from plait.simulator.behaviours import Behaviour


class State(TypedDict):
    text: str
    words: NotRequired[list[str]]
    seen: Annotated[list[str], operator.add]


@dataclass(frozen=True)
class Context:
    mark: str = "."


def chained(*nodes: Any, state: Any = State, **compiling: Any) -> Graph:
    builder = StateGraph(state, Context)
    builder.add_sequence(list(nodes))
    builder.add_edge(START, nodes[0].__name__)
    return builder.compile(name="chained", **compiling)


async def split(state: State) -> dict[str, object]:
    return {"words": state["text"].split(), "seen": ["split"]}


def shout(state: State, runtime: Runtime[Context]) -> dict[str, object]:
    return {"text": state["text"].upper() + (runtime.context or Context()).mark, "unknown": 1}


@pytest.fixture(scope="module")
def app() -> App:
    return find_app()


@pytest.fixture
def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "PLAIT_MODEL": "openai:m"})


async def test_a_node_alone_gives_what_it_writes_and_not_what_it_was_given() -> None:
    alone = node_graph(chained(split, shout), "split")
    assert await alone.ainvoke({"text": "a b", "seen": ["before"]}) == {"words": ["a", "b"], "seen": ["split"]}


async def test_a_sync_node_gets_the_context_and_keys_that_are_no_state_are_left_out() -> None:
    alone = node_graph(chained(split, shout), "shout")
    assert await alone.ainvoke({"text": "a"}, context={"mark": "!"}) == {"text": "A!"}
    result = await plait.run(alone, {"text": "b"}, context={"mark": "?"})
    assert result.outputs == {"text": "B?"}


async def test_a_node_that_writes_nothing_gives_nothing() -> None:
    async def silent(state: State) -> None:
        assert state["text"]

    assert await node_graph(chained(silent), "silent").ainvoke({"text": "a"}) == {}


async def test_a_command_gives_its_update_and_goes_nowhere() -> None:
    async def route(state: State) -> Command[Literal["after"]]:
        return Command(update={"words": [state["text"]]}, goto=["after", Send("after", {"text": "sent"})])

    async def after(state: State) -> dict[str, object]:
        raise AssertionError("not to be run")

    assert await node_graph(chained(route, after), "route").ainvoke({"text": "a"}) == {"words": ["a"]}


async def test_several_commands_are_combined_by_the_reducer_of_the_key() -> None:
    async def twice(state: State) -> list[Command[Any]]:
        return [Command(update={"seen": ["1"], "text": "x"}), Command(update=[("seen", ["2"]), ("text", "y")])]

    assert await node_graph(chained(twice), "twice").ainvoke({"text": "a"}) == {"seen": ["1", "2"], "text": "y"}


async def test_a_value_that_is_no_update_fails_as_in_the_whole_graph() -> None:
    async def wrong(state: State) -> int:
        return 3

    whole = chained(wrong)
    for graph in (whole, node_graph(whole, "wrong")):
        with pytest.raises(RunFailed, match="Expected dict, got 3"):
            await plait.run(graph, {"text": "a"})


class Branch(TypedDict):
    index: int
    part: str
    note: NotRequired[str]


def fanned() -> Graph:
    async def load(state: State) -> dict[str, object]:
        return {"words": state["text"].split()}

    def fan_out(state: State) -> list[Send]:
        return [Send("work", {"index": i, "part": part}) for i, part in enumerate(state.get("words", []))]

    async def work(state: Branch) -> dict[str, object]:
        return {"seen": [f"{state['index']}{state['part']}{state.get('note', '')}"]}

    builder = StateGraph(State)
    builder.add_node(load)
    builder.add_node("work", work, input_schema=Branch)
    builder.add_edge(START, "load")
    builder.add_conditional_edges("load", fan_out, ["work"])
    return builder.compile(name="fanned")


async def test_the_target_of_a_send_takes_what_is_sent_and_all_of_it() -> None:
    alone = node_graph(fanned(), "work")
    assert [(field.name, field.required) for field in input_fields(alone)] == [
        ("index", True),
        ("part", True),
        ("note", False),
    ]
    result = await plait.run(alone, {"index": "3", "part": "x"})
    assert result.outputs == {"seen": ["3x"]}
    with pytest.raises(InputError, match=r"part"):
        check_inputs(alone, {"index": 1}, workflow="work")


def test_a_node_of_the_whole_state_requires_no_key_of_it() -> None:
    assert not any(field.required for field in input_fields(node_graph(fanned(), "load")))


class Model(BaseModel):
    text: str
    count: int = 0
    note: str | None = None


async def test_a_node_gets_a_pydantic_state_as_an_object_and_may_write_one() -> None:
    async def step(state: Model) -> Model:
        return Model(text=state.text + "!", count=state.count + 1)

    alone = node_graph(chained(step, state=Model), "step")
    assert await alone.ainvoke({"text": "a"}) == {"text": "a!", "count": 1}
    with pytest.raises(InputError, match="text"):
        check_inputs(alone, {"count": 1}, workflow="step")


@dataclass
class Record:
    text: str = ""
    size: int | None = None


async def test_a_node_gets_a_dataclass_state_as_an_object_and_may_write_one() -> None:
    async def step(state: Record) -> Record:
        return Record(text=state.text * 2)

    assert await node_graph(chained(step, state=Record), "step").ainvoke({"text": "a"}) == {"text": "aa"}


async def test_a_state_without_named_keys_is_taken_as_it_is() -> None:
    async def step(state: dict[str, object]) -> dict[str, object]:
        return {"got": state}

    assert await node_graph(chained(step, state=dict), "step").ainvoke({"x": 1}) == {"got": {"x": 1}}


async def test_values_that_langgraph_manages_are_there() -> None:
    class Counted(TypedDict):
        text: str
        remaining: RemainingSteps

    async def step(state: Counted) -> dict[str, object]:
        return {"text": f"{state['text']} {state['remaining'] > 0}"}

    alone = node_graph(chained(step, state=Counted), "step")
    assert [field.name for field in input_fields(alone)] == ["text"]
    assert await alone.ainvoke({"text": "left"}) == {"text": "left True"}


async def test_retries_and_the_cache_are_those_of_the_whole_graph() -> None:
    calls: list[str] = []

    async def flaky(state: State) -> dict[str, object]:
        calls.append(state["text"])
        if len(calls) == 1:
            raise ConnectionError("once")
        return {"text": "done"}

    builder = StateGraph(State)
    quick = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False, retry_on=ConnectionError)
    builder.add_node("flaky", flaky, retry_policy=quick, cache_policy=CachePolicy())
    builder.add_edge(START, "flaky")
    whole: Any = builder.compile(cache=InMemoryCache())
    alone = node_graph(whole, "flaky")
    assert await alone.ainvoke({"text": "a"}) == {"text": "done"}
    assert calls == ["a", "a"]
    assert await alone.ainvoke({"text": "a"}) == {"text": "done"}
    assert calls == ["a", "a"], "the second was cached"
    # What the whole graph caches of this node is not what the node alone does.
    assert (await whole.ainvoke({"text": "a"}))["text"] == "done"
    assert calls == ["a", "a", "a"]


async def test_the_bounds_of_the_graph_are_those_of_the_node() -> None:
    seen: list[object] = []

    async def look(state: State, config: RunnableConfig) -> dict[str, object]:
        seen.append(config.get("max_concurrency"))
        return {}

    bounded: Graph = chained(look).with_config({"max_concurrency": 3})
    await node_graph(bounded, "look").ainvoke({"text": "a"})
    assert seen == [3]


def nested() -> Graph:
    async def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, update={"seen": ["left"]}, goto="last")

    inner: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    inner.add_node(shout)
    inner.add_node(split)
    inner.add_edge(START, "shout")
    inner.add_edge("shout", "split")
    leaving = StateGraph(State)
    leaving.add_node(leave)
    leaving.add_edge(START, "leave")
    outer = StateGraph(State, Context)
    outer.add_node("inner", inner.compile())
    outer.add_node("leaving", leaving.compile())
    outer.add_node("last", split)
    outer.add_edge(START, "inner")
    outer.add_edge("inner", "leaving")
    return outer.compile(name="outer")


async def test_a_subgraph_runs_alone_as_one_node() -> None:
    outputs = await node_graph(nested(), "inner").ainvoke({"text": "a b"}, context={"mark": "!"})
    assert outputs == {"text": "A B!", "words": ["A", "B!"], "seen": ["split"]}


async def test_a_node_within_a_subgraph_runs_alone_with_the_context_of_the_whole() -> None:
    outputs = await node_graph(nested(), "inner/shout").ainvoke({"text": "a"}, context={"mark": "!"})
    assert outputs == {"text": "A!"}


@pytest.mark.parametrize("path", ["leaving", "leaving/leave"])
async def test_a_command_to_the_graph_around_gives_its_update(path: str) -> None:
    assert await node_graph(nested(), path).ainvoke({"text": "a"}) == {"seen": ["left"]}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("inne", "expected a node of 'outer', found 'inne': did you mean 'inner'"),
        ("x", "found 'x': nodes: inner, leaving, last"),
        ("inner/shuot", "found 'shuot' .of 'inner/shuot'.: did you mean 'shout'.* nodes: shout, split"),
        ("last/split", "expected a graph in node 'last', found none"),
        ("", "found '': nodes"),
    ],
)
def test_a_node_that_is_not_there_is_named_with_those_that_are(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        node_graph(nested(), path)


def test_graphs_that_are_no_state_graph_are_refused() -> None:
    @entrypoint()
    async def functional(text: str) -> str:
        return text

    with pytest.raises(InputError, match="expected the workflow to be a compiled StateGraph, found Pregel"):
        node_graph(functional, "functional")


def test_a_state_that_is_one_list_is_refused() -> None:
    async def step(state: list[str]) -> list[str]:
        return state

    with pytest.raises(InputError, match="expected a state with named keys"):
        node_graph(chained(step, state=Annotated[list[str], operator.add]), "step")


@pytest.mark.parametrize(
    ("workflow", "node", "inputs", "output"),
    [
        ("story", "write", {"topic": "rain", "words": 20}, "story"),
        ("ask", "answer", {"label": "a", "question": "Why?"}, "answered"),
        ("greet", "greet", {"name": "Ada"}, "greeting"),
        ("summarize", "load", {"texts": ["A text."]}, "names"),
        ("rag", "search_documents", {"question": "What is plait?", "path": "README.md"}, "passages"),
        ("research", "research", {"index": 0, "question": "Why?", "path": None}, "found"),
    ],
)
async def test_nodes_of_the_stock_workflows_run_alone(
    app: App, settings: Settings, workflow: str, node: str, inputs: dict[str, object], output: str
) -> None:
    async with open_workflow(app, workflow) as graph:
        result = await plait.run(node_graph(graph, node), inputs, settings=settings)
    assert output in result.outputs
    assert result.outputs[output]


async def test_a_node_alone_fails_where_its_error_handler_would_note_the_failure(
    app: App, settings: Settings, provider: Simulator
) -> None:
    provider.behave = lambda body, number: Behaviour(status=400)
    async with open_workflow(app, "ask") as graph:
        noted = await plait.run(graph, {"questions": {"a": "Why?"}}, settings=settings)
        assert noted.outputs["answers"]["a"]["error"]
        with pytest.raises(RunFailed, match="400"):
            await plait.run(node_graph(graph, "answer"), {"label": "a", "question": "Why?"}, settings=settings)


async def test_the_events_of_a_node_alone_are_those_it_has_in_the_whole_graph(app: App, settings: Settings) -> None:
    async with open_workflow(app, "story") as graph:
        inputs = {"topic": "rain"}
        whole = [event async for event in plait.stream(graph, inputs, settings=settings)]
        alone = [event async for event in plait.stream(node_graph(graph, "write"), inputs, settings=settings)]
    for kind in (plait.TokenEvent, plait.UpdateEvent):
        branches = [
            [(event.branch, event.label) for event in events if isinstance(event, kind)] for events in (whole, alone)
        ]
        assert branches[0] == branches[1] != []
