"""Summary evaluators score an experiment as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langsmith.evaluation import EvaluationResult
from langsmith.schemas import Example as LangSmithExample
from langsmith.schemas import Run

from plait.datasets import Example
from plait.errors import InputError
from plait.experiments.evaluators.summaries import summarize, summary_evaluator
from plait.experiments.records import ExampleRun, Experiment, Score


def run_of(outputs: object = None, reference: dict[str, object] | None = None, **parts: Any) -> ExampleRun:
    example = Example(3, "a tide", {"question": "why?"}, reference, {"split": "test"})
    given = {"answer": "the moon"} if outputs is None else outputs
    return ExampleRun(position=3, example=example, outputs=given, **parts)


def experiment(*runs: ExampleRun) -> Experiment:
    return Experiment(
        id="x", name="x", definition="x", workflow="w", folder=Path("x"), status="finished", created_at=0.0, runs=runs
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
