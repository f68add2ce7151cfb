"""The bundled workflows: what goes in, what comes out, and what a failing branch does to the others."""

from __future__ import annotations

import pytest

import plait
from plait.errors import CallRefused, InputError
from plait.events import TokenEvent
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Body, Simulator


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", max_attempts=2)


def refuse(word: str, status: int) -> Behaviour | None:
    return Behaviour(status=status, error={"message": f"no {word}", "type": "x", "code": None})


def prompt_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


async def test_story_asks_for_the_topic_and_the_length(provider: Simulator, settings: Settings) -> None:
    result = await plait.run("story", {"topic": " a magical forest ", "words": "60"}, settings=settings)
    assert result.outputs == {"story": "Answer to: Write a story of about 60 words about a magical forest."}
    assert "max_tokens" not in provider.requests[0].body


async def test_stories_come_in_the_order_of_their_topics(provider: Simulator, settings: Settings) -> None:
    topics = ["a magical forest", "a futuristic city", "an underwater civilization", "a futuristic city"]
    events = [event async for event in plait.stream("stories", {"topics": topics}, settings=settings)]
    end = events[-1]
    assert end.type == "end"
    assert [story["topic"] for story in end.result.outputs["stories"]] == topics
    branches = {(e.branch, e.label) for e in events if isinstance(e, TokenEvent)}
    assert branches == {(f"write[{index}]", topic) for index, topic in enumerate(topics)}


async def test_a_failed_story_leaves_its_error_beside_the_others(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("dragons", 400) if "dragon" in prompt_of(body) else None
    result = await plait.run("stories", {"topics": ["a cat", "a dragon", "a dog"]}, settings=settings)
    stories = result.outputs["stories"]
    assert [story["error"] is None for story in stories] == [True, False, True]
    assert "no dragons" in stories[1]["error"]
    assert stories[1]["story"] is None


async def test_when_every_story_fails_all_errors_are_told(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("luck", 400)
    result = await plait.run("stories", {"topics": ["a cat", "a dog"]}, settings=settings)
    assert ["no luck" in story["error"] for story in result.outputs["stories"]] == [True, True]
    result = await plait.run("ask", {"questions": {"a": "Why?", "b": "How?"}}, settings=settings)
    assert ["no luck" in answer["error"] for answer in result.outputs["answers"].values()] == [True, True]


async def test_a_refused_key_fails_all_stories_at_once(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("entry", 401)
    with pytest.raises(CallRefused):
        await plait.run("stories", {"topics": ["a cat", "a dog"]}, settings=settings)


async def test_a_prompt_is_replaced_by_context(provider: Simulator, settings: Settings) -> None:
    for workflow, inputs in (
        ("story", {"topic": "x"}),
        ("stories", {"topics": ["x"]}),
        ("ask", {"questions": {"a": "Why?"}}),
    ):
        await plait.run(workflow, inputs, context={"prompt": "Be a {pirate}."}, settings=settings)
        assert provider.requests[-1].body["messages"][0] == {"role": "system", "content": "Be a {pirate}."}


async def test_answers_keep_the_order_of_the_questions(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("idea", 400) if "Why" in prompt_of(body) else None
    questions = {"second": "How?", "first": "Why?", "third": "When?"}
    result = await plait.run("ask", {"questions": questions}, settings=settings)
    answers = result.outputs["answers"]
    assert list(answers) == ["second", "first", "third"]
    assert answers["third"] == {"question": "When?", "answer": "Answer to: When?", "error": None}
    assert answers["first"]["answer"] is None
    assert "no idea" in answers["first"]["error"]


@pytest.mark.parametrize(
    ("workflow", "inputs", "words"),
    [
        ("story", {}, "topic: missing"),
        ("story", {"topic": ""}, "topic: expected at least 1 character"),
        ("story", {"topic": "x", "words": 5}, "words"),
        ("stories", {"topics": []}, "topics"),
        ("stories", {"topics": ["a", " "]}, "topics"),
        ("ask", {"questions": {}}, "questions"),
        ("ask", {"questions": ["why"]}, "questions"),
    ],
)
async def test_empty_or_mistyped_input_is_refused(
    provider: Simulator, settings: Settings, workflow: str, inputs: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        await plait.run(workflow, inputs, settings=settings)
    assert provider.requests == []
