"""What experiments show: one metric of one experiment, and two experiments side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Change",
    "Comparison",
    "Interval",
    "Metric",
    "MetricComparison",
    "NodeComparison",
    "NodeTotals",
    "Totals",
    "Verdict",
]

Kind = Literal["share", "mean", "category"]
"""Of a metric: the share of runs that passed (bools), the mean of numbers, or shares of categories."""
Verdict = Literal["better", "worse", "no difference", "cannot tell"]
"""`no difference`: every pair is equal, and there are six or more."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high` at `level`, and how it was found (`Wilson`, `t`, `bootstrap`, `cluster t`, ...)."""

    low: float
    high: float
    method: str
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A score over one experiment. Repetitions of an example are averaged first, so `examples` is the sample's size."""

    key: str
    kind: Kind
    lower_is_better: bool = False
    node: str | None = None
    examples: int
    scores: int
    """Runs with this score."""
    unscored: int = 0
    """Runs without it: they failed, or its evaluator did."""
    mean: float | None = None
    """None for categories, and where there is no score."""
    interval: Interval | None = None
    """None where nothing can be said, of one example for instance; `note` says why."""
    deviation: float | None = None
    """Sample standard deviation over examples."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of a category: how often each value occurred, from 0 to 1, the most frequent first."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An example whose score differs between two experiments; with several repetitions the means."""

    example_id: str
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric of `after` against `before`, over the examples that have it in both."""

    key: str
    before: Metric
    """Over the pairs, as `after` is; `unscored` is of all runs."""
    after: Metric
    pairs: int
    difference: float | None = None
    """Mean of after - before over pairs, whatever direction is better."""
    interval: Interval | None = None
    """Of the difference."""
    p: float | None = None
    p_adjusted: float | None = None
    """By Holm, over all metrics that were compared."""
    test: str = ""
    """`exact McNemar`, `paired t`, `permutation`, ..."""
    effect: float | None = None
    effect_name: str = ""
    """`Cohen's d_z`, `odds ratio`, ..."""
    detectable: float | None = None
    """The smallest difference that so many pairs would show in 80 % of cases, at 5 %."""
    wins: int = 0
    """Pairs in which after is the better one."""
    ties: int = 0
    losses: int = 0
    verdict: Verdict = "cannot tell"
    sentence: str = ""
    """The verdict in words, with figures."""
    changes: tuple[Change, ...] = ()
    """Pairs that differ, the largest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What an experiment took. A cost is None where a model has no price."""

    runs: int
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed runs, by kind."""
    evaluator_failures: Mapping[str, int] = field(default_factory=dict)
    """By evaluator."""
    paid_calls: int = 0
    replayed_calls: int = 0
    """Answered by another experiment's journal; what a resume replays of its own was paid for, and counts so."""
    judge_calls: int = 0
    """Paid by evaluators."""
    judge_replayed_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """Of the calls paid for, the evaluators' included."""
    judge_cost_usd: float | None = None
    """The evaluators' part of it."""
    whole_cost_usd: float | None = None
    """Of the workflow's calls alone as if none had been replayed: what it costs in production."""
    mean_latency_s: float | None = None
    """Of runs that succeeded and replayed no call, without their waits for permits; None where there is none."""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTotals:
    """One node over all runs of an experiment."""

    executions: int = 0
    paid_calls: int = 0
    replayed_calls: int = 0
    cost_usd: float | None = None
    """As if none had been replayed."""
    mean_latency_s: float | None = None
    """Of an execution without replayed calls, less its waits for permits; None where there is none."""
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeComparison:
    """A node in two experiments; `metrics` are those scored on its own outputs."""

    name: str
    before: NodeTotals
    after: NodeTotals
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two experiments over the same examples."""

    before: str
    after: str
    examples: int
    """Those in both."""
    only_before: tuple[str, ...] = ()
    """Ids left out by --intersect."""
    only_after: tuple[str, ...] = ()
    metrics: tuple[MetricComparison, ...] = ()
    nodes: tuple[NodeComparison, ...] = ()
    totals_before: Totals
    totals_after: Totals
    shared_draws: bool = False
    """Whether one replayed the other's answers: what is equal upstream was drawn once, and differs in nothing."""
    verdict: str = ""
    """A sentence or two over all metrics."""
    notes: tuple[str, ...] = ()
    """What a reader must know: errors left out, other models, other code, ..."""
    lost: tuple[str, ...] = ()
    """Sentences on what `before` has and `after` lacks: examples whose runs failed, scores whose evaluator failed or
    was removed. Empty where every score of `before` has its pair."""
