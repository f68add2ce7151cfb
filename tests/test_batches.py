"""Batches in one process: rows, results, what pauses them, and how they go on."""

from __future__ import annotations

import asyncio
import json
import operator
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple, TypedDict

import pytest
from langchain_core.output_parsers import StrOutputParser
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt

import plait
from plait.batches import Batch, BatchOptions
from plait.batches.spending import Spending
from plait.batches.spools import SPOOLED, spooled, spooled_before
from plait.datasets.examples import Example
from plait.errors import (
    BatchBusy,
    BatchChanged,
    BatchPaused,
    BudgetReached,
    CallRefused,
    EndpointUnreachable,
    InputError,
    ModelUnavailable,
    QuotaReached,
    SettingsError,
    StoreError,
)
from plait.flow.usage import Tokens
from plait.prices import load_prices
from plait.runs import Graph
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Body, Simulator
from plait.store.folders import FolderPlace
from plait.store.places import shelf_of
from plait.store.rows import RowRecord

APP = Path(__file__).parents[1]


class State(TypedDict):
    question: str
    answers: Annotated[list[str], operator.add]


class Answers(TypedDict, total=False):
    answers: list[str]


class Part(TypedDict):
    prompt: str


async def ask(state: Part) -> Answers:
    message = await plait.chat_model(temperature=0).ainvoke(state["prompt"])
    return {"answers": [message.text]}


def fan_out(state: State) -> list[Send]:
    return [Send("ask", {"prompt": f"{state['question']} {number}"}) for number in range(3)]


async def conclude(state: State) -> Answers:
    message = await plait.chat_model(temperature=0).ainvoke("sum up " + " ".join(sorted(state["answers"])))
    return {"answers": [message.text]}


def four_calls() -> Graph:
    builder = StateGraph(State)
    builder.add_node("ask", ask, input_schema=Part)
    builder.add_node("conclude", conclude)
    builder.add_conditional_edges(START, fan_out, ["ask"])
    builder.add_edge("ask", "conclude")
    return builder.compile(name="four")


def one_call() -> Graph:
    async def only(state: State) -> Answers:
        return {"answers": [(await plait.chat_model().ainvoke(state["question"])).text]}

    builder = StateGraph(State)
    builder.add_node("only", only)
    builder.add_edge(START, "only")
    return builder.compile(name="one")


class Noted(TypedDict, total=False):
    question: str
    note: object
    said: str


def echo() -> Graph:
    def only(state: Noted) -> Noted:
        return {"said": f"{type(state.get('note')).__name__} {state.get('note')}"}

    builder = StateGraph(Noted)
    builder.add_node("only", only)
    builder.add_edge(START, "only")
    return builder.compile(name="echo")


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "PLAIT_SHARE": "0"}).override(
        model="openai:gpt-4.1-mini", max_attempts=2
    )


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> Settings:
    return settings.override(home=tmp_path)


def rows(count: int) -> list[dict[str, object]]:
    return [{"question": f"q{number}"} for number in range(count)]


async def run(batch: Batch) -> list[RowRecord]:
    return [record async for record in batch]


class Stored(NamedTuple):
    meta: Mapping[str, object]
    counts: Mapping[str, int]
    positions: list[int]
    paid_calls: int


async def read(settings: Settings, batch: Batch) -> Stored:
    def look() -> Stored:
        with shelf_of(settings).place(batch.id).read() as reader:
            paid = sum(totals.calls for totals in reader.models().values())
            return Stored(reader.meta, reader.counts(), [record.position for record in reader.rows()], paid)

    return await asyncio.to_thread(look)


def questions(records: Iterable[RowRecord]) -> list[int]:
    return sorted(record.position for record in records)


def prompt_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def refusing(word: str, status: int) -> Callable[[Body, int], Behaviour | None]:
    def behave(body: Body, index: int) -> Behaviour | None:
        return Behaviour(status=status, error={"message": "no"}) if word in prompt_of(body) else None

    return behave


