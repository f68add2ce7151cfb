"""What a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plait.experiments.findings import Comparison, Metric, Totals
from plait.experiments.records import Experiment

__all__ = ["ReportInput"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """An experiment and what was computed from it; with a `comparison` also the experiment that it is compared with."""

    experiment: Experiment
    metrics: Sequence[Metric]
    totals: Totals
    comparison: Comparison | None = None
    """Its `after` is `experiment`."""
    before: Experiment | None = None
    """The comparison's other experiment, for its outputs and scores beside each run's."""
    thresholds: Sequence[tuple[str, bool]] = ()
    """What was demanded, as a sentence, and whether it was met."""
    generated_at: float
    """In seconds since the epoch."""
    keys: Sequence[str] = ()
    """Secrets to be hidden besides those that look like one."""
