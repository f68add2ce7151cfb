"""Scores, differences, shares and times of experiments as a terminal shows them."""

from __future__ import annotations

import math

from plait.cli.durations import money, spell
from plait.experiments.findings import Interval, Kind

UNKNOWN = "?"
_SIGNIFICANT = 3
_MOST_DECIMALS = 9


def number(value: float | None) -> str:
    """Three significant digits: 0.750, 12.3, 5,120, 0.0000204."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{decimals}f}" if (decimals := _decimals(value)) is not None else f"{value:.2e}"


def _decimals(value: float) -> int | None:
    """None where the digits would begin too far behind the point."""
    if value == 0:
        return 0
    found = max(0, _SIGNIFICANT - 1 - math.floor(math.log10(abs(value))))
    return found if found <= _MOST_DECIMALS else None


def percent(share: float | None) -> str:
    """A share from 0 to 1: 62.5 %."""
    return UNKNOWN if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def amount(value: float | None, kind: Kind) -> str:
    """A metric's value, in percent where it is a share."""
    return percent(value) if kind == "share" else number(value)


def change(value: float | None, kind: Kind, *, mean: float | None = None) -> str:
    """A difference with its sign, to the decimals of the `mean` it is of; of shares in percentage points."""
    if value is None or not math.isfinite(value):
        return ""
    if kind == "share":
        return f"{_signed(100 * value, 1)} points"
    decimals = _decimals(mean if mean is not None and math.isfinite(mean) else value)
    if value and decimals is not None:
        decimals = max(decimals, -math.floor(math.log10(abs(value))))
    return _signed(value, decimals if decimals is not None and decimals <= _MOST_DECIMALS else None)


def _signed(value: float, decimals: int | None) -> str:
    text = f"{value:+.2e}" if decimals is None else f"{value:+,.{decimals}f}"
    # What rounds to zero has no sign.
    return text if text.strip("+-0.,") else text[1:]


def interval(found: Interval | None, kind: Kind) -> str:
    """Of a metric: 0.610 to 0.920, or 61.0 to 92.0 %."""
    if found is None:
        return ""
    low, high = amount(found.low, kind), amount(found.high, kind)
    return f"{low.removesuffix(' %')} to {high}"


def change_interval(found: Interval | None, kind: Kind) -> str:
    """Of a difference: +0.05 to +0.41, in percentage points where it is of shares."""
    if found is None:
        return ""
    if kind == "share":
        return f"{_signed(100 * found.low, 1)} to {_signed(100 * found.high, 1)}"
    largest = _decimals(max(abs(found.low), abs(found.high)))
    return f"{_signed(found.low, largest)} to {_signed(found.high, largest)}"


def probability(p: float | None) -> str:
    """A p-value; those below 0.001 as such."""
    if p is None or not math.isfinite(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def seconds(value: float | None) -> str:
    """A duration, with decimals below a minute: 0.17 s, 12.3 s, 3 min 20 s."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value >= 59.95:
        return spell(value)
    return f"{value:.{1 if value >= 9.995 else 2 if value >= 0.0995 else 3}f} s"


def dollars(value: float | None) -> str:
    """A cost, two significant digits of a very small one; one that nobody knows (a model has no price) as such."""
    if value is None:
        return UNKNOWN
    return f"${value:.{1 - math.floor(math.log10(value))}f}" if 1e-8 < value < 0.0001 else money(value)


def count(value: int, noun: str) -> str:
    """1 example, 2,000 examples."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def moved(before: str, after: str) -> str:
    """`before -> after`, or one of them where both are the same."""
    return after if before == after else f"{before} -> {after}"
