"""What a comparison says, in words with figures: a sentence a metric, and one or two over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plait.experiments.findings import Change, Interval, MetricComparison, Totals, Verdict
from plait.experiments.statistics.differences import PairedDifference

__all__ = ["Outcome", "overall", "sentence_of", "verdict_of"]

ALPHA = 0.05
_NAMED = 4


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


def verdict_of(outcome: Outcome) -> Verdict:
    """Better or worse where the corrected p is below 0.05, no difference where all pairs are equal."""
    if outcome.found.pairs and not outcome.changes and not outcome.recategorized:
        return "no difference"
    difference = outcome.found.difference
    if outcome.p_adjusted is None or outcome.p_adjusted >= ALPHA or not difference:
        return "cannot tell"
    return "better" if (difference > 0) != outcome.lower_is_better else "worse"


def sentence_of(outcome: Outcome) -> str:
    """The verdict of one metric: `speed is better: 0.62 -> 0.85 (+0.23, ...); 11 examples gained, 2 lost`."""
    found, verdict = outcome.found, verdict_of(outcome)
    if not found.pairs:
        return f"{outcome.name}: cannot tell, no example has this score on both sides"
    if found.difference is None:
        if not outcome.recategorized:
            return f"{outcome.name}: no difference, all of {found.pairs:,} examples have the same category"
        changed = f"{outcome.recategorized:,} of {found.pairs:,} examples changed their category"
        return f"{outcome.name}: cannot tell, {changed}, and of categories none is better"
    digits = _digits(*outcome.means, found.difference)
    if verdict == "no difference":
        pairs = "its one pair is equal" if found.pairs == 1 else f"all {found.pairs:,} pairs are equal"
        return f"{outcome.name}: no difference, {pairs} (mean {outcome.means[0]:,.{digits}f})"
    way = f"{outcome.means[0]:,.{digits}f} -> {outcome.means[1]:,.{digits}f}"
    moved = "; ".join(filter(None, (_moved(outcome), _seen(outcome, digits) if verdict == "cannot tell" else "")))
    parts = ", ".join(filter(None, (_signed(found.difference, digits), _span(found.interval, digits), _p(outcome))))
    if verdict == "cannot tell":
        return f"{outcome.name}: cannot tell, {way} ({parts}); {moved}"
    lower = " (less is better)" if outcome.lower_is_better else ""
    return f"{outcome.name} is {verdict}{lower}: {way} ({parts}); {moved}"


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


def overall(before: str, after: str, metrics: Sequence[MetricComparison], totals: tuple[Totals, Totals]) -> str:
    """What all metrics say together, then what the experiment cost and what a run of the workflow does."""
    return " ".join(
        filter(None, (_scores(before, after, metrics), _price(before, after, *totals), _run_price(*totals)))
    )


def _scores(before: str, after: str, metrics: Sequence[MetricComparison]) -> str:
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
    unclear = [_label(metric) for metric in by.get("cannot tell", [])]
    if clear:
        rest = f" Cannot tell about {_list(unclear)}." if unclear else ""
        return f"{after} is {', but '.join(clear)} than {before}.{rest}"
    if unclear:
        return f"Cannot tell whether {after} is better than {before}: what differs in {_list(unclear)} may be chance."
    return f"No difference between {before} and {after}: every pair of scores is equal."


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


def _run_price(old: Totals, new: Totals) -> str:
    if not old.whole_cost_usd or not new.whole_cost_usd or not old.runs or not new.runs:
        return ""
    one, other = old.whole_cost_usd / old.runs, new.whole_cost_usd / new.runs
    if math.isclose(one, other, rel_tol=1e-3):
        return f"A run of the workflow costs the same, {_dollars(other)}."
    more = f"{100 * (other / one - 1):+,.1f} %"
    return f"A run of the workflow costs {_dollars(other)} instead of {_dollars(one)} ({more})."


def _dollars(cost: float) -> str:
    if cost == 0:
        return "$0"
    return f"${cost:,.{max(2, min(9, 1 - math.floor(math.log10(cost))))}f}"
