"""FastStreams against ChatOpenAI: the same bytes over loopback, the same chunks, messages, callbacks and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from openai._streaming import SSEDecoder
from pydantic import SecretStr

from plait.chat import PlainChatOpenAI
from plait.event_lines import EventLines
from plait.flow.gate import Gate
from plait.flow.pool import Network, Pool
from plait.flow.transport import FlowTransport
from plait.settings import from_env

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Streams(PlainChatOpenAI):
    """As models are built."""


@dataclass(slots=True)
class Endpoint:
    """An endpoint on this machine that answers every request with the same pieces, and counts who came."""

    url: str = ""
    pieces: Sequence[bytes] = ()
    stalls: bool = False
    """Whether it keeps the connection open, and silent, behind the pieces."""
    connections: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        self.requests.append(json.loads(await reader.readexactly(length)))
        writer.write(HEAD)
        for piece in self.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
            await writer.drain()
            # Lets the client read before the next piece comes.
            await asyncio.sleep(0)
        if self.stalls:
            await reader.read()
            return False
        writer.write(b"0\r\n\r\n")
        return True


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    found = Endpoint()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield found


@dataclass(slots=True)
class World:
    """An endpoint, and models of both kinds that ask it over plait's own transport."""

    endpoint: Endpoint
    http: httpx2.AsyncClient
    blocking: httpx2.Client
    theirs: ChatOpenAI = field(init=False)
    ours: ChatOpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.theirs, self.ours = self.model(ChatOpenAI), self.model(Streams)

    def model(self, kind: type[ChatOpenAI], **options: Any) -> ChatOpenAI:
        arguments: dict[str, Any] = {
            "model": "m",
            "base_url": self.endpoint.url,
            "api_key": SecretStr("k"),
            "http_async_client": self.http,
            "http_client": self.blocking,
            "max_retries": 0,
            "stream_usage": True,
            "streaming": True,
        }
        return kind(**{**arguments, **options})


@asynccontextmanager
async def opened() -> AsyncIterator[World]:
    gate = Gate(from_env({}).override(max_attempts=1))
    transport = FlowTransport(Pool(Network()), gate)
    async with endpoint() as found, httpx2.AsyncClient(transport=transport) as http:
        with httpx2.Client() as blocking:
            yield World(found, http, blocking)


class Heard(AsyncCallbackHandler):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[object] = []

    async def on_llm_new_token(self, token: Any, *, chunk: Any = None, **about: Any) -> None:
        self.said.append((token, seen(chunk), sorted(about), about.get("tags")))

    async def on_llm_end(self, response: Any, **about: Any) -> None:
        self.said.append([seen(found) for found in response.generations[0]])

    async def on_llm_error(self, error: BaseException, *, response: Any = None, **about: Any) -> None:
        self.said.append((repr(error), response and [[seen(one) for one in all_] for all_ in response.generations]))


def seen(found: Any) -> object:
    """All that there is to an object of LangChain's, but the ids that are made anew for every run."""
    if isinstance(found, ChatGeneration | BaseMessage):
        state = {**found.__dict__}
        run_id = state.get("id") or ""
        if run_id.startswith("lc_run-"):
            state["id"] = "a run's"
        if "message" in state:
            state["message"] = seen(state["message"])
        kinds = {name: type(value).__name__ for name, value in state.items()}
        return type(found).__name__, state, kinds, found.model_fields_set, found.__pydantic_extra__
    return repr(found)


async def asked(model: ChatOpenAI, way: str) -> list[object]:
    """What a call gives and tells, whichever way it is made."""
    heard, found = Heard(), []
    try:
        if way == "astream":
            chunks = []
            async for chunk in model.astream("Hi", config={"callbacks": [heard], "tags": ["mine"]}):
                chunks.append(chunk)
                found.append(seen(chunk))
            found.append(seen(sum(chunks[1:], chunks[0])))
        elif way == "ainvoke":
            found.append(seen(await model.ainvoke("Hi", config={"callbacks": [heard]})))
        else:
            async for chunk, metadata in graph_of(model).astream({"text": ""}, stream_mode="messages"):
                found.append((seen(chunk), metadata["langgraph_node"]))
    except Exception as error:  # noqa: BLE001 - compared
        found.append((type(error).__name__, str(error), repr(error.__cause__)))
    return [*found, heard.said]


class State(TypedDict):
    text: str


def graph_of(model: ChatOpenAI) -> Any:
    async def ask(state: State) -> State:
        return {"text": (await model.ainvoke("Hi")).text}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile()


