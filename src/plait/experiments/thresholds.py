"""What CI demands of an experiment: thresholds such as `>= 0.8` on a metric, or how many errors there may be."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plait.errors import InputError
from plait.experiments.findings import Metric
from plait.experiments.records import Experiment

__all__ = ["ERRORS", "Threshold", "ThresholdCheck", "check_thresholds", "parse_threshold", "parse_thresholds"]

ERRORS = "errors"
"""The key that counts failed runs and failed evaluators together."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_PATTERN = re.compile(r"\s*(>=|<=|>|<|)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound on one key. Without an operator it is the least, or the most where less is better and for `errors`."""

    key: str
    bound: float
    operator: str = ""
    """`>=`, `<=`, `>`, `<` or none."""

    def operator_for(self, *, lower_is_better: bool) -> str:
        """The operator, where none was given by which direction is better."""
        return self.operator or ("<=" if lower_is_better or self.key == ERRORS else ">=")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCheck:
    """A threshold against what was found."""

    threshold: Threshold
    met: bool
    observed: float | None
    """None where there is no such score: then it is not met."""
    sentence: str


def parse_threshold(key: str, text: str | float) -> Threshold:
    """The threshold in `>= 0.8`, `<= 3`, `> 0`, `< 1e-3`, or a number alone. Raises InputError for all else."""
    expected = f"threshold {key}: expected a bound such as '>= 0.8', '<= 3' or a number"
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise InputError(f"{expected}, found {text!r}")
    match = _PATTERN.fullmatch(text if isinstance(text, str) else repr(text))
    if match is None or not math.isfinite(bound := float(match[2])):
        raise InputError(f"{expected}, found {text!r}")
    if key == ERRORS and (bound < 0 or match[1] in (">", ">=")):
        raise InputError(f"threshold {key}: expected the most errors allowed, such as '0' or '<= 2', found {text!r}")
    return Threshold(key, bound, match[1])


def parse_thresholds(texts: Mapping[str, str]) -> tuple[Threshold, ...]:
    """All thresholds of a definition, in its order. Raises InputError, with a line for each that is nonsense."""
    found: list[Threshold] = []
    wrong: list[str] = []
    for key, text in texts.items():
        try:
            found.append(parse_threshold(key, text))
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("\n".join(wrong))
    return tuple(found)


def check_thresholds(experiment: Experiment, metrics: Sequence[Metric]) -> tuple[ThresholdCheck, ...]:
    """Every threshold of the experiment against what was observed, in their order.

    Means are compared, not bounds of intervals: a threshold is a floor that CI holds, not a claim about what lies
    behind the sample. `errors` counts failed runs plus evaluators that failed, summary ones too. A key means the
    metric of that key at each node (`node/key`: at one), else the summary score; without any it is not met, and its
    sentence names the scores there are. Raises InputError for a threshold that cannot be read.
    """
    checks: list[ThresholdCheck] = []
    for threshold in parse_thresholds(experiment.thresholds):
        if threshold.key == ERRORS:
            checks.append(_check(threshold, threshold.key, _errors(experiment), lower_is_better=True))
            continue
        found = _observed(threshold.key, experiment, metrics)
        lower = threshold.key.rpartition("/")[2] in experiment.lower_is_better or threshold.key in (
            experiment.lower_is_better
        )
        missing = _missing(threshold.key, experiment, metrics)
        checks += [
            _check(threshold, name, observed, lower_is_better=lower, missing=missing) for name, observed in found
        ]
    return tuple(checks)


def _missing(key: str, experiment: Experiment, metrics: Sequence[Metric]) -> str:
    """Why a key may have no score: its evaluator failed, or it is another's name."""
    failures = [failure for run in experiment.runs for failure in run.failures] + list(experiment.summary_failures)
    if failed := sum(failure.evaluator == key for failure in failures):
        return f"there is no score: its evaluator failed {failed:,} time{'' if failed == 1 else 's'}"
    names = [name for metric in metrics for name in (metric.key, _named(metric))]
    known = list(dict.fromkeys((*names, *(score.key for score in experiment.summary_scores))))
    if key in known or not known:
        return "there is no score"
    near = difflib.get_close_matches(key, [*known, ERRORS], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no score of this name: {hint}scores: {', '.join(known)}"


def _named(metric: Metric) -> str:
    return metric.key if metric.node is None else f"{metric.node}/{metric.key}"


def _errors(experiment: Experiment) -> float:
    failed = sum(run.status != "success" for run in experiment.runs)
    return float(failed + sum(len(run.failures) for run in experiment.runs) + len(experiment.summary_failures))


def _observed(key: str, experiment: Experiment, metrics: Sequence[Metric]) -> list[tuple[str, float | None]]:
    named = [(_named(metric), metric) for metric in metrics]
    if found := [(name, metric.mean) for name, metric in named if key in (metric.key, name)]:
        return found
    summary = [score.score for score in experiment.summary_scores if score.key == key]
    return [(key, float(score) if score is not None else None) for score in summary[:1]] or [(key, None)]


def _check(
    threshold: Threshold, name: str, observed: float | None, *, lower_is_better: bool, missing: str = ""
) -> ThresholdCheck:
    sign = threshold.operator_for(lower_is_better=lower_is_better)
    demanded = f"{sign} {threshold.bound:g}"
    if observed is None or not math.isfinite(observed):
        sentence = f"{name}: {demanded} is not met, {missing}"
        return ThresholdCheck(threshold=threshold, met=False, observed=None, sentence=sentence)
    # A mean of 0.8 may be stored as 0.7999999999999999.
    same = math.isclose(observed, threshold.bound, rel_tol=1e-9, abs_tol=1e-12)
    met = "=" in sign if same else _OPERATORS[sign](observed, threshold.bound)
    sentence = f"{name}: {observed:,.6g}, {demanded} is {'met' if met else 'not met'}"
    return ThresholdCheck(threshold=threshold, met=met, observed=observed, sentence=sentence)
