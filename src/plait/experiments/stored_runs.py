"""What is stored of a scored row, beside its result: the example, scores, failures, and the trace; and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, cast

from plait.datasets.examples import Example
from plait.experiments.records import CallTrace, ExampleRun, Failure, NodeTrace, Score, ToolTrace
from plait.json_values import to_json
from plait.store.rows import RowRecord

__all__ = ["decode", "encode"]

_Record = TypeVar("_Record", Score, Failure, CallTrace, NodeTrace, ToolTrace)


def encode(run: ExampleRun, *, lower_is_better: Iterable[str] = ()) -> dict[str, object]:
    """The part of a run that is no part of its row's result, as JSON values; what has its default is left out.

    `lower_is_better` are the keys of scores of which less is better.
    """
    example = run.example
    stored: dict[str, object] = {
        "example": {
            "id": example.id,
            "inputs": to_json(example.inputs),
            "reference_outputs": to_json(example.reference_outputs),
            "metadata": to_json(example.metadata),
        },
        "repetition": run.repetition,
        "scores": [_told(score) for score in run.scores],
        "nodes": [_told(node) for node in run.nodes],
    }
    optional: Mapping[str, object] = {
        "failures": [_told(failure) for failure in run.failures],
        "tools": [_told(tool) for tool in run.tools],
        "judge_usage": dict(run.judge_usage),
        "lower": list(lower_is_better),
    }
    return stored | {name: value for name, value in optional.items() if value}


def decode(row: RowRecord) -> tuple[ExampleRun, frozenset[str]]:
    """The run of a stored row, and the keys of its scores of which less is better."""
    stored = cast("Mapping[str, Any]", row.evaluation or {})
    told: Mapping[str, Any] = stored.get("example") or {}
    example = Example(
        row.position,
        str(told.get("id", row.id)),
        told.get("inputs") or {},
        told.get("reference_outputs"),
        told.get("metadata"),
    )
    run = ExampleRun(
        position=row.position,
        example=example,
        repetition=int(stored.get("repetition", 0)),
        status=row.status,
        outputs=row.outputs,
        error=row.error,
        scores=_all(Score, stored.get("scores")),
        failures=_all(Failure, stored.get("failures")),
        duration_s=row.duration_s,
        usage=row.usage,
        judge_usage=stored.get("judge_usage") or {},
        nodes=tuple(
            NodeTrace(**{**node, "calls": _all(CallTrace, node.get("calls"))}) for node in stored.get("nodes") or ()
        ),
        tools=_all(ToolTrace, stored.get("tools")),
    )
    return run, frozenset(stored.get("lower") or ())


def _told(record: Score | Failure | CallTrace | NodeTrace | ToolTrace) -> dict[str, object]:
    told: dict[str, object] = {}
    for name, default in _DEFAULTS[type(record)]:
        value = getattr(record, name)
        if value == default and type(value) is type(default):
            continue
        if isinstance(value, float):
            told[name] = round(value, 6) if name.endswith("_s") else value
        elif name == "calls":
            told[name] = [_told(call) for call in value]
        else:
            told[name] = value if isinstance(value, str | bool | int) else to_json(value)
    return told


def _all(kind: type[_Record], told: Sequence[Mapping[str, Any]] | None) -> tuple[_Record, ...]:
    return tuple(kind(**each) for each in told or ())


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


_DEFAULTS: Mapping[type[object], tuple[tuple[str, object], ...]] = {
    kind: tuple((field.name, _default(field)) for field in fields(kind))
    for kind in (Score, Failure, CallTrace, NodeTrace, ToolTrace)
}
