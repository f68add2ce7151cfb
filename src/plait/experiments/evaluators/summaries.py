"""Summary evaluators: scores of an experiment as a whole, such as an F1 over all its runs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plait.errors import InputError, PlaitError
from plait.experiments.evaluators.faults import failed_calls, shown, stops_all, text_of
from plait.experiments.evaluators.forms import without_users
from plait.experiments.evaluators.records import langsmith_example, langsmith_run
from plait.experiments.evaluators.scores import MissingValue, read_scores
from plait.experiments.evaluators.signatures import is_async, name_of, read_signature
from plait.experiments.records import ExampleRun, Experiment, Failure, Score

__all__ = ["SummaryEvaluator", "summarize", "summary_evaluator"]

PARAMETERS = ("inputs", "outputs", "reference_outputs", "experiment", "runs", "examples")
"""What a function may ask for: lists with an entry for each run that succeeded, or the Experiment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryEvaluator:
    """Something that scores an experiment. Made by `summary_evaluator`."""

    name: str
    call: Callable[[Experiment], object]
    is_async: bool = False
    key: str | None = None


def summary_evaluator(target: object, *, name: str | None = None) -> SummaryEvaluator:
    """The summary evaluator in `target`, a function of any of `PARAMETERS`, sync or async.

    `inputs`, `outputs` and `reference_outputs` are lists with an entry for each run that succeeded (a reference may be
    None); `runs` and `examples` are LangSmith's Run and Example of the same; `experiment` has the failed ones too.
    Raises InputError for anything else.
    """
    if isinstance(target, SummaryEvaluator):
        return target
    if not callable(target) or isinstance(target, type):
        raise InputError(
            f"expected a summary evaluator (a function of any of {', '.join(PARAMETERS)}), found {_kind(target)}"
        )
    function: Callable[..., object] = target
    found = name or name_of(function)
    signature = read_signature(function, PARAMETERS, name=found)

    def call(experiment: Experiment) -> object:
        runs = [run for run in experiment.runs if run.status == "success" and run.error is None]
        if not runs and signature.names != ("experiment",):
            raise MissingValue(f"expected a run that succeeded, found none of {len(experiment.runs)}")
        return signature.call(function, {name: _value(name, experiment, runs) for name in signature.names})

    return SummaryEvaluator(name=found, call=call, is_async=is_async(function), key=name)


def _value(name: str, experiment: Experiment, runs: Sequence[ExampleRun]) -> object:
    match name:
        case "experiment":
            return experiment
        case "inputs":
            return [run.example.inputs for run in runs]
        case "outputs":
            return [run.outputs for run in runs]
        case "reference_outputs":
            return [run.example.reference_outputs for run in runs]
        case "runs":
            return [langsmith_run(run, experiment.workflow) for run in runs]
        case _:
            return [langsmith_example(run) for run in runs]


def _kind(target: object) -> str:
    return f"the class {target.__name__}" if isinstance(target, type) else type(target).__name__


async def summarize(
    evaluators: Sequence[SummaryEvaluator], experiment: Experiment
) -> tuple[tuple[Score, ...], tuple[Failure, ...]]:
    """The scores of all evaluators over the experiment, and the failures of those that gave none; one after another.

    Synchronous ones run in a thread. An error that would meet every call alike (a model's wrong key, no connection to
    it) is raised.
    """
    scores: list[Score] = []
    failures: list[Failure] = []
    for each in evaluators:
        before = failed_calls()
        try:
            value = each.call(experiment) if each.is_async else await asyncio.to_thread(each.call, experiment)
            found = read_scores(await value if inspect.isawaitable(value) else value, name=each.name, key=each.key)
            if twice := {score.key for score in found} & {score.key for score in scores}:
                raise MissingValue(f"expected a key of its own, found {min(twice)!r}, which another one gives too")
            scores += map(without_users, found)
        except (Exception, SystemExit) as error:
            if stops_all(error, before):
                raise
            failures.append(_failure(each, error, experiment))
    return tuple(scores), tuple(failures)


def _failure(evaluator: SummaryEvaluator, error: BaseException, experiment: Experiment) -> Failure:
    message = text_of(error)
    if not isinstance(error, PlaitError | MissingValue) and any(
        run.example.reference_outputs is None for run in experiment.runs
    ):
        message += "; some examples have no reference_outputs"
    return Failure(evaluator.name, type(error).__name__, shown(message))
