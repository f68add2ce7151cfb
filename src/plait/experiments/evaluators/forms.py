"""Evaluators of any make behind one interface: functions, openevals', agentevals', LangSmith's and our own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from plait.datasets.examples import Example
from plait.errors import InputError, PlaitError
from plait.experiments.evaluators.faults import shown, text_of
from plait.experiments.evaluators.records import (
    as_run_evaluator,
    is_async_evaluator,
    langsmith_example,
    langsmith_run,
    name_of_evaluator,
)
from plait.experiments.evaluators.scores import BadScore, MissingValue, read_scores
from plait.experiments.evaluators.signatures import Signature, is_async, name_of, read_signature
from plait.experiments.records import ExampleRun, Failure, NodeTrace, Score
from plait.masking import masked

if TYPE_CHECKING:
    from langsmith.schemas import Example as LangSmithExample
    from langsmith.schemas import Run

__all__ = ["PARAMETERS", "UNSCORED", "Evaluator", "Pace", "Way", "evaluator", "failure_of", "without_users"]

PARAMETERS = ("inputs", "outputs", "reference_outputs", "run", "example")
"""What a function may ask for, any of them in any order."""

UNSCORED = object()
"""What a call of ours returns where a run can have no such score, and nothing failed."""

Way = Literal["async", "thread", "inline"]
"""`inline`: on the event loop's own thread, for what is known to take microseconds."""


@dataclass(slots=True)
class Pace:
    """How quick a synchronous evaluator is: the quick ones of a row share a thread."""

    slow: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Something that scores a run. Made by `evaluator`, or by the built-in ones' factories."""

    name: str
    call: Callable[[ExampleRun], object]
    """Gives what `read_scores` takes, or for `async` something that gives it when awaited."""
    way: Way
    takes: frozenset[str] = frozenset()
    """Which of `PARAMETERS` it looks at."""
    key: str | None = None
    """What its score is called, whatever it says itself; only where it gives one score."""
    lower_is_better: bool = False
    node: str | None = None
    """Score this node's outputs instead of the workflow's."""
    pace: Pace = field(default_factory=Pace, repr=False, compare=False)

    async def score(self, run: ExampleRun) -> tuple[Score, ...]:
        """The scores of a run; none where a built-in one has nothing to say (`latency_s` of a replayed run).

        Synchronous functions run in the loop's executor with this task's context variables. A function gets copies of
        inputs and outputs (dicts and lists; what else they hold is shared). For a `node`, `run.outputs` are the node's.
        Raises BadScore, and whatever the evaluator raises. When cancelled, an async evaluator is too; one in a thread
        runs to its end, and its result is dropped.
        """
        if self.way == "async":
            value = self.call(self._seen(run))
            return self._read(await value if inspect.isawaitable(value) else value)
        if self.way == "thread":
            return await asyncio.to_thread(self.score_here, run)
        return self.score_here(run)

    def score_here(self, run: ExampleRun) -> tuple[Score, ...]:
        """As `score`, on this thread; for those that are not async."""
        return self._read(self.call(self._seen(run)))

    def _seen(self, run: ExampleRun) -> ExampleRun:
        return run if self.node is None else _narrowed(run, self.node)

    def _read(self, value: object) -> tuple[Score, ...]:
        if value is UNSCORED:
            return ()
        if inspect.iscoroutine(value):
            value.close()
        scores = tuple(without_users(score) for score in read_scores(value, name=self.name, key=self.key))
        if self.node is None:
            return scores
        return tuple(score if score.node else replace(score, node=self.node) for score in scores)


def without_users(score: Score) -> Score:
    """The score without users and passwords in the URLs of its comment and metadata, which models may quote."""
    if score.comment is not None and "://" in score.comment:
        score = replace(score, comment=masked(score.comment))
    if score.metadata:
        score = replace(score, metadata={key: _masked(value) for key, value in score.metadata.items()})
    return score


def _masked(value: object) -> object:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value


def evaluator(
    target: object, *, name: str | None = None, lower_is_better: bool = False, node: str | None = None
) -> Evaluator:
    """The evaluator in `target`.

    `target` is a function (also async, a partial, a method, an object with `__call__`) of any of `PARAMETERS`, `run`
    being an ExampleRun and `example` its Example; LangSmith's RunEvaluator or a function `(run, example)` of its form,
    which get LangSmith's Run and Example; or an Evaluator, which gets the options. `name` goes before the key that the
    target gives its single score. Raises InputError for anything else and for parameters it cannot fill.
    """
    if isinstance(target, Evaluator):
        return replace(
            target,
            name=name or target.name,
            key=name or target.key,
            lower_is_better=lower_is_better or target.lower_is_better,
            node=node or target.node,
            pace=Pace(),
        )
    call, way, takes, found = _adapted(target, name)
    return Evaluator(
        name=name or found, call=call, way=way, takes=takes, key=name, lower_is_better=lower_is_better, node=node
    )


