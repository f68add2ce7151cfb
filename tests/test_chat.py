"""PlainChatOpenAI against ChatOpenAI: the same calls, the same requests at the server, the same results and errors."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from plait.chat import PlainChatOpenAI
from plait.flow.gate import Gate
from plait.flow.pool import BlockingPool, Network, Pool
from plait.flow.transport import BlockingFlowTransport, FlowTransport
from plait.settings import from_env
from plait.simulator import Behaviour, Simulator

Ask = Callable[[ChatOpenAI], Awaitable[object]]

_QUESTION = "How high is Ben Nevis?"
_PICTURE = "data:image/png;base64,iVBORw0KGgo="


@tool
def height_of(mountain: str) -> int:
    """The height of a mountain in metres."""
    return len(mountain)


class Mountain(BaseModel):
    """A mountain."""

    name: str
    height_m: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model did: at the server, and to its caller."""

    requests: list[tuple[str, dict[str, str], dict[str, Any]]]
    result: str
    plain: bool
    """Without the SDK's telemetry in the last request's headers."""


@asynccontextmanager
async def http_of(provider: Simulator) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.Client]]:
    settings = from_env({"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "k"}).override(max_attempts=1)
    gate = Gate(settings)
    blocking = httpx2.Client(transport=BlockingFlowTransport(BlockingPool(Network()), gate), follow_redirects=True)
    transport = FlowTransport(Pool(Network()), gate)
    async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as http:
        with blocking:
            yield http, blocking


async def seen(
    kind: type[ChatOpenAI], provider: Simulator, ask: Ask, behaviours: Sequence[Behaviour], **options: Any
) -> Seen:
    provider.reset()
    provider.script(*behaviours)
    async with http_of(provider) as (http, blocking):
        arguments: dict[str, Any] = {
            "model": "m",
            "base_url": provider.base_url,
            "api_key": SecretStr("k"),
            "http_async_client": http,
            "http_client": blocking,
            "max_retries": 0,
            "stream_usage": True,
        }
        model = kind(**{**arguments, **options})
        try:
            result = described(await ask(model))
        except Exception as error:  # noqa: BLE001 - compared
            result = described_error(error)
    requests = [
        (
            request.path,
            {name: value for name, value in request.headers.items() if not name.startswith("x-stainless-")},
            request.body,
        )
        for request in provider.requests
    ]
    last = provider.requests[-1].headers if provider.requests else {}
    return Seen(requests, result, plain=not any(name.startswith("x-stainless-") for name in last))


async def same(provider: Simulator, ask: Ask, *behaviours: Behaviour, **options: Any) -> Seen:
    """Both models seen alike; returns what was seen of ours."""
    theirs = await seen(ChatOpenAI, provider, ask, behaviours, **options)
    ours = await seen(PlainChatOpenAI, provider, ask, behaviours, **options)
    assert ours.result == theirs.result
    assert ours.requests == theirs.requests
    return ours


def described(result: object) -> str:
    def plain(found: object) -> object:
        if isinstance(found, BaseModel):
            return {"class": type(found).__name__, **found.model_dump(warnings=False)}
        return repr(found)

    text = json.dumps(result, default=plain, sort_keys=True, indent=1)
    # What is made anew for every run, answer and call.
    text = re.sub(r'"(created|created_at|completed_at|run_id|date)": .*', "", text)
    return re.sub(r"(lc_run-|chatcmpl-|call_|resp_|msg_)[-\w]+", r"\1", text)


def described_error(error: BaseException | None) -> str:
    if error is None:
        return ""
    response, request = getattr(error, "response", None), getattr(error, "_request", getattr(error, "request", None))
    about = {
        "class": [kind.__name__ for kind in type(error).__mro__],
        "says": str(error),
        **{name: getattr(error, name, None) for name in ("status_code", "body", "code", "type", "param", "request_id")},
        "response": response is not None and (response.status_code, response.text, str(response.request.url)),
        "request": request is not None and (request.method, str(request.url)),
    }
    return described(about) + described_error(error.__cause__)


async def generate(model: ChatOpenAI, *messages: BaseMessage, **options: Any) -> object:
    return await model.agenerate([list(messages or [HumanMessage(_QUESTION)])], **options)


async def stream(model: ChatOpenAI, *messages: BaseMessage, **options: Any) -> object:
    chunks = [chunk async for chunk in model.astream(list(messages or [HumanMessage(_QUESTION)]), **options)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return [*chunks, whole]


def answer(message: dict[str, Any], *more: dict[str, Any], **fields: Any) -> Behaviour:
    messages = [{"role": "assistant", **found} for found in (message, *more)]
    choices = [{"index": at, "message": found, "finish_reason": "stop"} for at, found in enumerate(messages)]
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m-2026", "choices": choices, **fields}
    return Behaviour(body=json.dumps(body).encode())


def events(*chunks: object, done: bool = True) -> Behaviour:
    lines = [f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n" for chunk in chunks]
    body = "".join(lines) + ("data: [DONE]\n\n" if done else "")
    return Behaviour(body=body.encode(), content_type="text/event-stream")


def chunk_of(delta: object, **choice: Any) -> dict[str, Any]:
    made = {"index": 0, "delta": delta, **choice}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m-2026", "choices": [made]}


_CONVERSATIONS: dict[str, list[BaseMessage]] = {
    "unicode": [HumanMessage('Wie hoch ist der Großglockner? 🏔️ \u2028 \x00 \\ "')],
    "system": [SystemMessage("Be brief."), HumanMessage(_QUESTION), AIMessage("High."), HumanMessage("How high?")],
    "developer": [SystemMessage("Brief.", additional_kwargs={"__openai_role__": "developer"}), HumanMessage("Hi")],
    "picture": [
        HumanMessage([{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": _PICTURE}}])
    ],
    "tool results": [
        HumanMessage("How high?"),
        AIMessage("", tool_calls=[{"name": "height_of", "args": {"mountain": "Ben Nevis"}, "id": "c1"}]),
        ToolMessage("1345", tool_call_id="c1"),
    ],
}


@pytest.mark.parametrize("way", [generate, stream])
@pytest.mark.parametrize("name", _CONVERSATIONS)
async def test_conversations_are_sent_and_answered_alike(name: str, way: Any, provider: Simulator) -> None:
    ours = await same(provider, lambda model: way(model, *_CONVERSATIONS[name]))
    assert ours.plain


@pytest.mark.parametrize("way", [generate, stream])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0},
        {"temperature": None, "seed": 7, "top_p": 0.5},
        {"stop": ["x", "y"]},
        {"max_tokens": 3},
        {"model": "o3", "max_tokens": 3, "reasoning_effort": "low"},
        {"extra_body": {"top_k": 3, "model": "other"}},
        {"model_kwargs": {"user": "u"}, "service_tier": "flex"},
        {"default_headers": {"X-Team": "geo", "User-Agent": "mine"}, "default_query": {"api-version": "1"}},
        {"organization": "org-1"},
        {"stream_usage": False},
        {"logprobs": True, "top_logprobs": 2},
        {"logit_bias": {50256: -100}},
        {"metadata": {"kept": "here"}},
        {"output_version": "v1"},
        {"timeout": 7.0},
        {"timeout": None},
    ],
    ids=str,
)
async def test_options_of_the_model_are_sent_alike(options: Any, way: Any, provider: Simulator) -> None:
    ours = await same(provider, way, **options)
    assert ours.plain


@pytest.mark.parametrize("way", [generate, stream])
@pytest.mark.parametrize(
    "options",
    [
        {"stop": ["x"]},
        {"temperature": 0.5, "max_tokens": 4},
        {"extra_body": {"top_k": 3}},
        {"tool_choice": "required", "tools": [height_of]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "parallel_tool_calls": False},
    ],
)
async def test_options_of_one_call_are_sent_alike(options: Any, way: Any, provider: Simulator) -> None:
    def ask(model: ChatOpenAI) -> Awaitable[object]:
        kept = dict(options)
        bound = model.bind_tools(kept.pop("tools"), **kept) if "tool_choice" in kept else model.bind(**kept)
        return way(model, **bound.kwargs)  # type: ignore[attr-defined, no-any-return]

    assert (await same(provider, ask)).plain


_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
_CALL = {"id": "c1", "type": "function", "function": {"name": "height_of", "arguments": '{"mountain": "A"}'}}
_LOGPROBS = {"content": [{"token": "a", "logprob": -1, "top_logprobs": []}]}
_ANSWERS = {
    "text": answer({"content": "1345 m, über allem 🏔️"}, usage=_USAGE, system_fingerprint="fp", service_tier="default"),
    "no usage": answer({"content": "a"}),
    "null usage": answer({"content": "a"}, usage=None),
    "details": answer(
        {"content": "a", "annotations": [], "reasoning_content": "hm"},
        usage={
            **_USAGE,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2, "own": 1},
            "cost": 0.1,
        },
        service_tier="flex",
    ),
    "half a usage": answer({"content": "a"}, usage={"prompt_tokens": 3}),
    "odd usage": answer({"content": "a"}, usage={**_USAGE, "prompt_tokens_details": [1]}),
    "several": answer({"content": "a"}, {"content": "b"}, usage=_USAGE),
    "refusal": answer({"content": None, "refusal": "No."}, usage=_USAGE),
    "tool calls": answer(
        {"content": None, "tool_calls": [_CALL, {**_CALL, "id": "c2", "function": {"name": "f", "arguments": ""}}]}
    ),
    "invalid tool call": answer(
        {"content": "", "tool_calls": [{**_CALL, "function": {"name": "f", "arguments": "{"}}]}
    ),
    "tool call without type": answer({"content": None, "tool_calls": [{"id": "1", "function": _CALL["function"]}]}),
    "tool call without id": answer({"content": None, "tool_calls": [{k: v for k, v in _CALL.items() if k != "id"}]}),
    "custom tool call": answer(
        {"content": None, "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": "x"}}]}
    ),
    "function call": answer({"content": None, "function_call": {"name": "f", "arguments": "{}"}}),
    "audio": answer({"content": None, "audio": {"id": "a", "data": "", "expires_at": 1, "transcript": "t"}}),
    "parsed": answer({"content": "{}", "parsed": {"a": 1}}),
    "parts": answer({"content": [{"type": "text", "text": "a"}]}),
    "no role": Behaviour(body=b'{"id":"1","model":"m","choices":[{"message":{"content":"a"}}]}'),
    "few fields": Behaviour(body=b'{"choices":[{"message":{"role":"assistant"}}]}'),
    "log probabilities": Behaviour(
        body=json.dumps(
            {"id": "1", "choices": [{"message": {"role": "assistant", "content": "a"}, "logprobs": _LOGPROBS}]}
        ).encode()
    ),
    "no choices": Behaviour(body=b'{"id":"1","choices":[]}'),
    "null choices": Behaviour(body=b'{"id":"1","choices":null}'),
    "choices missing": Behaviour(body=b'{"id":"1"}'),
    "an error in a good answer": Behaviour(
        body=b'{"error":{"message":"m"},"choices":[{"message":{"role":"assistant","content":""}}]}'
    ),
    "a list": Behaviour(body=b"[1]"),
    "null": Behaviour(body=b"null"),
    "a lone surrogate": Behaviour(body=b'{"choices":[{"message":{"role":"assistant","content":"\\ud83c"}}]}'),
    "infinity": Behaviour(
        body=b'{"choices":[{"message":{"role":"assistant","content":"a"}}],"usage":{"total_tokens":Infinity}}'
    ),
    "half of it": Behaviour(body=b'{"choices":[{"mess'),
    "nothing": Behaviour(body=b""),
    "a page": Behaviour(body=b"<html>Sign in</html>", content_type="text/html"),
    "JSON by another name": Behaviour(
        body=b'{"choices":[{"message":{"role":"assistant","content":"a"}}]}', content_type="text/plain"
    ),
    "a problem of JSON": Behaviour(body=b"{", content_type="application/problem+json; charset=utf-8"),
    "with a charset": Behaviour(
        body=b'{"choices":[{"message":{"role":"assistant","content":"a"}}]}',
        content_type="application/json; charset=utf-8",
    ),
    "gzip": Behaviour(gzip=True),
    "gateway": Behaviour(headers={"x-langsmith-gateway-metadata": '{"a": 1}', "x-request-id": "r1"}),
}


