"""Workflows as models, called by the real OpenAI client over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypedDict

import httpx
import openai
import pytest
from langgraph.graph import START, StateGraph
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import plait
from plait import chat_model
from plait.service import create_app
from plait.service.chats import Speech, text_of
from plait.simulator import Behaviour, Simulator
from plait.simulator import running as simulating
from tests.serving import listening, settings_in

APP = Path(__file__).parent / "apps" / "service_app"
STORY = "Answer to: Write a story of about 150 words about a cat."


@pytest.fixture(scope="module")
def model() -> Iterator[Simulator]:
    with simulating() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def bundled(model: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = settings_in(tmp_path_factory.mktemp("bundled"), base_url=model.base_url)
    # As in a host's process: there no model call of others, such as these tests', is touched.
    with listening(create_app(Path(__file__).parents[1], settings=settings)) as found:
        yield found.url


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(create_app(APP, settings=settings_in(tmp_path_factory.mktemp("small")))) as found:
        yield found.url


@pytest.fixture
async def client(bundled: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{bundled}/v1", api_key="none") as found:
        yield found


@pytest.fixture
async def small_client(small: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{small}/v1", api_key="none") as found:
        yield found


async def ask(client: AsyncOpenAI, workflow: str, text: str, **more: Any) -> ChatCompletion:
    found: ChatCompletion = await client.chat.completions.create(
        model=workflow, messages=[{"role": "user", "content": text}], **more
    )
    return found


async def ask_streamed(client: AsyncOpenAI, workflow: str, text: str, **more: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(
        model=workflow, messages=[{"role": "user", "content": text}], stream=True, **more
    )
    return [chunk async for chunk in stream]


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_workflow_answers_as_a_model(client: AsyncOpenAI) -> None:
    answer = await ask(client, "story", "a cat")
    assert answer.object == "chat.completion"
    assert answer.model == "story"
    assert answer.choices[0].message.content == STORY
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (24, 12, 36)


async def test_a_stream_says_the_same_in_pieces(client: AsyncOpenAI) -> None:
    chunks = await ask_streamed(client, "story", "a cat")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert said(chunks) == STORY
    assert len(chunks) > 8
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_tells_its_usage_when_asked(client: AsyncOpenAI) -> None:
    chunks = await ask_streamed(client, "story", "a cat", stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 36


async def test_a_graph_with_messages_gets_all_of_them(small_client: AsyncOpenAI) -> None:
    answer = await small_client.chat.completions.create(
        model="echo",
        messages=[
            {"role": "system", "content": "be short"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ],
    )
    assert answer.choices[0].message.content == "You said: three"
    assert said(await ask_streamed(small_client, "echo", "four")) == "You said: four"


async def test_several_inputs_are_a_json_object_in_the_last_message(client: AsyncOpenAI) -> None:
    answer = await ask(client, "story", "ignored", extra_body={"inputs": {"topic": "a cat", "words": 20}})
    assert answer.choices[0].message.content == "Answer to: Write a story of about 20 words about a cat."
    answer = await ask(client, "translate", '{"text": "hello", "languages": ["French"]}')
    assert "French" in (answer.choices[0].message.content or "")


async def test_what_a_workflow_needs_is_said_where_it_is_missing(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client, "translate", "hello")
    assert raised.value.param == "messages"
    assert "text (str), languages (list[str])" in raised.value.message
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client, "story", "hello", extra_body={"inputs": {"words": 20}})
    assert raised.value.param == "inputs"
    assert "topic: missing" in raised.value.message


async def test_branches_that_speak_at_once_are_not_mixed(client: AsyncOpenAI) -> None:
    topics = '{"topics": ["cats", "dogs"]}'
    whole = (await ask(client, "stories", topics)).choices[0].message.content
    assert said(await ask_streamed(client, "stories", topics)) == whole
    assert whole is not None
    assert whole.index("cats") < whole.index("dogs")


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await ask(client, "gpt-9", "hello")
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    assert "story" in raised.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
        ("logprobs", True),
        ("stop", ["."]),
    ],
)
async def test_what_a_workflow_cannot_do_is_refused_by_name(client: AsyncOpenAI, name: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client, "story", "a cat", **{name: value})
    assert raised.value.param == name
    assert raised.value.code == "unsupported_parameter"


async def test_a_parameter_that_nobody_knows_is_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="top_q is not supported"):
        await ask(client, "story", "a cat", extra_body={"top_q": 1})


async def test_parameters_of_a_models_answer_have_no_effect(client: AsyncOpenAI) -> None:
    answer = await ask(client, "story", "a cat", temperature=0.5, max_tokens=3, seed=1, user="me", n=1, tools=[])
    assert answer.choices[0].message.content == STORY


async def test_a_failing_workflow_is_not_run_again_by_the_client(small: str, small_client: AsyncOpenAI) -> None:
    before = await runs_of(small, "broken")
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(small_client, "broken", '{"topic": "x"}')
    assert "this graph always fails" in raised.value.message
    assert await runs_of(small, "broken") == before + 1


async def runs_of(url: str, workflow: str) -> float:
    """How many of its runs failed."""
    async with httpx.AsyncClient() as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    wanted = f'plait_runs_total{{status="error",workflow="{workflow}"}} '
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


async def test_a_workflow_that_fails_within_a_stream_raises_at_the_client(small_client: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIError, match="this graph always fails"):
        await ask_streamed(small_client, "broken", '{"topic": "x"}')


async def test_a_question_that_nobody_can_answer_is_a_conflict(small_client: AsyncOpenAI) -> None:
    with pytest.raises(openai.ConflictError, match="asks something"):
        await ask(small_client, "approve", '{"text": "hello"}')
    with pytest.raises(openai.APIError, match="asks something"):
        await ask_streamed(small_client, "approve", '{"text": "hello"}')


async def test_a_key_that_the_models_endpoint_refuses_is_told(client: AsyncOpenAI, model: Simulator) -> None:
    model.script(Behaviour(status=401))
    with pytest.raises(openai.APIStatusError) as raised:
        await ask(client, "story", "a cat")
    assert raised.value.status_code == 502


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "story"}, "messages"),
        ({"model": "story", "messages": []}, "messages"),
        ({"model": "story", "messages": [{"role": "nobody", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ("nonsense", "body"),
    ],
)
async def test_bad_bodies_are_errors_as_openai_has_them(bundled: str, body: object, param: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{bundled}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


@pytest.mark.parametrize("body", [b"\xff", b'{"model": "story"', b"[]"])
async def test_bodies_that_are_no_json_are_errors_as_openai_has_them(bundled: str, body: bytes) -> None:
    async with httpx.AsyncClient() as client:
        headers = {"content-type": "application/json"}
        answer = await client.post(f"{bundled}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_models_are_the_workflows(client: AsyncOpenAI) -> None:
    found = [one.id async for one in client.models.list()]
    assert {"story", "stories", "translate"} <= set(found)
    assert (await client.models.retrieve("story")).owned_by == "plait"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-9")


class State(TypedDict):
    text: str


async def test_plait_itself_calls_a_workflow_as_a_model(bundled: str, tmp_path: Path) -> None:
    async def call(state: State) -> State:
        return {"text": (await chat_model("openai:story").ainvoke(state["text"])).text}

    graph = StateGraph(State).add_node("call", call).add_edge(START, "call").compile(name="caller")
    settings = settings_in(tmp_path, base_url=f"{bundled}/v1")
    result = await plait.run(graph, {"text": "a cat"}, settings=settings)
    assert result.outputs == {"text": STORY}
    assert result.usage.input_tokens == 24
    pieces = [event async for event in plait.stream(graph, {"text": "a cat"}, settings=settings)]
    assert "".join(event.text for event in pieces if event.type == "token") == STORY


# --- which tokens are said, and what the answer is ------------------------------------------------------------


def test_an_agent_is_heard_between_its_tools() -> None:
    speech = Speech(frozenset({"model"}))
    heard = [speech.token("model", "1", "Let me "), speech.token("model", "1", "look.")]
    speech.finished("model")
    assert speech.token("tools/model", "2", "I am a tool's own model") == ""
    heard.append(speech.token("model", "3", "It is 7."))
    heard.append(speech.rest("It is 7."))
    assert "".join(heard) == "Let me look.\n\nIt is 7."


@pytest.mark.parametrize("pieces", [["\n", '{"ok"', ": true}"], ["``", "`js", 'on\n{"ok": true}'], ["[1]"]])
def test_json_for_a_program_is_not_said(pieces: list[str]) -> None:
    speech = Speech(frozenset({"judge"}))
    assert [speech.token("judge", "1", piece) for piece in pieces] == [""] * len(pieces)
    assert speech.rest("It is fine.") == "It is fine."


def test_code_for_people_is_said() -> None:
    speech = Speech(frozenset({"write"}))
    assert [speech.token("write", "1", piece) for piece in ("``", "`py", "thon")] == ["", "```py", "thon"]
    assert speech.rest("```python") == ""


def test_one_of_several_branches_is_not_said_before_the_others() -> None:
    speech = Speech(frozenset({"team"}))
    assert speech.token("team/write[0]", "1", "One ") == ""
    assert speech.token("plan", "2", "A plan") == ""
    assert speech.rest("One and two") == "One and two"


def test_two_models_in_one_node_are_not_mixed() -> None:
    speech = Speech(frozenset({"both"}))
    heard = [speech.token("both", name, text) for name, text in (("a", "A1 "), ("b", "B1 "), ("a", "A2 "), ("b", "B2"))]
    assert heard[2:] == ["", ""]
    assert speech.rest("A1 A2 B1 B2").endswith("\n\nA1 A2 B1 B2")


def test_what_was_stripped_from_the_answer_is_not_said_again() -> None:
    speech = Speech(frozenset({"write"}))
    assert speech.token("write", "1", "  Once ") == "Once "
    assert speech.rest("Once") == ""


@pytest.mark.parametrize(
    ("outputs", "inputs", "text"),
    [
        ("plain", {}, "plain"),
        ({"story": "s"}, {}, "s"),
        ({"topic": "t", "story": "s"}, {"topic": "t"}, "s"),
        ({"answer": "a", "notes": "n"}, {}, "a"),
        ({"x": "a", "y": "b"}, {}, '{"x":"a","y":"b"}'),
        ({"messages": [{"type": "ai", "content": [{"type": "text", "text": "a"}, "b"]}, {"type": "tool"}]}, {}, "ab"),
        ([1], {}, "[1]"),
    ],
)
def test_the_answer_among_outputs(outputs: object, inputs: dict[str, object], text: str) -> None:
    assert text_of(outputs, inputs) == text