async def test_every_row_has_one_result_that_is_stored(provider: Simulator, home: Settings) -> None:
    batch = plait.batch(four_calls(), rows(20), settings=home)
    records = await run(batch)
    assert questions(records) == list(range(20))
    assert {record.status for record in records} == {"success"}
    assert provider.counters.received == 80
    stored = await read(home, batch)
    assert stored.positions == list(range(20))
    assert stored.meta["status"] == "finished"
    assert stored.paid_calls == 80


async def test_a_failed_row_touches_no_other(provider: Simulator, home: Settings) -> None:
    provider.behave = refusing("q3 ", 400)
    records = await run(plait.batch(four_calls(), rows(6), settings=home))
    failed = [record for record in records if record.status == "error"]
    assert [record.position for record in failed] == [3]
    assert failed[0].error is not None
    assert "no" in failed[0].error.message
    assert failed[0].error.branch == ""
    assert len(records) == 6


async def test_a_refused_key_pauses_with_all_rows_pending(provider: Simulator, home: Settings) -> None:
    provider.behave = lambda body, index: Behaviour(status=401, error={"message": "wrong key"})
    batch = plait.batch(one_call(), rows(200), settings=home)
    with pytest.raises(BatchPaused, match="plait resume") as paused:
        await run(batch)
    assert isinstance(paused.value.__cause__, CallRefused)
    assert provider.counters.received < 200
    provider.behave = lambda body, index: None
    assert questions(await run(plait.resume(batch.id, workflow=one_call(), settings=home))) == list(range(200))


async def test_an_endpoint_that_is_down_pauses_instead_of_failing_rows(home: Settings) -> None:
    dead = from_env({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "PLAIT_SHARE": "0"}).override(
        model="openai:m", max_attempts=1, home=home.home
    )
    with pytest.raises(BatchPaused, match="cannot reach") as paused:
        await run(plait.batch(one_call(), rows(30), settings=dead))
    assert isinstance(paused.value.__cause__, EndpointUnreachable)


async def test_a_spent_quota_is_parked_with_its_time(provider: Simulator, home: Settings) -> None:
    impatient = home.override(max_wait_s=0)
    provider.change(rpd=5)
    batch = plait.batch(one_call(), rows(20), settings=impatient)
    with pytest.raises(BatchPaused) as paused:
        await run(batch)
    assert isinstance(paused.value.__cause__, QuotaReached)
    stored = await read(home, batch)
    assert stored.meta["wake_at"] == paused.value.__cause__.resets_at
    assert stored.counts == {"success": 5}


async def test_without_a_model_a_batch_refuses(provider: Simulator, tmp_path: Path) -> None:
    nameless = from_env({"OPENAI_BASE_URL": provider.base_url}).override(home=tmp_path)
    with pytest.raises(SettingsError, match="expected a model"):
        await run(plait.batch(one_call(), rows(3), settings=nameless))
    assert not await asyncio.to_thread(lambda: list((tmp_path / "batches").iterdir()))


async def test_plaits_own_app_may_lie_elsewhere_by_the_time_of_a_resume(provider: Simulator, home: Settings) -> None:
    batch = plait.batch("greet", [{"name": f"n{number}"} for number in range(200)], app=APP, settings=home)
    async for _ in batch:
        break
    await batch.aclose()
    place = await asyncio.to_thread(shelf_of(home).find, batch.id)
    store = await place.open()
    await store.put_meta({"app": "/where/plait/was/installed"})
    await store.close()
    assert [row async for row in plait.resume(batch.id, settings=home)]


async def test_a_batch_that_has_paid_is_kept_however_it_ends(provider: Simulator, home: Settings) -> None:
    models = {"second": "nobody:m"}

    async def first(state: State) -> Answers:
        return {"answers": [(await plait.chat_model(temperature=0).ainvoke(state["question"])).text]}

    async def second(state: State) -> Answers:
        return {"answers": [(await plait.chat_model(models["second"]).ainvoke(f"more {state['question']}")).text]}

    builder = StateGraph(State).add_node("first", first).add_node("second", second)
    graph = builder.add_edge(START, "first").add_edge("first", "second").compile(name="two")
    batch = plait.batch(graph, rows(5), settings=home)
    with pytest.raises(BatchPaused, match="nobody") as paused:
        await run(batch)
    assert isinstance(paused.value.__cause__, ModelUnavailable)
    assert provider.counters.received > 0
    models["second"] = "openai:gpt-4.1-mini"
    assert len(await run(plait.resume(batch.id, workflow=graph, settings=home, options=BatchOptions()))) == 5
    assert provider.counters.received == 10


