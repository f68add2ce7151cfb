"""Runs: events, results, failures, time limits and cancellation."""

from __future__ import annotations

import asyncio
import gc
import operator
import weakref
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt

import plait
from plait import chat_model
from plait.errors import (
    CallRefused,
    EndpointUnreachable,
    InputError,
    ModelUnavailable,
    RunFailed,
    RunTimeout,
    SettingsError,
    WorkflowNotFound,
)
from plait.events import EndEvent, ErrorEvent, TokenEvent, UpdateEvent, UsageEvent
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator, running


class State(TypedDict):
    text: str


class Many(TypedDict):
    items: list[str]
    answers: Annotated[list[str], operator.add]


class Item(TypedDict):
    item: str


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-mine"}).override(
        model="openai:m", max_attempts=1
    )


def one_call() -> CompiledStateGraph[Any, Any, Any, Any]:
    async def call(state: State) -> State:
        return {"text": (await chat_model().ainvoke(state["text"])).text}

    return StateGraph(State).add_node("call", call).add_edge(START, "call").compile(name="one")


def nested() -> CompiledStateGraph[Any, Any, Any, Any]:
    async def answer(state: Item) -> dict[str, list[str]]:
        get_stream_writer()({"asking": state["item"]})
        model = chat_model().with_config(metadata={"label": f"about {state['item']}"})
        return {"answers": [(await model.ainvoke(state["item"])).text]}

    inner = StateGraph(Many)
    inner.add_node("answer", answer, input_schema=Item)
    inner.add_conditional_edges(START, lambda s: [Send("answer", {"item": i}) for i in s["items"]], ["answer"])
    outer = StateGraph(Many)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    return outer.compile(name="nested")


async def test_run_returns_outputs_and_usage(provider: Simulator, settings: Settings) -> None:
    result = await plait.run(one_call(), {"text": "one two"}, settings=settings)
    assert (result.status, result.workflow, result.error) == ("success", "one", None)
    assert result.outputs == {"text": "Answer to: one two"}
    assert (result.usage.calls, result.usage.attempts, result.usage.total_tokens) == (1, 1, 6)
    assert result.usage.models == {"m": 1}
    assert provider.requests[0].body["stream"] is False


async def test_tokens_of_nested_branches_are_told_apart(provider: Simulator, settings: Settings) -> None:
    inputs = {"items": ["cats", "dogs"], "answers": []}
    events = [event async for event in plait.stream(nested(), inputs, settings=settings)]
    texts: dict[tuple[str, str], str] = {}
    for event in events:
        if isinstance(event, TokenEvent):
            key = (event.branch, event.label)
            texts[key] = texts.get(key, "") + event.text
    assert texts == {
        ("inner/answer[0]", "about cats"): "Answer to: cats",
        ("inner/answer[1]", "about dogs"): "Answer to: dogs",
    }
    updates = {event.branch: event for event in events if isinstance(event, UpdateEvent)}
    assert updates["inner/answer[1]"].values == {"answers": ["Answer to: dogs"]}
    assert updates["inner/answer[1]"].label == "about dogs"
    customs = [event for event in events if event.type == "custom"]
    assert sorted(event.data["asking"] for event in customs) == ["cats", "dogs"]
    assert [event.type for event in events[-2:]] == ["usage", "end"]
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert end.result.outputs["answers"] == ["Answer to: cats", "Answer to: dogs"]
    assert end.result.usage.calls == 2


async def test_tokens_are_asked_for_only_when_wanted(provider: Simulator, settings: Settings) -> None:
    events = [e async for e in plait.stream(one_call(), {"text": "x"}, settings=settings, tokens=False)]
    assert "token" not in {event.type for event in events}
    assert provider.requests[0].body["stream"] is False


async def test_stream_and_run_give_the_same_outputs(provider: Simulator, settings: Settings) -> None:
    for workflow, inputs in (
        ("story", {"topic": "a cat"}),
        ("stories", {"topics": ["a cat", "a dog"]}),
        ("ask", {"questions": {"b": "Why?", "a": "How?"}}),
    ):
        end = [e async for e in plait.stream(workflow, inputs, settings=settings)][-1]
        assert isinstance(end, EndEvent)
        assert end.result.outputs == (await plait.run(workflow, inputs, settings=settings)).outputs


