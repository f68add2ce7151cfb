"""The transport under our own clients, against a real server."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from plait.errors import BlockingCall, CallCancelled, GaveUp
from plait.flow.calls import Call, Meter
from plait.flow.gate import Gate
from plait.flow.pool import BlockingPool, Network, Pool
from plait.flow.scopes import Scope, entered
from plait.flow.transport import BlockingFlowTransport, FlowTransport
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator, running
from tests.clocks import FakeClock


def gate_of(provider: Simulator, clock: FakeClock | None = None, **changes: object) -> Gate:
    settings = from_env({"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "k"}).override(**changes)
    return Gate(settings, clock=clock)


@asynccontextmanager
async def client_of(provider: Simulator, gate: Gate) -> AsyncIterator[openai.AsyncOpenAI]:
    http = httpx2.AsyncClient(transport=FlowTransport(Pool(Network()), gate))
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0, http_client=http) as client:
        yield client


async def ask(client: openai.AsyncOpenAI, text: str = "hi") -> ChatCompletion:
    return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


async def ask_streaming(client: openai.AsyncOpenAI, **options: object) -> str:
    parts = []
    stream = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "one two three"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        parts += [choice.delta.content or "" for choice in chunk.choices]
    return "".join(parts)


async def test_calls_in_flight_never_exceed_process_endpoint_and_model_limits(provider: Simulator) -> None:
    section = {
        "endpoints": {
            "openai": {"max_concurrency": 3, "models": {"slow": {"max_concurrency": 1}}},
        }
    }
    settings = from_env({"OPENAI_BASE_URL": provider.base_url}, section=section).override(max_concurrency=4)
    gate = Gate(settings)
    provider.gate = asyncio.Event()
    async with client_of(provider, gate) as client:
        calls = [
            asyncio.create_task(
                client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
            )
            for model in ["slow"] * 5 + ["fast"] * 5
        ]
        await provider.arrived(3)
        assert [r.body["model"] for r in provider.requests].count("slow") == 1
        provider.gate.set()
        await asyncio.gather(*calls)
    assert provider.peak == 3


async def test_a_scope_sums_what_its_calls_cost(provider: Simulator) -> None:
    gate = gate_of(provider)
    scope = Scope("run", gate=gate, settings=Settings())
    async with client_of(provider, gate) as client:
        with entered(scope):
            await ask(client, "one two")
            assert await ask_streaming(client) == "Answer to: one two three"
        await ask(client)
    usage = scope.usage
    assert (usage.calls, usage.attempts, usage.failed_calls) == (2, 2, 0)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (5, 9, False)
    assert usage.models == {"m": 2}
    assert gate.unscoped_calls == 1


async def test_retry_after_is_obeyed_and_the_permit_is_free_meanwhile(provider: Simulator) -> None:
    clock = FakeClock()
    gate = gate_of(provider, clock, max_concurrency=1)
    provider.script(Behaviour(status=429, headers={"retry-after": "17"}), Behaviour(status=500))
    in_flight_while_waiting: list[int] = []
    assert gate.process is not None
    process = gate.process
    sleep = clock.sleep

    async def note(seconds: float) -> None:
        in_flight_while_waiting.append(process.in_flight)
        await sleep(seconds)

    clock.sleep = note  # type: ignore[method-assign]
    async with client_of(provider, gate) as client:
        await ask(client)
    assert clock.waits == [17.0, 1.0]
    assert in_flight_while_waiting == [0, 0]


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"retry-after-ms": "250"}, [0.25]),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, [60.0]),
        ({"retry-after": "Tue, 14 Nov 2000 22:14:20 GMT"}, [0.0]),
        ({"retry-after": "soon"}, [0.5]),
        ({"retry-after": "-3"}, [0.5]),
        ({}, [0.5]),
    ],
)
async def test_the_wait_before_a_second_attempt(
    provider: Simulator, headers: dict[str, str], waits: list[float]
) -> None:
    clock = FakeClock()
    provider.script(Behaviour(status=429, headers=headers))
    async with client_of(provider, gate_of(provider, clock)) as client:
        await ask(client)
    assert clock.waits == waits


async def test_a_wait_beyond_the_deadline_ends_the_call_at_once(provider: Simulator) -> None:
    clock = FakeClock()
    provider.script(Behaviour(status=429, headers={"retry-after": "86400"}))
    async with client_of(provider, gate_of(provider, clock, deadline_s=60.0)) as client:
        with pytest.raises(GaveUp, match=r"the next would go out in 24.0 h"):
            await ask(client)
    assert clock.waits == []
    assert len(provider.requests) == 1


async def test_a_spent_quota_is_not_retried(provider: Simulator) -> None:
    error = {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    provider.script(Behaviour(status=429, error=error))
    async with client_of(provider, gate_of(provider, FakeClock())) as client:
        with pytest.raises(openai.RateLimitError):
            await ask(client)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_refusals_that_repeat_are_not_retried(provider: Simulator, status: int) -> None:
    provider.script(Behaviour(status=status))
    async with client_of(provider, gate_of(provider, FakeClock())) as client:
        with pytest.raises(openai.APIStatusError):
            await ask(client)
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Behaviour(reset_before_headers=True),
        Behaviour(truncate_json=True),
        Behaviour(status=529),
        Behaviour(status=503, gzip=True),
    ],
)
async def test_faults_are_retried(provider: Simulator, fault: Behaviour) -> None:
    clock = FakeClock()
    async with client_of(provider, gate_of(provider, clock)) as client:
        await ask(client)
        provider.script(fault)
        answer = await ask(client)
    assert answer.choices[0].message.content == "Answer to: hi"
    assert len(clock.waits) == 1


async def test_an_endpoint_that_never_answered_gets_few_attempts(provider: Simulator) -> None:
    clock = FakeClock()
    await provider.__aexit__(None, None, None)
    async with client_of(provider, gate_of(provider, clock)) as client:
        with pytest.raises(openai.APIConnectionError):
            await ask(client)
    assert len(clock.waits) == 2


async def test_a_stream_that_breaks_before_its_first_token_is_repeated(provider: Simulator) -> None:
    clock = FakeClock()
    provider.script(Behaviour(cut_after_chunks=0))
    async with client_of(provider, gate_of(provider, clock)) as client:
        assert await ask_streaming(client) == "Answer to: one two three"
    assert len(provider.requests) == 2


async def test_a_stream_that_breaks_later_is_an_error_where_its_tokens_were_seen(provider: Simulator) -> None:
    gate = gate_of(provider, FakeClock(), max_concurrency=1)
    scope = Scope("run", gate=gate, settings=Settings(), watched=True)
    provider.script(Behaviour(cut_after_chunks=2))
    async with client_of(provider, gate) as client:
        with entered(scope), pytest.raises((httpx2.TransportError, openai.APIConnectionError)):
            await ask_streaming(client)
    assert scope.usage.failed_calls == 1
    assert gate.process is not None
    assert gate.process.in_flight == 0


async def test_a_stream_that_breaks_later_is_repeated_where_nobody_saw_its_tokens(provider: Simulator) -> None:
    gate = gate_of(provider, FakeClock())
    scope = Scope("run", gate=gate, settings=Settings(), watched=False)
    provider.script(Behaviour(cut_after_chunks=2))
    async with client_of(provider, gate) as client:
        with entered(scope):
            assert await ask_streaming(client) == "Answer to: one two three"
    assert (scope.usage.calls, scope.usage.attempts) == (1, 2)


def event(content: str | None, *, index: int = 0, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("answers", "half"),
    [
        (2, event("whole") + event("ha", index=1) + event(None, finish="stop")),
        (1, event("ha", finish="") + event("lf", finish="")),
        (1, b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'),
        (1, b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n'),
    ],
)
async def test_half_an_answer_never_passes_for_a_whole_one(provider: Simulator, answers: int, half: bytes) -> None:
    gate = gate_of(provider, FakeClock())
    scope = Scope("run", gate=gate, settings=Settings(), watched=False)
    whole = event("right") + event(None, finish="stop") + b"data: [DONE]\n\n"
    provider.script(*(Behaviour(body=body, content_type="text/event-stream") for body in (half, whole)))
    async with client_of(provider, gate) as client:
        with entered(scope):
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True, n=answers
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == "right"
    assert scope.usage.attempts == 2


async def test_an_error_that_lasts_reaches_the_client_in_the_endpoints_words(provider: Simulator) -> None:
    provider.script(
        Behaviour(body=b'data: {"error": {"message": "content filter"}}\n\n', content_type="text/event-stream")
    )
    async with client_of(provider, gate_of(provider, FakeClock())) as client:
        with pytest.raises(openai.APIError, match="content filter"):
            await ask_streaming(client)
    assert len(provider.requests) == 1


async def test_names_of_one_url_share_the_strictest_bound(provider: Simulator) -> None:
    section = {"endpoints": {"gateway": {"base_url": provider.base_url + "/", "max_concurrency": 2}}}
    gate = Gate(from_env({"OPENAI_BASE_URL": provider.base_url}, section=section))
    async with client_of(provider, gate) as client:
        provider.close_gate()
        calls = [asyncio.create_task(ask(client)) for _ in range(4)]
        await provider.arrived(2)
        provider.open_gate()
        await asyncio.gather(*calls)
    assert provider.peak == 2


async def test_cached_input_of_anthropic_counts(provider: Simulator) -> None:
    meter = Meter(Call(provider.base_url, model="m", streamed=False, body_bytes=10, replayable=True))
    usage = {"input_tokens": 10, "cache_read_input_tokens": 500, "cache_creation_input_tokens": 90, "output_tokens": 3}
    meter.read_body(json.dumps({"usage": usage}).encode())
    assert (meter.input_tokens, meter.output_tokens) == (600, 3)


async def test_a_body_that_nobody_reads_ends_in_a_timeout() -> None:
    closed = asyncio.Event()

    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closed.wait()
        writer.close()

    server = await asyncio.start_server(never_read, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
    async with httpx2.AsyncClient(transport=Pool(Network()), timeout=0.1) as client:
        with pytest.raises(httpx2.TimeoutException):
            await client.post(url, content=b"x" * 30_000_000)
    closed.set()
    server.close()


@pytest.mark.parametrize("status", [400, 422])
async def test_an_endpoint_that_rejects_stream_options_is_remembered(provider: Simulator, status: int) -> None:
    provider.behave = lambda body, index: (
        Behaviour(status=status, error={"message": "stream_options: extra field", "type": "x", "code": None})
        if "stream_options" in body
        else None
    )
    gate = gate_of(provider, FakeClock())
    scope = Scope("run", gate=gate, settings=Settings())
    async with client_of(provider, gate) as client:
        with entered(scope):
            assert await ask_streaming(client) == "Answer to: one two three"
            assert len(provider.requests) == 2
            assert await ask_streaming(client) == "Answer to: one two three"
    assert len(provider.requests) == 3
    assert scope.usage.estimated
    assert scope.usage.output_tokens > 0


async def test_a_stream_dropped_unread_gives_its_permit_back(provider: Simulator) -> None:
    gate = gate_of(provider, max_concurrency=1)
    assert gate.process is not None
    async with client_of(provider, gate) as client:

        async def drop() -> None:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "a b c"}], stream=True
            )
            assert gate.process is not None
            assert gate.process.in_flight == 1
            del stream

        await drop()
        gc.collect()
        await ask(client)
    assert gate.process.in_flight == 0


async def test_a_cancelled_call_closes_its_connection(provider: Simulator) -> None:
    provider.gate = asyncio.Event()
    gate = gate_of(provider, max_concurrency=1)
    async with client_of(provider, gate) as client:
        call = asyncio.create_task(ask(client))
        await provider.arrived(1)
        call.cancel()
        await asyncio.wait([call])
        await provider.idle()
        provider.gate.set()
    assert provider.closed_early == 1
    assert gate.process is not None
    assert gate.process.in_flight == 0


async def test_a_stopped_run_sends_no_further_call(provider: Simulator) -> None:
    gate = gate_of(provider)
    scope = Scope("run-7", gate=gate, settings=Settings())
    scope.cancel()
    async with client_of(provider, gate) as client:
        with entered(scope), pytest.raises(CallCancelled):
            await ask(client)
    assert provider.requests == []


def blocking_client(provider: Simulator, gate: Gate) -> openai.OpenAI:
    http = httpx2.Client(transport=BlockingFlowTransport(BlockingPool(Network()), gate))
    return openai.OpenAI(base_url=provider.base_url, api_key="k", max_retries=0, http_client=http)


def test_synchronous_calls_wait_retry_and_stream() -> None:
    clock = FakeClock()
    with running() as provider:
        gate = gate_of(provider, clock, max_concurrency=1)
        client = blocking_client(provider, gate)
        provider.script(Behaviour(status=429, headers={"retry-after": "3"}))
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content == "Answer to: hi"
        assert clock.waits == [3.0]
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a b"}], stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "Answer to: a b"
        assert gate.process is not None
        assert gate.process.in_flight == 0


async def test_a_synchronous_call_on_the_loop_takes_a_free_permit_or_fails_at_once(
    no_blocking_calls: object,
) -> None:
    no_blocking_calls.deactivate()  # type: ignore[attr-defined]
    with running() as provider:
        gate = gate_of(provider, max_concurrency=1)
        client = blocking_client(provider, gate)
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
        client.chat.completions.create(model="m", messages=messages)
        assert gate.process is not None
        assert gate.process.try_acquire()
        with pytest.raises(BlockingCall, match="ainvoke"):
            client.chat.completions.create(model="m", messages=messages)


def test_a_stopped_run_wakes_the_threads_that_wait() -> None:
    with running() as provider:
        gate = gate_of(provider, max_concurrency=1)
        assert gate.process is not None
        assert gate.process.try_acquire()
        scope = Scope("run", gate=gate, settings=Settings())
        client = blocking_client(provider, gate)

        def call() -> None:
            with entered(scope):
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

        async def stop_while_it_waits() -> BaseException | None:
            thread = asyncio.create_task(asyncio.to_thread(call))
            assert gate.process is not None
            while not gate.process.waiting:  # noqa: ASYNC110 - the thread has no loop to set an event in
                await asyncio.sleep(0.001)
            scope.cancel()
            return (await asyncio.gather(thread, return_exceptions=True))[0]

        failure = asyncio.run(stop_while_it_waits())
        assert isinstance(failure, CallCancelled)
        assert provider.requests == []
        assert gate.process.waiting == 0


def test_one_client_serves_loops_that_come_and_go(recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()
    recwarn.clear()  # of what other tests left behind
    with running() as provider:
        gate = gate_of(provider)
        http = httpx2.AsyncClient(transport=FlowTransport(Pool(Network()), gate))
        client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", http_client=http)
        for _ in range(3):
            assert asyncio.run(ask(client)).choices[0].message.content == "Answer to: hi"
        gc.collect()
    assert [str(w.message) for w in recwarn if issubclass(w.category, ResourceWarning)] == []


@pytest.mark.parametrize("scheme", ["http", "all"])
async def test_calls_go_through_the_configured_proxy(provider: Simulator, scheme: str) -> None:
    # A plain HTTP proxy gets the whole URL in its request line; our server answers by path all the same.
    pool = Pool(Network(proxies={scheme: provider.origin}))
    async with httpx2.AsyncClient(transport=pool) as client:
        response = await client.post("http://nowhere.invalid/v1/chat/completions", json={"messages": []})
    assert response.status_code == 200
    assert provider.requests[0].headers["host"] == "nowhere.invalid"


async def test_hosts_under_no_proxy_and_socks_proxies(provider: Simulator) -> None:
    pool = Pool(Network(proxies={"http": "http://127.0.0.1:9", "no": "127.0.0.1"}))
    async with httpx2.AsyncClient(transport=pool) as client:
        assert (await client.get(f"{provider.base_url}/models")).status_code == 200
    async with httpx2.AsyncClient(transport=Pool(Network(proxies={"all": "socks5://x:1"}))) as client:
        with pytest.raises(httpx2.UnsupportedProtocol, match="expected an http:// or https:// proxy"):
            await client.get(provider.base_url)
