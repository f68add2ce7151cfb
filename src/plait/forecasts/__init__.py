"""What a batch will cost and when it will be done, from the rows of a probe and the limits that are known."""

from plait.forecasts.comparisons import Actual, compare
from plait.forecasts.durations import Concurrency, Part, Quota, Rate, Sure
from plait.forecasts.outlooks import Forecast, Plan, forecast
from plait.forecasts.probes import Interval, ModelUse, ProbeRow

__all__ = [
    "Actual",
    "Concurrency",
    "Forecast",
    "Interval",
    "ModelUse",
    "Part",
    "Plan",
    "ProbeRow",
    "Quota",
    "Rate",
    "Sure",
    "compare",
    "forecast",
]