@pytest.mark.parametrize("name", _ANSWERS)
async def test_answers_are_read_alike(name: str, provider: Simulator) -> None:
    assert (await same(provider, generate, _ANSWERS[name])).plain


_ROLE = chunk_of({"role": "assistant", "content": ""})
_END = chunk_of({}, finish_reason="stop")
_TOOL_DELTA = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}, "type": "function"}
_STREAMS = {
    "text": events(
        _ROLE, chunk_of({"content": "über "}), chunk_of({"content": "🏔️"}), _END, {"choices": [], "usage": _USAGE}
    ),
    "usage with the end": events(_ROLE, {**_END, "usage": _USAGE, "service_tier": "priority"}),
    "fingerprint": events(_ROLE, {**_END, "system_fingerprint": "fp", "service_tier": "default"}),
    "no choices at first": events({"id": "1", "choices": [], "prompt_filter_results": []}, _ROLE, _END),
    "only usage": events(
        {"id": "1", "choices": [], "usage": {**_USAGE, "prompt_tokens_details": {"cached_tokens": 1}}}
    ),
    "tool calls": events(
        _ROLE,
        chunk_of({"tool_calls": [_TOOL_DELTA]}),
        chunk_of({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        chunk_of({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}, {**_TOOL_DELTA, "index": 1}]}),
        chunk_of({}, finish_reason="tool_calls"),
    ),
    "tool call without index": events(
        _ROLE, chunk_of({"tool_calls": [{k: v for k, v in _TOOL_DELTA.items() if k != "index"}]}), _END
    ),
    "tool call without function": events(_ROLE, chunk_of({"tool_calls": [{"index": 0, "id": "1"}]}), _END),
    "function call": events(_ROLE, chunk_of({"function_call": {"name": "f", "arguments": "{"}}), _END),
    "log probabilities": events(_ROLE, chunk_of({"content": "a"}, logprobs=_LOGPROBS), _END),
    "refusal": events(_ROLE, chunk_of({"refusal": "No."}), _END),
    "no delta": events(_ROLE, {"id": "1", "choices": [{"index": 0}]}, chunk_of(None), _END),
    "two answers": events(_ROLE, {"choices": [{"index": 1, "delta": {"content": "b"}}]}, _END),
    "no role": events(chunk_of({"content": "a"}), _END),
    "parts": events(_ROLE, chunk_of({"content": [{"type": "text", "text": "a"}]}), _END),
    "comments and fields": events("1", ": hm", _ROLE, _END),
    "error event": events(_ROLE, chunk_of({"content": "a"}), {"error": {"message": "overloaded", "code": "x"}}),
    "error event without words": events(_ROLE, {"error": "broken"}),
    "context error event": events(_ROLE, {"error": {"message": "This exceeds the context window."}}),
    "bad JSON": events(_ROLE, '{"choices": [', _END),
    "null": events(_ROLE, "null", _END),
    "odd usage": events(_ROLE, {**_END, "usage": "none"}),
    "odd choices": events(_ROLE, {"choices": "none"}, _END),
    "line ends": Behaviour(
        body=b": hi\r\nevent: x\r\ndata: "
        + json.dumps(_ROLE).encode()
        + b"\r\n\r\nretry: 1\rdata: "
        + json.dumps(_END).encode()
        + b"\r\rdata: [DONE]\n\n",
        content_type="text/event-stream",
    ),
    "cut at once": Behaviour(cut_after_chunks=0),
    "cut": Behaviour(cut_after_chunks=2),
    "reset": Behaviour(cut_after_chunks=2, reset=True),
    "no end": events(_ROLE, chunk_of({"content": "a"}), done=False),
    "empty": Behaviour(body=b"", content_type="text/event-stream"),
    "no stream": answer({"content": "a"}),
}


