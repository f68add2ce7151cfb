"""What a test gets of an experiment that was run: its scores, and checks whose failures say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from plait.errors import InputError
from plait.experiments.findings import Metric, Totals
from plait.experiments.metrics import metrics, totals
from plait.experiments.records import ExampleRun, Experiment
from plait.experiments.thresholds import ERRORS, ThresholdCheck, check_thresholds, parse_threshold

__all__ = ["ExperimentResult", "row_name"]

_SHOWN = 3
_LONGEST = 200


@dataclass(slots=True)
class ExperimentResult:
    """An experiment that was run or replayed."""

    experiment: Experiment
    """With all runs, their outputs, scores and traces."""
    replayed: str | None
    """The recording that the answers came from; None: the experiment was run."""
    metrics: tuple[Metric, ...] = field(init=False)
    totals: Totals = field(init=False)
    checks: dict[tuple[str, str], ThresholdCheck] = field(init=False, default_factory=dict, repr=False)
    """What was checked so far, by key and bound."""

    def __post_init__(self) -> None:
        self.metrics = metrics(self.experiment)
        self.totals = totals(self.experiment)

    @property
    def errors(self) -> int:
        """Failed runs and failed evaluators together."""
        failed = sum(self.totals.errors.values())
        return failed + sum(self.totals.evaluator_failures.values())

    def metric(self, key: str) -> Metric:
        """The metric of that key, or `node/key`. Raises InputError, with those there are."""
        for metric in self.metrics:
            if key in (metric.key, _name(metric)):
                return metric
        raise InputError(f"expected a score of {self.experiment.name}, found {key!r}; {self._known()}")

    def check(self, key: str | None = None, threshold: str | float | None = None) -> None:
        """Raise AssertionError where a score misses its threshold: `check("exact", ">= 0.8")`, `check("errors", 0)`.

        The mean is compared. Without a key the definition's own thresholds hold, or no error where it has none; with a
        key alone that key's. Raises InputError for a threshold that cannot be read.
        """
        __tracebackhide__ = True
        if problem := self.problem(self.demanded(key, threshold)):
            raise AssertionError(problem)

    def problem(self, thresholds: Mapping[str, str | float]) -> str:
        """What misses these thresholds, with the worst examples; empty where they are met."""
        demanded = {key: str(bound) for key, bound in thresholds.items() if parse_threshold(key, bound)}
        found = check_thresholds(replace(self.experiment, thresholds=demanded), self.metrics)
        for each in found:
            self.checks[each.threshold.key, each.sentence] = each
        return "\n".join(line for each in found if not each.met for line in self._told(each))

    def lines(self) -> Iterator[str]:
        """For the summary of a test session: calls and cost, then a line for each score."""
        sums, experiment = self.totals, self.experiment
        how = f"replayed {self.replayed}" if self.replayed else f"run as {experiment.name}"
        cost = "cost unknown" if sums.cost_usd is None else f"${sums.cost_usd:.4f}"
        paid, again = sums.paid_calls + sums.judge_calls, sums.replayed_calls + sums.judge_replayed_calls
        yield (
            f"{experiment.definition} ({how}): {_count(sums.runs, 'run')}, {_count(self.errors, 'error')}; "
            f"{_count(paid, 'call')} paid, {again:,} replayed; {cost}"
        )
        told = set()
        for metric in self.metrics:
            name = _name(metric)
            told.add(name)
            yield "  ".join((f"  {name}", _figures(metric), *self._bounds(name, metric.key)))
        for score in experiment.summary_scores:
            told.add(score.key)
            value = score.value if score.score is None else f"{float(score.score):.4g}"
            yield "  ".join((f"  {score.key}", str(value), *self._bounds(score.key, score.key)))
        for check in self.checks.values():
            if check.threshold.key not in told and not any(check.threshold.key == each.key for each in self.metrics):
                yield f"  {check.sentence}"

    def demanded(self, key: str | None = None, threshold: str | float | None = None) -> Mapping[str, str | float]:
        """The thresholds that `check` holds it against. Raises InputError where it has none for the key."""
        own = self.experiment.thresholds
        if key is None:
            return own or {ERRORS: 0}
        if threshold is None and key not in own and key != ERRORS:
            raise InputError(f'check({key!r}): expected a threshold such as ">= 0.8", found none, here or in the file')
        return {key: threshold if threshold is not None else own.get(key, 0)}

    def _told(self, check: ThresholdCheck) -> Iterator[str]:
        """A threshold that was missed, in lines."""
        key = check.threshold.key
        yield f"{self.experiment.definition}: {check.sentence}"
        if key == ERRORS:
            yield from _shortened([*_failed(self.experiment.runs), *self._summary_failures()])
            return
        # A check is of one metric, whose name begins its sentence; a key may be that of several nodes.
        name = check.sentence.partition(": ")[0]
        metric = next((each for each in self.metrics if name == _name(each)), None)
        if metric is None:
            yield from _shortened(_failed(self.experiment.runs))
            return
        yield f"  {_figures(metric)} over {_count(metric.examples, 'example')}"
        if metric.unscored:
            yield f"  {_count(metric.unscored, 'run')} without this score"
        least = check.threshold.operator_for(lower_is_better=metric.lower_is_better).startswith(">")
        worst = _worst(self.experiment.runs, metric, least=least)
        if worst:
            yield "  the worst examples:"
            yield from worst[:_SHOWN]

    def _bounds(self, name: str, key: str) -> Iterator[str]:
        for check in self.checks.values():
            if check.threshold.key == name or (check.threshold.key == key and check.sentence.startswith(f"{name}: ")):
                sign = check.threshold.operator_for(lower_is_better=key in self.experiment.lower_is_better)
                yield f"{sign} {check.threshold.bound:g} {'met' if check.met else 'NOT MET'}"

    def _summary_failures(self) -> Iterator[str]:
        for failure in self.experiment.summary_failures:
            yield f"  {failure.evaluator}: {failure.type}: {failure.message}"

    def _known(self) -> str:
        names = [*map(_name, self.metrics), *(score.key for score in self.experiment.summary_scores)]
        return f"its scores: {', '.join(names)}" if names else "it has no scores"


def row_name(run: ExampleRun) -> str:
    """Its example's id, with its number where examples are repeated."""
    return f"{run.example.id}#{run.repetition + 1}" if run.repetition else run.example.id


