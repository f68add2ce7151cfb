"""Chat models by name."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import subprocess
from pathlib import Path

import openai
import pytest
from aiohttp import web
from langchain_openai import ChatOpenAI

from plait.errors import ModelUnavailable
from plait.failures import explain
from plait.flow.registry import gate_for
from plait.local_model import SLOTS
from plait.local_transport import LOCAL_BASE_URL
from plait.models import chat_model, describe_models
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator, running
from plait.weights import find


def settings_of(provider: Simulator, **variables: str) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-1", **variables})


async def test_streamed_answers_report_their_usage(provider: Simulator) -> None:
    model = chat_model("openai:m", settings=settings_of(provider))
    chunks = [chunk async for chunk in model.astream("one two")]
    usage = next(chunk.usage_metadata for chunk in chunks if chunk.usage_metadata)
    assert usage["total_tokens"] == 6
    assert provider.requests[0].body["stream_options"] == {"include_usage": True}
    assert provider.requests[0].headers["authorization"] == "Bearer sk-1"


async def test_equal_calls_share_a_model_and_its_connections(provider: Simulator) -> None:
    settings = settings_of(provider)
    first = chat_model("openai:m", settings=settings)
    assert chat_model("openai:m", settings=settings_of(provider)) is first
    other = chat_model("openai:n", settings=settings)
    assert isinstance(first, ChatOpenAI)
    assert isinstance(other, ChatOpenAI)
    assert other.http_async_client is first.http_async_client
    assert first.max_retries == 0


def test_one_model_serves_threads_and_loops_that_come_and_go() -> None:
    with running() as provider:
        model = chat_model("openai:m", settings=settings_of(provider))
        for _ in range(2):
            assert asyncio.run(model.ainvoke("hi")).text == "Answer to: hi"
        assert model.invoke("hi").text == "Answer to: hi"


async def test_named_endpoints_send_their_key_and_headers(provider: Simulator) -> None:
    section = {
        "endpoints": {
            "paradigm": {
                "base_url": provider.base_url,
                "api_key_env": "PARADIGM_API_KEY",
                "headers": {"x-team": "blue"},
            }
        }
    }
    settings = from_env({"PARADIGM_API_KEY": "sk-p"}, section=section)
    await chat_model("paradigm:alfred-40b-1123", settings=settings).ainvoke("hi")
    request = provider.requests[0]
    assert request.body["model"] == "alfred-40b-1123"
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer sk-p", "blue")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt-5.4-mini", "write openai:gpt-5.4-mini"),
        ("openai:gpt-5.4-mini", "expected one in OPENAI_API_KEY, which is not set"),
        ("local:llama", "expected one of the embedded models"),
        ("nobody:x", "expected one of the endpoints"),
        ("paradigm:x", "expected one in PARADIGM_API_KEY"),
    ],
)
def test_what_is_missing_is_said(name: str, message: str) -> None:
    section = {"endpoints": {"paradigm": {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "PARADIGM_API_KEY"}}}
    with pytest.raises(ModelUnavailable, match=message):
        chat_model(name, settings=from_env({}, section=section))


def test_other_providers_come_through_langchain() -> None:
    if importlib.util.find_spec("langchain_anthropic"):
        pytest.skip("langchain-anthropic is installed here")
    with pytest.raises(ModelUnavailable, match="langchain-anthropic"):
        chat_model("anthropic:claude", settings=from_env({}))


def test_without_a_name_the_embedded_model_answers() -> None:
    settings = from_env({})
    model = chat_model(settings=settings)
    assert isinstance(model, ChatOpenAI)
    assert (model.model_name, model.streaming) == ("smollm2-135m", True)
    assert gate_for(settings).declared == {LOCAL_BASE_URL: SLOTS}


def test_configured_models_are_described_without_their_keys() -> None:
    section = {"endpoints": {"paradigm": {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "P_KEY"}}}
    found = {info.name: info for info in describe_models(from_env({"OPENAI_API_KEY": "sk-9"}, section=section))}
    assert found["openai:MODEL"].key == "set"
    assert found["paradigm:MODEL"].key == "missing"
    assert "not needed" in found["local:smollm2-135m"].key
    assert "sk-9" not in repr(found)


async def test_an_endpoint_that_rejects_stream_options_still_streams(provider: Simulator) -> None:
    provider.behave = lambda body, index: Behaviour(reject_stream_options=True)
    model = chat_model("openai:m", settings=settings_of(provider))
    for _ in range(2):
        assert "".join([chunk.text async for chunk in model.astream("hi")]) == "Answer to: hi"
    assert len(provider.requests) == 3


async def test_an_endpoints_own_certificate_authority_is_trusted(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    try:
        subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)  # noqa: ASYNC221
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(
            {"choices": [{"index": 0, "message": {"role": "assistant", "content": "secure"}, "finish_reason": "stop"}]}
        )

    server = web.Application()
    server.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        endpoint = {"base_url": f"https://localhost:{port}/v1"}
        section = {"endpoints": {"own": {**endpoint, "ca_file": str(certificate)}}}
        trusted = await asyncio.to_thread(from_env, {}, section=section)
        assert (await chat_model("own:m", settings=trusted).ainvoke("hi")).text == "secure"
        untrusted = from_env({}, section={"endpoints": {"own": endpoint}})
        with pytest.raises(openai.APIConnectionError) as raised:
            await chat_model("own:m", settings=untrusted).ainvoke("hi")
        assert "CERTIFICATE_VERIFY_FAILED" in str(explain(raised.value, untrusted))
    finally:
        await runner.cleanup()


@pytest.mark.model
@pytest.mark.skipif(find("smollm2-135m", from_env()) is None, reason="weights absent: plait models pull smollm2-135m")
async def test_the_embedded_model_answers_and_shares_its_slots() -> None:
    model_settings = from_env()
    model = chat_model("local:smollm2-135m", max_tokens=12, settings=model_settings)
    answers = await asyncio.gather(*(model.ainvoke(f"Say the number {n}.") for n in range(6)))
    assert all(answer.text.strip() for answer in answers)
    assert all(answer.usage_metadata for answer in answers)
    assert [lane.peak for lane, _ in gate_for(model_settings)._found.values()] == [SLOTS]
