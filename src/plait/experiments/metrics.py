"""What an experiment's scores, calls and costs come to: one metric a key, totals, and totals by node.

Needs scipy (the extra `eval`) where there are scores; raises SettingsError without it. Computing only: it blocks, for
about 0.1 s with 5,000 examples and three metrics, so call it in a thread from an event loop.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from plait.datasets.examples import Example
from plait.experiments.findings import Interval, Metric, NodeTotals, Totals
from plait.experiments.latencies import calls_within, latency_s, node_latency_s
from plait.experiments.records import CallTrace, ExampleRun, Experiment, Score
from plait.experiments.statistics.means import Numbers, cluster_error, deviation, mean_interval
from plait.experiments.statistics.proportions import effective_wilson, wilson

__all__ = ["Scored", "clusters_of", "metric_of", "metrics", "node_totals", "scored", "totals", "whole_cost_usd"]

_LARGEST = 1e150
"""Squares of larger numbers are infinite."""


@dataclass(slots=True)
class Scored:
    """The scores of one key (and node) by example id, those of all its repetitions together."""

    key: str
    node: str | None
    numbers: dict[str, list[float]] = field(default_factory=dict)
    """Bools as 1 and 0."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """Categories."""
    bools: int = 0
    """How many of the numbers were bools."""
    number_runs: int = 0
    value_runs: int = 0
    unusable: int = 0

    def add(self, example_id: str, scores: Iterable[Score]) -> None:
        """Those of one run; several of them are averaged."""
        found = [score.score for score in scores if score.score is not None]
        usable = [number for number in found if math.isfinite(number) and abs(number) <= _LARGEST]
        self.unusable += len(found) - len(usable)
        if usable:
            self.number_runs += 1
            self.bools += all(isinstance(number, bool) for number in usable)
            self.numbers.setdefault(example_id, []).append(sum(map(float, usable)) / len(usable))
        if words := [score.value for score in scores if score.score is None and score.value is not None]:
            self.value_runs += 1
            self.values.setdefault(example_id, []).append(" + ".join(words))

    @property
    def is_category(self) -> bool:
        return not self.numbers and not self.unusable

    @property
    def is_share(self) -> bool:
        """Whether every score is a bool."""
        return self.number_runs > 0 and self.bools == self.number_runs

    @property
    def is_single(self) -> bool:
        """Whether every example has one number."""
        return len(self.numbers) == self.number_runs

    def means(self) -> dict[str, float]:
        """By example, over its repetitions."""
        return {example_id: math.fsum(found) / len(found) for example_id, found in self.numbers.items()}


def metrics(experiment: Experiment) -> tuple[Metric, ...]:
    """A metric for each key and node of its scores, in the order in which they first occur.

    The repetitions of an example are averaged first: examples are what is drawn, repetitions of one are alike. The
    interval is Wilson's for bools with one run an example, Wilson's with the effective number of scores for bools
    that repeat or have clusters, else that of `mean_interval`. A run that failed, or whose evaluator did, has no
    score and counts as `unscored`, never as 0; so does a score that is no finite number below 1e150. A key with both
    bools and numbers is treated as numbers, one with both numbers and categories by its numbers; `note` says so.
    """
    clusters = clusters_of(experiment)
    return tuple(metric_of(found, experiment, clusters) for found in scored(experiment).values())


def scored(experiment: Experiment) -> dict[tuple[str, str | None], Scored]:
    """The scores of its runs, gathered by key and node."""
    gathered: dict[tuple[str, str | None], Scored] = {}
    for run in experiment.runs:
        groups: dict[tuple[str, str | None], list[Score]] = {}
        for score in run.scores:
            if score.score is not None or score.value is not None:
                groups.setdefault((score.key, score.node), []).append(score)
        for (key, node), group in groups.items():
            gathered.setdefault((key, node), Scored(key, node)).add(run.example.id, group)
    return gathered


def clusters_of(experiment: Experiment) -> dict[str, object] | None:
    """By example id what it belongs to; None without `experiment.cluster`. Examples without it stand alone."""
    if experiment.cluster is None:
        return None
    name = experiment.cluster
    return {run.example.id: _cluster(run.example, name) for run in experiment.runs}


def _cluster(example: Example, name: str) -> object:
    value = (example.metadata or {}).get(name)
    return ("", example.id) if value is None else repr(value)


def metric_of(found: Scored, experiment: Experiment, clusters: Mapping[str, object] | None) -> Metric:
    """What the scores of one key come to, of an experiment with these clusters."""
    if found.is_category:
        return _category(found, experiment)
    means = found.means()
    numbers = np.array(list(means.values()), dtype=np.float64)
    groups = [clusters[example_id] for example_id in means] if clusters is not None else None
    if groups is not None and len(set(groups)) == len(groups):
        groups = None
    interval = _interval(found, numbers, groups)
    return Metric(
        key=found.key,
        kind="share" if found.is_share else "mean",
        lower_is_better=found.key in experiment.lower_is_better,
        node=found.node,
        examples=numbers.size,
        scores=found.number_runs,
        unscored=len(experiment.runs) - found.number_runs,
        mean=float(numbers.mean()) if numbers.size else None,
        interval=interval,
        deviation=deviation(numbers) if numbers.size > 1 else None,
        note="; ".join(_notes(found, numbers, groups, interval)),
    )


def _category(found: Scored, experiment: Experiment) -> Metric:
    counts = Counter(word for words in found.values.values() for word in words)
    return Metric(
        key=found.key,
        kind="category",
        node=found.node,
        examples=len(found.values),
        scores=found.value_runs,
        unscored=len(experiment.runs) - found.value_runs,
        shares={word: count / found.value_runs for word, count in counts.most_common()},
    )


def _interval(found: Scored, numbers: Numbers, groups: list[object] | None) -> Interval | None:
    if not found.is_share:
        return mean_interval(numbers, groups)
    if groups is None and found.is_single:
        return wilson(float(numbers.sum()), numbers.size)
    if groups is None:
        error, units = deviation(numbers) / math.sqrt(numbers.size), numbers.size
    else:
        error, units = cluster_error(numbers, groups)
    return effective_wilson(float(numbers.mean()), error, scores=found.number_runs, units=units)


def _notes(found: Scored, numbers: Numbers, groups: list[object] | None, interval: Interval | None) -> Iterable[str]:
    if found.unusable:
        yield f"{found.unusable} not counted: no finite number below {_LARGEST:g}"
    if 0 < found.bools < found.number_runs:
        yield "some scores are bools and some numbers: treated as numbers, passed as 1"
    if found.values:
        yield f"{found.value_runs} categories not counted: other scores of it are numbers"
    if interval is not None:
        return
    if numbers.size == 0:
        yield "no score that can be used"
    elif numbers.size == 1:
        yield "one example: how much scores vary cannot be known, so there is no interval"
    elif groups is not None and len(set(groups)) == 1:
        yield "one cluster: how much clusters vary cannot be known, so there is no interval"
    else:
        yield "all scores are equal: how much they vary cannot be known, so there is no interval"


def totals(experiment: Experiment) -> Totals:
    """What it took. Tokens and `cost_usd` are the workflow's and the evaluators' together, of what was paid for."""
    usages = [run.usage for run in experiment.runs]
    judged = [*(run.judge_usage for run in experiment.runs), experiment.summary_usage]
    failures = Counter(failure.evaluator for run in experiment.runs for failure in run.failures)
    failures.update(failure.evaluator for failure in experiment.summary_failures)
    latencies = [
        latency_s(run) for run in experiment.runs if run.status == "success" and not _count(run.usage, "replayed_calls")
    ]
    return Totals(
        runs=len(experiment.runs),
        errors=Counter(_kind(run) for run in experiment.runs if run.status != "success"),
        evaluator_failures=failures,
        paid_calls=_paid(usages),
        replayed_calls=_total(usages, "reused_calls"),
        judge_calls=_paid(judged),
        judge_replayed_calls=_total(judged, "reused_calls"),
        input_tokens=_total(usages + judged, "input_tokens"),
        cached_tokens=_total(usages + judged, "cached_tokens"),
        output_tokens=_total(usages + judged, "output_tokens"),
        cost_usd=_sum(map(_cost, usages + judged)),
        judge_cost_usd=_sum(map(_cost, judged)),
        whole_cost_usd=whole_cost_usd(experiment.runs),
        mean_latency_s=math.fsum(latencies) / len(latencies) if latencies else None,
        duration_s=experiment.duration_s,
    )


def _paid(usages: Sequence[Mapping[str, object]]) -> int:
    """Calls that were paid for, now or by this experiment's own earlier sittings, whose answers it replayed."""
    return _total(usages, "calls") + _total(usages, "replayed_calls") - _total(usages, "reused_calls")


