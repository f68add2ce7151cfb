"""Under `install`, clients that a graph makes by itself go through the gate: bounded, and retried once."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from blockbuster import BlockBuster
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionMessageParam

from plait.errors import BlockingCall
from plait.flow.gate import Gate
from plait.flow.install import install
from plait.flow.transport import FlowTransport
from plait.settings import Settings
from plait.simulator import Behaviour, Simulator, running
from tests.clocks import FakeClock

QUESTION = "how are you"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
BODY = {"model": "m", "messages": MESSAGES}

Ask = Callable[[Simulator], Awaitable[object]]


@contextmanager
def installed(
    *, max_concurrency: int | None = None, max_attempts: int = 3, deadline_s: float = 600.0
) -> Generator[tuple[Gate, FakeClock]]:
    clock = FakeClock()
    settings = Settings(max_concurrency=max_concurrency, max_attempts=max_attempts, deadline_s=deadline_s)
    gate = Gate(settings, clock=clock)
    with install(gate):
        yield gate, clock


# --- the clients, each as its documentation shows it: default retries, default transports ----------


def _openai(provider: Simulator, http_client: httpx2.AsyncClient | None = None) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test", http_client=http_client)


def _chat_openai(provider: Simulator) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url=provider.base_url, api_key=lambda: "sk-test")


async def async_openai(provider: Simulator) -> object:
    return await _openai(provider).chat.completions.create(model="m", messages=MESSAGES)


async def async_openai_streaming(provider: Simulator) -> object:
    stream = await _openai(provider).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return [chunk async for chunk in stream]


async def async_openai_over_aiohttp(provider: Simulator) -> object:
    async with openai.DefaultAioHttpClient() as http_client:
        return await _openai(provider, http_client).chat.completions.create(model="m", messages=MESSAGES)


async def async_openai_responses(provider: Simulator) -> object:
    return await _openai(provider).responses.create(model="m", input=QUESTION)


async def async_openai_embeddings(provider: Simulator) -> object:
    return await _openai(provider).embeddings.create(model="m", input=QUESTION)


async def openai_in_a_thread(provider: Simulator) -> object:
    client = openai.OpenAI(base_url=provider.base_url, api_key="sk-test")
    return await asyncio.to_thread(client.chat.completions.create, model="m", messages=MESSAGES)


async def chat_openai(provider: Simulator) -> object:
    return await _chat_openai(provider).ainvoke(QUESTION)


async def chat_openai_streaming(provider: Simulator) -> object:
    return [chunk async for chunk in _chat_openai(provider).astream(QUESTION)]


async def chat_openai_in_a_thread(provider: Simulator) -> object:
    return await asyncio.to_thread(_chat_openai(provider).invoke, QUESTION)


async def async_anthropic(provider: Simulator) -> object:
    client = anthropic.AsyncAnthropic(base_url=provider.origin, api_key="sk-test")
    return await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": QUESTION}])


async def anthropic_in_a_thread(provider: Simulator) -> object:
    client = anthropic.Anthropic(base_url=provider.origin, api_key="sk-test")
    ask = functools.partial(client.messages.create, model="m", max_tokens=9)
    return await asyncio.to_thread(ask, messages=[{"role": "user", "content": QUESTION}])


async def legacy_httpx(provider: Simulator) -> object:
    async with httpx.AsyncClient() as client:
        return (await client.post(f"{provider.base_url}/chat/completions", json=BODY)).raise_for_status()


async def legacy_httpx_in_a_thread(provider: Simulator) -> object:
    reply = await asyncio.to_thread(httpx.post, f"{provider.base_url}/chat/completions", json=BODY)
    return reply.raise_for_status()


async def mounted_transport(provider: Simulator) -> object:
    mounts = {"http://": httpx2.AsyncHTTPTransport()}
    async with httpx2.AsyncClient(mounts=mounts) as client:
        return await _openai(provider, client).chat.completions.create(model="m", messages=MESSAGES)


class _Wrapping(httpx2.AsyncBaseTransport):
    def __init__(self) -> None:
        self.inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def wrapping_transport(provider: Simulator) -> object:
    async with httpx2.AsyncClient(transport=_Wrapping()) as client:
        return await _openai(provider, client).chat.completions.create(model="m", messages=MESSAGES)


SDKS: list[Ask] = [
    async_openai,
    async_openai_streaming,
    async_openai_over_aiohttp,
    async_openai_responses,
    async_openai_embeddings,
    openai_in_a_thread,
    chat_openai,
    chat_openai_streaming,
    chat_openai_in_a_thread,
    async_anthropic,
    anthropic_in_a_thread,
    mounted_transport,
    wrapping_transport,
]
CLIENTS: list[Ask] = [*SDKS, legacy_httpx, legacy_httpx_in_a_thread]


def by_name(asks: list[Ask]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("ask", asks, ids=[getattr(ask, "__name__", "") for ask in asks])


# --- bounds ----------------------------------------------------------------------------------------


async def hold_the_line(provider: Simulator, asks: list[Ask], limit: int) -> None:
    """Make all calls at once against a server that answers nobody, until as many as may have come in."""
    provider.close_gate()
    async with asyncio.TaskGroup() as group:
        for ask in asks:
            group.create_task(ask(provider))  # type: ignore[arg-type]
        await provider.arrived(limit)
        for _ in range(100):  # a call that slipped through would arrive now
            await asyncio.sleep(0)
        assert provider.in_flight == limit
        provider.open_gate()
    assert provider.peak == limit
    assert len(provider.requests) == len(asks)


@by_name(CLIENTS)
async def test_no_client_exceeds_the_limit_of_the_process(provider: Simulator, ask: Ask) -> None:
    with installed(max_concurrency=3) as (gate, _):
        await hold_the_line(provider, [ask] * 9, 3)
    assert gate.process is not None
    assert (gate.process.in_flight, gate.unscoped_calls) == (0, 9)


async def test_all_clients_together_do_not_exceed_the_limit_of_the_process(provider: Simulator) -> None:
    with installed(max_concurrency=3):
        await hold_the_line(provider, CLIENTS * 2, 3)


async def test_a_request_that_passes_two_gated_transports_is_gated_once(provider: Simulator) -> None:
    """With one permit, taking it twice would wait for ever."""
    with installed(max_concurrency=1) as (gate, _):
        transport = FlowTransport(httpx2.AsyncHTTPTransport(), gate)
        async with httpx2.AsyncClient(transport=transport) as client:
            await _openai(provider, client).chat.completions.create(model="m", messages=MESSAGES)
    assert gate.unscoped_calls == 1


async def test_a_stream_holds_its_permit_until_it_ends(provider: Simulator) -> None:
    finish = asyncio.Event()
    provider.script(Behaviour(hold=finish, hold_after_chunks=2))
    with installed(max_concurrency=1):
        stream = await _openai(provider).chat.completions.create(model="m", messages=MESSAGES, stream=True)
        first = await anext(aiter(stream))
        assert first.choices
        second = asyncio.create_task(async_openai(provider))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(provider.requests) == 1
        finish.set()
        assert [chunk async for chunk in stream]
        await second
    assert provider.peak == 1


async def test_a_stream_that_is_closed_gives_its_permit_back(provider: Simulator) -> None:
    provider.script(Behaviour(hold=asyncio.Event(), hold_after_chunks=2))
    with installed(max_concurrency=1):
        stream = await _openai(provider).chat.completions.create(model="m", messages=MESSAGES, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await async_openai(provider)


async def test_a_cancelled_call_leaves_the_queue_or_gives_its_permit_back(provider: Simulator) -> None:
    provider.close_gate()
    with installed(max_concurrency=1) as (gate, _):
        calls = [asyncio.create_task(async_openai(provider)) for _ in range(3)]
        await provider.arrived(1)
        for call in calls[:2]:
            call.cancel()
        await asyncio.wait(calls[:2])
        provider.open_gate()
        await calls[2]
    assert gate.process is not None
    assert (gate.process.in_flight, gate.process.waiting, provider.peak) == (0, 0, 1)
    assert len(provider.requests) == 2


async def test_requests_that_are_no_model_calls_pass_untouched(provider: Simulator) -> None:
    with installed(max_concurrency=1) as (gate, _):
        await _openai(provider).models.list()
    assert gate.unscoped_calls == 0


# --- retries: ours, and not multiplied by the SDK's ------------------------------------------------


@by_name(SDKS)
async def test_refusals_are_retried_by_us_alone_and_retry_after_is_obeyed(provider: Simulator, ask: Ask) -> None:
    provider.behave = lambda body, index: Behaviour(status=429, headers={"retry-after": "7"})
    with (
        installed(deadline_s=20.0) as (_, clock),
        pytest.raises((openai.RateLimitError, anthropic.RateLimitError)),
    ):
        await ask(provider)
    assert len(provider.requests) == 3
    assert clock.waits == [7.0, 7.0]


@by_name(SDKS)
async def test_a_refusal_that_passes_is_never_seen_by_the_client(provider: Simulator, ask: Ask) -> None:
    provider.script(Behaviour(status=503), Behaviour(status=429, headers={"retry-after-ms": "250"}))
    with installed(max_attempts=3) as (_, clock):
        await ask(provider)
    assert len(provider.requests) == 3
    assert clock.waits == [0.5, 0.25]


@by_name(CLIENTS)
async def test_wrong_requests_are_sent_once(provider: Simulator, ask: Ask) -> None:
    provider.behave = lambda body, index: Behaviour(status=400)
    refused = (openai.BadRequestError, anthropic.BadRequestError, httpx.HTTPStatusError)
    with installed(), pytest.raises(refused):
        await ask(provider)
    assert len(provider.requests) == 1


@by_name(SDKS)
async def test_connections_that_break_are_retried_by_us_alone(provider: Simulator, ask: Ask) -> None:
    provider.behave = lambda body, index: Behaviour(reset_before_headers=True)
    with (
        installed(max_attempts=3) as (_, clock),
        pytest.raises((openai.InternalServerError, anthropic.InternalServerError), match="3 attempts"),
    ):
        await ask(provider)
    assert len(provider.requests) == 3
    assert len(clock.waits) == 2


@by_name(SDKS)
async def test_an_endpoint_that_is_down_is_reported_after_our_attempts(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = Simulator()
        nobody._port = listener.getsockname()[1]
    with (
        installed(max_attempts=2) as (gate, clock),
        pytest.raises((openai.InternalServerError, anthropic.InternalServerError), match="2 attempts"),
    ):
        await ask(nobody)
    assert (gate.unscoped_calls, len(clock.waits)) == (1, 1)


async def test_answers_that_are_cut_short_are_asked_for_again(provider: Simulator) -> None:
    provider.script(Behaviour(truncate_json=True), Behaviour(), Behaviour(cut_after_chunks=0))
    with installed():
        await async_openai(provider)
        await async_openai_streaming(provider)
    assert len(provider.requests) == 4


async def test_a_stream_cut_after_its_first_token_is_an_error_and_not_repeated(provider: Simulator) -> None:
    provider.behave = lambda body, index: Behaviour(cut_after_chunks=2)
    with installed() as (gate, _):
        stream = await _openai(provider).chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIConnectionError):
            _ = [chunk async for chunk in stream]
    assert len(provider.requests) == 1
    assert gate.unscoped_calls == 1


# --- synchronous calls on a loop's own thread ------------------------------------------------------


async def test_a_sync_call_on_the_loops_thread_takes_a_free_permit_or_fails_at_once(
    no_blocking_calls: BlockBuster,
) -> None:
    no_blocking_calls.deactivate()
    with running() as provider, installed(max_concurrency=1) as (gate, _):
        model = _chat_openai(provider)
        assert model.invoke(QUESTION).text == f"Answer to: {QUESTION}"
        provider.close_gate()
        waiting = asyncio.create_task(async_openai(provider))
        await provider.arrived(1)
        before = gate.unscoped_calls
        with pytest.raises(Exception, match=r"ainvoke|Connection") as failed:
            model.invoke(QUESTION)
        assert any(isinstance(error, BlockingCall) for error in _causes(failed.value))
        assert gate.unscoped_calls == before + 1, "the SDK tried again, and slept on the loop's thread for it"
        provider.open_gate()
        await waiting


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    reason: BaseException | None = error
    while reason is not None:
        found.append(reason)
        reason = reason.__cause__ or reason.__context__
    return found


# --- leaving no trace ------------------------------------------------------------------------------

TRANSPORTS: list[tuple[Any, str]] = [
    (httpx2.AsyncHTTPTransport, "handle_async_request"),
    (httpx2.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
    (httpx.HTTPTransport, "handle_request"),
]


def test_the_transports_are_as_before_when_the_block_ends() -> None:
    before = [getattr(kind, method) for kind, method in TRANSPORTS]
    with installed():
        assert all(
            getattr(kind, method) is not original for (kind, method), original in zip(TRANSPORTS, before, strict=True)
        )
    assert [getattr(kind, method) for kind, method in TRANSPORTS] == before
