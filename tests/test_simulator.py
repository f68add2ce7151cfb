"""The simulator speaks to the real SDKs, counts what is in flight, and behaves as it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from plait.simulator import Behaviour, Profile, Simulator, running

ASK: list[Any] = [{"role": "user", "content": "how are you"}]


def client(provider: Simulator, key: str = "sk-test") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=provider.base_url, api_key=key, max_retries=0)


async def ask(provider: Simulator) -> str | None:
    answer = await client(provider).chat.completions.create(model="m", messages=ASK)
    return answer.choices[0].message.content


async def test_a_chat_answer_repeats_the_last_user_message_and_counts_words(provider: Simulator) -> None:
    answer = await client(provider).chat.completions.create(model="m", messages=ASK)
    assert answer.choices[0].message.content == "Answer to: how are you"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 5)
    assert provider.requests[0].path == "/v1/chat/completions"
    assert provider.requests[0].body["model"] == "m"
    assert provider.requests[0].headers["authorization"] == "Bearer sk-test"


async def test_a_chat_stream_has_a_chunk_per_word_and_usage_where_asked_for(provider: Simulator) -> None:
    stream = await client(provider).chat.completions.create(
        model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [text for text in texts if text] == ["Answer ", "to: ", "how ", "are ", "you"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 8


async def test_a_chat_answer_calls_the_tools_it_is_told_to(provider: Simulator) -> None:
    provider.script(*[Behaviour(tool_calls=[("add", {"a": 1}), ("stop", {})])] * 2)
    answer = await client(provider).chat.completions.create(model="m", messages=ASK)
    assert answer.choices[0].finish_reason == "tool_calls"
    async with client(provider).chat.completions.stream(model="m", messages=ASK) as stream:
        streamed = await stream.get_final_completion()
    for message in (answer.choices[0].message, streamed.choices[0].message):
        assert message.content is None or message.content == ""
        called = [call.function for call in message.tool_calls or () if call.type == "function"]
        assert [(function.name, function.arguments) for function in called] == [("add", '{"a": 1}'), ("stop", "{}")]


async def test_responses_plain_and_streamed(provider: Simulator) -> None:
    sdk = client(provider)
    answer = await sdk.responses.create(model="m", input="how are you")
    assert answer.output_text == "Answer to: how are you"
    async with sdk.responses.stream(model="m", input="how are you") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(deltas) == final.output_text == answer.output_text
    assert final.usage is not None
    assert final.usage.output_tokens == 5


async def test_anthropic_messages_plain_and_streamed(provider: Simulator) -> None:
    sdk = anthropic.AsyncAnthropic(base_url=provider.origin, api_key="sk-test", max_retries=0)
    answer = await sdk.messages.create(model="m", max_tokens=9, messages=ASK)
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "Answer to: how are you"
    async with sdk.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == answer.content[0].text
    assert final.usage.output_tokens == 5


def test_synchronous_clients_use_a_provider_in_a_thread_of_its_own() -> None:
    with running(answer=lambda body: body["model"].upper()) as provider:
        sdk = openai.OpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0)
        answer = sdk.chat.completions.create(model="quiet", messages=ASK)
        assert answer.choices[0].message.content == "QUIET"
        vectors = sdk.embeddings.create(model="m", input=["a", "bb"]).data
        assert [entry.embedding for entry in vectors] == [[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]
        assert [model.id for model in sdk.models.list()] == ["test-model"]
        provider.wait_received(3)
        assert (provider.in_flight, provider.peak, provider.closed_early) == (0, 1, 0)


async def test_the_gate_lets_requests_pile_up_and_the_peak_is_counted(provider: Simulator) -> None:
    provider.close_gate()
    async with asyncio.TaskGroup() as group:
        for _ in range(7):
            group.create_task(ask(provider))
        await provider.arrived(7)
        assert provider.in_flight == 7
        provider.open_gate()
    await provider.idle()
    assert (provider.in_flight, provider.peak) == (0, 7)


async def test_a_client_that_leaves_frees_its_place_and_is_counted(provider: Simulator) -> None:
    provider.script(Behaviour(hold=asyncio.Event()), Behaviour(hold=asyncio.Event(), hold_after_chunks=2))
    waiting = asyncio.create_task(ask(provider))
    await provider.arrived(1)
    waiting.cancel()
    await provider.idle()
    stream = await client(provider).chat.completions.create(model="m", messages=ASK, stream=True)
    texts = []
    async for chunk in stream:
        texts.append(chunk.choices[0].delta.content)
        if texts[-1] == "to: ":
            break
    assert texts == ["", "Answer ", "to: "]
    await stream.close()
    await provider.idle()
    assert provider.closed_early == 2


async def test_scripted_steps_come_first_then_behave_then_good_answers(provider: Simulator) -> None:
    slow = {"message": "slow down", "code": "x"}
    provider.script(Behaviour(status=429, headers={"retry-after": "7"}, error=slow))
    provider.behave = lambda body, index: Behaviour(status=503) if index == 1 else None
    with pytest.raises(openai.RateLimitError) as refused:
        await ask(provider)
    assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("x", "7")
    with pytest.raises(openai.InternalServerError):
        await ask(provider)
    assert await ask(provider) == "Answer to: how are you"


async def test_wrong_keys_unknown_models_and_unknown_paths_are_refused_in_the_api_shape() -> None:
    async with Simulator(Profile(require_key="sk-good", models=("known",))) as provider:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as refused:
            await ask(provider)
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.NotFoundError, match="does not exist") as unknown:
            await client(provider, "sk-good").chat.completions.create(model="m", messages=ASK)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError, match="Invalid URL"):
            await client(provider, "sk-good").files.list()


async def test_an_old_server_rejects_stream_options(provider: Simulator) -> None:
    provider.behave = lambda body, index: Behaviour(reject_stream_options=True)
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        await client(provider).chat.completions.create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    assert await ask(provider) == "Answer to: how are you"


async def test_connections_are_reset_cut_and_truncated_on_demand(provider: Simulator) -> None:
    provider.script(
        Behaviour(reset_before_headers=True),
        Behaviour(truncate_json=True),
        Behaviour(cut_after_chunks=0),
        Behaviour(cut_after_chunks=2),
    )
    url = f"{provider.base_url}/chat/completions"
    body = {"model": "m", "messages": ASK}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(url, json=body)
        async with session.post(url, json=body) as reply:
            with pytest.raises(aiohttp.ClientPayloadError):
                await reply.read()
        for chunks in (0, 2):
            async with session.post(url, json={**body, "stream": True}) as reply:
                assert reply.status == 200
                events = [await reply.content.readuntil(b"\n\n") for _ in range(chunks + 1)]
                assert all(event.startswith(b"data:") for event in events)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await reply.content.readuntil(b"\n\n")
    assert provider.closed_early == 0
    assert provider.in_flight == 0


async def test_bodies_can_be_gzipped_or_no_json_at_all(provider: Simulator) -> None:
    provider.script(
        Behaviour(gzip=True),
        Behaviour(gzip=True),
        Behaviour(status=502, body=b"<h1>bad gateway</h1>", content_type="text/html"),
    )
    assert await ask(provider) == "Answer to: how are you"
    stream = await client(provider).chat.completions.create(model="m", messages=ASK, stream=True)
    assert len([chunk async for chunk in stream]) == 7
    with pytest.raises(openai.InternalServerError) as refused:
        await ask(provider)
    assert refused.value.response.text == "<h1>bad gateway</h1>"