async def test_rows_in_flight_follow_the_gate(provider: Simulator, home: Settings) -> None:
    now, most = 0, 0

    async def only(state: State) -> Answers:
        nonlocal now, most
        now += 1
        most = max(most, now)
        answer = (await plait.chat_model().ainvoke(state["question"])).text
        now -= 1
        return {"answers": [answer]}

    builder = StateGraph(State)
    builder.add_node("only", only)
    builder.add_edge(START, "only")
    provider.change(latency_s=0.02)
    await run(plait.batch(builder.compile(), rows(200), settings=home.override(max_concurrency=4)))
    # Four in flight, eight that wait, and those that came in the 0.1 s in which nobody could know.
    assert 4 < most < 100
    assert provider.counters.peak == 4


async def test_max_errors_pauses(provider: Simulator, home: Settings) -> None:
    provider.behave = refusing("q", 400)
    bounded = home.override(max_concurrency=1)
    with pytest.raises(BatchPaused, match="--max-errors allows 3"):
        await run(plait.batch(one_call(), rows(100), settings=bounded, options=BatchOptions(max_errors=3)))
    assert provider.counters.received < 40


async def test_a_budget_of_tokens_is_kept(provider: Simulator, home: Settings) -> None:
    options = BatchOptions(budget_tokens=500)
    batch = plait.batch(one_call(), rows(300), settings=home, options=options)
    with pytest.raises(BatchPaused, match="500 tokens") as paused:
        await run(batch)
    assert isinstance(paused.value.__cause__, BudgetReached)
    paid = provider.counters.prompt_tokens + provider.counters.completion_tokens
    assert 100 < paid <= 500
    # What earlier sessions spent counts.
    with pytest.raises(BatchPaused, match="500 tokens"):
        await run(plait.resume(batch.id, workflow=one_call(), settings=home))
    assert provider.counters.prompt_tokens + provider.counters.completion_tokens <= 500


async def test_a_budget_in_dollars_needs_a_price_before_anything_is_spent(provider: Simulator, home: Settings) -> None:
    unknown = home.override(model="openai:nobody-knows-me")
    with pytest.raises(BudgetReached, match=r"plait.prices|price for nobody-knows-me"):
        await run(plait.batch(one_call(), rows(3), settings=unknown, options=BatchOptions(budget_usd=1.0)))
    assert provider.counters.received == 0


async def test_a_deadline_leaves_rows_pending(provider: Simulator, home: Settings) -> None:
    provider.change(latency_s=5.0)
    batch = plait.batch(one_call(), rows(5), settings=home, options=BatchOptions(deadline_s=0.3))
    with pytest.raises(BatchPaused, match="deadline"):
        await run(batch)
    provider.change(latency_s=0.0)
    options = BatchOptions()
    resumed = await run(plait.resume(batch.id, workflow=one_call(), settings=home, options=options))
    assert questions(resumed) == list(range(5))


async def test_a_row_that_takes_too_long_times_out_alone(provider: Simulator, home: Settings) -> None:
    provider.behave = lambda body, index: Behaviour(delay_s=30.0) if prompt_of(body) == "q2" else None
    records = await run(plait.batch(one_call(), rows(5), settings=home, options=BatchOptions(timeout_s=2.0)))
    assert {record.position: record.status for record in records}[2] == "timeout"
    assert sum(record.status == "success" for record in records) == 4


async def test_waiting_for_a_permit_is_not_of_the_rows_time(provider: Simulator, home: Settings) -> None:
    provider.change(latency_s=0.1)
    one_at_a_time = home.override(max_concurrency=1)
    options = BatchOptions(timeout_s=2.5)
    records = await run(plait.batch(four_calls(), rows(12), settings=one_at_a_time, options=options))
    assert {record.status for record in records} == {"success"}
    # The last row waited for the others before its first call, for longer than it may take by itself.
    assert max(record.duration_s for record in records) > 2.5


