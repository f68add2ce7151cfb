"""Draws a report's small figures as SVG: intervals, a difference around zero, wins and losses, distributions.

Colours are classes of report.css, so that they follow light and dark. Before is hollow or thin and after is filled: no
figure needs its colours to be read, and each stands beside its numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from plait.experiments.findings import Metric, MetricComparison
from plait.reports.markup import Writer, amount, number, share, signed

__all__ = ["Values", "difference", "distribution", "interval", "outcomes"]

WIDTH = 260
_MARGIN = 10
_BINS = 20


@dataclass(frozen=True, slots=True)
class Values:
    """What the runs of an experiment scored in one metric: numbers (a bool is 0 or 1), or names of categories."""

    numbers: Sequence[float] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float

    def at(self, value: float) -> float:
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_MARGIN + part * (WIDTH - 2 * _MARGIN), 1)


def _svg(height: int, label: str, content: str) -> str:
    return (
        f'<svg class="figure" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{label}">{content}</svg>'
    )


def interval(metrics: Sequence[Metric]) -> str:
    """A dot and a whisker for each, on one axis: one metric, or the same of before (first, hollow) and after."""
    known = [metric for metric in metrics if metric.mean is not None]
    if not known:
        return ""
    axis = _scale(known)
    height = 14 * len(known) + 16
    parts, told = [_ends(axis, height, known[-1].kind)], []
    for index, metric in enumerate(known):
        tone = "before" if len(metrics) > 1 and metric is metrics[0] else "after"
        assert metric.mean is not None
        parts.append(_whisker(axis, metric, 8 + 14 * index, tone))
        told.append(amount(metric.mean, metric.kind))
    return _svg(height, f"mean {' then '.join(told)}", "".join(parts))


def _whisker(axis: _Axis, metric: Metric, y: int, tone: str) -> str:
    drawn = ""
    if metric.interval is not None:
        low, high = axis.at(metric.interval.low), axis.at(metric.interval.high)
        drawn = f'<path class="line {tone}" d="M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"/>'
    return f'{drawn}<circle class="dot {tone}" cx="{axis.at(metric.mean or 0.0)}" cy="{y}" r="4"/>'


def _scale(metrics: Sequence[Metric]) -> _Axis:
    values = [metric.mean for metric in metrics if metric.mean is not None]
    values += [end for metric in metrics if metric.interval for end in (metric.interval.low, metric.interval.high)]
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return _Axis(0.0, 1.0)
    # Zero belongs to the axis where it is not far away: a short axis makes small differences look large.
    low, high = min(low, 0.0) if low < 3 * (high - low) else low, max(high, 0.0)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    return _Axis(low if low == 0 else low - room, high if high == 0 else high + room)


def _ends(axis: _Axis, height: int, kind: str) -> str:
    ends = [re.sub(r"\.0+(?!\d)", "", amount(end, kind)) for end in (axis.low, axis.high)]
    return (
        f'<path class="axis" d="M{_MARGIN} {height - 14}H{WIDTH - _MARGIN}"/>'
        f'<text x="{_MARGIN}" y="{height - 2}">{ends[0]}</text>'
        f'<text x="{WIDTH - _MARGIN}" y="{height - 2}" text-anchor="end">{ends[1]}</text>'
    )


def difference(found: MetricComparison) -> str:
    """The difference and its interval around zero, the better side named."""
    if found.difference is None:
        return ""
    ends = [found.difference, *((found.interval.low, found.interval.high) if found.interval else ())]
    reach = max(map(abs, ends)) * 1.15 or 1.0
    axis = _Axis(-reach, reach)
    zero, dot = axis.at(0), axis.at(found.difference)
    sides = ("better", "worse") if found.after.lower_is_better else ("worse", "better")
    line = ""
    if found.interval is not None:
        low, high = axis.at(found.interval.low), axis.at(found.interval.high)
        line = f'<path class="line after" d="M{low} 13H{high}M{low} 9v8M{high} 9v8"/>'
    content = (
        f'<path class="axis" d="M{_MARGIN} 26H{WIDTH - _MARGIN}"/><path class="zero" d="M{zero} 2V26"/>{line}'
        f'<circle class="dot after" cx="{dot}" cy="13" r="4"/>'
        f'<text x="{_MARGIN}" y="38">\N{LEFTWARDS ARROW} {sides[0]}</text>'
        f'<text x="{zero}" y="38" text-anchor="middle">0</text>'
        f'<text x="{WIDTH - _MARGIN}" y="38" text-anchor="end">{sides[1]} \N{RIGHTWARDS ARROW}</text>'
    )
    return _svg(42, f"difference {signed(found.difference)}", content)


def outcomes(found: MetricComparison) -> str:
    """Wins, ties and losses as one bar."""
    total = found.wins + found.ties + found.losses
    if not total:
        return ""
    parts, left = [], 0.0
    for kind, size in (("win", found.wins), ("tie", found.ties), ("loss", found.losses)):
        width = round(WIDTH * size / total, 1)
        if width:
            parts.append(f'<rect class="{kind}" x="{round(left, 1)}" y="0" width="{max(width - 1, 0.5)}" height="10"/>')
        left += width
    return _svg(10, f"{found.wins} better, {found.ties} the same, {found.losses} worse", "".join(parts))


def distribution(metric: Metric, after: Values, before: Values | None, write: Writer) -> str:
    """How the scores lie: bars of shares for passes and categories, a histogram for numbers; empty without scores."""
    if metric.kind == "mean":
        return _histogram(after.numbers, before.numbers if before else None)
    counts = [_counted(values, metric.kind) for values in (after, before) if values is not None]
    names = ["passed", "failed"] if metric.kind == "share" else [name for name, _ in counts[0].most_common(8)]
    names += [name for extra in counts[1:] for name, _ in extra.most_common(8) if name not in names]
    return _bars(names, counts, write) if any(counts) else ""


def _counted(values: Values, kind: str) -> Counter[str]:
    if kind == "category":
        return Counter(values.names)
    return Counter("passed" if value else "failed" for value in values.numbers)


def _bars(names: Sequence[str], counts: Sequence[Counter[str]], write: Writer) -> str:
    left, room, step = 84, WIDTH - 84 - 52, 12 * len(counts) + 8
    parts, told = [], []
    for index, name in enumerate(names):
        y = index * step
        shown = write(name if len(name) <= 12 else f"{name[:11]}…")
        parts.append(f'<text x="0" y="{y + step / 2 + 2}">{shown}<title>{write(name)}</title></text>')
        # Before stands above after, as in time.
        for order, counted in enumerate(reversed(counts)):
            tone = "after" if order == len(counts) - 1 else "before"
            part = counted[name] / (counted.total() or 1)
            top = y + 12 * order + 2
            width = max(round(room * part, 1), 1)
            parts.append(f'<rect class="bar {tone}" x="{left}" y="{top}" width="{width}" height="9"/>')
            parts.append(f'<text x="{left + width + 5}" y="{top + 9}">{share(part)}</text>')
            told.append(f"{tone} {write(name)} {share(part)}")
    return _svg(len(names) * step, ", ".join(told), "".join(parts))


def _histogram(after: Sequence[float], before: Sequence[float] | None) -> str:
    if not after:
        return ""
    values = [*after, *(before or ())]
    low, high = min(values), max(values)
    if low >= 0 and 0.5 < high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    axis, height = _Axis(low, high), 96
    counts = [_binned(some, axis) for some in (after, before) if some]
    top = max(max(bins) / sum(bins) for bins in counts)
    width = (WIDTH - 2 * _MARGIN) / _BINS
    parts = []
    for index, size in enumerate(counts[0]):
        tall = round(78 * size / sum(counts[0]) / top, 1)
        x = round(_MARGIN + index * width, 1)
        start = low + (high - low) * index / _BINS
        parts.append(
            f'<rect class="bar after" x="{x}" y="{82 - tall}" width="{round(width - 1, 1)}" height="{tall}">'
            f"<title>{size} from {number(start)} to {number(start + (high - low) / _BINS)}</title></rect>"
        )
    if len(counts) > 1:
        parts.append(_outline(counts[1], top, width))
    told = ", ".join(str(size) for size in counts[0])
    return _svg(
        height,
        f"from {number(low)} to {number(high)} in {_BINS} steps: {told}",
        "".join(parts) + _ends(axis, height, "mean"),
    )


def _outline(bins: Sequence[int], top: float, width: float) -> str:
    tall = [round(82 - 78 * size / sum(bins) / top, 1) for size in bins]
    steps = "".join(f"V{y}H{round(_MARGIN + (index + 1) * width, 1)}" for index, y in enumerate(tall))
    return f'<path class="outline before" d="M{_MARGIN} 82{steps}V82"/>'


def _binned(values: Sequence[float], axis: _Axis) -> list[int]:
    bins = [0] * _BINS
    for value in values:
        if math.isfinite(value):
            bins[min(int((value - axis.low) / (axis.high - axis.low) * _BINS), _BINS - 1)] += 1
    return bins