def _kind(run: ExampleRun) -> str:
    return run.error.type if run.error is not None else run.status


def _count(usage: Mapping[str, object], name: str) -> int:
    number = usage.get(name)
    return number if isinstance(number, int) else 0


def _total(usages: Iterable[Mapping[str, object]], name: str) -> int:
    return sum(_count(usage, name) for usage in usages)


def _sum(costs: Iterable[float | None]) -> float | None:
    known: list[float] = []
    for cost in costs:
        if cost is None:
            return None
        known.append(cost)
    return math.fsum(known)


def _cost(usage: Mapping[str, object]) -> float | None:
    cost = usage.get("cost_usd")
    if isinstance(cost, int | float):
        return float(cost)
    return None if _count(usage, "calls") or "cost_usd" in usage else 0.0


def whole_cost_usd(runs: Iterable[ExampleRun]) -> float | None:
    """What the runs cost in dollars as if no call had been replayed; None where a model has no price."""
    return _sum(map(_whole_cost, runs))


def _whole_cost(run: ExampleRun) -> float | None:
    calls = [call for node in run.nodes for call in node.calls]
    if not calls:
        return None if _count(run.usage, "replayed_calls") else _cost(run.usage)
    return _calls_cost(calls)


def _calls_cost(calls: Iterable[CallTrace]) -> float | None:
    return _sum(call.cost_usd for call in calls if not (call.failed and call.cost_usd is None))


