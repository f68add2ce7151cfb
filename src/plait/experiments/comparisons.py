"""Two experiments over the same examples: what differs beyond chance, in scores, nodes and costs.

Needs scipy (the extra `eval`); raises SettingsError without it. Computing only: it blocks, for about a second with
5,000 examples, so call it in a thread from an event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from plait.datasets.examples import Example
from plait.errors import InputError
from plait.experiments.findings import (
    Change,
    Comparison,
    Metric,
    MetricComparison,
    NodeComparison,
    NodeTotals,
    Totals,
)
from plait.experiments.metrics import Scored, clusters_of, metric_of, node_totals, scored, totals, whole_cost_usd
from plait.experiments.records import Experiment
from plait.experiments.remarks import Gathered, gaps_between, remarks_on
from plait.experiments.statistics.corrections import holm
from plait.experiments.statistics.differences import PairedDifference, paired_bools, paired_numbers
from plait.experiments.verdicts import Outcome, RunCost, overall, sentence_of, verdict_of

__all__ = ["compare"]

_NAMED = 5


def compare(before: Experiment, after: Experiment, *, intersect: bool = False) -> Comparison:
    """What `after` shows against `before`, pair by pair over the examples that have a score in both.

    Pairs are formed by example id, from the means over repetitions; those that lack the score on one side (a failed
    run or evaluator) are left out of that metric, `notes` counts them, and the verdict begins with what failures left
    out. What `before` has and `after` lacks stands in `lost`, whole metrics too. Metrics are the keys that both have,
    in the order of `after`; their `before`, `after`, `difference` and sentence are over pairs. Totals are of all runs,
    what a run of the workflow costs is of the examples that succeeded in both.
    p-values are corrected by Holm over all metrics of which some pair differs: those of which none does could not
    have been rejected anyhow (R. E. Tarone, A Modified Bonferroni Method for Discrete Data, 1990).

    Raises InputError where the examples are not the same, naming the difference; with `intersect` the ones that are
    equal on both sides are compared, and it is raised where there is none.
    """
    shared = _shared(before, after, intersect=intersect)
    wanted = frozenset(shared)
    only_before, only_after = _only(before, wanted), _only(after, wanted)
    before, after = _limited(before, wanted), _limited(after, wanted)
    scores = scored(before), scored(after)
    gaps = gaps_between(before, after, shared, scores)
    outcomes = _corrected(list(_pairs(before, after, shared, scores)))
    metrics = tuple(_comparison(pair) for pair in outcomes)
    sums = totals(before), totals(after)
    return Comparison(
        before=before.name,
        after=after.name,
        examples=len(shared),
        only_before=only_before,
        only_after=only_after,
        metrics=metrics,
        nodes=_nodes(before, after, metrics),
        totals_before=sums[0],
        totals_after=sums[1],
        shared_draws=_reuses(after, before, sums[1]) or _reuses(before, after, sums[0]),
        verdict=overall(
            before.name,
            after.name,
            metrics,
            sums,
            missing=gaps.all,
            run_cost=_run_cost(before, after),
        ),
        notes=(*remarks_on(before, after, sums), *(note for pair in outcomes for note in pair.notes())),
        lost=gaps.lost,
    )


def _run_cost(before: Experiment, after: Experiment) -> RunCost | None:
    """Of a run of the workflow in each, over the examples none of whose runs failed in either."""
    failed = {run.example.id for each in (before, after) for run in each.runs if run.status != "success"}
    sides = [[run for run in each.runs if run.example.id not in failed] for each in (before, after)]
    old, new = (whole_cost_usd(runs) for runs in sides)
    if not all(sides) or not old or not new:
        return None
    examples = len({run.example.id for run in sides[1]}) if failed else None
    return RunCost(old / len(sides[0]), new / len(sides[1]), examples)


def _reuses(one: Experiment, other: Experiment, found: Totals) -> bool:
    replayed = found.replayed_calls + found.judge_replayed_calls
    return one.reused is not None and one.reused in (other.name, other.id) and replayed > 0


def _only(experiment: Experiment, shared: frozenset[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.example.id for run in experiment.runs if run.example.id not in shared))


def _limited(experiment: Experiment, shared: frozenset[str]) -> Experiment:
    return replace(experiment, runs=tuple(run for run in experiment.runs if run.example.id in shared))


def _shared(before: Experiment, after: Experiment, *, intersect: bool) -> tuple[str, ...]:
    """The ids of the examples that both have and that are equal."""
    old = {run.example.id: run.example for run in before.runs}
    new = {run.example.id: run.example for run in after.runs}
    both = [example_id for example_id in old if example_id in new]
    changed = [example_id for example_id in both if not _same(old[example_id], new[example_id])]
    shared = tuple(example_id for example_id in both if example_id not in set(changed))
    if len(shared) == len(old) == len(new):
        return shared
    differences = [
        _some([example_id for example_id in old if example_id not in new], f"only in {before.name}"),
        _some([example_id for example_id in new if example_id not in old], f"only in {after.name}"),
        _some(changed, "with other inputs or reference outputs"),
    ]
    found = "; ".join(filter(None, differences))
    if unfinished := [f"{one.name} is {one.status}" for one in (before, after) if one.status != "finished"]:
        found += f" ({', '.join(unfinished)})"
    expected = f"cannot compare {before.name} with {after.name}: expected the same examples in both, found"
    if not shared:
        raise InputError(f"{expected} {found}: none is in both, so choose experiments over the same dataset")
    if not intersect:
        raise InputError(f"{expected} {found}; compare the {len(shared):,} that are equal in both with --intersect")
    return shared


def _same(one: Example, other: Example) -> bool:
    parts = ((one.inputs, other.inputs), (one.reference_outputs, other.reference_outputs))
    # NaN is not equal to itself, but written the same.
    return all(left == right or repr(left) == repr(right) for left, right in parts)


def _some(ids: Sequence[str], what: str) -> str:
    if not ids:
        return ""
    more = ", ..." if len(ids) > _NAMED else ""
    return f"{len(ids):,} {what} ({', '.join(ids[:_NAMED])}{more})"


@dataclass(frozen=True, slots=True)
class _Pair:
    """One key in both experiments, of so many `examples`."""

    before: Metric
    after: Metric
    outcome: Outcome
    examples: int

    def notes(self) -> Iterator[str]:
        if left_out := self.examples - self.outcome.found.pairs:
            lacking = f"{left_out:,} of {self.examples:,} examples lack this score on one side or both"
            left = self.outcome.found.pairs
            rest = f"; before and after are of the other {left:,}" if left else ""
            yield f"{self.outcome.name}: {lacking} and are left out{rest}"
        if self.before.kind != self.after.kind:
            yield f"{self.outcome.name}: a {self.before.kind} before and a {self.after.kind} after"
        yield from (
            f"{self.outcome.name}: {note}"
            for note in dict.fromkeys((self.outcome.found.note, self.before.note, self.after.note))
            if note
        )


def _pairs(
    before: Experiment, after: Experiment, shared: Sequence[str], scores: tuple[Gathered, Gathered]
) -> Iterator[_Pair]:
    old, new = scores
    clusters = clusters_of(after) or clusters_of(before)
    lower = before.lower_is_better | after.lower_is_better
    for identity, one in new.items():
        if (other := old.get(identity)) is None:
            continue
        name = one.key if one.node is None else f"{one.key} of {one.node}"
        is_category = one.is_category and other.is_category
        both = other.values.keys() & one.values.keys() if is_category else other.numbers.keys() & one.numbers.keys()
        metric_before, metric_after = (
            replace(_over(both, found, experiment, clusters), lower_is_better=one.key in lower)
            for found, experiment in ((other, before), (one, after))
        )
        paired = _categories if is_category else _numbers
        outcome = replace(paired(name, other, one, shared, clusters), lower_is_better=one.key in lower)
        yield _Pair(metric_before, metric_after, outcome, len(shared))


def _over(both: Set[str], found: Scored, experiment: Experiment, clusters: Mapping[str, object] | None) -> Metric:
    """The metric of these examples; `unscored` stays that of all."""
    whole = metric_of(found, experiment, clusters)
    if both == (found.values.keys() if found.is_category else found.numbers.keys()):
        return whole
    if not both:
        nothing = replace(whole, examples=0, scores=0, mean=None, interval=None, deviation=None, shares={})
        return replace(nothing, note="no pair has this score on both sides")
    numbers = {example_id: each for example_id, each in found.numbers.items() if example_id in both}
    values = {example_id: each for example_id, each in found.values.items() if example_id in both}
    number_runs, value_runs = (sum(map(len, each.values())) for each in (numbers, values))
    limited = replace(
        found,
        numbers=numbers,
        values=values,
        bools=number_runs if found.is_share else min(found.bools, number_runs - 1),
        number_runs=number_runs,
        value_runs=value_runs,
    )
    return replace(metric_of(limited, experiment, clusters), unscored=whole.unscored)


def _numbers(
    name: str, before: Scored, after: Scored, shared: Sequence[str], clusters: Mapping[str, object] | None
) -> Outcome:
    old, new = before.means(), after.means()
    ids = [example_id for example_id in shared if example_id in old and example_id in new]
    olds, news = [old[example_id] for example_id in ids], [new[example_id] for example_id in ids]
    groups = [clusters[example_id] for example_id in ids] if clusters is not None else None
    share = before.is_share and after.is_share
    if groups is not None and len(set(groups)) == len(ids):
        groups = None
    if share and groups is None and before.is_single and after.is_single:
        found = paired_bools([value > 0 for value in olds], [value > 0 for value in news])
    else:
        found = paired_numbers(olds, news, clusters=groups, within=1.0 if share else math.inf)
    changes = [
        Change(example_id=example_id, before=one, after=other)
        for example_id, one, other in zip(ids, olds, news, strict=True)
        if not math.isclose(one, other, rel_tol=1e-12)
    ]
    changes.sort(key=lambda change: -abs(change.after - change.before))
    means = (math.fsum(olds) / len(ids), math.fsum(news) / len(ids)) if ids else (0.0, 0.0)
    return Outcome(name=name, found=found, means=means, changes=changes, is_share=share, lower_is_better=False)


def _categories(
    name: str, before: Scored, after: Scored, shared: Sequence[str], _clusters: Mapping[str, object] | None
) -> Outcome:
    """Categories have no better and worse: how many changed is all that is said."""
    both = [example_id for example_id in shared if example_id in before.values and example_id in after.values]
    changed = sum(sorted(before.values[example_id]) != sorted(after.values[example_id]) for example_id in both)
    found = PairedDifference(pairs=len(both))
    return Outcome(name=name, found=found, means=(0.0, 0.0), changes=(), is_share=False, recategorized=changed)


def _corrected(pairs: Sequence[_Pair]) -> list[_Pair]:
    """With the p-values that follow from there being several."""
    tested = [(index, p) for index, pair in enumerate(pairs) if (p := pair.outcome.found.p) is not None]
    adjusted = dict(zip((index for index, _ in tested), holm([p for _, p in tested]), strict=True))
    return [
        replace(pair, outcome=replace(pair.outcome, p_adjusted=adjusted.get(index), tested=len(tested)))
        for index, pair in enumerate(pairs)
    ]


def _comparison(pair: _Pair) -> MetricComparison:
    outcome, found = pair.outcome, pair.outcome.found
    return MetricComparison(
        key=pair.after.key,
        before=pair.before,
        after=pair.after,
        pairs=found.pairs,
        difference=found.difference,
        interval=found.interval,
        p=found.p,
        p_adjusted=outcome.p_adjusted,
        test=found.test,
        effect=found.effect,
        effect_name=found.effect_name,
        detectable=found.detectable,
        wins=outcome.wins,
        ties=found.pairs - len(outcome.changes) - outcome.recategorized,
        losses=len(outcome.changes) - outcome.wins,
        verdict=verdict_of(outcome),
        sentence=sentence_of(outcome),
        changes=tuple(outcome.changes),
    )


def _nodes(before: Experiment, after: Experiment, metrics: Sequence[MetricComparison]) -> tuple[NodeComparison, ...]:
    """Of every node in either, and of those that are scored."""
    old, new = node_totals(before), node_totals(after)
    own: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.after.node is not None:
            own.setdefault(metric.after.node, []).append(metric.key)
    return tuple(
        NodeComparison(
            name=name,
            before=old.get(name, NodeTotals()),
            after=new.get(name, NodeTotals()),
            metrics=tuple(own.get(name, ())),
        )
        for name in dict.fromkeys((*old, *new, *own))
    )
