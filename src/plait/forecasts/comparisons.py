"""A forecast beside what happened."""

from __future__ import annotations

from dataclasses import dataclass

from plait.forecasts.outlooks import Forecast
from plait.forecasts.probes import Interval


@dataclass(frozen=True, slots=True)
class Actual:
    """What the rows of a forecast really cost and took; None where it is not known."""

    cost_usd: float | None = None
    tokens: float | None = None
    calls: float | None = None
    duration_s: float | None = None
    """Of the time the batch ran, without pauses that its user made."""
    failures: float | None = None


def compare(forecast: Forecast, actual: Actual) -> list[str]:
    """Lines of a table: each number's forecast, its interval, what it was, and whether that lies inside."""
    rows = [("", "forecast", "9 of 10 times", "actual", "")]
    for name, interval, value, show in (
        ("cost", forecast.cost_usd, actual.cost_usd, _usd),
        ("tokens", forecast.tokens, actual.tokens, _count),
        ("calls", forecast.calls, actual.calls, _count),
        ("time", forecast.duration_s, actual.duration_s, _span),
        ("failed rows", forecast.failures, actual.failures, _count),
    ):
        if interval is None and value is None:
            continue
        rows.append(
            (
                name,
                "-" if interval is None else show(interval.likely),
                "-" if interval is None else f"{show(interval.low)} to {show(interval.high)}",
                "-" if value is None else show(value),
                "" if interval is None or value is None else _verdict(interval, value),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in (1, 2, 3)), row[4]]
        ).rstrip()
        for row in rows
    ]


def _verdict(interval: Interval, value: float) -> str:
    # Bounds are shown rounded; what rounds to them is inside.
    slack = 1e-6 * max(abs(interval.high), 1e-9)
    if value < interval.low - slack:
        return "below"
    return "above" if value > interval.high + slack else "inside"


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
