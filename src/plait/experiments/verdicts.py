"""What a comparison says, in words with figures: a sentence a metric, and one or two over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plait.experiments.findings import Change, Interval, MetricComparison, Totals, Verdict
from plait.experiments.statistics.differences import PairedDifference

__all__ = ["Outcome", "RunCost", "overall", "sentence_of", "verdict_of"]

ALPHA = 0.05
_NAMED = 4
_FEWEST = 6
"""With fewer pairs no sign test has a p below 0.05 either, whatever they show: that they are equal says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One metric over its pairs, as far as it is known before it is put into words."""

    name: str
    found: PairedDifference
    means: tuple[float, float]
    """Over the pairs, before and after."""
    changes: Sequence[Change]
    is_share: bool
    lower_is_better: bool = False
    recategorized: int = 0
    """Pairs of categories that differ."""
    p_adjusted: float | None = None
    tested: int = 1
    """How many metrics the correction was over."""

    @property
    def gained(self) -> int:
        """Pairs in which the score rose, whatever direction is better."""
        return sum(change.after > change.before for change in self.changes)

    @property
    def wins(self) -> int:
        return len(self.changes) - self.gained if self.lower_is_better else self.gained


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run of the workflow costs in dollars on average, as if nothing had been replayed."""

    before: float
    after: float
    examples: int | None = None
    """The examples that it is of, where failed ones were left out."""


def verdict_of(outcome: Outcome) -> Verdict:
    """Better or worse where the corrected p is below 0.05, no difference where all of six pairs or more are equal."""
    if not outcome.changes and not outcome.recategorized:
        return "no difference" if outcome.found.pairs >= _FEWEST else "cannot tell"
    difference = outcome.found.difference
    if outcome.p_adjusted is None or outcome.p_adjusted >= ALPHA or not difference:
        return "cannot tell"
    return "better" if (difference > 0) != outcome.lower_is_better else "worse"


def sentence_of(outcome: Outcome) -> str:
    """The verdict of one metric: `speed is better: 0.62 -> 0.85 (+0.23, ...); 11 examples gained, 2 lost`."""
    found, verdict = outcome.found, verdict_of(outcome)
    if not found.pairs:
        return f"{outcome.name}: cannot tell, no example has this score on both sides"
    if not outcome.changes and not outcome.recategorized:
        return f"{outcome.name}: {verdict}, {_equal(outcome)}"
    if found.difference is None:
        changed = f"{outcome.recategorized:,} of {found.pairs:,} examples changed their category"
        return f"{outcome.name}: cannot tell, {changed}, and of categories none is better"
    digits = _digits(*outcome.means, found.difference)
    way = f"{outcome.means[0]:,.{digits}f} -> {outcome.means[1]:,.{digits}f}"
    moved = "; ".join(filter(None, (_moved(outcome), _seen(outcome, digits) if verdict == "cannot tell" else "")))
    parts = ", ".join(filter(None, (_signed(found.difference, digits), _span(found.interval, digits), _p(outcome))))
    if verdict == "cannot tell":
        return f"{outcome.name}: cannot tell, {way} ({parts}); {moved}"
    lower = " (less is better)" if outcome.lower_is_better else ""
    return f"{outcome.name} is {verdict}{lower}: {way} ({parts}); {moved}"


def _equal(outcome: Outcome) -> str:
    pairs = outcome.found.pairs
    few = ", too few to say" if pairs < _FEWEST else ""
    if outcome.found.difference is None:
        alike = "its one pair has" if pairs == 1 else f"all of {pairs:,} examples have"
        return f"{alike} the same category{few}"
    equal = "its one pair is equal" if pairs == 1 else f"all {pairs:,} pairs are equal"
    return f"{equal}{few} (mean {outcome.means[0]:,.{_digits(*outcome.means, 0.0)}f})"


def _moved(outcome: Outcome) -> str:
    noun = "example" if outcome.found.pairs == 1 else "examples"
    if outcome.is_share and not outcome.lower_is_better:
        lost = len(outcome.changes) - outcome.gained
        return f"{outcome.gained:,} of {outcome.found.pairs:,} {noun} gained, {lost:,} lost"
    return f"{outcome.wins:,} of {outcome.found.pairs:,} {noun} better, {len(outcome.changes) - outcome.wins:,} worse"


def _seen(outcome: Outcome, digits: int) -> str:
    """What would have shown; nothing where the difference is larger than that and still did not."""
    found = outcome.found
    if found.detectable is None or found.difference is None or abs(found.difference) >= found.detectable:
        return ""
    pairs = f"{found.pairs:,} example{'s' if found.pairs > 1 else ''}"
    return f"with {pairs} a difference of {found.detectable:,.{digits}f} or more would show"