@pytest.mark.parametrize("name", _STREAMS)
async def test_streams_are_read_alike(name: str, provider: Simulator) -> None:
    assert (await same(provider, stream, _STREAMS[name])).plain


@pytest.mark.parametrize("way", [generate, stream])
@pytest.mark.parametrize(
    "behaviour",
    [
        *(Behaviour(status=status, headers={"x-request-id": "r1"}) for status in (400, 401, 403, 404, 408, 409, 422)),
        *(Behaviour(status=status, headers={"retry-after": "0"}) for status in (429, 500, 503, 529)),
        Behaviour(status=400, error={"message": "prompt is too long", "code": "context_length_exceeded"}),
        Behaviour(status=400, body=b"<html>no</html>", content_type="text/html"),
        Behaviour(status=500, body=b""),
        Behaviour(status=502, body=b'["bad gateway"]'),
        Behaviour(status=304, body=b""),
        Behaviour(reset_before_headers=True),
        Behaviour(truncate_json=True),
    ],
    ids=lambda found: f"{found.status} {found.error or found.body or found.kind}",
)
async def test_failures_are_the_same_errors(behaviour: Behaviour, way: Any, provider: Simulator) -> None:
    ours = await same(provider, way, behaviour)
    assert ours.plain
    assert '"says"' in ours.result or behaviour.truncate_json