@dataclass(frozen=True, slots=True)
class Stage:
    """A loop with a world on it."""

    runner: asyncio.Runner
    world: World

    def alike(self, pieces: Sequence[bytes], way: str) -> list[object]:
        """Both kinds asked, and seen to be alike; returns what ours gave."""
        here = self.world
        here.endpoint.pieces = pieces
        here.endpoint.requests.clear()
        theirs = self.runner.run(asked(here.theirs, way))
        ours = self.runner.run(asked(here.ours, way))
        assert ours == theirs
        asked_by_them, asked_by_us = here.endpoint.requests
        assert asked_by_us == asked_by_them
        return ours


@pytest.fixture(scope="module")
def stage() -> Generator[Stage]:
    with asyncio.Runner() as runner:
        world = opened()
        yield Stage(runner, runner.run(world.__aenter__()))
        runner.run(world.__aexit__(None, None, None))


def sent(*events: object, end: str = "\n") -> bytes:
    texts = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
    return "".join(f"data: {text}{end}{end}" for text in texts).encode()


def chunk_of(delta: object, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": fields.pop("finish_reason", None)}
    return {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-2026",
        "choices": [choice],
        **fields,
    }


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
TEXT = (chunk_of({"role": "assistant", "content": ""}), chunk_of({"content": "über "}), chunk_of({"content": "🏔️\n"}))
END_OF_TEXT = chunk_of({}, finish_reason="stop", system_fingerprint="fp")

numbers = st.integers(-1, 2**70) | st.none()
names = st.sampled_from(["f", "g", ""]) | st.none()
calls = st.fixed_dictionaries(
    {
        "index": st.integers(0, 2),
        "function": st.fixed_dictionaries({"name": names, "arguments": st.text("{}1a", max_size=3)}),
    },
    optional={"id": names, "type": st.just("function")},
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["assistant", "assistant", None, "user", "system", "developer"]),
        "content": st.text(max_size=8) | st.none(),
        "tool_calls": st.lists(calls, max_size=2) | st.none(),
        "refusal": names,
        "reasoning_content": names,
        "id": st.just("d1") | st.none(),
    },
)
usages = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": numbers, "completion_tokens": numbers},
    optional={
        "total_tokens": numbers,
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"cached_tokens": numbers}),
        "completion_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"reasoning_tokens": numbers}),
    },
)
choices = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": deltas},
    optional={"finish_reason": st.sampled_from(["stop", "tool_calls", "odd", None, ""]), "logprobs": st.none()},
)
chunks = st.fixed_dictionaries(
    {"choices": st.lists(choices, min_size=1, max_size=1) | st.lists(choices, max_size=2)},
    optional={
        "id": st.just("chatcmpl-1"),
        "model": names,
        "usage": usages,
        "system_fingerprint": names,
        "service_tier": st.sampled_from(["flex", "default", None]),
        "obfuscation": st.text(max_size=3),
    },
)
odd_events = st.sampled_from(
    [
        "[DONE]",
        "null",
        "{",
        "[1]",
        '{"error": {"message": "overloaded"}}',
        '{"choices": null}',
        '{"choices": [{}]}',
        "NaN",
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """An answer in pieces that end anywhere."""
    events = draw(st.lists(chunks, max_size=5))
    texts = [json.dumps(event, ensure_ascii=draw(st.booleans())) for event in events]
    if draw(st.booleans()):
        texts.insert(draw(st.integers(0, len(texts))), draw(odd_events))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    lines = draw(st.sampled_from(["", "", ": ping", "event: x", "id: 7", "retry: 3", "data:"]))
    before = f"{lines}{end}" if lines else ""
    body = "".join(f"{before}data:{' ' * draw(st.booleans())}{text}{end}{end}" for text in texts)
    if draw(st.booleans()):
        body += f"data: [DONE]{end}{end}"
    whole = body.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@settings(max_examples=60)
@given(streams(), st.sampled_from(["astream", "ainvoke"]))
@example([sent(*TEXT, END_OF_TEXT, {"choices": [], "usage": USAGE}, "[DONE]")], "astream")
@example([sent(*TEXT)[:200], sent(*TEXT)[200:]], "ainvoke")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_any_stream_gives_what_chat_openai_gives(stage: Stage, pieces: list[bytes], way: str) -> None:
    stage.alike(pieces, way)


# fmt: off
lines = st.sampled_from([
    b"data: a", b"data:b", b"data", b"data: \xc3\xbc", b"data: \xff", b"data: [DONE]", b"data:  two", b"", b"", b"",
    b"event: e", b"event:", b"id: 1", b"id: \0", b"id", b"retry: 1", b"retry: x", b"junk", b": hm", b": \xff",
])
# fmt: on


@settings(max_examples=500)
@given(
    st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))), lines, st.lists(st.integers(0, 200))
)
def test_lines_are_the_events_that_the_sdk_reads(
    whole: list[tuple[bytes, bytes]], rest: bytes, cuts: list[int]
) -> None:
    body = b"".join(line + end for line, end in whole) + rest
    places = sorted({min(cut, len(body)) for cut in cuts})
    pieces = [body[start:stop] for start, stop in zip([0, *places], [*places, len(body)], strict=True)]
    reading = EventLines()

    def by_us() -> Iterator[object]:
        for piece in pieces:
            yield from reading.feed(piece)
        reading.finish()

    by_them = ((event.data.encode(), event.event or "") for event in SSEDecoder().iter_bytes(iter(pieces)))
    assert until_it_fails(by_us()) == until_it_fails(by_them)


