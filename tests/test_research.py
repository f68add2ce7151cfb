"""Research: a plan, researchers at the same time, a report from what they found, one revision at most."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import plait
from chains.structured_answer import UnusableAnswer
from plait.errors import CallRefused, InputError, ModelUnavailable, PlaitError
from plait.events import EndEvent, TokenEvent, UpdateEvent
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Body, Simulator

QUESTIONS = ["Why is there a tide?", "When is it high?", "Who uses it?"]
APPROVAL = '{"approved": true}'
CHANGES = '{"approved": false, "changes": ["Name the moon first."]}'


class Authors:
    """Answers each kind of question of the workflow; texts of a kind are used in turn, the last for ever."""

    def __init__(self) -> None:
        self.plan = [json.dumps({"questions": QUESTIONS})]
        self.report = ["The moon does it [1]."]
        self.review = [APPROVAL]
        self.asked: list[str] = []

    def __call__(self, body: Body) -> str:
        kind = kind_of(body)
        self.asked.append(kind)
        if kind == "research":
            return f"Found: {body['messages'][1]['content']}"
        texts: list[str] = getattr(self, kind)
        return texts[min(self.asked.count(kind), len(texts)) - 1]


def kind_of(body: Body) -> str:
    instructions = str(body["messages"][0]["content"])
    kinds = {"You plan": "plan", "You are": "research", "You write": "report", "You review": "review"}
    return next(kind for beginning, kind in kinds.items() if instructions.startswith(beginning))


@pytest.fixture
def authors(provider: Simulator) -> Authors:
    provider.answer = authors = Authors()
    return authors


@pytest.fixture
def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", max_attempts=1)


async def research(
    settings: Settings, inputs: Mapping[str, object] | None = None, *, context: Mapping[str, object] | None = None
) -> Any:
    result = await plait.run("research", {"topic": "tides", **(inputs or {})}, context=context, settings=settings)
    return result.outputs


def requests_of(provider: Simulator, kind: str) -> Sequence[Body]:
    return [request.body for request in provider.requests if kind_of(request.body) == kind]


async def test_researchers_work_at_the_same_time_and_the_report_cites_what_they_found(
    provider: Simulator, settings: Settings, authors: Authors, tmp_path: Path
) -> None:
    (tmp_path / "moon.md").write_text("The moon pulls the tide.")
    held = asyncio.Event()

    def search_first(body: Body, index: int) -> Behaviour | None:
        if kind_of(body) != "research":
            return None
        searched = body["messages"][-1]["role"] == "tool"
        return Behaviour(hold=held, tool_calls=[] if searched else [("search_documents", {"query": "moon"})])

    provider.behave = search_first
    running = asyncio.create_task(research(settings, {"path": str(tmp_path)}))
    await provider.arrived(3)
    held.set()
    outputs = await running
    assert provider.peak == 3
    assert outputs == {
        "report": "The moon does it [1].",
        "findings": [
            {"question": question, "answer": f"Found: {question}", "sources": ["moon.md"], "error": None}
            for question in QUESTIONS
        ],
        "review": "approved",
    }
    assert authors.asked == ["plan", *["research"] * 3, "report", "review"]
    written_from = requests_of(provider, "report")[0]["messages"][1]["content"]
    assert "Finding 2: When is it high?\nFound: When is it high?\nSources: moon.md" in written_from


async def test_tokens_carry_the_question_and_the_report_and_no_json(settings: Settings, authors: Authors) -> None:
    authors.review = [CHANGES]
    events = [event async for event in plait.stream("research", {"topic": "tides"}, settings=settings)]
    assert isinstance(events[-1], EndEvent)
    assert events[-1].result.status == "success"
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert {event.label for event in tokens} == {*QUESTIONS, "report", "revised report"}
    assert not any("{" in event.text for event in tokens)
    first = "".join(event.text for event in tokens if event.label == QUESTIONS[0])
    assert first == f"Found: {QUESTIONS[0]}"


async def test_a_failed_researcher_stands_beside_the_others(
    provider: Simulator, settings: Settings, authors: Authors
) -> None:
    broken = Behaviour(status=400, error={"message": "no idea", "type": "x", "code": None})
    provider.behave = lambda body, index: broken if QUESTIONS[1] in str(body["messages"][1]["content"][:40]) else None
    outputs = await research(settings)
    assert [finding["question"] for finding in outputs["findings"]] == QUESTIONS
    assert [finding["error"] is None for finding in outputs["findings"]] == [True, False, True]
    assert "no idea" in outputs["findings"][1]["error"]
    assert "No answer: " in requests_of(provider, "report")[0]["messages"][1]["content"]


async def test_the_report_waits_for_those_who_still_work_when_one_has_failed(
    provider: Simulator, settings: Settings, authors: Authors
) -> None:
    held, broken = asyncio.Event(), Behaviour(status=400)

    def fail_first(body: Body, index: int) -> Behaviour | None:
        if kind_of(body) != "research":
            return None
        return broken if body["messages"][1]["content"] == QUESTIONS[0] else Behaviour(hold=held)

    provider.behave = fail_first
    findings: list[Any] = []
    async for event in plait.stream("research", {"topic": "tides"}, settings=settings):
        if isinstance(event, UpdateEvent) and "error_handler" in event.node:
            assert not held.is_set()
            held.set()
        if isinstance(event, EndEvent):
            findings = event.result.outputs["findings"]
    assert [finding["answer"] is None for finding in findings] == [True, False, False]
    assert authors.asked.count("report") == 1


async def test_without_any_finding_there_is_no_report(
    provider: Simulator, settings: Settings, authors: Authors
) -> None:
    broken = Behaviour(status=400, error={"message": "no idea", "type": "x", "code": None})
    provider.behave = lambda body, index: broken if kind_of(body) == "research" else None
    with pytest.raises(PlaitError, match=r"one of 3 researchers, found none.*no idea"):
        await research(settings)
    assert requests_of(provider, "report") == []


async def test_a_refused_key_ends_it_at_once(provider: Simulator, settings: Settings, authors: Authors) -> None:
    refused = Behaviour(status=401)
    provider.behave = lambda body, index: refused if kind_of(body) == "research" else None
    with pytest.raises(CallRefused):
        await research(settings)


async def test_a_researcher_that_never_ends_is_one_failed_finding(
    provider: Simulator, settings: Settings, authors: Authors, tmp_path: Path
) -> None:
    (tmp_path / "moon.md").write_text("The moon pulls the tide.")
    forever = Behaviour(tool_calls=[("search_documents", {"query": "moon"})])
    provider.behave = lambda body, index: forever if body["messages"][1]["content"] == QUESTIONS[2] else None
    outputs = await research(settings, {"path": str(tmp_path)})
    assert [finding["error"] is None for finding in outputs["findings"]] == [True, True, False]
    assert "still searching" in outputs["findings"][2]["error"]


async def test_a_report_is_revised_once_and_not_reviewed_again(
    provider: Simulator, settings: Settings, authors: Authors
) -> None:
    authors.review = [CHANGES]
    authors.report = ["first", "second", "third"]
    outputs = await research(settings, {"questions": 1})
    assert outputs["report"] == "second"
    assert outputs["review"] == "changes asked for and made:\nName the moon first."
    assert authors.asked == ["plan", "research", "report", "review", "report"]
    asked = requests_of(provider, "report")[1]["messages"][1]["content"]
    assert "Draft:\nfirst" in asked
    assert "- Name the moon first." in asked


@pytest.mark.parametrize(
    ("review", "report", "expected"),
    [
        (["looks fine"], ["a report"], "not reviewed: UnusableAnswer: review: expected JSON"),
        (['{"approved": false}'], ["a report"], "not reviewed: UnusableAnswer: review: expected JSON"),
        ([CHANGES], ["a report", ""], "changes asked for, not made (EmptyAnswer"),
    ],
)
async def test_a_failed_review_or_revision_leaves_the_report(
    settings: Settings, authors: Authors, review: list[str], report: list[str], expected: str
) -> None:
    authors.review, authors.report = review, report
    outputs = await research(settings)
    assert outputs["report"] == "a report"
    assert outputs["review"].startswith(expected)


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "I would ask why.",
        '{"questions": ["Why',
        '{"questions": []}',
        '{"questions": [" "]}',
        '["Why?"]',
        "{" * 9999,
    ],
)
async def test_a_broken_plan_is_asked_for_once_more(
    provider: Simulator, settings: Settings, authors: Authors, broken: str
) -> None:
    authors.plan = [broken, '<think>{"maybe"}</think> ```json\n{"questions": ["Why?", "why? ", "How?"]}\n```']
    outputs = await research(settings)
    assert [finding["question"] for finding in outputs["findings"]] == ["Why?", "How?"]
    *_, answered, again = requests_of(provider, "plan")[1]["messages"]
    assert answered["content"] == (broken or "(nothing)")
    assert again["content"].startswith("This could not be read: ")


async def test_a_plan_that_stays_broken_is_a_named_error(settings: Settings, authors: Authors) -> None:
    authors.plan = ["Why?"]
    with pytest.raises(UnusableAnswer, match="plan: expected JSON of the shape Plan, found none in two answers"):
        await research(settings)
    assert authors.asked == ["plan", "plan"]


async def test_never_more_researchers_than_asked_for(settings: Settings, authors: Authors) -> None:
    assert len((await research(settings, {"questions": 2}))["findings"]) == 2


async def test_prompts_are_replaced_by_the_context_as_they_are(
    provider: Simulator, settings: Settings, authors: Authors
) -> None:
    context = {
        "plan_prompt": "You plan {this}.",
        "report_prompt": "You write {briefly}.",
        "review_prompt": "You review {kindly}.",
    }
    await research(settings, context=context)
    firsts = [str(request.body["messages"][0]["content"]) for request in provider.requests]
    assert all(any(first.startswith(prompt) for first in firsts) for prompt in context.values())


@pytest.mark.parametrize("inputs", [{}, {"path": "/nowhere"}])
async def test_a_model_without_tools_is_refused_before_any_call(
    provider: Simulator, settings: Settings, inputs: dict[str, object]
) -> None:
    with pytest.raises(ModelUnavailable, match="local:smollm2-135m ignores tools"):
        await research(settings.override(model="local:smollm2-135m"), inputs)
    with pytest.raises(ModelUnavailable, match="local:smollm2-135m ignores tools"):
        await research(settings, inputs, context={"model": "local:smollm2-135m"})
    assert provider.requests == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"topic": " "}, "topic"),
        ({"questions": 0}, "questions"),
        ({"questions": 9}, "questions"),
        ({"path": ""}, "path"),
        ({"path": "/nowhere"}, "found nothing at '/nowhere'"),
    ],
)
async def test_wrong_input_is_refused_before_any_call(
    provider: Simulator, settings: Settings, inputs: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        await research(settings, inputs)
    assert provider.requests == []