async def test_callbacks_passed_in_are_called(provider: Simulator, settings: Settings) -> None:
    class Listener(AsyncCallbackHandler):
        tokens = 0

        async def on_llm_new_token(self, token: str | list[str | dict[str, Any]], **kwargs: Any) -> None:
            self.tokens += 1

    listener = Listener()
    async for _ in plait.stream(one_call(), {"text": "x"}, config={"callbacks": [listener]}, settings=settings):
        pass
    assert listener.tokens > 0


async def test_a_failing_node_is_named_and_ends_the_run(settings: Settings) -> None:
    async def explode(state: State) -> State:
        raise ValueError("no such thing")

    graph = StateGraph(State).add_node("explode", explode).add_edge(START, "explode").compile()
    with pytest.raises(RunFailed, match=r"node 'explode' raised ValueError: no such thing") as raised:
        await plait.run(graph, {"text": "x"}, settings=settings)
    assert isinstance(raised.value.__cause__, ValueError)
    events = [event async for event in plait.stream(graph, {"text": "x"}, settings=settings)]
    assert [event.type for event in events] == ["error", "usage", "end"]
    assert isinstance(events[0], ErrorEvent)
    assert isinstance(events[-1], EndEvent)
    assert (events[-1].result.status, events[-1].result.outputs) == ("error", None)


@pytest.mark.parametrize(
    ("status", "error", "kind", "words"),
    [
        (401, "Incorrect API key provided: sk-mine", CallRefused, "refused the key in OPENAI_API_KEY"),
        (404, "The model `m` does not exist", CallRefused, "does not know this model"),
        (429, "slow down", EndpointUnreachable, "still answered 429"),
        (503, "overloaded", EndpointUnreachable, "still answered 503"),
        (400, "context too long", RunFailed, "context too long"),
    ],
)
async def test_refusals_become_errors_that_say_what_to_do(
    provider: Simulator, settings: Settings, status: int, error: str, kind: type[Exception], words: str
) -> None:
    provider.script(Behaviour(status=status, error={"message": error, "type": "x", "code": None}))
    with pytest.raises(kind, match=words) as raised:
        await plait.run(one_call(), {"text": "x"}, settings=settings)
    if kind is not RunFailed:
        assert "sk-mine" not in str(raised.value)


async def test_an_endpoint_that_is_down_is_named(provider: Simulator, settings: Settings) -> None:
    await provider.__aexit__(None, None, None)
    with pytest.raises(EndpointUnreachable, match=r"cannot reach http://127.0.0.1:.*(refused|connect)"):
        await plait.run(one_call(), {"text": "x"}, settings=settings)