async def test_draining_ends_the_rows_in_flight_and_no_others(provider: Simulator, home: Settings) -> None:
    provider.change(latency_s=0.02)
    batch = plait.batch(one_call(), rows(200), settings=home.override(max_concurrency=2))
    seen = 0
    async for _ in batch:
        seen += 1
        if seen == 5:
            batch.drain()
    assert 5 <= seen < 150
    stored = await read(home, batch)
    assert stored.counts == {"success": seen}
    assert stored.meta["status"] == "paused"
    provider.change(latency_s=0.0)
    rest = await run(plait.resume(workflow=one_call(), settings=home))
    assert len(rest) == 200 - seen
    assert provider.counters.received == 200


async def test_leaving_early_pays_nothing_twice(provider: Simulator, home: Settings) -> None:
    provider.change(latency_s=0.2, latency_law="fixed")
    batch = plait.batch(four_calls(), rows(40), settings=home.override(max_concurrency=10))
    async with aclosing(batch):
        async for _ in batch:
            break
    provider.change(latency_s=0.0)
    await provider.idle()
    ended = (await read(home, batch)).counts["success"]
    assert provider.counters.received < 160
    records = await run(plait.resume(batch.id, workflow=four_calls(), settings=home))
    assert len(records) == 40 - ended
    # Those in flight, and answers on their way to the disk.
    assert provider.counters.received <= 160 + 20
    assert sum(int(str(record.usage["replayed_calls"])) for record in records) > 0


async def test_a_failed_row_is_repeated_with_its_answers(provider: Simulator, home: Settings) -> None:
    provider.behave = refusing("sum up", 400)
    batch = plait.batch(four_calls(), rows(4), settings=home)
    assert {record.status for record in await run(batch)} == {"error"}
    assert provider.counters.accepted == 12
    provider.behave = lambda body, index: None
    records = await run(plait.resume(batch.id, workflow=four_calls(), errors_only=True, settings=home))
    assert {record.status for record in records} == {"success"}
    assert provider.counters.accepted == 16
    assert {record.usage["replayed_calls"] for record in records} == {3}


async def test_an_answer_that_its_node_cannot_read_is_asked_for_again(provider: Simulator, home: Settings) -> None:
    provider.answer = lambda body: "good" if provider.counters.received >= 4 else "bad"

    async def strict(state: State) -> Answers:
        text = (await plait.chat_model().ainvoke(state["question"])).text
        if text == "bad":
            raise ValueError("unreadable")
        return {"answers": [text]}

    builder = StateGraph(State)
    builder.add_node("strict", strict)
    builder.add_edge(START, "strict")
    graph = builder.compile()
    (once,) = await run(plait.batch(graph, rows(1), settings=home))
    assert once.error is not None
    assert (once.error.type, once.error.branch) == ("ValueError", "strict@1")
    (again,) = await run(plait.batch(graph, rows(1), settings=home, options=BatchOptions(row_attempts=3)))
    assert again.status == "success"
    assert again.attempts == 3


async def test_another_batch_reuses_deterministic_answers(provider: Simulator, home: Settings) -> None:
    first = plait.batch(four_calls(), rows(5), settings=home)
    await run(first)
    assert provider.counters.received == 20
    second = plait.batch(four_calls(), rows(6), settings=home, options=BatchOptions(reuse=first.id))
    records = await run(second)
    assert provider.counters.received == 24
    reused = [record for record in records if record.usage["replayed_calls"] == 4]
    assert len(reused) == 5
    assert {record.usage["input_tokens"] for record in reused} == {0}


async def test_without_a_journal_a_resume_pays_again(provider: Simulator, home: Settings) -> None:
    provider.behave = refusing("sum up", 400)
    batch = plait.batch(four_calls(), rows(2), settings=home, options=BatchOptions(journal=False))
    await run(batch)
    provider.behave = lambda body, index: None
    await run(plait.resume(batch.id, workflow=four_calls(), errors_only=True, settings=home))
    assert provider.counters.accepted == 6 + 8


async def test_an_interrupt_is_a_result_of_its_own(home: Settings) -> None:
    def stop(state: State) -> Answers:
        interrupt({"approve": state["question"]})
        return {}

    builder = StateGraph(State)
    builder.add_node("stop", stop)
    builder.add_edge(START, "stop")
    (record,) = await run(plait.batch(builder.compile(), rows(1), settings=home))
    assert record.status == "interrupted"
    assert record.error is not None
    assert "approve" in record.error.message


