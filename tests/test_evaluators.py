"""Evaluators of any make: what they are given, what they may return, and what becomes of their errors."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import pytest
from agentevals.trajectory.match import create_trajectory_match_evaluator
from langsmith.evaluation import EvaluationResult, EvaluationResults, RunEvaluator, run_evaluator
from langsmith.schemas import Example as LangSmithExample
from langsmith.schemas import Run
from openevals.exact import exact_match, exact_match_async
from openevals.llm import create_async_llm_as_judge, create_llm_as_judge

import plait
from plait.datasets import Example
from plait.errors import InputError
from plait.experiments.evaluators import (
    evaluator,
    score_all,
)
from plait.experiments.records import ExampleRun, Failure, NodeTrace, Score
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope, entered
from plait.settings import Settings, from_env
from plait.simulator import Simulator

around_whom: ContextVar[str] = ContextVar("around_whom", default="nobody")


@pytest.fixture
def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", max_attempts=1)


def run_of(outputs: object = None, reference: dict[str, object] | None = None, **parts: Any) -> ExampleRun:
    example = Example(3, "a tide", {"question": "why?"}, reference, {"split": "test"})
    given = {"answer": "the moon"} if outputs is None else outputs
    return ExampleRun(position=3, example=example, outputs=given, **parts)


async def scored(target: object, run: ExampleRun | None = None, **options: Any) -> tuple[Score, ...]:
    return await evaluator(target, **options).score(run or run_of(reference={"answer": "the moon"}))


async def failed(target: object, run: ExampleRun | None = None) -> Failure:
    [(_, outcome)] = await score_all([evaluator(target)], run or run_of())
    assert isinstance(outcome, Failure)
    return outcome


# what they are given


async def test_a_function_gets_what_it_asks_for_by_name() -> None:
    def compare(reference_outputs: Any, outputs: Any, *, inputs: Any, run: ExampleRun, example: Example) -> bool:
        assert (inputs, example.id, run.position) == ({"question": "why?"}, "a tide", 3)
        return bool(outputs == reference_outputs)

    assert await scored(compare) == (Score("compare", True),)


async def test_methods_partials_objects_and_positional_parameters_are_functions_too() -> None:
    class Judge:
        def __init__(self, word: str) -> None:
            self.word = word

        def has(self, outputs: Mapping[str, str]) -> bool:
            return self.word in outputs["answer"]

        async def __call__(self, outputs: Mapping[str, str]) -> bool:
            return self.word in outputs["answer"]

    def first(outputs: Mapping[str, str], /, word: str = "moon") -> bool:
        return word in outputs["answer"]

    assert await scored(Judge("moon").has) == (Score("has", True),)
    assert await scored(Judge("sun")) == (Score("Judge", False),)
    assert await scored(functools.partial(first, word="sun"), name="sunny") == (Score("sunny", False),)
    assert await scored(first) == (Score("first", True),)
    assert await scored(lambda **given: sorted(given) == ["inputs", "outputs", "reference_outputs"]) == (
        Score("lambda", True),
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda output: True, "found 'output': did you mean 'outputs'?"),
        (lambda: True, "found one that takes none of them"),
        (3, "found int"),
        (dict, "found the class dict"),
        (print, "expected"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_runs(target: object, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        evaluator(target)


async def test_a_default_stands_where_the_example_has_no_reference() -> None:
    def near(outputs: Any, reference_outputs: Any = "none") -> str:
        return str(reference_outputs)

    assert await scored(near, run_of()) == (Score("near", value="none"),)


async def test_an_evaluator_cannot_change_what_the_next_one_sees() -> None:
    def vandal(inputs: dict[str, Any], outputs: dict[str, Any], run: ExampleRun, example: Example) -> bool:
        inputs.clear()
        outputs["list"].append(2)
        assert isinstance(run.outputs, dict)
        run.outputs.clear()
        example.inputs.clear()
        return True

    run = run_of({"answer": "the moon", "list": [1]})
    [(_, outcome)] = await score_all([evaluator(vandal)], run)
    assert outcome == (Score("vandal", True),)
    assert run.outputs == {"answer": "the moon", "list": [1]}
    assert run.example.inputs == {"question": "why?"}


async def test_a_node_evaluator_sees_the_time_and_calls_of_its_node() -> None:
    nodes = (
        NodeTrace(name="write", branch="write@1", began_s=0, duration_s=2.0),
        NodeTrace(name="write", branch="write@2", began_s=2, duration_s=1.0),
        NodeTrace(name="review", branch="review@3", began_s=3, duration_s=4.0),
    )
    run = run_of(nodes=nodes, duration_s=7.0)
    slow = evaluator(lambda run: run.duration_s, name="took", node="write")
    assert await slow.score(run) == (Score("took", 3.0, node="write"),)


# other libraries' evaluators


async def test_openevals_and_agentevals_are_taken_as_they_are() -> None:
    assert await scored(exact_match) == (Score("exact_match", True),)
    assert await scored(exact_match_async) == (Score("exact_match", True),)
    match = create_trajectory_match_evaluator(trajectory_match_mode="unordered", tool_args_match_mode="ignore")
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "search", "arguments": "{}"}}]},
    ]
    run = run_of({"messages": messages}, {"messages": messages})
    assert await scored(match, run) == (Score("trajectory_unordered_match", True),)
    assert await scored(match, run, name="tools") == (Score("tools", True),)


@pytest.mark.parametrize("make", [create_llm_as_judge, create_async_llm_as_judge])
async def test_an_openevals_judge_calls_our_model(provider: Simulator, settings: Settings, make: Any) -> None:
    provider.answer = lambda body: json.dumps({"reasoning": "it is the moon", "score": True})
    with entered(Scope("a run", gate=gate_for(settings), settings=settings)) as scope:
        judge = make(prompt="Is {outputs} like {reference_outputs}?", feedback_key="alike", judge=plait.chat_model())
        assert await scored(judge) == (Score("alike", True, comment="it is the moon"),)
    assert scope.usage.calls == 1
    assert "the moon" in str(provider.requests[0].body["messages"])


async def test_langsmith_evaluators_get_langsmiths_objects() -> None:
    seen: list[Any] = []

    @run_evaluator
    def decorated(run: Run, example: LangSmithExample | None) -> EvaluationResult:
        seen.append((run, example))
        return EvaluationResult(key="decorated_key", score=0.5)

    @run_evaluator
    async def decorated_later(run: Run, example: LangSmithExample | None) -> dict[str, Any]:
        seen.append((run, example))
        return {"score": 1, "comment": "yes"}

    def old_form(run: Any, example: Any) -> dict[str, Any]:
        seen.append((run, example))
        return {"key": "old", "score": run.outputs["answer"] == example.outputs["answer"]}

    def by_annotation(run: Run, outputs: dict[str, Any]) -> bool:
        return run.outputs == outputs and isinstance(run, Run)

    class Own(RunEvaluator):
        def evaluate_run(self, run: Any, example: Any = None, evaluator_run_id: Any = None) -> EvaluationResults:
            seen.append((run, example))
            return EvaluationResults(results=[EvaluationResult(key="a", score=1), EvaluationResult(key="b", value="x")])

    run = run_of(reference={"answer": "the moon"}, duration_s=2.0)
    assert await scored(decorated, run) == (Score("decorated_key", 0.5),)
    assert [(s.key, s.score, s.comment) for s in await scored(decorated_later, run)] == [
        ("decorated_later", 1.0, "yes")
    ]
    assert await scored(old_form, run) == (Score("old", True),)
    assert await scored(by_annotation, run) == (Score("by_annotation", True),)
    assert await scored(Own(), run) == (Score("a", 1.0), Score("b", value="x"))
    for theirs, example in seen:
        assert isinstance(theirs, Run)
        assert isinstance(example, LangSmithExample)
        assert (theirs.inputs, theirs.outputs, theirs.error) == ({"question": "why?"}, {"answer": "the moon"}, None)
        assert theirs.end_time is not None
        assert (theirs.end_time - theirs.start_time).total_seconds() == 2.0
        assert theirs.child_runs == []
        assert (example.outputs, example.metadata) == ({"answer": "the moon"}, {"split": "test"})
        assert theirs.reference_example_id == example.id == seen[0][1].id


async def test_a_sync_langsmith_evaluator_keeps_the_rows_context() -> None:
    around_whom.set("the row")

    class Own(RunEvaluator):
        def evaluate_run(self, run: Any, example: Any = None, evaluator_run_id: Any = None) -> EvaluationResult:
            return EvaluationResult(key="a", value=around_whom.get())

    assert await scored(Own()) == (Score("a", value="the row"),)


async def test_our_own_run_is_given_where_it_is_asked_for() -> None:
    def ours(run: ExampleRun, example: Example) -> bool:
        return isinstance(run, ExampleRun) and isinstance(example, Example)

    assert await scored(ours) == (Score("ours", True),)
