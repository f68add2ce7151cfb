"""Evaluators are loaded by the names and tables of experiments.toml."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openevals.exact import exact_match

from plait.datasets import Example
from plait.errors import InputError
from plait.experiments.evaluators import (
    Evaluator,
    Outcome,
    describe,
    load_evaluator,
    load_evaluators,
    load_summary_evaluator,
    score_all,
)
from plait.experiments.evaluators.summaries import summarize
from plait.experiments.records import ExampleRun, Experiment, Failure, Score


def run_of(outputs: object = None, reference: dict[str, object] | None = None, **parts: Any) -> ExampleRun:
    example = Example(3, "a tide", {"question": "why?"}, reference, {"split": "test"})
    given = {"answer": "the moon"} if outputs is None else outputs
    return ExampleRun(position=3, example=example, outputs=given, **parts)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: a process keeps one module per name."""
    root = tmp_path_factory.mktemp("evaluated") / "app"
    (root / "own_eval").mkdir(parents=True)
    (root / "langgraph.json").write_text('{"graphs": {"g": "./g.py:graph"}}')
    (root / "own_eval" / "checks.py").write_text(
        "LIMIT = 3\n"
        "def mentions(outputs, word='moon'):\n    return word in outputs['answer']\n"
        "def at_most(length=5):\n    return lambda outputs: len(outputs['answer']) <= length\n"
        "def share(outputs, above=0):\n    return len(outputs) / 4 > above\n"
    )
    (root / "own_eval" / "broken.py").write_text("raise RuntimeError('no')\n")
    (root / "schema.json").write_text('{"type": "string", "maxLength": 3}')
    return root


async def test_evaluators_are_loaded_from_the_app_by_name_and_options(app: Path) -> None:
    run = run_of(reference={"answer": "The Moon"})
    specs: list[object] = [
        "exact",
        {"use": "exact", "ignore_case": True, "key": "same"},
        {"use": "contains", "text": "sun", "key": "sunny", "lower_is_better": True},
        {"use": "json_schema", "file": "schema.json"},
        "own_eval.checks:mentions",
        {"use": "own_eval.checks:mentions", "word": "sun", "key": "own_sunny"},
        {"use": "own_eval.checks:at_most", "length": 20},
        {"use": "./own_eval/checks.py:at_most", "key": "short"},
        {"use": "agentevals.trajectory.match:create_trajectory_match_evaluator", "key": "tools"},
        lambda outputs: True,
    ]
    loaded = await asyncio.to_thread(load_evaluators, specs, app)
    outcomes: list[tuple[Evaluator, Outcome]] = await score_all(loaded, run)
    scores = {s.key: s.score for _, outcome in outcomes if not isinstance(outcome, Failure) for s in outcome}
    assert scores == {
        "exact": False,
        "same": True,
        "sunny": False,
        "json_schema": False,
        "mentions": True,
        "own_sunny": False,
        "at_most": True,
        "short": False,
        "lambda": True,
    }
    assert [each.name for each in loaded if each.lower_is_better] == ["sunny"]
    assert [each.evaluator for _, each in outcomes if isinstance(each, Failure)] == ["tools"]
    assert [describe(spec) for spec in specs[:2]] == specs[:2]
    assert [describe(exact_match), describe(loaded[0])] == ["openevals.exact:exact_match", "exact"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exakt", "did you mean 'exact'?"),
        ("nonsense", "expected a built-in evaluator (exact, contains"),
        ("own_eval.checks:mention", "expected 'mention' in own_eval.checks, found none: did you mean 'mentions'?"),
        ("own_eval.chekcs:mentions", "expected the app's module 'own_eval.chekcs', found none"),
        ("own_eval.broken:f", "RuntimeError: no"),
        ("own_eval.checks:LIMIT", "found int"),
        ({"use": "contains", "txt": "a"}, "found 'txt': did you mean 'text'?"),
        ({"use": "regex"}, "expected the option 'pattern', found none"),
        ({"use": "regex", "pattern": "("}, "expected a regular expression"),
        ({"name": "exact"}, "expected an evaluator as {use ="),
        ({"use": "exact", "key": 3}, "key: expected a text, found 3"),
        ({"use": "own_eval.checks:mentions", "wrd": "a"}, "found 'wrd': did you mean 'word'?"),
        ({"use": "own_eval.checks:at_most", "length": 1, "width": 1}, "found 'width'"),
        ("json:dumps", "json:dumps: dumps: expected parameters of inputs"),
        (3, "found int"),
    ],
)
async def test_an_evaluator_that_is_not_there_is_named_with_the_nearest(app: Path, spec: object, message: str) -> None:
    with pytest.raises(InputError) as raised:
        await asyncio.to_thread(load_evaluator, spec, app)
    assert message in str(raised.value)


async def test_two_evaluators_of_one_name_are_refused(app: Path) -> None:
    with pytest.raises(InputError, match="found two called 'exact': give one a key"):
        await asyncio.to_thread(load_evaluators, ["exact", {"use": "exact", "output": "a"}], app)


def experiment(*runs: ExampleRun) -> Experiment:
    return Experiment(
        id="x", name="x", definition="x", workflow="w", place="x", status="finished", created_at=0.0, runs=runs
    )


async def test_a_summary_evaluator_is_loaded_by_name(app: Path) -> None:
    loaded = await asyncio.to_thread(
        load_summary_evaluator, {"use": "own_eval.checks:share", "above": 0.7, "key": "full"}, app
    )
    scores, _ = await summarize([loaded], experiment(run_of(), run_of(), run_of()))
    assert scores == (Score("full", True),)