async def test_a_second_resume_is_refused(provider: Simulator, home: Settings) -> None:
    batch = plait.batch(one_call(), rows(3), settings=home)
    async with aclosing(batch):
        async for _ in batch:
            with pytest.raises(BatchBusy, match="process"):
                await run(plait.resume(batch.id, workflow=one_call(), settings=home))
            break


async def test_a_changed_dataset_is_refused(provider: Simulator, home: Settings, tmp_path: Path) -> None:
    data = tmp_path / "questions.txt"
    data.write_text("one\ntwo\nthree\n")
    selection = plait.Selection(mapping={"question": "text"})
    batch = plait.batch(one_call(), data, selection=selection, settings=home.override(max_concurrency=1))
    async for _ in batch:
        batch.drain()
    data.write_text("uno\ntwo\nthree\nfour\n")
    with pytest.raises(BatchChanged, match=r"grew|row 0"):
        await run(plait.resume(batch.id, workflow=one_call(), settings=home))
    records = await run(plait.resume(batch.id, workflow=one_call(), settings=home, force=True))
    assert 0 in questions(records)
    assert 3 in questions(records)


async def test_a_changed_graph_is_refused(provider: Simulator, home: Settings) -> None:
    batch = plait.batch(one_call(), rows(3), settings=home)
    async for _ in batch:
        batch.drain()
    with pytest.raises(BatchChanged, match="nodes and edges"):
        await run(plait.resume(batch.id, workflow=four_calls(), settings=home))


async def test_a_probe_runs_some_rows_and_a_resume_the_others(provider: Simulator, home: Settings) -> None:
    from plait.batches import NewBatch

    batch = Batch(NewBatch(workflow=one_call(), rows=rows(50), settings=home, probe=7))
    probed = await run(batch)
    assert len(probed) == 7
    assert questions(probed) != list(range(7))
    assert (await read(home, batch)).meta["status"] == "planned"
    rest = await run(plait.resume(batch.id, workflow=one_call(), settings=home))
    assert questions([*probed, *rest]) == list(range(50))
    assert provider.counters.received == 50


async def test_an_iterable_goes_on_where_it_was_left(provider: Simulator, home: Settings) -> None:
    async def slow() -> AsyncIterator[dict[str, object]]:
        for number in range(60):
            await asyncio.sleep(0)
            yield {"question": f"q{number}"}

    batch = plait.batch(one_call(), slow(), settings=home.override(max_concurrency=1))
    seen = []
    async for record in batch:
        seen.append(record)
        if len(seen) == 3:
            batch.drain()
    assert len(seen) < 60
    with pytest.raises(BatchPaused, match="not read to its end"):
        await run(plait.resume(batch.id, workflow=one_call(), settings=home))
    await run(plait.resume(batch.id, workflow=one_call(), rows=slow(), settings=home))
    assert (await read(home, batch)).positions == list(range(60))
    assert provider.counters.received == 60


async def test_a_mistake_in_the_rows_is_found_before_a_folder_is_made(home: Settings, tmp_path: Path) -> None:
    with pytest.raises(plait.PlaitError, match="nowhere"):
        await run(plait.batch(one_call(), tmp_path / "nowhere.csv", settings=home))
    assert not (home.home / "batches").exists()


async def test_a_run_inside_a_row_has_its_settings_and_its_journal(provider: Simulator, home: Settings) -> None:
    async def outer(state: State) -> Answers:
        inner = await plait.run(one_call(), {"question": state["question"] + "!"})
        await plait.chat_model().ainvoke("and then " + inner.outputs["answers"][0])
        return {"answers": inner.outputs["answers"]}

    builder = StateGraph(State)
    builder.add_node("outer", outer)
    builder.add_edge(START, "outer")
    graph = builder.compile(name="outer")
    provider.behave = refusing("and then", 400)
    batch = plait.batch(graph, rows(2), settings=home)
    assert {record.status for record in await run(batch)} == {"error"}
    provider.behave = lambda body, index: None
    assert provider.counters.accepted == 2
    records = await run(plait.resume(batch.id, workflow=graph, errors_only=True, settings=home))
    assert {record.status for record in records} == {"success"}
    assert provider.counters.accepted == 4
    assert {str(body["model"]) for body in (request.body for request in provider.requests)} == {"gpt-4.1-mini"}


