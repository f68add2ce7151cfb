"""Calls that nobody listens to are ChatOpenAI's: the same requests, messages, ids and errors; listeners hear all."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, get_usage_metadata_callback
from langchain_core.globals import set_debug, set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.tracers.context import collect_runs
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from plait.chat import PlainChatOpenAI
from plait.simulator import Behaviour, Simulator
from tests.test_chat import described, same, seen

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
_FUNCTION = st.fixed_dictionaries({"name": st.sampled_from(["f", ""]), "arguments": st.sampled_from(["{}", "{", ""])})
_TOOL_CALL = st.fixed_dictionaries(
    {"id": st.text(max_size=3), "type": st.sampled_from(["function", "custom"]), "function": _FUNCTION}
)
_MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant")},
    optional={
        "content": st.none() | st.text(max_size=8) | st.just([{"type": "text", "text": "a"}]),
        "refusal": st.none() | st.just("No."),
        "tool_calls": st.none() | st.lists(_TOOL_CALL, max_size=2),
        "reasoning_content": st.text(max_size=3),
        "annotations": st.just([]),
        "own": _JSON,
    },
)
_COUNT = st.integers(0, 50)
_USAGE = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
    optional={
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"cached_tokens": _COUNT}),
        "completion_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"reasoning_tokens": _COUNT}),
        "cost": st.floats(0, 1),
    },
)
_CHOICE = st.fixed_dictionaries(
    {"index": st.integers(0, 2), "message": _MESSAGE},
    optional={
        "finish_reason": st.sampled_from([None, "stop", "length", "tool_calls", "content_filter", "own"]),
        "logprobs": st.none() | st.just({"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]}),
    },
)
_ANSWER = st.fixed_dictionaries(
    {"choices": st.lists(_CHOICE, min_size=1, max_size=2)},
    optional={
        "id": st.text(max_size=4),
        "model": st.text(max_size=4),
        "object": st.just("chat.completion"),
        "created": st.integers(0, 9),
        "usage": _USAGE,
        "system_fingerprint": st.none() | st.text(max_size=3),
        "service_tier": st.sampled_from([None, "default", "flex"]),
        "own": _JSON,
    },
)


async def invoke(model: ChatOpenAI) -> object:
    return await model.ainvoke("hi")


@settings(max_examples=40)
@given(_ANSWER, st.sampled_from([200, 200, 200, 400, 401, 429, 500]))
def test_generated_answers_make_the_same_messages_and_errors(answer: dict[str, Any], status: int) -> None:
    async def main() -> None:
        async with Simulator() as provider:
            body = json.dumps(answer).encode()
            await same(provider, invoke, Behaviour(status=status, body=body, content_type="application/json"))

    asyncio.run(main())


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(["system", "human", "ai"]), st.text(max_size=12)), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "stop": st.just(["x"]),
            "temperature": st.floats(0, 2),
            "n": st.integers(1, 2),
            "seed": st.integers(0, 9),
            "ls_structured_output_format": st.just({"kwargs": {"method": "own"}, "schema": {}}),
        },
    ),
)
def test_generated_conversations_are_sent_alike(messages: list[tuple[str, str]], options: dict[str, Any]) -> None:
    async def ask(model: ChatOpenAI) -> object:
        return await model.ainvoke(messages, **options)

    async def main() -> None:
        async with Simulator() as provider:
            assert (await same(provider, ask)).plain

    asyncio.run(main())


async def test_a_message_is_named_after_the_run_that_was_asked_for(provider: Simulator) -> None:
    run = uuid.UUID(int=7)

    async def ask(model: ChatOpenAI) -> object:
        named = await model.ainvoke("hi", {"run_id": run})
        other = await model.ainvoke("hi")
        own = other.id or ""
        return [named.id == f"lc_run--{run}-0", own.startswith("lc_run--"), uuid.UUID(own[8:-2]).version]

    assert json.loads((await same(provider, ask)).result) == [True, True, 7]


class Notes(AsyncCallbackHandler):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def on_chat_model_start(self, serialized: Any, messages: Any, **options: Any) -> None:
        self.heard.append(["start", messages, options.get("tags"), options.get("metadata"), options.get("name")])
        self.heard.append([options.get("invocation_params"), options.get("options")])

    async def on_llm_end(self, response: Any, **options: Any) -> None:
        self.heard.append(["end", response, options.get("tags")])

    async def on_chain_end(self, outputs: Any, **options: Any) -> None:
        self.heard.append(["chain", outputs])


async def test_a_listener_anywhere_above_hears_the_same(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        notes = Notes()
        chain = ChatPromptTemplate([("human", "{x}")]) | model | StrOutputParser()
        await chain.ainvoke({"x": "hi"}, {"callbacks": [notes], "tags": ["t"], "metadata": {"a": 1}})
        return re.sub("PlainChatOpenAI", "ChatOpenAI", described(notes.heard))

    assert (await same(provider, ask)).plain


async def test_hooks_of_the_context_hear_calls_without_callbacks(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        with get_usage_metadata_callback() as usage, collect_runs() as runs:
            await model.ainvoke("hi")
        return [usage.usage_metadata, len(runs.traced_runs), [run.inputs for run in runs.traced_runs]]

    ours = await same(provider, ask)
    usage, traced, _ = json.loads(ours.result)
    assert usage
    assert traced == 1


async def test_debug_mode_prints_the_same(provider: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    async def ask(model: ChatOpenAI) -> object:
        set_debug(True)
        try:
            await model.ainvoke("hi")
        finally:
            set_debug(False)
        said = capsys.readouterr().out
        return [said.count("Entering LLM run"), said.count("Exiting LLM run")]

    assert json.loads((await same(provider, ask)).result) == [1, 1]


@contextmanager
def cached() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    try:
        yield
    finally:
        set_llm_cache(None)


async def test_a_cache_answers_the_second_call(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        with cached():
            return [(await model.ainvoke("hi")).content, (await model.ainvoke("hi")).content]

    ours = await same(provider, ask)
    assert len(ours.requests) == 1
    own = await seen(PlainChatOpenAI, provider, ask, (), cache=InMemoryCache())
    assert len(own.requests) == 1
    assert len((await seen(PlainChatOpenAI, provider, ask, (), cache=False)).requests) == 2


class Turnstile(BaseRateLimiter):
    """Counts who comes through."""

    def __init__(self) -> None:
        self.passed = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.passed += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


async def test_a_rate_limiter_is_asked(provider: Simulator) -> None:
    turnstile = Turnstile()
    await same(provider, invoke, rate_limiter=turnstile)
    assert turnstile.passed == 2


async def test_a_model_that_streams_streams(provider: Simulator) -> None:
    ours = await same(provider, invoke, streaming=True)
    assert ours.requests[0][2]["stream"] is True


async def test_blocks_are_made_of_the_content_where_they_are_asked_for(provider: Simulator) -> None:
    await same(provider, invoke, output_version="v1")


class Mountain(BaseModel):
    """A mountain."""

    name: str


async def test_structured_output_and_bound_tools_are_the_same(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        bound = model.bind_tools([Mountain], tool_choice="auto")
        structured = model.with_structured_output(Mountain, method="function_calling", include_raw=True)
        return [await bound.ainvoke([HumanMessage("hi")]), repr((await structured.ainvoke("hi"))["parsed"])]

    await same(provider, ask)


async def test_a_cancelled_call_leaves_the_endpoint_and_its_task(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        asking = asyncio.create_task(model.ainvoke("hi"))
        while not provider.requests:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(0.01)
        asking.cancel()
        return [type(error).__name__ for error in await asyncio.gather(asking, return_exceptions=True)]

    ours = await same(provider, ask, Behaviour(stall=True))
    assert json.loads(ours.result) == ["CancelledError"]