async def test_a_timeout_ends_the_run_and_closes_its_calls(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()
    with pytest.raises(RunTimeout, match=r"did not finish within 0.3 s"):
        await plait.run(one_call(), {"text": "x"}, settings=settings, timeout_s=0.3)
    await provider.idle()
    events = [e async for e in plait.stream(one_call(), {"text": "x"}, settings=settings, timeout_s=0.3)]
    assert isinstance(events[-1], EndEvent)
    assert events[-1].result.status == "timeout"
    await provider.idle()
    assert provider.closed_early == 2


async def test_a_timeout_raised_inside_a_node_is_no_timeout_of_the_run(settings: Settings) -> None:
    async def impatient(state: State) -> State:
        raise TimeoutError("mine")

    graph = StateGraph(State).add_node("impatient", impatient).add_edge(START, "impatient").compile()
    with pytest.raises(RunFailed, match="mine"):
        await plait.run(graph, {"text": "x"}, settings=settings, timeout_s=30)


async def test_closing_the_iterator_closes_calls_in_flight_and_begins_no_more(
    provider: Simulator, settings: Settings
) -> None:
    provider.gate = asyncio.Event()
    inputs = {"items": [str(n) for n in range(6)], "answers": []}
    bounded = settings.override(max_concurrency=2)
    events = plait.stream(nested(), inputs, settings=bounded)
    reader = asyncio.ensure_future(anext(events))
    await reader
    waiting = asyncio.ensure_future(_read_all(events))
    await provider.arrived(2)
    waiting.cancel()
    await asyncio.wait([waiting])
    await provider.idle()
    provider.gate.set()
    assert provider.closed_early == 2
    assert len(provider.requests) == 2


async def _read_all(events: Any) -> None:
    async for _ in events:
        pass


async def test_a_slow_reader_holds_the_run_back_without_losing_events(provider: Simulator, settings: Settings) -> None:
    provider.answer = lambda body: "word " * 3000
    count = 0
    async for event in plait.stream(one_call(), {"text": "x"}, settings=settings):
        await asyncio.sleep(0)
        count += event.type == "token"
    assert count == 3000


async def test_wrong_input_is_refused_before_the_first_call(provider: Simulator, settings: Settings) -> None:
    with pytest.raises(InputError, match="topic"):
        await plait.run("story", {"topic": "  "}, settings=settings)
    with pytest.raises(InputError) as raised:
        await plait.run("story", {"words": "many", "topik": "x"}, settings=settings)
    assert len(str(raised.value).splitlines()) == 3
    with pytest.raises(WorkflowNotFound, match="story"):
        await plait.run("storie", {"topic": "x"}, settings=settings)
    assert provider.requests == []


async def test_a_context_chooses_the_model(provider: Simulator, settings: Settings) -> None:
    await plait.run("story", {"topic": "x"}, context={"model": "openai:other"}, settings=settings)
    assert provider.requests[0].body["model"] == "other"
    with pytest.raises(ModelUnavailable, match="expected a model as endpoint:model, found 'other'"):
        await plait.run("story", {"topic": "x"}, context={"model": "other"}, settings=settings)


async def test_interrupts_end_the_run_as_interrupted(settings: Settings) -> None:
    async def confirm(state: State) -> State:
        return {"text": interrupt("really?")}

    builder = StateGraph(State).add_node("confirm", confirm).add_edge(START, "confirm")
    graph = builder.compile(checkpointer=InMemorySaver())
    result = await plait.run(graph, {"text": "x"}, settings=settings, config={"configurable": {"thread_id": "1"}})
    assert (result.status, result.interrupts) == ("interrupted", ("really?",))
    events = [
        event
        async for event in plait.stream(
            graph, {"text": "x"}, settings=settings, config={"configurable": {"thread_id": "2"}}
        )
    ]
    assert isinstance(events[-1], EndEvent)
    assert (events[-1].result.status, events[-1].result.interrupts) == ("interrupted", ("really?",))


async def test_the_functional_api_runs_too(provider: Simulator, settings: Settings) -> None:
    @entrypoint()
    async def shout(inputs: dict[str, str]) -> str:
        return (await chat_model().ainvoke(inputs["text"])).text.upper()

    result = await plait.run(shout, {"text": "hi"}, settings=settings)
    assert result.outputs == "ANSWER TO: HI"


async def test_synchronous_nodes_run_beside_each_other_and_share_the_limit(
    provider: Simulator, settings: Settings
) -> None:
    def answer(state: Item) -> dict[str, list[str]]:
        return {"answers": [chat_model().invoke(state["item"]).text]}

    builder = StateGraph(Many)
    builder.add_node("answer", answer, input_schema=Item)
    builder.add_conditional_edges(START, lambda s: [Send("answer", {"item": i}) for i in s["items"]], ["answer"])
    provider.gate = asyncio.Event()
    inputs = {"items": [str(n) for n in range(5)], "answers": []}
    running = asyncio.create_task(plait.run(builder.compile(), inputs, settings=settings.override(max_concurrency=3)))
    await provider.arrived(3)
    provider.gate.set()
    result = await running
    assert result.usage.calls == 5
    assert provider.peak == 3


async def test_calls_from_threads_without_context_are_bounded_and_counted_apart(
    provider: Simulator, settings: Settings
) -> None:
    model = chat_model(settings=settings)

    async def stray(state: State) -> State:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(None, lambda: model.invoke("hi"))  # carries no context
        return {"text": answer.text}

    graph = StateGraph(State).add_node("stray", stray).add_edge(START, "stray").compile()
    result = await plait.run(graph, {"text": "x"}, settings=settings)
    assert (result.usage.calls, result.usage.unscoped_calls) == (0, 1)


async def test_usage_event_carries_the_sum(provider: Simulator, settings: Settings) -> None:
    events = [event async for event in plait.stream(one_call(), {"text": "x"}, settings=settings)]
    usage = next(event for event in events if isinstance(event, UsageEvent))
    assert (usage.usage.calls, usage.usage.output_tokens) == (1, 3)


async def test_a_loaded_graph_answers_langgraphs_own_calls(
    provider: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("PLAIT_MODEL", "openai:m")
    graph = await asyncio.to_thread(plait.load, "story")
    assert (await graph.ainvoke({"topic": "a cat"}))["story"].startswith("Answer to")
    async with plait.open("story") as same:
        values = [value async for value in same.astream({"topic": "a cat"}, stream_mode="values")]
    assert values[-1]["story"].startswith("Answer to")


async def test_an_interrupted_run_goes_on_with_its_answer(settings: Settings) -> None:
    async def confirm(state: State) -> State:
        return {"text": interrupt("really?")}

    builder = StateGraph(State).add_node("confirm", confirm).add_edge(START, "confirm")
    graph = builder.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    await plait.run(graph, {"text": "x"}, settings=settings, config=thread)
    result = await plait.run(graph, Command(resume="yes"), settings=settings, config=thread)
    assert (result.status, result.outputs) == ("success", {"text": "yes"})


class Collapse(BaseException):
    """As a panic in an extension module is."""


async def test_a_stream_never_hangs_however_its_graph_ends(settings: Settings) -> None:
    async def collapse(state: State) -> State:
        raise Collapse

    graph = StateGraph(State).add_node("collapse", collapse).add_edge(START, "collapse").compile()
    with pytest.raises(Collapse):
        await _read_all(plait.stream(graph, {"text": "x"}, settings=settings))


async def test_a_node_may_call_a_model_while_it_reads_another_answer(provider: Simulator, settings: Settings) -> None:
    async def echo(state: State) -> State:
        said = [
            (await chat_model().ainvoke(chunk.text)).text
            async for chunk in chat_model().astream(state["text"])
            if chunk.text
        ]
        return {"text": "|".join(said)}

    graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").compile()
    bounded = settings.override(max_concurrency=1)
    events = [event async for event in plait.stream(graph, {"text": "hi"}, settings=bounded)]
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert end.result.outputs == {"text": "Answer to: Answer |Answer to: to: |Answer to: hi"}
    assert provider.peak == 1


async def test_calls_that_a_failed_run_left_behind_are_closed(provider: Simulator, settings: Settings) -> None:
    provider.gate = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    async def careless(state: State) -> State:
        left.append(asyncio.create_task(chat_model().ainvoke("hi")))
        await provider.arrived(1)
        raise ValueError("gone")

    graph = StateGraph(State).add_node("careless", careless).add_edge(START, "careless").compile()
    with pytest.raises(RunFailed):
        await plait.run(graph, {"text": "x"}, settings=settings)
    await provider.idle()
    await asyncio.gather(*left, return_exceptions=True)
    assert provider.closed_early == 1


async def test_a_run_inside_a_node_counts_for_both(provider: Simulator, settings: Settings) -> None:
    async def inner(state: State) -> State:
        result = await plait.run(one_call(), {"text": state["text"]}, settings=settings)
        return {"text": result.outputs["text"]}

    graph = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()
    result = await plait.run(graph, {"text": "x"}, settings=settings)
    assert (result.usage.calls, result.usage.attempts, result.usage.models) == (1, 1, {"m": 1})


async def test_a_nonsense_bound_is_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="max_concurrency: expected a whole number of 1 or more, found 0"):
        await plait.run(one_call(), {"text": "x"}, settings=settings, config={"max_concurrency": 0})


def test_loops_that_ended_are_forgotten() -> None:
    with running() as provider:
        settings = from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m")
        loops = []

        async def once() -> None:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            await plait.run(one_call(), {"text": "x"}, settings=settings)

        for _ in range(5):
            asyncio.run(once())
        gc.collect()
        assert [loop() for loop in loops] == [None] * 5