def _name(metric: Metric) -> str:
    return metric.key if metric.node is None else f"{metric.node}/{metric.key}"


def _figures(metric: Metric) -> str:
    if metric.kind == "category":
        return ", ".join(f"{value} {share:.0%}" for value, share in metric.shares.items())
    if metric.mean is None:
        return metric.note or "no score"
    if metric.interval is None:
        return f"{metric.mean:.4g} (no interval)"
    low, high = metric.interval.low, metric.interval.high
    return f"{metric.mean:.4g} [{low:.4g}, {high:.4g}]"


def _failed(runs: Iterable[ExampleRun]) -> Iterator[str]:
    for run in runs:
        if run.status != "success":
            words = f"{run.error.type}: {run.error.message}" if run.error is not None else run.status
            yield _clipped(f"  {row_name(run)!r}: {words}")
        for failure in run.failures:
            yield _clipped(f"  {row_name(run)!r}: {failure.evaluator}: {failure.type}: {failure.message}")


def _worst(runs: Iterable[ExampleRun], metric: Metric, *, least: bool) -> list[str]:
    """Runs by this score, from its wrong end on."""
    found = [
        (float(score.score), run, score.comment)
        for run in runs
        for score in run.scores
        if (score.key, score.node) == (metric.key, metric.node) and score.score is not None
    ]
    if metric.kind == "share":
        found = [each for each in found if each[0] == (0.0 if least else 1.0)]
    found.sort(key=lambda each: each[0] if least else -each[0])
    return [
        _clipped(f"  {row_name(run)!r}: {number:.4g}{f' ({comment})' if comment else ''}: {_json(run.outputs)}")
        for number, run, comment in found
    ]


def _shortened(lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN:,} more"


def _clipped(text: str) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
