"""The checkpointer: LangGraph's own suite, what a run leaves and finds again, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from plait.errors import BlockingCall, StoreError
from plait.store.addresses import Address, medium_of
from plait.store.connections import Connection
from plait.store.saver_reads import place_of
from plait.store.savers import Saver
from plait.store.writers import Writer


@dataclass
class Place:
    name: str


class Big(TypedDict):
    big: list[str]
    n: int


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    place: Place
    text: str
    count: int


@pytest.fixture
async def saver(address: Address) -> AsyncGenerator[Saver]:
    async with Saver.open(address) as opened:
        yield opened


def thread(thread_id: str = "1", **more: object) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **more}}


def chat() -> StateGraph[State]:
    """Answers, then waits for a place."""

    async def answer(state: State) -> State:
        return {"messages": [AIMessage("hello")], "count": state.get("count", 0) + 1}

    async def ask(state: State) -> State:
        return {"place": Place(interrupt("where?")), "text": "t" * 1000}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_node("ask", ask)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", "ask")
    builder.add_edge("ask", END)
    return builder


async def asked(address: Address, sql: str, *parameters: object) -> Any:
    """What a statement gives that is run behind the saver's back: its first value, or None."""
    writer = Writer(medium_of(address))

    def work(connection: Connection) -> Any:
        cursor = connection.execute(sql, parameters)
        return cursor.fetchone()[0] if sql.startswith("SELECT") else None

    try:
        return await writer.do(work)
    finally:
        await asyncio.to_thread(writer.close)


def step_of(found: Any) -> int:
    """Of a state or a checkpoint that has metadata."""
    return int(found.metadata["step"])


def checkpoint(**values: object) -> Checkpoint:
    made = empty_checkpoint()
    made["channel_values"] = dict(values)
    made["channel_versions"] = dict.fromkeys(values, "1")
    return made


async def put(saver: BaseCheckpointSaver[str], config: RunnableConfig, **values: object) -> RunnableConfig:
    made = checkpoint(**values)
    return await saver.aput(config, made, {"source": "loop", "step": 0}, made["channel_versions"])


async def test_it_passes_the_suite_of_langgraph_with_every_capability(address: Address) -> None:
    async def factory() -> AsyncGenerator[Saver]:
        async with Saver.open(address) as saver:
            left = {place_of(found.config).thread_id async for found in saver.alist(None)}
            await saver.aprune([*left], strategy="delete")
            yield saver

    report = await validate(checkpointer_test("Saver")(factory))
    assert [failure for result in report.results.values() for failure in result.failures] == []
    assert {name for name, result in report.results.items() if result.passed} == {
        "put", "put_writes", "get_tuple", "list", "delete_thread", "delete_for_runs", "copy_thread", "prune",
    }  # fmt: skip


async def test_an_interrupted_run_goes_on_after_a_restart_with_its_own_types(address: Address) -> None:
    async with Saver.open(address) as saver:
        graph = chat().compile(checkpointer=saver.allowing(chat()))
        paused = await graph.ainvoke({"messages": [HumanMessage("hi")]}, thread())
        assert paused["__interrupt__"][0].value == "where?"
    async with Saver.open(address) as saver:
        graph = chat().compile(checkpointer=saver.allowing(chat()))
        await graph.ainvoke(Command(resume="Oslo"), thread())
        values = (await graph.aget_state(thread())).values
        history = [state async for state in graph.aget_state_history(thread())]
    assert (values["place"], values["count"], values["text"]) == (Place("Oslo"), 1, "t" * 1000)
    assert [type(message) for message in values["messages"]] == [HumanMessage, AIMessage]
    assert [step_of(state) for state in history] == [2, 1, 0, -1]
    assert [len(state.values.get("messages", [])) for state in history] == [2, 2, 1, 0]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_run_leaves_what_it_leaves_in_memory(saver: Saver, durability: Any) -> None:
    found = []
    for checkpointer in (saver.allowing(chat()), InMemorySaver(serde=saver.allowing(chat()).serde)):
        graph = chat().compile(checkpointer=checkpointer)
        for _ in range(2):
            await graph.ainvoke({"messages": [HumanMessage("hi", id="1")]}, thread(), durability=durability)
            await graph.ainvoke(Command(resume="Oslo"), thread(), durability=durability)
        await graph.aupdate_state(thread(), {"text": "changed"})
        states = [state async for state in graph.aget_state_history(thread())]
        messages = [[message.content for message in state.values.get("messages", [])] for state in states]
        rest = [{key: value for key, value in state.values.items() if key != "messages"} for state in states]
        steps = [(state.next, state.metadata, [task.interrupts for task in state.tasks]) for state in states]
        found.append(
            repr((messages, rest, [(step[0], step[1] and step[1].get("step"), len(step[2])) for step in steps]))
        )
    assert found[0] == found[1]


