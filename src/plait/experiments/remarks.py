"""What a reader of a comparison must know: what failures left out of it, and what else differs than was meant to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from plait.experiments.findings import Totals
from plait.experiments.metrics import Scored
from plait.experiments.records import Experiment

__all__ = ["Gaps", "Gathered", "gaps_between", "remarks_on"]

Gathered = Mapping[tuple[str, str | None], Scored]
"""Scores by key and node, as `scored` gives them."""

_NAMED = 5


def remarks_on(before: Experiment, after: Experiment, sums: tuple[Totals, Totals]) -> tuple[str, ...]:
    """A sentence for each thing that differs, the replayed calls first, then what failed. `sums` are their totals."""
    return (
        *_draws(before, after, sums),
        *_mixed(before, after),
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


def _mixed(*experiments: Experiment) -> Iterator[str]:
    for each in experiments:
        if each.mixed:
            yield f"{each.name} was gone on with after its code or evaluators had changed: its scores mix both"


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


@dataclass(frozen=True, slots=True)
class Gaps:
    """Sentences on what could not be compared."""

    all: tuple[str, ...]
    """What failures on either side left out, or made a part of."""
    lost: tuple[str, ...]
    """What `before` has and `after` lacks: examples whose runs all failed, then scores."""


def gaps_between(
    before: Experiment, after: Experiment, shared: Sequence[str], scores: tuple[Gathered, Gathered]
) -> Gaps:
    """What is left out of the comparison of the examples `shared`; `scores` are those of both (`scored`)."""
    gone = {each.name: _gone(each, shared) for each in (after, before)}
    found: list[str] = []
    lost: list[str] = []
    if lacking := gone[before.name] | gone[after.name]:
        sides = " and ".join(f"{name} failed on {len(ids):,}" for name, ids in gone.items() if ids)
        found.append(f"{_of(len(lacking), len(shared))} could not be compared: {sides}")
    if lacking := gone[after.name] - gone[before.name]:
        lost.append(f"{_of(len(lacking), len(shared))} could not be compared: {after.name} failed on {len(lacking):,}")
    for each in (after, before):
        ran = [run for run in each.runs if run.example.id not in gone[each.name]]
        if failed := sum(run.status != "success" for run in ran):
            found.append(f"{failed:,} of {len(each.runs):,} runs of {each.name} failed and count in no score")
    lost_scores = tuple(_unscored(before, after, scores))
    back = _unscored(after, before, (scores[1], scores[0]), removed=False)
    return Gaps((*found, *lost_scores, *back), (*lost, *lost_scores))


def _of(count: int, examples: int) -> str:
    return f"{count:,} of {examples:,} example{'' if examples == 1 else 's'}"


def _gone(experiment: Experiment, shared: Sequence[str]) -> set[str]:
    """The ids of the examples of which no run succeeded."""
    return set(shared) - {run.example.id for run in experiment.runs if run.status == "success"}


def _unscored(
    one: Experiment, other: Experiment, scores: tuple[Gathered, Gathered], *, removed: bool = True
) -> Iterator[str]:
    """Of the scores of `one` those that `other` has on fewer examples though their runs succeeded, and why.

    An evaluator may well say nothing of a run: only where one failed is a pair lost. With `removed` a score that
    nothing in `other` gives any more is told too.
    """
    old, new = scores
    keys = {key for key, _ in (*old, *new)}
    ran = {run.example.id for run in other.runs if run.status == "success"}
    for (key, node), found in old.items():
        label = key if node is None else f"{key} of {node}"
        has = _ids(new[key, node]) if (key, node) in new else set()
        lacking = (_ids(found) & ran) - has
        failed = lacking & _failing(other, key, keys)
        if failed:
            lost = f"its evaluator failed in {other.name} on {_of(len(failed), len(_ids(found)))} that {one.name} has"
            yield f"{label} is in {one.name} only: {lost}" if not has else f"{label}: {lost}"
        elif removed and lacking and (key, node) not in new and not _is_of_replays(key, one, other):
            yield f"{label} is in {one.name} only: no evaluator of {other.name} gave this score"


def _ids(found: Scored) -> set[str]:
    return {*found.numbers, *found.values}


def _failing(experiment: Experiment, key: str, keys: set[str]) -> set[str]:
    """The examples on which the evaluator of this key failed: it has its name, unless it names its scores itself."""
    return {
        run.example.id
        for run in experiment.runs
        if any(failure.evaluator == key or failure.evaluator not in keys for failure in run.failures)
    }


def _is_of_replays(key: str, one: Experiment, other: Experiment) -> bool:
    """Whether it may be a measure of what runs took, such as a latency: replayed runs have none."""
    ran = [run for run in other.runs if run.status == "success"]
    return key in one.lower_is_better and all(run.usage.get("replayed_calls") for run in ran)


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