@pytest.mark.parametrize("way", [generate, stream])
async def test_a_refused_connection_is_the_same_error(way: Any, provider: Simulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ours = await same(provider, way, base_url=f"http://127.0.0.1:{port}/v1")
    assert "OpenAIConnectionError" in ours.result


@pytest.mark.parametrize("way", [generate, stream])
async def test_a_read_timeout_is_the_same_error(way: Any, provider: Simulator) -> None:
    ours = await same(provider, way, Behaviour(stall=True), timeout=0.2)
    assert "OpenAITimeoutError" in ours.result


async def test_structured_output_is_the_same_by_every_method(provider: Simulator) -> None:
    for method in ("json_schema", "function_calling", "json_mode"):

        async def ask(model: ChatOpenAI, method: Any = method) -> object:
            return await model.with_structured_output(Mountain, method=method, include_raw=True).ainvoke("Ben Nevis")

        assert (await same(provider, ask)).plain == (method == "function_calling")


@pytest.mark.parametrize("way", [generate, stream])
@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 5.0},
        {"extra_headers": {"X-One": "1"}},
        {"extra_query": {"a": "b"}},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
async def test_what_only_the_sdk_knows_goes_its_way(options: Any, way: Any, provider: Simulator) -> None:
    assert not (await same(provider, lambda model: way(model, **options))).plain


