"""The long-term store: the same answers as LangGraph's in memory, apart for every owner, and kept."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, cast

import pytest
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
    TTLConfig,
)
from langgraph.store.memory import InMemoryStore

from plait.errors import BlockingCall, StoreError
from plait.store.addresses import Address, medium_of
from plait.store.items import Items, prepare_items
from plait.store.service.readers import Readers
from plait.store.writers import Writer
from tests.clocks import FakeClock

HOSTILE = ["a", "b", "%", "_", "*", "x'--", '"', "ü/ä", "日本", "a/b", "\x01", "$", "a-b", "(", "🧶"]


@pytest.fixture
async def items(address: Address) -> AsyncGenerator[Items]:
    async with Items.open(address) as opened:
        yield opened


def plain(result: Any) -> Any:
    """Without the times, which are of two clocks."""
    if isinstance(result, list):
        return [plain(each) for each in result]
    if isinstance(result, Item):
        return result.namespace, result.key, result.value, getattr(result, "score", None)
    return result


def any_operation(chance: random.Random) -> Op:
    labels = chance.choice([HOSTILE, HOSTILE[:3]])
    space = tuple(chance.choices(labels, k=chance.randint(1, 3)))
    key = chance.choice([*HOSTILE, "k.1", "", " "])
    kind = chance.randrange(10)
    if kind < 5:
        value: dict[str, Any] = {
            chance.choice(["n", "a.b", "$odd'", 'q"']): chance.choice([1, 2.5, "1", "x", None, [1, {"a": 2}]]),
            "n": chance.randint(0, 3),
            "deep": {"n": chance.randint(0, 2)},
        }
        return PutOp(space, key, None if kind == 0 else value)
    if kind == 5:
        return GetOp(space, key)
    if kind < 8:
        wanted = chance.choice(
            [None, {}, {"n": 2}, {"n": {"$gte": 1, "$lt": 3}}, {"n": {"$ne": 0}}, {"deep": {"n": {"$gt": 0}}},
             {"a.b": [1, {"a": 2}]}, {"$odd'": {"$eq": "x"}}, {'q"': None}, {"x') OR 1=1 --": 1}]
        )  # fmt: skip
        return SearchOp(space[: chance.randint(0, 2)], wanted, chance.randint(1, 6), chance.randint(0, 4), "a question")
    conditions = tuple(
        MatchCondition(
            chance.choice(["prefix", "suffix"]), tuple(chance.choices([*labels[:3], "*"], k=chance.randint(1, 2)))
        )
        for _ in range(chance.randint(0, 2))
    )
    return ListNamespacesOp(conditions or None, chance.choice([None, 1, 2]), chance.randint(1, 9), chance.randint(0, 3))


def forget_empty(reference: InMemoryStore) -> None:
    """The one in memory lists namespaces that were only asked for, or are empty again."""
    for space in [space for space, held in reference._data.items() if not held]:
        del reference._data[space]


@pytest.mark.parametrize("seed", range(5))
async def test_any_operations_are_answered_as_langgraph_answers_them(items: Items, seed: int) -> None:
    chance = random.Random(seed)
    reference = InMemoryStore()
    answers = 0
    for _ in range(150):
        operations = [any_operation(chance) for _ in range(chance.choice([1, 1, 4]))]
        expected = []
        for operation in operations:
            if not isinstance(operation, PutOp):
                expected += reference.batch([operation])
                forget_empty(reference)
            else:
                expected.append(None)
        reference.batch([operation for operation in operations if isinstance(operation, PutOp)])
        forget_empty(reference)
        found = await items.abatch(operations)
        assert plain(found) == plain(expected), operations
        answers += sum(bool(each) for each in expected)
    assert answers > 40


async def test_owners_never_see_each_other(items: Items) -> None:
    ann, bob = items.of("ann"), items.of("bob")
    assert isinstance(ann, BaseStore)
    await ann.aput(("memories",), "colour", {"is": "red"})
    await bob.aput(("memories",), "colour", {"is": "blue"})
    await bob.aput(("secrets",), "pin", {"is": 1234})
    assert await ann.aget(("secrets",), "pin") is None
    assert [found.value["is"] for found in await ann.asearch(())] == ["red"]
    assert await ann.alist_namespaces() == [("memories",)]
    await ann.adelete(("secrets",), "pin")
    await ann.adelete(("memories",), "colour")
    assert [found.value["is"] for found in await bob.asearch(())] == ["blue", 1234]
    assert await items.asearch(()) == []
    assert await items.of("ann' OR '1'='1").asearch(()) == []


async def test_items_are_there_after_a_restart_and_a_file_is_private(address: Address) -> None:
    async with Items.open(address) as items:
        await items.aput(("a", "b"), "key", {"text": "half \ud83d", "list": [1, None, True]})
    assert not isinstance(address, Path) or stat.S_IMODE(address.stat().st_mode) == 0o600
    async with Items.open(address) as items:
        found = await items.aget(("a", "b"), "key")
    assert found is not None
    assert found.value == {"text": "half \ud83d", "list": [1, None, True]}


async def test_a_change_keeps_when_the_item_was_made(address: Address) -> None:
    async with over(address) as (items, clock):
        await items.aput(("a",), "key", {"n": 1})
        clock.advance(90)
        await items.aput(("a",), "key", {"n": 2})
        found = await items.aget(("a",), "key")
    assert found is not None
    assert (found.updated_at - found.created_at).total_seconds() == 90
    assert found.updated_at == datetime.fromtimestamp(clock.now(), UTC)


@asynccontextmanager
async def over(address: Address, **ttl: Any) -> AsyncGenerator[tuple[Items, FakeClock]]:
    """Items with a clock of the test's, and some time to live."""
    clock = FakeClock()
    writer, readers = (
        Writer(medium_of(address, prepare=prepare_items, durability="kill"), gather_s=0),
        Readers(medium_of(address)),
    )
    try:
        yield Items(writer, readers.read, ttl=cast("TTLConfig", ttl) if ttl else None, clock=clock.now), clock
    finally:
        await asyncio.to_thread(readers.close)
        await asyncio.to_thread(writer.close)