def until_it_fails(events: Iterator[object]) -> list[object]:
    found: list[object] = []
    try:
        found.extend(events)
    except UnicodeDecodeError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("way", ["astream", "ainvoke", "graph"])
def test_an_answer_cut_within_letters_is_the_same_message(stage: Stage, way: str) -> None:
    whole = sent(*TEXT, END_OF_TEXT, {"choices": [], "usage": USAGE}, "[DONE]")
    ours = stage.alike([whole[at : at + 1] for at in range(len(whole))], way)
    assert "🏔️" in repr(ours)
    assert "'output_tokens': 4" in repr(ours)


@pytest.mark.parametrize("way", ["astream", "ainvoke", "graph"])
@pytest.mark.parametrize("option", [{"output_version": "v1"}, {"stream_usage": False}, {"stream_chunk_timeout": None}])
def test_options_that_change_chunks_change_them_alike(stage: Stage, way: str, option: dict[str, Any]) -> None:
    world = stage.world
    usual = world.theirs, world.ours
    world.theirs, world.ours = world.model(ChatOpenAI, **option), world.model(Streams, **option)
    try:
        stage.alike([sent(*TEXT, END_OF_TEXT, "[DONE]")], way)
    finally:
        world.theirs, world.ours = usual


def test_an_endpoint_that_falls_silent_is_given_up_alike(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    world = stage.world
    usual = world.theirs, world.ours
    option = {"stream_chunk_timeout": 0.05}
    world.theirs, world.ours = world.model(ChatOpenAI, **option), world.model(Streams, **option)
    world.endpoint.stalls = True
    try:
        ours = stage.alike([sent(*TEXT)], "astream")
    finally:
        world.endpoint.stalls = False
        world.theirs, world.ours = usual
    assert "StreamChunkTimeoutError" in repr(ours)
    theirs_said, ours_said = (record for record in caplog.records if record.getMessage().startswith("langchain_openai"))
    for name in ("name", "levelno", "msg", "source", "timeout_s", "model_name", "chunks_received"):
        assert getattr(ours_said, name) == getattr(theirs_said, name)


def test_the_connection_of_a_whole_answer_is_used_again(stage: Stage) -> None:
    world = stage.world
    world.endpoint.pieces = [sent(*TEXT, "[DONE]"), b": what follows the end\n\n"]
    stage.runner.run(asked(world.ours, "astream"))
    before = world.endpoint.connections
    for _ in range(3):
        stage.runner.run(asked(world.ours, "ainvoke"))
    assert world.endpoint.connections == before


@pytest.mark.parametrize("way", ["closed", "cancelled"])
def test_a_reader_that_leaves_ends_the_answer(stage: Stage, way: str) -> None:
    world = stage.world

    async def leave() -> None:
        world.endpoint.left.clear()
        chunks = world.ours.astream("Hi")
        await anext(chunks)
        if way == "closed":
            await chunks.aclose()  # type: ignore[attr-defined]
        else:
            reading = asyncio.create_task(drained(chunks))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        async with asyncio.timeout(5):
            await world.endpoint.left.wait()

    world.endpoint.pieces, world.endpoint.stalls = [sent(*TEXT)], True
    try:
        stage.runner.run(leave())
    finally:
        world.endpoint.stalls = False


async def drained(chunks: AsyncIterator[object]) -> None:
    async for _ in chunks:
        pass


def test_what_one_chunk_holds_can_be_changed_without_the_others(stage: Stage) -> None:
    async def chunks() -> list[AIMessageChunk]:
        return [chunk async for chunk in stage.world.ours.astream("Hi")]

    stage.world.endpoint.pieces = [sent(*TEXT, "[DONE]")]
    first, second, *_ = stage.runner.run(chunks())
    untouched = second.model_dump()
    for name, value in first:
        if isinstance(value, dict):
            value["changed"] = True
        elif isinstance(value, list):
            value.append({"name": "f", "args": {}, "id": None})
        elif name != "type":
            setattr(first, name, "changed")
    first.more = "than fields"  # type: ignore[attr-defined]
    assert second.model_dump() == untouched
