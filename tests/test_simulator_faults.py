"""The simulator's faults, latencies, prompt cache and answers: by chance, but the same with the same seed."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import aiohttp
import anthropic
import httpx2
import openai
import pytest
from pydantic import BaseModel, Field

from plait.errors import SettingsError
from plait.simulator import Clock, Profile, Simulator, running, scripted
from plait.simulator.answers import answer_to
from plait.simulator.draws import Draw
from plait.simulator.faults import __doc__ as faults_explained
from plait.simulator.instances import instance
from plait.simulator.latencies import latency_s
from plait.simulator.profiles import FaultKind

ASK: list[Any] = [{"role": "user", "content": "how are you"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer", "minimum": 3}}}},
}


def always(kind: FaultKind, **settings: Any) -> Profile:
    return Profile(faults={kind: 1.0}, **settings)


def client(simulator: Simulator) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=simulator.base_url, api_key="none", max_retries=0)


async def post(simulator: Simulator, text: str = "how are you", **fields: object) -> httpx2.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(f"{simulator.base_url}/chat/completions", json=body)


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"),
    [("429", 429, "1"), ("429-silent", 429, None), ("500", 500, None), ("502", 502, None), ("503", 503, None)],
)
async def test_errors_strike_by_chance(kind: FaultKind, status: int, retry_after: str | None) -> None:
    async with Simulator(always(kind)) as simulator:
        found = await post(simulator)
        assert (found.status_code, found.headers.get("retry-after")) == (status, retry_after)
        assert found.headers["content-type"] == ("text/html" if status == 502 else "application/json")
        assert (simulator.counters.faults, simulator.counters.accepted) == ({kind: 1}, 0)


async def test_overloaded_is_told_as_anthropic_tells_it() -> None:
    async with Simulator(always("529")) as simulator:
        sdk = anthropic.AsyncAnthropic(base_url=simulator.origin, api_key="none", max_retries=0)
        with pytest.raises(anthropic.APIStatusError) as refused:
            await sdk.messages.create(model="m", max_tokens=9, messages=ASK)
    assert refused.value.status_code == 529
    assert refused.value.body == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


async def test_a_reset_comes_before_the_headers() -> None:
    async with Simulator(always("reset")) as simulator, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await session.post(f"{simulator.base_url}/chat/completions", json={"messages": ASK})


@pytest.mark.parametrize("kind", ["cut", "truncate"])
async def test_cut_and_truncated_answers_end_in_the_middle(kind: FaultKind) -> None:
    async with Simulator(always(kind)) as simulator, aiohttp.ClientSession() as session:
        url = f"{simulator.base_url}/chat/completions"
        async with session.post(url, json={"messages": ASK}) as reply:
            assert reply.status == 200
            with pytest.raises(aiohttp.ClientError):
                await reply.read()
        async with session.post(url, json={"messages": ASK, "stream": True}) as reply:
            events = [await reply.content.readuntil(b"\n\n") for _ in range(2)]
            assert b"Answer " in events[1]
            with pytest.raises(aiohttp.ClientError):
                await reply.content.readuntil(b"\n\n")
        assert simulator.counters.faults == {kind: 2}
        assert simulator.closed_early == 0


async def test_a_stalled_request_lasts_until_its_client_leaves() -> None:
    async with Simulator(always("stall", max_concurrency=1)) as simulator:
        asking = asyncio.create_task(post(simulator))
        await simulator.arrived(1)
        done, _ = await asyncio.wait([asking], timeout=0.1)
        assert not done
        asking.cancel()
        await simulator.idle()
        assert simulator.closed_early == 1
        assert simulator.counters.served == 0


async def test_a_dripping_answer_is_whole_and_comes_in_pieces() -> None:
    async with Simulator(always("drip", drip_s=0.002)) as simulator, httpx2.AsyncClient() as http:
        url = f"{simulator.base_url}/chat/completions"
        async with http.stream("POST", url, json={"messages": ASK}) as reply:
            pieces = [piece async for piece in reply.aiter_raw()]
        assert len(pieces) > 3
        assert json.loads(b"".join(pieces))["choices"][0]["message"]["content"] == "Answer to: how are you"
        stream = await client(simulator).chat.completions.create(model="m", messages=ASK, stream=True)
        assert len([chunk async for chunk in stream]) == 7
        assert simulator.counters.accepted == 2


async def test_a_good_answer_may_say_that_it_is_plain_text() -> None:
    async with Simulator(always("content-type")) as simulator:
        found = await post(simulator)
        assert found.headers["content-type"] == "text/plain"
        assert found.json()["object"] == "chat.completion"


async def struck(seed: int, texts: list[str]) -> dict[str, list[int]]:
    """The statuses of three attempts with each text."""
    async with Simulator(Profile(faults={"500": 0.3, "503": 0.2}, seed=seed)) as simulator:
        return {text: [(await post(simulator, text)).status_code for _ in range(3)] for text in texts}


async def test_chance_is_the_same_with_the_same_seed_whatever_the_order() -> None:
    texts = [f"question {number}" for number in range(25)]
    first = await struck(7, texts)
    assert await struck(7, texts[::-1]) == first
    assert await struck(8, texts) != first
    found = [status for statuses in first.values() for status in statuses]
    assert 10 <= found.count(500) <= 35
    assert 5 <= found.count(503) <= 27
    assert any(len(set(statuses)) > 1 for statuses in first.values())


def test_every_fault_is_explained() -> None:
    assert faults_explained is not None
    assert all(kind in faults_explained for kind in get_args(FaultKind))


def test_latencies_follow_their_law() -> None:
    draws = [Draw(1, number, 1) for number in range(2001)]
    assert latency_s(Profile(latency_s=2), 50, draws[0]) == 2
    load = Profile(latency_s=2, latency_law="load", load_capacity=100)
    assert [latency_s(load, in_flight, draws[0]) for in_flight in (0, 100, 300)] == [2, 4, 8]
    spread = Profile(latency_s=2, latency_law="lognormal", sigma=0.5)
    found = [latency_s(spread, 0, draw) for draw in draws]
    assert statistics.median(found) == pytest.approx(2, rel=0.1)
    assert statistics.quantiles(found, n=6)[-1] == pytest.approx(2 * 2.718 ** (0.5 * 0.967), rel=0.1)
    assert found == [latency_s(spread, 0, draw) for draw in draws]


async def test_streams_wait_for_the_first_token_and_between_tokens() -> None:
    loop = asyncio.get_running_loop()
    async with Simulator(Profile(latency_s=0.02, ttft_s=0.05, gap_s=0.02)) as simulator:
        started = loop.time()
        stream = await client(simulator).chat.completions.create(model="m", messages=ASK, stream=True)
        times = [loop.time() - started async for chunk in stream if chunk.choices[0].delta.content]
        assert times[0] >= 0.07
        assert times[-1] >= 0.15
        started = loop.time()
        await post(simulator)
        assert loop.time() - started >= 0.17


async def test_a_prompts_beginning_is_cached_for_its_time_to_live() -> None:
    time = Clock(frozen=True)
    profile = Profile(cache_ttl_s=300, cache_min_tokens=256)
    async with Simulator(profile, clock=time) as simulator:

        async def cached(text: str) -> int:
            found = await client(simulator).chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}]
            )
            assert found.usage is not None
            assert found.usage.prompt_tokens_details is not None
            return found.usage.prompt_tokens_details.cached_tokens or 0

        beginning = " ".join(str(number) for number in range(300))
        assert await cached(f"{beginning} a") == 0
        assert await cached(f"{beginning} b") == 256
        assert await cached(f"0 {beginning}") == 0
        assert await cached("short") == 0
        time.advance(299)
        assert await cached(beginning) == 256
        time.advance(301)
        assert await cached(beginning) == 0
        assert simulator.counters.cached_tokens == 512


async def test_rules_answer_by_the_last_question_and_the_rest_is_deterministic() -> None:
    answer = scripted([(r"capital of (\w+)", r"The capital of \1."), ("^hello", "Hi")])
    async with Simulator(answer=answer) as simulator:
        texts = [
            (await post(simulator, text)).json()["choices"][0]["message"]["content"]
            for text in ("What is the capital of France?", "Hello there", "goodbye")
        ]
    assert texts == ["The capital of France.", "Hi", "Answer to: goodbye"]
    with pytest.raises(SettingsError, match="expected a regular expression"):
        scripted([("(", "x")])
    with pytest.raises(SettingsError, match="expected a regular expression"):
        scripted([("x", r"\1")])


async def test_a_callable_that_raises_is_a_server_error_that_says_so() -> None:
    def broken(body: dict[str, Any]) -> str:
        raise KeyError("topic")

    async with Simulator(answer=broken) as simulator:
        found = await post(simulator)
        assert found.status_code == 500
        assert "raised KeyError: 'topic'" in found.json()["error"]["message"]
        assert (simulator.in_flight, simulator.counters.accepted) == (0, 0)
        simulator.change(tpm=100)
        assert (await post(simulator)).status_code == 500
        assert simulator.counters.faults == {"answer": 2}


class Review(BaseModel):
    verdict: str = Field(min_length=3)
    score: int = Field(ge=2, le=5)
    parts: list[Review] = []
    reason: str | None


async def test_structured_answers_match_their_schema() -> None:
    async with Simulator() as simulator:
        sdk = client(simulator)
        parsed = await sdk.chat.completions.parse(model="m", messages=ASK, response_format=Review)
        assert isinstance(parsed.choices[0].message.parsed, Review)
        responded = await sdk.responses.parse(model="m", input="how are you", text_format=Review)
        assert isinstance(responded.output_parsed, Review)
        free = await sdk.chat.completions.create(model="m", messages=ASK, response_format={"type": "json_object"})
        assert json.loads(free.choices[0].message.content or "") == {"answer": "Answer to: how are you"}


def test_instances_of_odd_schemas() -> None:
    assert instance({"enum": ["b", "a"]}, "x") == "b"
    assert instance({"type": ["number", "null"], "exclusiveMinimum": 3}, "x") > 3
    assert instance({"type": "string", "maxLength": 2}, "long") == "lo"
    assert instance({"type": "string", "format": "date"}, "x") == "2026-01-01"
    assert instance({"allOf": [{"properties": {"a": {"const": 1}}}], "type": "object"}, "x") == {"a": 1}
    endless = {"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}}
    assert instance({**endless, "$ref": "#/$defs/n"}, "x")


async def test_a_tool_that_must_be_called_is_called_in_every_api() -> None:
    async with Simulator() as simulator:
        sdk = client(simulator)
        chat = await sdk.chat.completions.create(model="m", messages=ASK, tools=[TOOL], tool_choice="required")
        calls = chat.choices[0].message.tool_calls or []
        assert [(call.function.name, call.function.arguments) for call in calls if call.type == "function"] == [
            ("add", '{"a": 3}')
        ]
        flat: Any = {"type": "function", **TOOL["function"]}
        async with sdk.responses.stream(model="m", input="x", tools=[flat], tool_choice="required") as stream:
            response = await stream.get_final_response()
        assert [(item.name, item.arguments) for item in response.output if item.type == "function_call"] == [
            ("add", '{"a": 3}')
        ]
        claude = anthropic.AsyncAnthropic(base_url=simulator.origin, api_key="none", max_retries=0)
        tool: Any = {"name": "add", "input_schema": {"type": "object", **TOOL["function"]["parameters"]}}
        choice: Any = {"type": "tool", "name": "add"}
        async with claude.messages.stream(
            model="m", max_tokens=9, messages=ASK, tools=[tool], tool_choice=choice
        ) as events:
            final = await events.get_final_message()
        assert [(block.name, block.input) for block in final.content if block.type == "tool_use"] == [("add", {"a": 3})]
        assert final.stop_reason == "tool_use"


async def test_answers_end_at_max_tokens() -> None:
    async with Simulator() as simulator:
        found = await client(simulator).chat.completions.create(model="m", messages=ASK, max_tokens=2)
        assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("Answer to:", "length")
    assert answer_to({"messages": ASK, "max_tokens": 5}, None).cut is False


async def test_azure_clients_find_their_paths() -> None:
    async with Simulator(Profile(models=("fast",), require_key="k")) as simulator:
        sdk = openai.AsyncAzureOpenAI(azure_endpoint=simulator.origin, api_key="k", api_version="1", max_retries=0)
        answer = await sdk.chat.completions.create(model="fast", messages=ASK)
        assert answer.choices[0].message.content == "Answer to: how are you"


@pytest.mark.parametrize("raw", [b"{", b"[1]", b"\xff", b'"text"'])
async def test_bodies_that_are_no_objects_are_refused(raw: bytes) -> None:
    async with Simulator() as simulator, httpx2.AsyncClient() as http:
        found = await http.post(f"{simulator.base_url}/chat/completions", content=raw)
        assert found.status_code == 400
        assert found.json()["error"]["type"] == "invalid_request_error"
        assert simulator.counters.refused == {"invalid": 1}


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": 5}, {"messages": [5, None]}, {"messages": None}, {"messages": [{"content": {"a": 1}}]}],
)
async def test_strange_objects_do_not_break_it(body: dict[str, Any]) -> None:
    async with Simulator() as simulator, httpx2.AsyncClient() as http:
        for path in ("chat/completions", "responses", "messages", "embeddings"):
            assert (await http.post(f"{simulator.base_url}/{path}", json=body)).status_code == 200


def test_a_port_in_use_is_told() -> None:
    with running() as simulator:
        port = int(simulator.origin.rpartition(":")[2])
        said = f"cannot listen at 127.0.0.1 port {port}: address already in use"
        with pytest.raises(SettingsError, match=said), running(port=port):
            pytest.fail("two simulators at one port")


def test_only_the_latest_requests_are_kept() -> None:
    with running(record=False) as simulator:
        httpx2.get(f"{simulator.base_url}/models")
        assert (simulator.requests, simulator.counters.received) == ([], 1)


USERS_TEST = """
import httpx2

def test_it(plait_simulator):
    assert httpx2.get(f"{plait_simulator.base_url}/models").status_code == 200
"""


def test_the_fixture_works_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    without = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "fixture 'plait_simulator' not found" in without.stdout
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["plait.simulator.fixtures"]')
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "1 passed" in done.stdout, done.stdout


def test_importing_it_is_light() -> None:
    code = "import sys, plait.simulator; print([n for n in ('openai', 'langchain_core', 'httpx2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