async def test_answers_of_a_chain_are_kept_under_its_node(provider: Simulator, home: Settings) -> None:
    async def ask_in_chain(state: Part) -> Answers:
        chain = plait.chat_model() | StrOutputParser()
        return {"answers": [await chain.with_config(metadata={"label": "x"}).ainvoke(state["prompt"])]}

    builder = StateGraph(State)
    builder.add_node("ask", ask_in_chain, input_schema=Part)
    builder.add_conditional_edges(START, fan_out, ["ask"])
    batch = plait.batch(builder.compile(name="chains"), rows(1), settings=home)
    await run(batch)

    def branches() -> list[str]:
        with closing(sqlite3.connect(f"{batch.place}/batch.db")) as connection:
            return sorted(branch for (branch,) in connection.execute("SELECT branch FROM calls"))

    assert await asyncio.to_thread(branches) == ["ask@1[0]", "ask@1[1]", "ask@1[2]"]


async def test_nobody_pays_for_results_that_nobody_takes(provider: Simulator, home: Settings) -> None:
    # A hundred rows that are done, and those in flight: without a bound these may be hundreds.
    batch = plait.batch(one_call(), rows(600), settings=home.override(max_concurrency=20))
    await anext(aiter(batch))
    seen = -1
    while seen != provider.counters.received:
        seen = provider.counters.received
        await asyncio.sleep(0.3)
    await batch.aclose()
    assert seen < 250


async def test_a_generators_row_with_a_lone_surrogate_is_kept_and_run(provider: Simulator, home: Settings) -> None:
    def generated() -> Iterator[dict[str, object]]:
        yield {"question": "one", "note": "\ud800"}
        yield {"question": "two", "note": "plain"}

    batch = plait.batch(echo(), generated(), settings=home)
    assert {record.status for record in await run(batch)} == {"success"}
    examples = [example async for example in spooled_before(shelf_of(home).place(batch.id))]
    assert [example.inputs["note"] for example in examples] == ["\ud800", "plain"]