def _adapted(target: object, name: str | None) -> tuple[Callable[[ExampleRun], object], Way, frozenset[str], str]:
    if (theirs := as_run_evaluator(target)) is not None:
        found = name_of_evaluator(theirs)
        if is_async_evaluator(theirs):
            return lambda run: theirs.aevaluate_run(*_langsmith(run)), "async", _BOTH, found
        return lambda run: theirs.evaluate_run(*_langsmith(run)), "thread", _BOTH, found
    if isinstance(target, type):
        raise InputError(f"expected an evaluator, found the class {target.__name__}: give an instance of it")
    if not callable(target):
        raise InputError(
            f"expected an evaluator (a function of any of {', '.join(PARAMETERS)}), found "
            f"{type(target).__name__}: see docs/evaluation.md"
        )
    function: Callable[..., object] = target
    found = name_of(function)
    signature = read_signature(function, PARAMETERS, name=name or found)
    way: Way = "async" if is_async(function) else "thread"
    takes = frozenset(signature.names)
    if _is_langsmith(signature):
        return lambda run: signature.call(function, _theirs(run, takes)), way, takes | _BOTH, found
    return lambda run: signature.call(function, _values(run, takes)), way, takes, found


def _narrowed(run: ExampleRun, node: str) -> ExampleRun:
    """The run as if it had been the node alone: its time, over all executions, and its calls."""
    mine = tuple(trace for trace in run.nodes if trace.name == node or trace.name.startswith(f"{node}/"))
    duration_s = sum(trace.duration_s for trace in mine if trace.name == node)
    return replace(run, nodes=mine, duration_s=duration_s, usage=_usage(mine))


def _usage(traces: Sequence[NodeTrace]) -> dict[str, object]:
    calls = [call for trace in traces for call in trace.calls]
    return {
        "calls": sum(not call.replayed for call in calls),
        "replayed_calls": sum(call.replayed for call in calls),
        "input_tokens": sum(call.input_tokens for call in calls),
        "cached_tokens": sum(call.cached_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
    }


_BOTH = frozenset({"outputs", "reference_outputs"})


def _is_langsmith(signature: Signature) -> bool:
    """`(run, example)` and nothing else is LangSmith's oldest form, unless it asks for our own run by name.

    So is any function that asks for LangSmith's Run by name.
    """
    wanted = (signature.annotations or {}).get("run", "")
    if getattr(wanted, "__module__", "").startswith("langsmith"):
        return True
    name = wanted if isinstance(wanted, str) else str(getattr(wanted, "__name__", ""))
    return name.rpartition(".")[2] == "Run" or (signature.names == ("run", "example") and "ExampleRun" not in name)


def _langsmith(run: ExampleRun) -> tuple[Run, LangSmithExample]:
    copied = _copied_run(run)
    return langsmith_run(copied), langsmith_example(copied)


def _theirs(run: ExampleRun, takes: frozenset[str]) -> dict[str, object]:
    theirs, example = _langsmith(run)
    return {**_values(run, takes - {"run", "example"}), "run": theirs, "example": example}


def _values(run: ExampleRun, takes: frozenset[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    if "inputs" in takes:
        values["inputs"] = _copied(run.example.inputs)
    if "outputs" in takes:
        values["outputs"] = _copied(run.outputs)
    if "reference_outputs" in takes:
        values["reference_outputs"] = _copied(run.example.reference_outputs)
    if "run" in takes:
        values["run"] = _copied_run(run)
    if "example" in takes:
        values["example"] = _copied_example(run.example)
    return values


def _copied_run(run: ExampleRun) -> ExampleRun:
    return replace(run, example=_copied_example(run.example), outputs=_copied(run.outputs))


def _copied_example(example: Example) -> Example:
    references, metadata = example.reference_outputs, example.metadata
    return replace(
        example,
        inputs={key: _copied(value) for key, value in example.inputs.items()},
        reference_outputs=references and {key: _copied(value) for key, value in references.items()},
        metadata=metadata and {key: _copied(value) for key, value in metadata.items()},
    )


def _copied(value: object) -> object:
    # A quarter of what copy.deepcopy takes; other evaluators must not see what one of them does to its arguments.
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) is list:
        return [_copied(item) for item in value]
    return value


def failure_of(evaluator: Evaluator, error: BaseException, run: ExampleRun) -> Failure:
    """The error of an evaluator, in words that name what it lacked and where it stood, and hold no key."""
    message = text_of(error)
    ours = isinstance(error, BadScore | MissingValue | PlaitError)
    if not ours and (place := _place(error.__traceback__)):
        message += f" ({place})"
    if not ours and run.example.reference_outputs is None and "reference_outputs" in evaluator.takes:
        message += "; the example has no reference_outputs"
    return Failure(evaluator.name, type(error).__name__, shown(message))


_OURS = str(Path(__file__).resolve().parents[1])
_INSTALLED = ("site-packages", "/lib/python")


def _place(trace: TracebackType | None) -> str:
    """The innermost line of the user's own code, as `evaluators.py:12`; empty where there is none."""
    place = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.endswith(".py") and not file.startswith(_OURS) and not any(part in file for part in _INSTALLED):
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