@pytest.mark.parametrize("options", [{"unknown": 1}, {"temperature": float("nan")}, {"user": object()}])
async def test_what_the_sdk_refuses_is_refused_alike(options: Any, provider: Simulator) -> None:
    ours = await same(provider, lambda model: generate(model, **options))
    assert not ours.requests


@pytest.mark.parametrize(
    "options",
    [
        {"include_response_headers": True},
        {"use_responses_api": True},
        {"max_retries": 1},
        {"api_key": lambda: "k"},
    ],
)
async def test_models_that_need_the_sdk_keep_it(options: Any, provider: Simulator) -> None:
    assert not (await same(provider, generate, **options)).plain


async def test_an_sdk_client_of_the_user_is_used(provider: Simulator) -> None:
    async with (
        openai.AsyncOpenAI(base_url=provider.base_url, api_key="theirs") as theirs,
        openai.AsyncOpenAI(base_url=provider.base_url, api_key="k") as root,
    ):
        ours = await same(provider, generate, async_client=theirs.chat.completions, root_async_client=root)
    assert ours.requests[0][1]["authorization"] == "Bearer theirs"
    assert not ours.plain


async def test_a_client_of_the_user_is_used(provider: Simulator) -> None:
    urls = []

    async def note(request: httpx2.Request) -> None:
        urls.append(str(request.url))

    async with httpx2.AsyncClient(event_hooks={"request": [note]}) as http:
        ours = await seen(PlainChatOpenAI, provider, generate, (), http_async_client=http)
    assert urls == [f"{provider.base_url}/chat/completions"]
    assert not ours.plain


async def test_hooks_and_authentication_set_on_our_own_client_are_used(provider: Simulator) -> None:
    urls = []

    async def note(request: httpx2.Request) -> None:
        urls.append(str(request.url))

    async def ask(model: ChatOpenAI) -> object:
        assert model.http_async_client is not None
        model.http_async_client.event_hooks = {"request": [note]}
        await generate(model)
        model.http_async_client.event_hooks = {}
        model.http_async_client.auth = ("me", "secret")
        return await generate(model)

    ours = await same(provider, ask)
    assert ours.plain
    assert len(urls) == 2
    assert ours.requests[-1][1]["authorization"].startswith("Basic ")