def node_totals(experiment: Experiment) -> dict[str, NodeTotals]:
    """By node, in the order in which they first began, what its executions took over all runs.

    A latency (`node_latency_s`) counts where the execution did not fail and no call in it, or in a graph nested in it,
    was replayed.
    """
    gathered: dict[str, _Node] = {}
    for run in experiment.runs:
        within = calls_within(run.nodes)
        for node in sorted(run.nodes, key=lambda node: node.began_s):
            entry = gathered.setdefault(node.name, _Node())
            entry.executions += 1
            entry.errors += node.error is not None
            entry.calls += node.calls
            calls = within.get(node.branch, ())
            if node.error is None and not any(call.replayed for call in calls):
                entry.latencies.append(node_latency_s(node, calls))
    return {name: entry.totals() for name, entry in gathered.items()}


@dataclass(slots=True)
class _Node:
    executions: int = 0
    errors: int = 0
    calls: list[CallTrace] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def totals(self) -> NodeTotals:
        reused = sum(call.reused for call in self.calls)
        return NodeTotals(
            executions=self.executions,
            paid_calls=len(self.calls) - reused,
            replayed_calls=reused,
            cost_usd=_calls_cost(self.calls),
            mean_latency_s=math.fsum(self.latencies) / len(self.latencies) if self.latencies else None,
            errors=self.errors,
        )