async def test_an_item_is_gone_when_its_time_to_live_is_over(address: Address) -> None:
    async with over(address) as (items, clock):
        await items.aput(("a",), "short", {"n": 1}, ttl=1)
        await items.aput(("a", "b"), "long", {"n": 2}, ttl=10)
        await items.aput(("a",), "for ever", {"n": 3})
        clock.advance(59)
        assert await items.aget(("a",), "short", refresh_ttl=False) is not None
        clock.advance(2)
        assert await items.aget(("a",), "short") is None
        assert [found.key for found in await items.asearch((), refresh_ttl=False)] == ["for ever", "long"]
        clock.advance(600)
        assert await items.alist_namespaces() == [("a",)]
        await items.aput(("a",), "sweeps", {})
        assert await items._writer.do(
            lambda connection: connection.execute("SELECT count(*) FROM items").fetchone()
        ) == (2,)


async def test_reading_begins_the_time_to_live_anew_unless_told_otherwise(address: Address) -> None:
    async with over(address, default_ttl=1) as (items, clock):
        await items.aput(("a",), "read", {"n": 1})
        await items.aput(("a",), "searched", {"n": 2})
        await items.aput(("a",), "left", {"n": 3})
        await items.aput(("a",), "kept", {"n": 4}, ttl=None)
        for _ in range(3):
            clock.advance(50)
            assert await items.aget(("a",), "read") is not None
            assert len(await items.asearch(("a",), filter={"n": 2})) == 1
        assert {found.key for found in await items.asearch(("a",))} == {"read", "searched", "kept"}


async def test_reading_leaves_the_time_to_live_where_that_was_asked_for(address: Address) -> None:
    async with over(address, default_ttl=1, refresh_on_read=False) as (items, clock):
        await items.aput(("a",), "read", {"n": 1})
        clock.advance(50)
        assert await items.aget(("a",), "read") is not None
        clock.advance(50)
        assert await items.aget(("a",), "read") is None


async def test_a_search_passes_over_items_that_cannot_be_compared(items: Items) -> None:
    for key, value in (("number", 5), ("text", "five"), ("nothing", None), ("numeric", "7")):
        await items.aput(("a",), key, {"n": value})
    await items.aput(("a",), "without", {})
    assert [found.key for found in await items.asearch(("a",), filter={"n": {"$gt": 4}})] == ["number", "numeric"]
    with pytest.raises(ValueError, match=r"\$regex"):
        await items.asearch(("a",), filter={"n": {"$regex": "."}})
    assert len(await items.asearch(("a",))) == 5


async def test_what_is_no_json_or_no_namespace_is_refused_and_the_store_goes_on(items: Items) -> None:
    with pytest.raises(StoreError, match=r"a/key.*JSON|JSON.*a/key"):
        await items.abatch([PutOp(("a",), "fine", {"n": 1}), PutOp(("a",), "key", {"when": datetime.now(UTC)})])
    with pytest.raises(InvalidNamespaceError):
        await items.abatch([PutOp(("a.b",), "key", {})])
    with pytest.raises(InvalidNamespaceError):
        await items.abatch([SearchOp(("a", ""))])
    with pytest.raises(StoreError, match="GetOp"):
        await items.abatch(["get"])  # type: ignore[list-item]
    assert await items.asearch(()) == []
    await items.aput(("a",), "key", {"n": 1})
    assert len(await items.asearch(())) == 1


async def test_sync_and_async_nodes_share_what_they_remember(items: Items) -> None:
    class State(TypedDict, total=False):
        seen: int

    def remember(state: State, runtime: Runtime[None]) -> State:
        assert runtime.store is not None
        runtime.store.put(("seen",), "n", {"n": 7})
        found = runtime.store.get(("seen",), "n")
        return {"seen": found.value["n"] if found else 0}

    async def recall(state: State, runtime: Runtime[None]) -> State:
        assert runtime.store is not None
        found = await runtime.store.asearch(("seen",))
        return {"seen": state.get("seen", 0) + found[0].value["n"]}

    builder = StateGraph(State)
    builder.add_node("remember", remember)
    builder.add_node("recall", recall)
    builder.add_edge(START, "remember")
    builder.add_edge("remember", "recall")
    graph = builder.compile(store=items.of("ann"))
    states = await asyncio.gather(*(graph.ainvoke({}) for _ in range(20)))
    assert [state["seen"] for state in states] == [14] * 20


async def test_a_sync_call_on_the_loop_fails_at_once_and_names_the_other(items: Items) -> None:
    with pytest.raises(BlockingCall, match="abatch"):
        items.get(("a",), "key")


async def test_writers_at_once_lose_nothing(items: Items) -> None:
    await asyncio.gather(*(items.of(str(n % 5)).aput(("a", str(n)), "k", {"n": n}) for n in range(200)))
    counts = [len(await items.of(str(n)).asearch(("a",), limit=100)) for n in range(5)]
    assert counts == [40] * 5