async def test_requests_are_logged_for_those_who_listen(provider: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="httpx2"):
        await seen(PlainChatOpenAI, provider, generate, ())
    assert caplog.text.count(f"HTTP Request: POST {provider.base_url}/chat/completions") == 1


async def test_cookies_are_kept_and_sent_back(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        await generate(model)
        return await stream(model)

    ours = await same(provider, ask, Behaviour(headers={"set-cookie": "seat=7"}))
    assert [headers.get("cookie") for _, headers, _ in ours.requests] == [None, "seat=7"]


@pytest.mark.parametrize("way", [generate, stream])
async def test_redirects_are_followed(way: Any, provider: Simulator) -> None:
    away = Behaviour(status=307, headers={"location": "/v1/chat/completions?moved=1"}, body=b"")
    # The first request is repeated by the client that follows.
    ours = await seen(PlainChatOpenAI, provider, way, (away, away))
    theirs = await seen(ChatOpenAI, provider, way, (away,))
    assert ours.result == theirs.result
    assert ours.requests[-1] == theirs.requests[-1]


async def test_a_new_key_is_sent(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        await generate(model)
        model.root_async_client.api_key = "new"
        return await generate(model)

    ours = await same(provider, ask)
    assert [headers["authorization"] for _, headers, _ in ours.requests] == ["Bearer k", "Bearer new"]


async def test_callbacks_see_the_same(provider: Simulator) -> None:
    class Notes(AsyncCallbackHandler):
        def __init__(self) -> None:
            self.heard: list[object] = []

        async def on_chat_model_start(self, serialized: dict[str, Any], messages: Any, **options: Any) -> None:
            self.heard += [messages, options["tags"], options["metadata"], options["invocation_params"]]

        async def on_llm_new_token(self, token: Any, **options: Any) -> None:
            self.heard.append([token, options.get("chunk")])

        async def on_llm_end(self, response: Any, **options: Any) -> None:
            self.heard.append(response)

        async def on_llm_error(self, error: BaseException, **options: Any) -> None:
            self.heard.append(described_error(error))

    async def ask(model: ChatOpenAI) -> object:
        notes = Notes()
        listening = model.with_config(callbacks=[notes], tags=["t"], metadata={"a": 1})
        await listening.ainvoke("hi")
        [chunk async for chunk in listening.astream("hi")]
        with pytest.raises(openai.BadRequestError):
            await listening.ainvoke("hi")
        return re.sub("PlainChatOpenAI", "ChatOpenAI", described(notes.heard))

    good = Behaviour()
    assert (await same(provider, ask, good, good, Behaviour(status=400))).plain


async def test_synchronous_calls_are_the_sdks(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        whole = await asyncio.to_thread(model.invoke, "hi")
        return [whole, *await asyncio.to_thread(lambda: list(model.stream("hi")))]

    assert not (await same(provider, ask)).plain


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_cancelled_call_leaves_the_endpoint(streaming: bool, provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        call = asyncio.create_task(generate(model))
        await provider.arrived(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await provider.idle()
        return provider.closed_early

    ours = await same(provider, ask, Behaviour(stall=True), streaming=streaming)
    assert ours.result == "1"


async def test_a_stream_left_early_frees_its_place_and_connection(provider: Simulator) -> None:
    held = asyncio.Event()

    async def ask(model: ChatOpenAI) -> object:
        tokens = model.astream("one two three")
        first = await anext(tokens)
        await tokens.aclose()  # type: ignore[attr-defined]
        await provider.idle()
        return [first, provider.closed_early, await model.ainvoke("hi")]

    assert (await same(provider, ask, Behaviour(hold=held, hold_after_chunks=1))).plain


async def test_a_copy_with_other_options_is_plain_too(provider: Simulator) -> None:
    async def ask(model: ChatOpenAI) -> object:
        return await generate(model.model_copy(update={"temperature": 0.25}))

    ours = await same(provider, ask)
    assert ours.plain
    assert ours.requests[0][2]["temperature"] == 0.25