async def test_a_row_that_cannot_be_stored_ends_the_rows_with_an_error(tmp_path: Path) -> None:
    async def examples() -> AsyncIterator[Example]:
        for number in range(2):
            yield Example(number, f"r{number}", {"question": "?"})

    store = await FolderPlace(tmp_path / "one").create({})
    refuse = (
        "CREATE TRIGGER refused BEFORE INSERT ON examples WHEN NEW.position = 1 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    try:
        await store.writer.do(lambda connection: connection.execute(refuse).rowcount)
        with pytest.raises(StoreError, match="cannot be stored"):
            assert [example.id async for example in spooled(examples(), store)]
        assert SPOOLED not in store.meta
    finally:
        await store.close()


async def test_a_generators_rows_run_with_what_a_resume_reads(home: Settings) -> None:
    day = datetime(2026, 1, 2, tzinfo=UTC)
    batch = plait.batch(
        echo(), iter([{"question": "one", "note": day}, {"question": "two", "note": b"x"}]), settings=home
    )
    records = sorted(await run(batch), key=lambda record: record.position)
    examples = [example async for example in spooled_before(shelf_of(home).place(batch.id))]
    said = [f"{type(example.inputs['note']).__name__} {example.inputs['note']}" for example in examples]
    assert [record.outputs for record in records] == [
        {"question": example.inputs["question"], "note": example.inputs["note"], "said": words}
        for example, words in zip(examples, said, strict=True)
    ]


def test_a_budget_in_dollars_is_refused_once_a_model_without_a_price_was_paid() -> None:
    spending = Spending(load_prices(), budget_usd=100.0, spent={"nobody-knows-me": Tokens(10, 0, 10)})
    with pytest.raises(BudgetReached, match="nobody-knows-me"):
        spending.admit("gpt-4.1-mini", Tokens(1, 0, 1))
    # One that cost nothing needs no price.
    free = Spending(load_prices(), budget_usd=100.0, spent={"": Tokens()})
    assert free.admit("gpt-4.1-mini", Tokens(1, 0, 1))


async def test_a_budget_without_a_journal_counts_earlier_sessions(provider: Simulator, home: Settings) -> None:
    options = BatchOptions(budget_tokens=500, journal=False)
    batch = plait.batch(one_call(), rows(300), settings=home, options=options)
    for going_on in (batch, plait.resume(batch_id=None, workflow=one_call(), settings=home)):
        with pytest.raises(BatchPaused, match="500 tokens"):
            await run(going_on)
    assert 100 < provider.counters.prompt_tokens + provider.counters.completion_tokens <= 500


async def test_an_output_that_has_no_text_fails_its_row_alone(home: Settings) -> None:
    class Mute:
        def __str__(self) -> str:
            raise ValueError("no words")

    def only(state: Noted) -> Noted:
        return {"note": Mute() if state.get("question") == "q1" else "fine"}

    builder = StateGraph(Noted)
    builder.add_node("only", only)
    builder.add_edge(START, "only")
    records = await run(plait.batch(builder.compile(name="mute"), rows(3), settings=home))
    failed = [record for record in records if record.status == "error"]
    assert questions(records) == [0, 1, 2]
    assert [(record.position, record.outputs) for record in failed] == [(1, None)]
    assert failed[0].error is not None
    assert failed[0].error.type == "ValueError"


async def test_no_key_is_stored_in_a_rows_error_or_in_the_cause_of_a_pause(provider: Simulator, home: Settings) -> None:
    key, foreign = "the-key-of-langsmith", "sk-foreign-0123456789abcdef"
    keyed = replace(home, langsmith={"LANGSMITH_API_KEY": key})
    words = {"message": f"{key} and {foreign} are wrong"}
    stored = []
    for status in (400, 401):
        provider.behave = lambda body, index, status=status: Behaviour(status=status, error=words)
        batch = plait.batch(one_call(), rows(1), settings=keyed)
        with suppress(BatchPaused):
            await run(batch)
        folder = home.home / "batches" / batch.id
        stored.append(b"".join([file.read_bytes() for file in folder.glob("*.db*")]))
    for content in stored:
        assert b"*** and *** are wrong" in content
        assert key.encode() not in content
        assert foreign.encode() not in content


async def test_the_whole_id_of_a_reused_batch_is_stored_and_may_be_gone_at_a_resume(
    provider: Simulator, home: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    first = plait.batch(one_call(), rows(1), settings=home)
    await run(first)
    second = plait.batch(four_calls(), rows(4), settings=home, options=BatchOptions(reuse="one-"))
    async for _ in second:
        second.drain()
        break
    await second.aclose()
    stored = (await read(home, second)).meta["options"]
    assert isinstance(stored, dict)
    assert stored["reuse"] == first.id
    await asyncio.to_thread(FolderPlace(home.home / "batches" / first.id).remove)
    await run(plait.resume(second.id, workflow=four_calls(), settings=home))
    assert (await read(home, second)).counts == {"success": 4}
    assert "goes on without" in caplog.text


async def test_workers_for_a_graph_are_refused_before_a_folder_is_made(home: Settings) -> None:
    with pytest.raises(InputError, match="found a graph"):
        await run(plait.batch(one_call(), rows(2), settings=home, options=BatchOptions(workers=2)))
    assert not (home.home / "batches").exists()


async def test_leaving_while_the_rows_of_an_iterable_are_read_harms_nothing(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path / "b")
    store = await place.create({})
    for position in range(400):
        example = {"id": f"r{position}", "inputs": {"n": "x" * 50_000}, "position": position}
        store.add_example(position, json.dumps(example), lambda error: None)
    await store.close()

    async def take() -> None:
        async with aclosing(spooled_before(place)) as examples:
            async for _ in examples:
                pass

    for number in range(40):
        reading = asyncio.create_task(take())
        await asyncio.sleep(0.001 * number)
        reading.cancel()  # its read goes on in a thread: the process must survive that
        await asyncio.gather(reading, return_exceptions=True)
    await take()
