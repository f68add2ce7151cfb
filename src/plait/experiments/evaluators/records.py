"""Runs and examples as LangSmith's evaluators read them; nothing here is sent anywhere."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from plait.experiments.records import ExampleRun

if TYPE_CHECKING:
    from langsmith.evaluation import RunEvaluator
    from langsmith.schemas import Example, Run

__all__ = ["as_run_evaluator", "is_async_evaluator", "langsmith_example", "langsmith_run", "name_of_evaluator"]


def langsmith_run(run: ExampleRun, name: str = "run") -> Run:
    """The run as LangSmith's Run: ids are derived from the example's, so that they are the same every time.

    It ends now and began `duration_s` ago; `child_runs` is empty. Outputs that are no dict stand under `output`.
    """
    from langsmith.schemas import Run  # noqa: PLC0415  (a second to import, and few evaluators need it)

    end = datetime.now(UTC)
    run_id = _id(f"run {run.position} {run.repetition} {run.example.id}")
    return Run(
        id=run_id,
        trace_id=run_id,
        name=name,
        run_type="chain",
        start_time=end - timedelta(seconds=run.duration_s),
        end_time=end,
        inputs=dict(run.example.inputs),
        outputs=_as_dict(run.outputs),
        error=None if run.error is None else f"{run.error.type}: {run.error.message}",
        reference_example_id=_id(run.example.id),
        child_runs=[],
        status=run.status,
        prompt_tokens=_count(run, "input_tokens"),
        completion_tokens=_count(run, "output_tokens"),
        total_tokens=(_count(run, "input_tokens") or 0) + (_count(run, "output_tokens") or 0),
    )


def langsmith_example(run: ExampleRun) -> Example:
    """The run's example as LangSmith's Example; `outputs` are the reference outputs."""
    from langsmith.schemas import Example  # noqa: PLC0415

    example = run.example
    return Example(
        id=_id(example.id),
        inputs=dict(example.inputs),
        outputs=None if example.reference_outputs is None else dict(example.reference_outputs),
        metadata=None if example.metadata is None else dict(example.metadata),
    )


def as_run_evaluator(target: object) -> RunEvaluator | None:
    """LangSmith's evaluator in `target`, if it is one or can be made one. Imports nothing."""
    module = sys.modules.get("langsmith.evaluation.evaluator")
    if module is None:  # what was never imported has no instances
        return None
    make = getattr(target, "as_run_evaluator", None)
    made = make() if callable(make) and not isinstance(target, type) else target
    return cast("RunEvaluator", made) if isinstance(made, module.RunEvaluator) else None


def is_async_evaluator(evaluator: RunEvaluator) -> bool:
    """Whether it has an async form of its own. LangSmith's default one runs the other in a thread without context."""
    if (own := getattr(evaluator, "is_async", None)) is not None:
        return bool(own)
    return type(evaluator).aevaluate_run.__module__ != "langsmith.evaluation.evaluator"


def name_of_evaluator(evaluator: RunEvaluator) -> str:
    """The function's name, else the only key it gives, else its class."""
    if name := getattr(evaluator, "__name__", None):
        return str(name)
    keys = evaluator.feedback_keys
    return keys[0] if len(keys) == 1 else type(evaluator).__name__


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, text)


def _as_dict(outputs: object) -> dict[str, object] | None:
    if outputs is None:
        return None
    return dict(outputs) if isinstance(outputs, Mapping) else {"output": outputs}


def _count(run: ExampleRun, name: str) -> int | None:
    count = run.usage.get(name)
    return count if isinstance(count, int) else None
