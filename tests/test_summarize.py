"""The summarize workflow: pieces, documents, the tree above them, and what fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import plait
from chains.answers import EmptyAnswer
from graphs.summary_tree import group_summaries
from plait.errors import CallRefused, InputError, RunFailed
from plait.events import EndEvent, TokenEvent
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Body, Simulator
from plait.weights import find


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    provider.answer = lambda body: f"about {prompt_of(body).split()[0]}"
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", max_attempts=1)


def prompt_of(body: Body) -> str:
    """What is to be summarized or combined."""
    return str(body["messages"][-1]["content"]).partition(" words:\n\n")[2]


def prompts(provider: Simulator) -> list[str]:
    return [prompt_of(request.body) for request in provider.requests]


def refuse(word: str, status: int = 400) -> Behaviour:
    return Behaviour(status=status, error={"message": f"no {word}", "type": "x", "code": None})


async def labels_of(inputs: dict[str, object], settings: Settings, **context: object) -> tuple[set[str], EndEvent]:
    events = [event async for event in plait.stream("summarize", inputs, context=context, settings=settings)]
    assert isinstance(events[-1], EndEvent)
    return {event.label for event in events if isinstance(event, TokenEvent)}, events[-1]


async def test_one_short_text_takes_one_call(provider: Simulator, settings: Settings) -> None:
    labels, end = await labels_of({"texts": ["Rain fell."], "words": 40}, settings)
    assert end.result.outputs == {
        "summary": "about Rain",
        "documents": [{"name": "text 1", "summary": "about Rain", "error": None}],
    }
    assert labels == {"summary"}
    assert len(provider.requests) == 1
    assert "about 40 words" in provider.requests[0].body["messages"][0]["content"]


async def test_a_folder_gets_a_summary_per_document_and_one_of_all(
    provider: Simulator, settings: Settings, tmp_path: Path
) -> None:
    for name in ("rain", "snow", "hail"):
        (tmp_path / f"{name}.txt").write_text(f"{name} fell.", encoding="utf-8")
    labels, end = await labels_of({"path": str(tmp_path)}, settings)
    assert [(item["name"], item["summary"]) for item in end.result.outputs["documents"]] == [
        ("hail.txt", "about hail"),
        ("rain.txt", "about rain"),
        ("snow.txt", "about snow"),
    ]
    assert labels == {"hail.txt", "rain.txt", "snow.txt", "summary"}
    assert prompts(provider)[-1] == (
        "Summary 1: hail.txt: about hail\n\nSummary 2: rain.txt: about rain\n\nSummary 3: snow.txt: about snow"
    )
    assert len(provider.requests) == 4


async def test_a_long_document_is_summarized_from_its_own_pieces(provider: Simulator, settings: Settings) -> None:
    provider.answer = lambda body: f"about {prompt_of(body)[:40]}"
    texts = ["long " * 100, "short"]
    labels, end = await labels_of({"texts": texts}, settings, most_chars=200)
    long, short = end.result.outputs["documents"]
    assert short["summary"] == "about short"
    assert long["summary"].startswith("about Summary 1: about long")
    assert {"text 1 (1/3)", "text 1 (3/3)", "text 1", "text 2", "summary"} <= labels
    assert not any("short" in prompt and "long" in prompt for prompt in prompts(provider)[:-1])


async def test_a_hundred_articles_are_in_flight_at_once_and_reduced_as_a_tree(
    provider: Simulator, settings: Settings
) -> None:
    provider.answer = lambda body: "s" * 90
    provider.close_gate()
    inputs: dict[str, object] = {"texts": [f"article {n}" for n in range(100)]}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(labels_of(inputs, settings, most_chars=1000))
        await provider.arrived(100)
        provider.open_gate()
    _, end = running.result()
    assert len(end.result.outputs["documents"]) == 100
    assert provider.peak == 100
    assert all(len(prompt) < 1400 for prompt in prompts(provider))
    assert len(provider.requests) > 100 + 10


async def test_a_single_long_text_ends_in_its_own_streamed_summary(provider: Simulator, settings: Settings) -> None:
    labels, end = await labels_of({"texts": ["word " * 100]}, settings, most_chars=200)
    assert end.result.outputs["summary"] == end.result.outputs["documents"][0]["summary"] == "about Summary"
    assert "summary" in labels
    assert len(provider.requests) == 4


async def test_a_failed_document_leaves_its_error_beside_the_others(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("dragons") if "dragon" in prompt_of(body) else None
    texts = ["cat", "filler " * 60 + "dragon", "dog"]
    result = await plait.run("summarize", {"texts": texts}, context={"most_chars": 200}, settings=settings)
    documents = result.outputs["documents"]
    assert [item["summary"] for item in documents] == ["about cat", None, "about dog"]
    assert documents[1]["error"].startswith("piece 3 of 3: ")
    assert "no dragons" in documents[1]["error"]
    assert "text 2" not in prompts(provider)[-1]


async def test_a_failed_merge_is_its_documents_error(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: (
        refuse("merging") if prompt_of(body).startswith("Summary 1: about word") else None
    )
    texts = ["word " * 60, "cat", "dog"]
    result = await plait.run("summarize", {"texts": texts}, context={"most_chars": 200}, settings=settings)
    assert "no merging" in result.outputs["documents"][0]["error"]
    assert result.outputs["summary"] == "about Summary"


async def test_the_run_fails_when_every_document_does(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("entry")
    with pytest.raises(RunFailed, match=r"at least one of 2 documents, found none; text 1: .*no entry"):
        await plait.run("summarize", {"texts": ["a", "b"]}, settings=settings)


async def test_a_refused_key_is_said_once(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: refuse("entry", 401)
    with pytest.raises(CallRefused):
        await plait.run("summarize", {"texts": ["a", "b"]}, settings=settings)


async def test_an_empty_answer_is_asked_for_once_more(provider: Simulator, settings: Settings) -> None:
    provider.answer = lambda body: " " if len(provider.requests) == 1 else "said"
    result = await plait.run("summarize", {"texts": ["a"]}, settings=settings)
    assert result.outputs["summary"] == "said"
    assert len(provider.requests) == 2


async def test_a_model_that_says_nothing_twice_is_named(provider: Simulator, settings: Settings) -> None:
    provider.answer = lambda body: ""
    with pytest.raises(RunFailed, match=f"{EmptyAnswer.__name__}: expected an answer"):
        await plait.run("summarize", {"texts": ["a"]}, settings=settings)
    assert len(provider.requests) == 2


async def test_prompts_come_from_the_context(provider: Simulator, settings: Settings) -> None:
    context = {"map_prompt": "As {a haiku} of {words} words.", "combine_prompt": "Combine."}
    await plait.run("summarize", {"texts": ["a", "b"], "words": 50}, context=context, settings=settings)
    systems = [request.body["messages"][0]["content"] for request in provider.requests]
    assert systems == ["As {a haiku} of 50 words."] * 2 + ["Combine."]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "path or texts: expected one of them, found neither"),
        ({"texts": ["a"], "path": "b"}, "found both"),
        ({"texts": []}, "texts"),
        ({"texts": ["", " "]}, "found only empty ones"),
        ({"path": "nowhere/"}, "found nothing at 'nowhere/'"),
        ({"texts": ["a"], "words": 1}, "words"),
    ],
)
async def test_bad_input_is_refused_before_any_call(
    provider: Simulator, settings: Settings, inputs: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        await plait.run("summarize", inputs, settings=settings)
    assert provider.requests == []


def test_groups_fit_and_have_two_members_at_least() -> None:
    assert group_summaries(["aa", "bb", "cc", "dd"], most_chars=6) == [["aa", "bb", "cc"], ["dd"]]
    assert group_summaries(["x" * 9] * 4, most_chars=5) == [["x" * 9] * 2, ["x" * 9] * 2]


@pytest.mark.model
@pytest.mark.skipif(find("smollm2-135m", from_env()) is None, reason="weights absent: plait models pull smollm2-135m")
async def test_the_embedded_model_summarizes() -> None:
    texts = ["The river rose two metres in a night.", "The town built a wall of sand against the water."]
    model_settings = from_env().override(model="local:smollm2-135m")
    result = await plait.run("summarize", {"texts": texts, "words": 15}, settings=model_settings)
    assert result.outputs["summary"]
    assert all(document["summary"] for document in result.outputs["documents"])