async def test_going_back_and_forking_finds_the_values_of_then(saver: Saver) -> None:
    graph = chat().compile(checkpointer=saver.allowing(chat()))
    await graph.ainvoke({"messages": [HumanMessage("hi")]}, thread())
    before = (await graph.aget_state(thread())).config
    await graph.ainvoke(Command(resume="Oslo"), thread())
    oslo = (await graph.aget_state(thread())).config
    forked = await graph.aupdate_state(before, {"count": 41})
    await graph.ainvoke(Command(resume="Rome"), forked)
    found = [(await graph.aget_state(config)).values for config in (thread(), oslo, before)]
    assert [values.get("place") for values in found] == [Place("Rome"), Place("Oslo"), None]
    assert [values["count"] for values in found] == [41, 1, 1]
    assert [len(values["messages"]) for values in found] == [2, 2, 2]


async def test_a_type_that_no_schema_names_is_refused_until_the_graph_is_allowed(saver: Saver) -> None:
    strict = chat().compile(checkpointer=saver)
    await strict.ainvoke({"messages": []}, thread())
    await strict.ainvoke(Command(resume="Oslo"), thread())
    with pytest.raises(StoreError, match="Place"):
        await strict.aget_state(thread())
    allowed = saver.allowing(chat())
    assert (await chat().compile(checkpointer=allowed).aget_state(thread())).values["place"] == Place("Oslo")
    assert allowed.allowing(chat()) is allowed
    assert saver.allowing(chat()) is allowed


