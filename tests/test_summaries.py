"""Summary evaluators score an experiment as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from langsmith.evaluation import EvaluationResult
from langsmith.schemas import Example as LangSmithExample
from langsmith.schemas import Run

from plait.datasets import Example
from plait.errors import InputError, SettingsError
from plait.experiments.evaluators.summaries import summarize, summary_evaluator
from plait.experiments.records import ExampleRun, Experiment, Score
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope, entered
from plait.settings import from_env


def run_of(outputs: object = None, reference: dict[str, object] | None = None, **parts: Any) -> ExampleRun:
    example = Example(3, "a tide", {"question": "why?"}, reference, {"split": "test"})
    given = {"answer": "the moon"} if outputs is None else outputs
    return ExampleRun(position=3, example=example, outputs=given, **parts)


def experiment(*runs: ExampleRun) -> Experiment:
    return Experiment(
        id="x", name="x", definition="x", workflow="w", place="x", status="finished", created_at=0.0, runs=runs
    )


async def test_summary_evaluators_see_the_runs_that_succeeded() -> None:
    def share(outputs: list[Any], reference_outputs: list[Any]) -> float:
        equal = [bool(a == b) for a, b in zip(outputs, reference_outputs, strict=True)]
        return sum(equal) / len(equal)

    async def failures(experiment: Experiment) -> dict[str, Any]:
        return {"key": "failed", "score": sum(run.status != "success" for run in experiment.runs)}

    def theirs(runs: list[Run], examples: list[LangSmithExample]) -> EvaluationResult:
        assert [type(each) for each in (*runs, *examples)] == [Run, Run, LangSmithExample, LangSmithExample]
        return EvaluationResult(key="theirs", score=len(runs))

    def broken(inputs: list[Any]) -> None:
        return None

    good, bad = run_of(reference={"answer": "the moon"}), run_of(reference={"answer": "the sun"})
    runs = experiment(good, bad, run_of(status="error"))
    scores, faults = await summarize([summary_evaluator(each) for each in (share, failures, theirs, broken)], runs)
    assert scores == (Score("share", 0.5), Score("failed", 1.0), Score("theirs", 2.0))
    assert [(fault.evaluator, fault.type) for fault in faults] == [("broken", "BadScore")]


async def test_a_summary_over_no_run_says_so() -> None:
    def share(outputs: list[Any]) -> float:
        return 1 / len(outputs)

    scores, [fault] = await summarize([summary_evaluator(share)], experiment(run_of(status="error")))
    assert scores == ()
    assert fault.message == "expected a run that succeeded, found none of 1"
    with pytest.raises(InputError, match="did you mean 'outputs'"):
        summary_evaluator(lambda output: 1)


async def test_an_error_whose_text_raises_is_a_failure_too() -> None:
    class Textless(Exception):
        def __str__(self) -> str:
            raise LookupError("no text")

    def textless(outputs: list[Any]) -> float:
        raise Textless

    _, [fault] = await summarize([summary_evaluator(textless)], experiment(run_of(reference={})))
    assert (fault.type, fault.message) == ("Textless", "no message: its text raises LookupError")


async def test_a_refusal_of_another_service_is_a_failure_of_its_summary() -> None:
    class NotFound(Exception):
        status_code = 404

    async def page_is_there(outputs: list[Any]) -> float:
        raise NotFound("no such page")

    def judged(outputs: list[Any]) -> float:
        raise SettingsError("no model")

    both = [summary_evaluator(page_is_there), summary_evaluator(lambda outputs: 1, name="fine")]
    scores, [fault] = await summarize(both, experiment(run_of()))
    assert (scores, fault.type) == ((Score("fine", 1.0),), "NotFound")
    with pytest.raises(SettingsError):
        await summarize([summary_evaluator(judged)], experiment(run_of()))


async def test_no_key_or_password_is_stored_with_a_summary() -> None:
    def leaky(outputs: list[Any]) -> float:
        raise RuntimeError("marigold at https://me:secret@host/v1")

    def quotes(outputs: list[Any]) -> Score:
        return Score(score=1, comment="see https://me:secret@host/v1")

    settings = from_env({"OPENAI_API_KEY": "marigold"})
    with entered(Scope("summary", gate=gate_for(settings), settings=settings)):
        [score], [fault] = await summarize(
            [summary_evaluator(leaky), summary_evaluator(quotes)], experiment(run_of(reference={}))
        )
    assert fault.message == "*** at https://***@host/v1"
    assert score.comment == "see https://***@host/v1"
