"""Paid answers: whose they are, when they are kept, and that they are read again as they were read first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, TypedDict

import anthropic
import httpx2
import openai
import pytest
from blockbuster import BlockBuster
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send

import plait
from plait.batches import Batch
from plait.errors import StoreError
from plait.failures import explain, is_fatal
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope, current_settings, entered
from plait.journal import Journal
from plait.process import own_process
from plait.runs import Graph
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator
from plait.store.answers import Answers
from plait.store.folders import FolderPlace
from plait.store.media import FileMedium
from plait.store.rows import RowRecord
from plait.store.schema import prepare_journal
from plait.store.writers import Writer

Ask = Callable[[Simulator], Awaitable[object]]
_STREAMED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "q"}]}
KEY = "sk-never-in-a-file"


@pytest.fixture
def settings(provider: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    env = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": KEY, "PLAIT_HOME": str(tmp_path), "PLAIT_SHARE": "0"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return from_env().override(model="openai:m")


@pytest.fixture
def numbered(provider: Simulator) -> None:
    """No two answers of the provider are equal."""
    numbers = itertools.count()
    provider.answer = lambda _: f"answer {next(numbers)}"


# --- how graphs ask ----------------------------------------------------------------------------------


async def plain(_: Simulator) -> object:
    return (await plait.chat_model().ainvoke("q")).text


async def streamed(_: Simulator) -> object:
    return [chunk.text async for chunk in plait.chat_model().astream("q")]


async def equal_prompts(_: Simulator) -> object:
    model = plait.chat_model(temperature=1.0)
    first = (await model.ainvoke("q")).text
    others = await asyncio.gather(model.ainvoke("q"), model.ainvoke("q"))
    texts = [first, *(message.text for message in others)]
    assert len(set(texts)) == 3
    return texts


async def foreign(_: Simulator) -> object:
    async with openai.AsyncOpenAI() as client:
        found = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
    return found.model_dump()


async def foreign_gzip(provider: Simulator) -> object:
    provider.script(Behaviour(gzip=True))
    return await foreign(provider)


async def foreign_stream(_: Simulator) -> object:
    async with openai.AsyncOpenAI() as client:
        stream = await client.chat.completions.create(
            model="m", stream=True, messages=[{"role": "user", "content": "q"}]
        )
        return [chunk.model_dump() async for chunk in stream]


async def foreign_gzip_stream(provider: Simulator) -> object:
    provider.script(Behaviour(gzip=True))
    return await foreign_stream(provider)


async def closed_after_the_last_event(_: Simulator) -> object:
    seen = []
    async with (
        httpx2.AsyncClient() as client,
        client.stream("POST", f"{os.environ['OPENAI_BASE_URL']}/chat/completions", json=_STREAMED) as response,
    ):
        async for line in response.aiter_lines():
            seen.append(line)
            if line == "data: [DONE]":
                break
    return seen


async def gzip_closed_after_the_last_event(provider: Simulator) -> object:
    provider.script(Behaviour(gzip=True))
    return await closed_after_the_last_event(provider)


async def foreign_responses(_: Simulator) -> object:
    async with openai.AsyncOpenAI() as client:
        return (await client.responses.create(model="m", input="q")).model_dump()


async def foreign_response_events(_: Simulator) -> object:
    async with openai.AsyncOpenAI() as client:
        stream = await client.responses.create(model="m", input="q", stream=True)
        return [event.model_dump() async for event in stream]


async def embeddings(_: Simulator) -> object:
    async with openai.AsyncOpenAI() as client:
        return (await client.embeddings.create(model="e", input=["q", "r"])).model_dump()


async def in_a_thread(_: Simulator) -> object:
    def blocking() -> object:
        with openai.OpenAI() as client:
            found = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
        return found.model_dump()

    return await asyncio.to_thread(blocking)


async def messages(provider: Simulator) -> object:
    async with anthropic.AsyncAnthropic(base_url=provider.origin, api_key=KEY) as client:
        found = await client.messages.create(model="a", max_tokens=9, messages=[{"role": "user", "content": "q"}])
    return found.model_dump()


async def message_events(provider: Simulator) -> object:
    async with (
        anthropic.AsyncAnthropic(base_url=provider.origin, api_key=KEY) as client,
        client.messages.stream(model="a", max_tokens=9, messages=[{"role": "user", "content": "q"}]) as stream,
    ):
        return [event.model_dump() async for event in stream]


ASKS: list[tuple[Ask, int]] = [
    (plain, 1),
    (streamed, 1),
    (equal_prompts, 3),
    (foreign, 1),
    (foreign_gzip, 1),
    (foreign_stream, 1),
    (foreign_gzip_stream, 1),
    (closed_after_the_last_event, 1),
    (gzip_closed_after_the_last_event, 1),
    (foreign_responses, 1),
    (foreign_response_events, 1),
    (embeddings, 1),
    (in_a_thread, 1),
    (messages, 1),
    (message_events, 1),
]


class State(TypedDict, total=False):
    n: int


class Interrupted:
    """A graph of a node that asks and one that never ends the first time, so that its row is cut off in between."""

    def __init__(self, ask: Ask, provider: Simulator) -> None:
        self.seen: list[object] = []
        self.reached = asyncio.Event()

        async def asking(state: State) -> State:
            self.seen.append(await ask(provider))
            return {}

        async def holding(state: State) -> State:
            if not self.reached.is_set():
                self.reached.set()
                await asyncio.Event().wait()
            return {}

        builder = StateGraph(State)
        builder.add_node("asking", asking)
        builder.add_node("holding", holding)
        builder.add_edge(START, "asking")
        builder.add_edge("asking", "holding")
        self.graph: Graph = builder.compile(name="held")


async def cut_off(graph: Graph, reached: asyncio.Event, settings: Settings) -> str:
    """Run one row until it is reached, then leave; returns the batch's id."""
    batch = plait.batch(graph, [{"n": 1}], settings=settings)
    running = asyncio.create_task(run(batch))
    waiting = asyncio.create_task(reached.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    assert reached.is_set(), running.result()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return batch.id


async def run(batch: Batch) -> list[RowRecord]:
    return [record async for record in batch]


@pytest.mark.parametrize(("ask", "calls"), ASKS, ids=[ask.__name__ for ask, _ in ASKS])
@pytest.mark.usefixtures("numbered")
async def test_a_paid_answer_is_read_again_as_it_was_read_first(
    ask: Ask, calls: int, provider: Simulator, settings: Settings, no_blocking_calls: BlockBuster
) -> None:
    no_blocking_calls.deactivate()  # the SDKs read certificates as their clients are made
    held = Interrupted(ask, provider)
    with own_process(settings):
        batch_id = await cut_off(held.graph, held.reached, settings)
        [row] = await run(plait.resume(batch_id, workflow=held.graph, settings=settings))
    assert row.status == "success", row.error
    assert provider.counters.received == calls
    assert row.usage["replayed_calls"] == calls
    assert row.usage["calls"] == 0
    first, again = held.seen
    assert first == again
    files = list((settings.home / "batches").rglob("*"))
    assert not any(KEY.encode() in file.read_bytes() for file in files if file.is_file())


# --- whose answer it is ------------------------------------------------------------------------------


class Fan(TypedDict, total=False):
    n: int
    texts: Annotated[dict[str, str], operator.or_]


class Part(TypedDict):
    label: str


class Text(TypedDict):
    text: str


async def directly(_: Part) -> str:
    return (await plait.chat_model(temperature=1.0).ainvoke("q")).text


async def by_a_chain(_: Part) -> str:
    chain = ChatPromptTemplate.from_template("{q}") | plait.chat_model(temperature=1.0) | StrOutputParser()
    return await chain.ainvoke({"q": "q"})


async def from_a_thread(_: Part) -> str:
    return (await asyncio.to_thread(plait.chat_model(temperature=1.0).invoke, "q")).text


async def in_a_task(_: Part) -> str:
    return (await asyncio.create_task(plait.chat_model(temperature=1.0).ainvoke("q"))).text


async def in_a_run_of_its_own(_: Part) -> str:
    async def deep(state: State) -> dict[str, str]:
        return {"text": (await plait.chat_model(temperature=1.0).ainvoke("q")).text}

    builder = StateGraph(State, output_schema=Text)
    builder.add_node("deep", deep)
    builder.add_edge(START, "deep")
    result = await plait.run(builder.compile(name="inner"), {"n": 1}, settings=current_settings())
    assert isinstance(result.outputs, dict)
    return str(result.outputs["text"])


async def in_a_task_of_the_functional_api(_: Part) -> str:
    @task
    async def one() -> str:
        return (await plait.chat_model(temperature=1.0).ainvoke("q")).text

    @entrypoint()
    async def whole(_: int) -> str:
        return await one()

    return str(await whole.ainvoke(1))


@pytest.mark.parametrize("nested", [False, True], ids=["sent", "nested"])
@pytest.mark.parametrize(
    "ask", [directly, by_a_chain, from_a_thread, in_a_task, in_a_run_of_its_own, in_a_task_of_the_functional_api]
)
@pytest.mark.usefixtures("numbered")
async def test_equal_prompts_of_siblings_keep_their_own_answers(
    ask: Callable[[Part], Awaitable[str]], nested: bool, provider: Simulator, settings: Settings
) -> None:
    labels, reached = "abcd", asyncio.Event()
    seen: list[dict[str, str]] = []

    async def branch(state: Part) -> Fan:
        # The second time they ask in the other order.
        turn = labels.index(state["label"])
        for _ in range(3 * (len(labels) - turn if seen else turn)):
            await asyncio.sleep(0)
        return {"texts": {state["label"]: await ask(state)}}

    async def collect(state: Fan) -> Fan:
        seen.append(state.get("texts", {}))
        if len(seen) == 1:
            reached.set()
            await asyncio.Event().wait()
        return {}

    inner = StateGraph(Part, output_schema=Fan)
    inner.add_node("deep", branch)
    inner.add_edge(START, "deep")
    builder = StateGraph(Fan)
    if nested:
        builder.add_node("branch", inner.compile())
    else:
        builder.add_node("branch", branch, input_schema=Part)
    builder.add_node("collect", collect)
    builder.add_conditional_edges(START, lambda _: [Send("branch", {"label": each}) for each in labels], ["branch"])
    builder.add_edge("branch", "collect")
    graph = builder.compile(name="fan")
    batch_id = await cut_off(graph, reached, settings)
    await run(plait.resume(batch_id, workflow=graph, settings=settings))
    assert provider.counters.received == len(labels)
    assert len(set(seen[0].values())) == len(labels)
    assert seen[0] == seen[1]


# --- what is an answer -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def endpoint(answer: bytes) -> AsyncIterator[list[bytes]]:
    """A server that sends these bytes to every request and hangs up; yields what it was asked, and where it is."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        asked.append(f"http://127.0.0.1:{port}/v1".encode())
        yield asked


def _stream(*events: bytes) -> bytes:
    """A chunked answer that never says that it is over."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"".join(b"data: %s\n\n" % event for event in events)
    return head + b"%x\r\n%s\r\n" % (len(body), body)


_SAYS = b'{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,%s}]}'
_TEXT = _SAYS % b'"delta":{"role":"assistant","content":"hello"},"finish_reason":null'
_STOP = _SAYS % b'"delta":{},"finish_reason":"stop"'


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("ask", [foreign_stream, streamed])
async def test_a_stream_is_an_answer_at_its_last_event_however_its_connection_ends(
    ask: Ask, provider: Simulator, monkeypatch: pytest.MonkeyPatch, no_blocking_calls: BlockBuster
) -> None:
    no_blocking_calls.deactivate()
    held = Interrupted(ask, provider)
    async with endpoint(_stream(_TEXT, _STOP, b"[DONE]")) as asked:
        monkeypatch.setenv("OPENAI_BASE_URL", asked[0].decode())
        elsewhere = from_env().override(model="openai:m", max_attempts=2)
        with own_process(elsewhere):
            batch_id = await cut_off(held.graph, held.reached, elsewhere)
            [row] = await run(plait.resume(batch_id, workflow=held.graph, settings=elsewhere))
        assert len(asked) == 2, "it was asked once"
    assert row.usage["replayed_calls"] == 1
    assert held.seen[0] == held.seen[1]


async def test_a_stream_that_ends_before_its_last_event_is_paid_again(provider: Simulator, settings: Settings) -> None:
    provider.script(Behaviour(cut_after_chunks=1))
    held = Interrupted(streamed, provider)
    batch_id = await cut_off(held.graph, held.reached, settings)
    assert provider.counters.received == 2
    await run(plait.resume(batch_id, workflow=held.graph, settings=settings))
    assert provider.counters.received == 2

    def paid() -> int:
        with FolderPlace(settings.home / "batches" / batch_id).read() as reader:
            return sum(totals.calls for totals in reader.models().values())

    assert await asyncio.to_thread(paid) == 1


# --- what may lie in the folder ----------------------------------------------------------------------


async def test_a_journal_that_was_killed_before_its_first_record_holds_nothing(
    provider: Simulator, settings: Settings
) -> None:
    held = Interrupted(plain, provider)
    batch_id = await cut_off(held.graph, held.reached, settings)
    (settings.home / "batches" / batch_id / "journal-1.db").touch()
    [row] = await run(plait.resume(batch_id, workflow=held.graph, settings=settings))
    assert row.usage["replayed_calls"] == 1


async def _two(_: Simulator) -> object:
    model = plait.chat_model()
    return [(await model.ainvoke("q")).text, (await model.ainvoke("r")).text]


async def _copied_at(held: Interrupted, provider: Simulator, settings: Settings, homes: Mapping[Path, int]) -> str:
    """Copies of a batch at the moment its calls are answered, as a kill leaves it; each lacks so many last bytes."""

    def await_spooled() -> None:
        # What is written beside the calls is written by then: the last record is an answer.
        with FolderPlace(folder).read() as reader:
            while "spooled" not in reader.meta:
                time.sleep(0.001)

    provider.close_gate()
    batch = plait.batch(held.graph, [{"n": 1}], settings=settings)
    running = asyncio.create_task(run(batch))
    await provider.arrived(1)
    folder = settings.home / "batches" / batch.id
    await asyncio.to_thread(await_spooled)
    provider.open_gate()
    await held.reached.wait()
    for home, missing in homes.items():
        copy = home / "batches" / batch.id
        await asyncio.to_thread(shutil.copytree, folder, copy)
        log = copy / "batch.db-wal"
        os.truncate(log, log.stat().st_size - missing)
    running.cancel()
    await asyncio.wait([running])
    return batch.id


async def test_a_record_that_a_kill_cut_in_half_is_paid_again_and_no_other(
    provider: Simulator, settings: Settings, tmp_path: Path, no_blocking_calls: BlockBuster
) -> None:
    no_blocking_calls.deactivate()
    held = Interrupted(_two, provider)
    whole, half = tmp_path / "whole", tmp_path / "half"
    batch_id = await _copied_at(held, provider, settings, {whole: 0, half: 1})
    for home, lost in ((whole, 0), (half, 1)):
        before = provider.counters.received
        [row] = await run(plait.resume(batch_id, workflow=held.graph, settings=settings.override(home=home)))
        assert row.status == "success"
        assert row.usage["replayed_calls"] == 2 - lost
        assert provider.counters.received - before == lost
    assert held.seen[0] == held.seen[1] == held.seen[2]


async def test_a_damaged_journal_is_named(provider: Simulator, settings: Settings) -> None:
    held = Interrupted(plain, provider)
    batch_id = await cut_off(held.graph, held.reached, settings)
    damaged = settings.home / "batches" / batch_id / "journal-1.db"
    await asyncio.to_thread(damaged.write_bytes, os.urandom(8192))
    with pytest.raises(plait.PlaitError, match=r"journal-1\.db.*damaged"):
        await run(plait.resume(batch_id, workflow=held.graph, settings=settings))


# --- a journal that cannot be written ----------------------------------------------------------------


@pytest.mark.parametrize("ask", [foreign, foreign_stream, in_a_thread, plain])
async def test_an_answer_that_cannot_be_kept_is_paid_once(
    ask: Ask, provider: Simulator, settings: Settings, tmp_path: Path, no_blocking_calls: BlockBuster
) -> None:
    no_blocking_calls.deactivate()
    writer = Writer(FileMedium(tmp_path / "journal.db", prepare=prepare_journal))
    await asyncio.to_thread(writer.close)
    scope = Scope("r", gate=gate_for(settings), settings=settings, watched=False)
    scope.recorder = await Journal(writer, Answers(tmp_path / "journal.db")).open_row("r", lambda: "branch")
    with own_process(settings), entered(scope), pytest.raises(Exception) as failed:  # noqa: PT011 - each SDK's own
        await ask(provider)
    assert is_fatal(failed.value)
    assert isinstance(explain(failed.value, settings), StoreError)
    assert provider.counters.received == 1