async def test_a_crafted_checkpoint_is_refused_and_calls_nothing(
    saver: Saver, address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(saver, thread(), harmless="h" * 1000)
    await saver.aput_writes((await saver.aget_tuple(thread())).config, [("a", ["b"])], "t")  # type: ignore[union-attr]
    inside = ormsgpack.Ext(0, ormsgpack.packb(("os", "system", f"touch {tmp_path}/called")))
    evil = ormsgpack.packb([inside])
    packed = ormsgpack.packb([(0, "a", "msgpack", evil)])

    for sql, value in (
        ("UPDATE checkpoint_writes SET writes=?", packed),
        ("UPDATE checkpoint_values SET content=?", evil),
        ("UPDATE checkpoints SET checkpoint=?", evil),
        ("UPDATE checkpoints SET form='pickle', checkpoint=?", b"cos\nsystem\n(S'true'\ntR."),
    ):
        await asked(address, sql, value)
        with pytest.raises(StoreError, match=r"os\.system|pickle"):
            await saver.aget_tuple(thread())
    assert not (tmp_path / "called").exists()


async def test_a_crafted_checkpoint_cannot_be_pruned_and_the_saver_goes_on(saver: Saver, address: Address) -> None:
    await put(saver, thread(), a=["b"])

    await asked(address, "UPDATE checkpoints SET form='pickle'")
    with pytest.raises(StoreError, match="pickle"):
        await saver.aprune(["1"])
    await put(saver, thread("2"), a=["b"])
    await saver.aprune(["1"], strategy="delete")
    assert [place_of(found.config).thread_id async for found in saver.alist(None)] == ["2"]


async def test_metadata_filters_reach_no_sql_whatever_their_keys_are(saver: Saver) -> None:
    hostile = "x') = 'y' OR 1=1 --"
    for step in range(3):
        made = checkpoint()
        await saver.aput(thread(), made, {"source": "loop", "step": step, hostile: f"'{step}'"}, {})  # type: ignore[misc]
    assert [step_of(found) async for found in saver.alist(None, filter={hostile: "'1'"})] == [1]
    assert [found async for found in saver.alist(None, filter={hostile: "' OR '1'='1"})] == []
    assert [found async for found in saver.alist(None, filter={"step') OR 1=1 --": 1})] == []
    assert [step_of(found) async for found in saver.alist(thread(), filter={"step": 2})] == [2]


async def test_a_long_listing_comes_in_pages_without_gaps(saver: Saver) -> None:
    made = [place_of(await put(saver, thread(str(n % 3)), n=n)).checkpoint_id for n in range(130)]
    assert [found.checkpoint["id"] async for found in saver.alist(None)] == made[::-1]
    assert [found.checkpoint["channel_values"]["n"] async for found in saver.alist(None, limit=120)] == [
        *range(129, 9, -1)
    ]
    assert [found async for found in saver.alist(None, limit=0)] == []
    before = thread("0", checkpoint_id=made[3])
    assert [found.checkpoint["id"] async for found in saver.alist(thread("0"), before=before)] == [made[0]]


async def test_parallel_writes_come_in_the_order_in_which_a_run_applies_them(saver: Saver) -> None:
    config = await put(saver, thread())
    await saver.aput_writes(config, [("a", 1), ("b", 2)], "task-a", "~2")
    await saver.aput_writes(config, [("a", 3)], "task-b", "~1")
    await saver.aput_writes(config, [("a", 9)], "task-b", "~1")
    await saver.aput_writes(config, [("__interrupt__", "x")], "task-b", "~1")
    await saver.aput_writes(config, [("__interrupt__", "y")], "task-b", "~1")
    found = await saver.aget_tuple(config)
    assert found is not None
    assert found.pending_writes == [
        ("task-b", "__interrupt__", "y"), ("task-b", "a", 3), ("task-a", "a", 1), ("task-a", "b", 2),
    ]  # fmt: skip


async def test_a_value_that_did_not_change_is_stored_once(saver: Saver, address: Address) -> None:
    builder = StateGraph(Big)
    for n in range(20):
        builder.add_node(str(n), lambda state, n=n: {"n": n})
        builder.add_edge(START if n == 0 else str(n - 1), str(n))
    graph = builder.compile(checkpointer=saver)
    big = ["x" * 1000] * 1000
    await graph.ainvoke({"big": big, "n": 0}, thread())
    assert (await graph.aget_state(thread())).values == {"big": big, "n": 19}

    stored = await asked(address, "SELECT sum(length(content)) FROM checkpoint_values")
    assert 1e6 < stored < 2.2e6  # the input itself, and the state


async def test_what_was_put_survives_the_death_of_its_process(address: Address) -> None:
    source = """
        import asyncio, os, sys
        from langgraph.checkpoint.base import empty_checkpoint
        from plait.store.savers import Saver
        async def main():
            async with Saver.open(sys.argv[1]) as saver:
                made = {**empty_checkpoint(), "channel_values": {"a": ["b"]}, "channel_versions": {"a": "1"}}
                config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
                config = await saver.aput(config, made, {"step": 7}, {"a": "1"})
                await saver.aput_writes(config, [("a", ["c"])], "task")
                os._exit(0)
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(source), str(address)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=50)
    async with Saver.open(address) as saver:
        found = await saver.aget_tuple(thread())
    assert found is not None
    assert (found.checkpoint["channel_values"], step_of(found)) == ({"a": ["b"]}, 7)
    assert found.pending_writes == [("task", "a", ["c"])]


async def test_a_sync_node_runs_a_subgraph_that_is_kept_too(saver: Saver) -> None:
    def count(state: State) -> State:
        return {"count": state.get("count", 0) + 1}

    def call(state: State, config: RunnableConfig) -> State:
        return cast("State", compiled.invoke({"count": state.get("count", 0)}, config))

    inner = StateGraph(State)
    inner.add_node("count", count)
    inner.add_edge(START, "count")
    compiled = inner.compile()
    outer = StateGraph(State)
    outer.add_node("call", call)
    outer.add_edge(START, "call")
    graph = outer.compile(checkpointer=saver)
    assert (await graph.ainvoke({"count": 1}, thread()))["count"] == 2
    namespaces = {place_of(found.config).ns.partition(":")[0] async for found in saver.alist(None)}
    assert namespaces == {"", "call"}
    listed = await asyncio.to_thread(lambda: [found.config for found in saver.list(thread(), limit=2)])
    assert listed == [found.config async for found in saver.alist(thread(), limit=2)]
    await asyncio.to_thread(saver.delete_thread, "1")
    assert await asyncio.to_thread(saver.get_tuple, thread()) is None


async def test_a_sync_call_on_the_loop_fails_at_once_and_names_the_other(saver: Saver) -> None:
    with pytest.raises(BlockingCall, match="aget_tuple"):
        saver.get_tuple(thread())


def joined(old: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*old, *(word for write in writes for word in write)]


def growing(every: int) -> StateGraph[Any]:
    async def add(state: Any) -> dict[str, list[str]]:
        return {"words": [f"word {len(state['words'])}"]}

    words = Annotated[list[str], DeltaChannel(joined, snapshot_frequency=every)]
    builder: StateGraph[Any] = StateGraph(cast("Any", TypedDict)("Words", {"words": words}))
    for name in "abc":
        builder.add_node(name, add)
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    return builder


@pytest.mark.parametrize("every", [1, 3, 1000])
async def test_delta_channels_are_rebuilt_after_runs_copies_and_pruning(saver: Saver, every: int) -> None:
    graph = growing(every).compile(checkpointer=saver)
    reference = growing(every).compile(checkpointer=InMemorySaver())
    for turn in range(4):
        for each in (graph, reference):
            await each.ainvoke({"words": [f"turn {turn}"]}, thread())
    expected = (await reference.aget_state(thread())).values
    assert len(expected["words"]) == 16
    assert (await graph.aget_state(thread())).values == expected
    mine = [state.values async for state in graph.aget_state_history(thread())]
    assert mine == [state.values async for state in reference.aget_state_history(thread())]
    await saver.acopy_thread("1", "2")
    await saver.aprune(["1"])
    kept = [found async for found in saver.alist(thread())]
    assert (await graph.aget_state(thread())).values == expected
    assert len(kept) < len(mine) or every == 1000
    await graph.ainvoke({"words": ["more"]}, thread())
    assert (await graph.aget_state(thread())).values["words"][:17] == [*expected["words"], "more"]
    await saver.adelete_thread("1")
    assert (await graph.aget_state(thread("2"))).values == expected


async def test_pruning_and_deleting_leave_no_value_behind_that_nobody_holds(saver: Saver, address: Address) -> None:
    graph = chat().compile(checkpointer=saver.allowing(chat()))
    for run in ("one", "two"):
        config: RunnableConfig = {**thread(), "metadata": {"run_id": run}}
        await graph.ainvoke({"messages": [HumanMessage("hi")]}, config)
        await graph.ainvoke(Command(resume="Oslo"), config)

    async def rows(table: str) -> int:
        return int(await asked(address, f"SELECT count(*) FROM {table}"))

    before = await rows("checkpoint_values")
    await saver.adelete_for_runs(["two"])
    state = await graph.aget_state(thread())
    assert (len(state.values["messages"]), state.values["place"]) == (2, Place("Oslo"))
    await saver.aprune(["1"])
    assert (await graph.aget_state(thread())).values == state.values
    assert await rows("checkpoint_values") == 3 < before  # messages, place, text
    await saver.aprune(["1"], strategy="delete")
    left = [await rows(f"checkpoint{kind}") for kind in ("s", "_values", "_writes")]
    assert left == [0, 0, 0]
    with pytest.raises(ValueError, match="keep_latest"):
        await saver.aprune(["1"], strategy="oldest")


async def test_two_savers_on_one_store_see_what_the_other_wrote(saver: Saver, address: Address) -> None:
    async with Saver.open(address) as other:
        for n in range(5):
            await put([saver, other][n % 2], thread(), n=n)
            found = [await each.aget_tuple(thread()) for each in (saver, other)]
            assert [each and each.checkpoint["channel_values"]["n"] for each in found] == [n, n]


async def test_fifty_threads_at_once_keep_their_own_states(saver: Saver) -> None:
    graph = chat().compile(checkpointer=saver.allowing(chat()))
    await asyncio.gather(*(graph.ainvoke({"count": n}, thread(str(n))) for n in range(50)))
    counts = [(await graph.aget_state(thread(str(n)))).values["count"] for n in range(50)]
    assert counts == [n + 1 for n in range(50)]


async def test_metadata_that_is_no_json_does_not_lose_the_checkpoint(saver: Saver) -> None:
    await saver.aput(thread(), checkpoint(), {"step": 1, "odd": {1, 2}, "nan": float("nan")}, {})  # type: ignore[typeddict-unknown-key]
    found = await saver.aget_tuple(thread())
    assert found is not None
    assert json.loads(json.dumps(found.metadata, default=str))["odd"] == "{1, 2}"
