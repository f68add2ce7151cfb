"""Our own experiments: what their evaluators say of good and bad texts, and that their datasets fit."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from eval.evaluators import (
    brief_answer,
    little_repetition,
    mentions_topic,
    names_person,
    no_new_numbers,
    one_sentence,
    right_length,
)
from plait.app import App, find_app, load_workflow
from plait.datasets import Example, open_dataset
from plait.experiments.definitions import Definition, in_split, load_definitions
from plait.experiments.evaluators import load_evaluators
from plait.experiments.nodes import node_graph
from plait.experiments.records import ExampleRun, ToolTrace
from plait.inputs import check_inputs
from plait.runs import Graph

ROOT = Path(__file__).parents[1]
NAMES = ["story-quality", "answers", "greetings", "summaries", "research-trajectory"]


@pytest.fixture(scope="module")
def app() -> App:
    return find_app(ROOT)


@pytest.fixture(scope="module")
def definitions(app: App) -> dict[str, Definition]:
    return load_definitions(app)


async def examples_of(definition: Definition) -> list[Example]:
    dataset = definition.dataset
    assert isinstance(dataset, str)
    return [example async for example in open_dataset(dataset).examples()]


def graph_of(app: App, definition: Definition) -> Graph:
    assert isinstance(definition.workflow, str)
    graph = load_workflow(app, definition.workflow)
    return node_graph(graph, definition.node) if definition.node else graph


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The FOX sat by the river.", 1.0),
        ("Foxes like rivers", 1.0),
        ("Two foxes sat by a brook.", 0.5),
        ("An outfox and an outriver", 0.0),
        ("", 0.0),
    ],
)
def test_the_share_of_the_words_that_a_text_mentions(text: str, share: float) -> None:
    assert mentions_topic({"story": text}, {"mentions": ["fox", "river"]}) == share


def test_what_is_mentioned_may_be_several_words_or_a_number() -> None:
    assert (
        mentions_topic({"summary": "It takes carbon dioxide, 9,000 tons."}, {"mentions": ["carbon dioxide", "9,000"]})
        == 1
    )


@pytest.mark.parametrize("reference", [{}, {"mentions": []}, {"mentions": "fox"}, {"mentions": [3]}])
def test_a_reference_without_words_to_mention_is_an_error_and_no_score(reference: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected a list of texts in 'mentions'"):
        mentions_topic({"story": "fox"}, reference)


@pytest.mark.parametrize(("words", "right"), [(1, False), (2, True), (4, True), (5, False)])
def test_both_bounds_of_a_length_are_right(words: int, right: bool) -> None:
    assert right_length({"story": "it's " * words}, {"words": [2, 4]}) is right


def test_a_length_without_two_bounds_is_an_error_and_no_score() -> None:
    with pytest.raises(ValueError, match=r"expected \[least, most\]"):
        right_length({"story": "a"}, {"words": 3})


def test_a_text_that_repeats_itself_scores_less() -> None:
    assert little_repetition({"story": "The cat saw a dog."}) == 1
    assert little_repetition({"story": "The cat saw the cat. The cat saw."}) == pytest.approx(3 / 8)
    assert little_repetition({"story": "..."}) == 0


def test_a_name_is_found_as_a_word_only() -> None:
    assert names_person({"name": "Inês"}, {"greeting": "Olá, inês!"})
    assert not names_person({"name": "Ada"}, {"greeting": "Hello Adam!"})


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("Good morning, Ada!", True),
        ("Good morning, Ada", True),
        ("Hello Dr. Ada, how is the violin?", True),
        ('She said "hello!"', True),
        ("It costs 2.50 today.", True),
        ("Hello Ada. How are you?", False),
        ("Hello Ada\nHello Ben", False),
        ("  ", False),
        ("!", False),
    ],
)
def test_one_sentence_is_one_line_with_one_end(text: str, one: bool) -> None:
    assert one_sentence({"greeting": text}) is one


def test_an_answer_is_brief_up_to_25_words_and_says_something() -> None:
    def answered(*texts: str | None) -> dict[str, object]:
        return {"answers": {str(number): {"answer": text} for number, text in enumerate(texts)}}

    assert brief_answer(answered("Paris.", "word " * 25))
    assert not brief_answer(answered("Paris.", "word " * 26))
    assert not brief_answer(answered(None))
    with pytest.raises(ValueError, match="expected answers by label"):
        brief_answer({"answers": "Paris"})


@pytest.mark.parametrize(("text", "kept"), [("In 1991 it cost 9000.", True), ("None.", True), ("In 1992.", False)])
def test_numbers_that_the_text_does_not_have_are_noticed(text: str, kept: bool) -> None:
    assert no_new_numbers({"texts": ["Since 1991, 9,000 francs."]}, {"summary": text, "documents": []}) is kept


def test_outputs_without_a_text_are_an_error_and_no_score() -> None:
    with pytest.raises(ValueError, match="expected a text among the outputs, found documents"):
        little_repetition({"documents": []})


def test_the_stock_experiments_are_these_and_name_no_model(definitions: dict[str, Definition]) -> None:
    assert list(definitions) == NAMES
    assert all(definition.model is None for definition in definitions.values())


@pytest.mark.parametrize("name", NAMES)
async def test_a_stock_dataset_fits_its_workflow(app: App, definitions: dict[str, Definition], name: str) -> None:
    definition = definitions[name]
    found = await examples_of(definition)
    assert 12 <= len(found) <= 40
    assert len({example.id for example in found}) == len(found)
    assert len({str(example.inputs) for example in found}) == len(found)
    graph = await asyncio.to_thread(graph_of, app, definition)
    for example in found:
        assert check_inputs(graph, example.inputs, workflow=name) == example.inputs


@pytest.mark.parametrize("name", NAMES)
async def test_the_evaluators_of_a_stock_experiment_score_each_of_its_examples(
    app: App, definitions: dict[str, Definition], name: str
) -> None:
    definition = definitions[name]
    evaluators = await asyncio.to_thread(load_evaluators, definition.evaluators, app)
    for example in await examples_of(definition):
        keys: Counter[str] = Counter()
        for evaluator in evaluators:
            good = await evaluator.score(_run(name, example, good=True))
            bad = await evaluator.score(_run(name, example, good=False))
            keys.update(score.key for score in good)
            assert all(float(score.score or 0) == 1 for score in good), (example.id, good)
            assert all(float(score.score or 0) < 1 for score in bad), (example.id, bad)
        assert len(keys) == len(evaluators)


def _run(name: str, example: Example, *, good: bool) -> ExampleRun:
    """A run with outputs as the workflow gives them: all that the evaluators want, or nothing of it."""
    reference = example.reference_outputs or {}
    return ExampleRun(
        position=example.position,
        example=example,
        outputs=_outputs(name, example, reference) if good else _bad_outputs(name),
        tools=(ToolTrace(name="search_documents", args={"query": "x"}, began_s=0.0),) if good else (),
    )


def _outputs(name: str, example: Example, reference: dict[str, object]) -> dict[str, object]:
    mentions = reference.get("mentions")
    parts = [str(example.inputs.get("name", "")), *(mentions if isinstance(mentions, list) else [])]
    if name in ("story-quality", "summaries"):
        bounds = reference["words"]
        assert isinstance(bounds, list)
        parts += [f"a{'b' * number}" for number in range(bounds[0])]
        return {"story" if name == "story-quality" else "summary": " ".join(parts).strip(), "documents": []}
    if name == "greetings":
        return {"greeting": f"Hello {', '.join(parts)}!"}
    if name == "answers":
        return {"answers": {"asked": {"answer": f"It is {reference['answer']}.", "error": None}}}
    return {"found": [(0, {"answer": f"It is {reference['answer']}.", "sources": []})]}


def _bad_outputs(name: str) -> dict[str, object]:
    text = "No no. " * 100 + "777777"
    if name == "answers":
        return {"answers": {"asked": {"answer": text, "error": None}}}
    if name == "research-trajectory":
        return {"found": [(0, {"answer": text, "sources": []})]}
    return {"text": text}


async def test_story_quality_has_forty_examples_in_two_splits(definitions: dict[str, Definition]) -> None:
    found = await examples_of(definitions["story-quality"])
    assert len(found) == 40
    assert [sum(in_split(example, split) for example in found) for split in ("short", "long")] == [20, 20]
    assert len(definitions["story-quality"].evaluators) == 3


async def test_the_facts_of_a_summary_stand_in_its_text(definitions: dict[str, Definition]) -> None:
    for example in await examples_of(definitions["summaries"]):
        texts, reference = example.inputs["texts"], example.reference_outputs
        assert isinstance(texts, list)
        assert reference is not None
        assert mentions_topic({"summary": texts[0]}, reference) == 1, example.id


async def test_the_topics_of_stories_name_what_is_to_be_mentioned_or_near_it(
    definitions: dict[str, Definition],
) -> None:
    for example in await examples_of(definitions["story-quality"]):
        assert example.reference_outputs is not None
        assert mentions_topic({"topic": str(example.inputs["topic"])}, example.reference_outputs) > 0, example.id


async def test_the_answers_of_the_research_stand_in_the_library(definitions: dict[str, Definition]) -> None:
    library = await asyncio.to_thread((ROOT / "eval/datasets/library.jsonl").read_text, "utf-8")
    for example in await examples_of(definitions["research-trajectory"]):
        assert (ROOT / str(example.inputs["path"])).is_file()
        assert example.reference_outputs is not None
        assert str(example.reference_outputs["answer"]).casefold() in library.casefold(), example.id