def _span(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return ""
    return f"95 % interval {_signed(interval.low, digits)} to {_signed(interval.high, digits)}"


def _p(outcome: Outcome) -> str:
    p = outcome.p_adjusted
    if p is None:
        return ""
    words = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"
    return f"{words}, corrected for {outcome.tested} metrics" if outcome.tested > 1 else words


def _digits(before: float, after: float, difference: float) -> int:
    """So many decimals that the difference shows, and large means have no more than they need."""
    least = 2 if max(abs(before), abs(after)) < 100 else 1 if max(abs(before), abs(after)) < 1000 else 0
    size = abs(difference) or max(abs(before), abs(after))
    wanted = -math.floor(math.log10(size)) if size > 0 else 0
    return min(9, max(least, wanted))


def _signed(number: float, digits: int) -> str:
    text = f"{number:+,.{digits}f}"
    return text.replace("-", "+", 1) if not text.strip("-0.,") else text


def overall(
    before: str,
    after: str,
    metrics: Sequence[MetricComparison],
    totals: tuple[Totals, Totals],
    *,
    missing: Sequence[str] = (),
    run_cost: RunCost | None = None,
) -> str:
    """What could not be compared (`missing`, sentences), what all metrics say together, then what it cost."""
    gaps = [f"{sentence}." for sentence in missing[:_NAMED]]
    if more := len(missing) - len(gaps):
        gaps.append(f"{more:,} more of the kind stand in the notes.")
    said = _scores(before, after, metrics, whole=not missing)
    return " ".join(filter(None, (*gaps, said, _price(before, after, *totals), _run_price(run_cost))))


def _scores(before: str, after: str, metrics: Sequence[MetricComparison], *, whole: bool) -> str:
    if not metrics:
        return f"Nothing to compare: {before} and {after} have no score in common."
    by: dict[Verdict, list[MetricComparison]] = {}
    for metric in metrics:
        by.setdefault(metric.verdict, []).append(metric)
    clear = [
        f"{verdict} in {_list([_named(metric) for metric in by[verdict]])}"
        for verdict in ("better", "worse")
        if verdict in by
    ]
    unclear = by.get("cannot tell", [])
    if clear:
        rest = f" Cannot tell about {_list([_label(metric) for metric in unclear])}." if unclear else ""
        return f"{'' if whole else 'Of the rest: '}{after} is {', but '.join(clear)} than {before}.{rest}"
    if unclear:
        return f"Cannot tell whether {after} is better than {before}: {_doubts(unclear)}."
    if not whole:
        return "What could be compared is equal in every pair."
    return f"No difference between {before} and {after}: every pair of scores is equal."


def _doubts(unclear: Sequence[MetricComparison]) -> str:
    few = [_label(metric) for metric in unclear if metric.ties == metric.pairs]
    moved = [_label(metric) for metric in unclear if metric.ties != metric.pairs]
    return " and ".join(
        filter(
            None,
            (
                f"what differs in {_list(moved)} may be chance" if moved else "",
                f"{_list(few)} {'has' if len(few) == 1 else 'have'} too few pairs to say" if few else "",
            ),
        )
    )


def _label(metric: MetricComparison) -> str:
    return metric.key if metric.after.node is None else f"{metric.key} of {metric.after.node}"


def _named(metric: MetricComparison) -> str:
    if metric.difference is None:
        return _label(metric)
    digits = _digits(metric.before.mean or 0.0, metric.after.mean or 0.0, metric.difference)
    return f"{_label(metric)} ({_signed(metric.difference, digits)})"


def _list(names: Sequence[str]) -> str:
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        shown.append(f"{len(names) - _NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _price(before: str, after: str, old: Totals, new: Totals) -> str:
    paid, replayed = new.paid_calls + new.judge_calls, new.replayed_calls + new.judge_replayed_calls
    calls = f"{paid:,} call{'' if paid == 1 else 's'} paid, {replayed:,} replayed"
    if new.cost_usd is None:
        return f"{after} took {calls}; what they cost is not known, a model has no price."
    other = f", {before} {_dollars(old.cost_usd)}" if old.cost_usd is not None else ""
    return f"{after} cost {_dollars(new.cost_usd)} ({calls}){other}."


def _run_price(cost: RunCost | None) -> str:
    if cost is None or (cost.examples is not None and cost.examples < _FEWEST):
        return ""
    of = f", over the {cost.examples:,} examples that succeeded in both" if cost.examples is not None else ""
    if math.isclose(cost.before, cost.after, rel_tol=1e-3):
        return f"A run of the workflow costs the same, {_dollars(cost.after)}{of}."
    more = f"{100 * (cost.after / cost.before - 1):+,.1f} %"
    return f"A run of the workflow costs {_dollars(cost.after)} instead of {_dollars(cost.before)} ({more}){of}."


def _dollars(cost: float) -> str:
    if cost == 0:
        return "$0"
    return f"${cost:,.{max(2, min(9, 1 - math.floor(math.log10(cost))))}f}"
