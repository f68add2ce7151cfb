"""What a reader of a comparison must know: what else differs between two experiments than what was meant to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from plait.experiments.findings import Totals
from plait.experiments.records import Experiment

__all__ = ["remarks_on"]

_NAMED = 5


def remarks_on(before: Experiment, after: Experiment, sums: tuple[Totals, Totals]) -> tuple[str, ...]:
    """A sentence for each thing that differs, the replayed calls first, then what failed. `sums` are their totals."""
    return (
        *_draws(before, after, sums),
        *_failed(before, sums[0]),
        *_failed(after, sums[1]),
        *_origins(before, after),
        *_setups(before, after),
        *_summaries(before, after),
    )


def _draws(before: Experiment, after: Experiment, sums: tuple[Totals, Totals]) -> Iterator[str]:
    for one, other, found in ((after, before, sums[1]), (before, after, sums[0])):
        if one.reused is None or one.reused not in (other.name, other.id):
            continue
        replayed = found.replayed_calls + found.judge_replayed_calls
        calls = replayed + found.paid_calls + found.judge_calls
        if not replayed:
            yield f"none of the {calls:,} calls of {one.name} was asked alike in {other.name}: nothing was replayed"
            continue
        yield (
            f"{replayed:,} of {calls:,} calls of {one.name} were replayed from {other.name}: upstream draws are the "
            "same, so what differs comes from what was changed, and upstream variation is in neither interval nor p"
        )


def _failed(experiment: Experiment, found: Totals) -> Iterator[str]:
    if found.errors:
        yield f"{experiment.name}: {_counts(found.errors)} of {found.runs:,} runs failed; they count in no score"
    if found.evaluator_failures:
        yield f"{experiment.name}: evaluators gave no score: {_counts(found.evaluator_failures)}"
    if experiment.status != "finished":
        yield f"{experiment.name} is {experiment.status}: not all of it was compared"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {name}" for name, count in ordered)


def _origins(before: Experiment, after: Experiment) -> Iterator[str]:
    old, new = before.origin, after.origin
    if old.model != new.model:
        yield f"other model: {old.model or 'none'} before, {new.model or 'none'} after"
    if keys := _differing(old.context, new.context):
        yield f"other context: {_some(keys)}"
    commits = f" (commit {_short(old.commit)} before, {_short(new.commit)} after)" if old.commit != new.commit else ""
    if old.workflow_digest != new.workflow_digest:
        yield f"other code or graph of the workflow{commits}"
    elif commits:
        yield f"the workflow's code is the same, other files may differ{commits}"
    for experiment in (before, after):
        if experiment.origin.dirty:
            yield f"{experiment.name} was run with changes that are in no commit"
    if packages := _differing(old.versions, new.versions):
        yield "other versions: " + _some(
            [f"{name} {old.versions.get(name, 'none')} -> {new.versions.get(name, 'none')}" for name in packages]
        )


def _setups(before: Experiment, after: Experiment) -> Iterator[str]:
    if before.workflow != after.workflow:
        yield f"other workflow: {before.workflow} before, {after.workflow} after"
    if before.node != after.node:
        whole = "the whole workflow"
        yield f"other target: {before.node or whole} before, {after.node or whole} after"
    if before.repetitions != after.repetitions:
        yield f"other repetitions: {before.repetitions} before, {after.repetitions} after"
    if before.cluster != after.cluster:
        used = after.cluster or before.cluster
        yield f"other clusters: {before.cluster or 'none'} before, {after.cluster or 'none'} after; by {used} here"
    old, new = _keys(before), _keys(after)
    for experiment, keys in (
        (before, [key for key in old if key not in new]),
        (after, [k for k in new if k not in old]),
    ):
        if keys:
            yield f"only {experiment.name} was scored by {_some(keys)}"
    one, other = before.lower_is_better & new.keys() & old.keys(), after.lower_is_better & new.keys() & old.keys()
    if unequal := sorted(one ^ other):
        yield f"less is better in one experiment only for {_some(unequal)}; taken as less is better"


def _keys(experiment: Experiment) -> dict[str, None]:
    return {score.key: None for run in experiment.runs for score in run.scores}


def _summaries(before: Experiment, after: Experiment) -> Iterator[str]:
    old = {score.key: score.score for score in before.summary_scores if score.score is not None}
    for score in after.summary_scores:
        if score.score is not None and (earlier := old.get(score.key)) is not None:
            yield (
                f"{score.key} over all examples: {float(earlier):,.4g} before, {float(score.score):,.4g} after "
                "(one figure an experiment, so there is no test)"
            )


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return [key for key in dict.fromkeys((*old, *new)) if key not in old or key not in new or old[key] != new[key]]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _short(commit: str | None) -> str:
    return commit[:8] if commit else "none"
