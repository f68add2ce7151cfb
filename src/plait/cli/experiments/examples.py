"""The examples that a reader wants to see: those that flipped, failed, took longest or cost most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from plait.cli.batch_words import one_line
from plait.cli.experiments import figures
from plait.cli.experiments.comparison_words import kind_of, label_of
from plait.cli.experiments.tables import Block, Note, Sheet, Title, cell
from plait.experiments.findings import Change, Comparison, MetricComparison, Totals
from plait.experiments.records import ExampleRun, Experiment
from plait.json_values import dumps

__all__ = ["expensive", "failed_runs", "failed_scores", "flips", "short_inputs", "slow"]

_SHOWN = 3
_INPUT = 60
"""Characters of an example's inputs."""


def short_inputs(inputs: Mapping[str, object]) -> str:
    """Inputs in one line; a single one without its name."""
    texts = {key: value if isinstance(value, str) else dumps(value) for key, value in inputs.items()}
    if len(texts) == 1:
        return one_line(next(iter(texts.values())), _INPUT)
    return one_line(", ".join(f"{key}: {one_line(text, _INPUT)}" for key, text in texts.items()), _INPUT)


# --- flips ---------------------------------------------------------------------------------------------


def flips(
    comparison: Comparison, experiment: Experiment | None, before: Experiment | None, most: int
) -> Iterator[Block]:
    """By metric, the examples that changed most, gains and losses in turn where they are equally large."""
    inputs = {run.example.id: run.example.inputs for run in experiment.runs} if experiment else {}
    for metric in comparison.metrics:
        if kind_of(metric) == "category":
            changed = _recategorized(metric, before, experiment)
        else:
            changed = [_flip(metric, change) for change in _in_turn(metric.changes)[:most]]
        if not changed:
            continue
        total = len(changed) if kind_of(metric) == "category" else len(metric.changes)
        shown = f", {most:,} shown" if total > most else ""
        yield Title(f"{label_of(metric)}: {total:,} of {figures.count(metric.pairs, 'example')} changed{shown}")
        rows = [
            [
                cell(one_line(example_id, 40), "bold"),
                cell(figures.moved(*pair)),
                cell(word, {"better": "green", "worse": "red"}.get(word, "")),
                cell(short_inputs(inputs.get(example_id, {}))),
            ]
            for example_id, pair, word in changed[:most]
        ]
        yield Sheet(("example", "before -> after", "", "input"), rows, words=(0, 2, 3))


_Flip = tuple[str, tuple[str, str], str]


def _flip(metric: MetricComparison, change: Change) -> _Flip:
    kind = kind_of(metric)
    better = (change.after > change.before) != metric.after.lower_is_better
    before, after = figures.amount(change.before, kind), figures.amount(change.after, kind)
    if kind == "share" and {change.before, change.after} == {0.0, 1.0}:
        before, after = ("failed", "passed") if change.after else ("passed", "failed")
    return change.example_id, (before, after), "better" if better else "worse"


def _in_turn(changes: Iterable[Change]) -> list[Change]:
    """Largest first; of equally large ones, a gain and a loss by turns: a few of them then show both."""
    seen: Counter[tuple[float, bool]] = Counter()
    keyed = []
    for change in changes:
        size, gained = round(abs(change.after - change.before), 12), change.after > change.before
        keyed.append(((-size, seen[size, gained], gained), change))
        seen[size, gained] += 1
    return [change for _, change in sorted(keyed, key=lambda pair: pair[0])]


def _recategorized(metric: MetricComparison, before: Experiment | None, after: Experiment | None) -> list[_Flip]:
    if before is None or after is None:
        return []
    old, new = (_categories(metric, experiment) for experiment in (before, after))
    return [
        (example_id, (" + ".join(old[example_id]), " + ".join(values)), "")
        for example_id, values in new.items()
        if example_id in old and sorted(old[example_id]) != sorted(values)
    ]


def _categories(metric: MetricComparison, experiment: Experiment) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for run in experiment.runs:
        for score in run.scores:
            if (score.key, score.node) == (metric.key, metric.after.node) and score.value is not None:
                found.setdefault(run.example.id, []).append(one_line(score.value, 40))
    return found


# --- what failed ---------------------------------------------------------------------------------------


def failed_runs(experiment: Experiment, totals: Totals) -> Iterator[Block]:
    """Failed runs by kind, with one example each."""
    first: dict[str, ExampleRun] = {}
    for run in experiment.runs:
        if run.status != "success":
            first.setdefault(run.error.type if run.error else run.status, run)
    if totals.errors:
        yield Title("failed runs")
    for kind, number in _most_first(totals.errors):
        yield Note(f"{number:,} x {one_line(kind, 80)}{_for_instance(first.get(kind))}", "red")


def _for_instance(run: ExampleRun | None) -> str:
    if run is None:
        return ""
    message = f": {one_line(run.error.message)}" if run.error and run.error.message else ""
    return f", as {one_line(run.example.id, 40)}{message}"


def failed_scores(experiment: Experiment, totals: Totals) -> Iterator[Block]:
    """Evaluators that gave no score, with the first message of each."""
    first: dict[str, str] = {}
    for run in experiment.runs:
        for failure in run.failures:
            first.setdefault(failure.evaluator, f"{failure.type}: {failure.message}, as of {run.example.id}")
    for failure in experiment.summary_failures:
        first.setdefault(failure.evaluator, f"{failure.type}: {failure.message}")
    if totals.evaluator_failures:
        yield Title("evaluators that gave no score")
    for name, number in _most_first(totals.evaluator_failures):
        yield Note(f"{number:,} x {one_line(name, 80)}: {one_line(first.get(name, ''))}", "red")


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: -pair[1])


# --- slow and expensive ones ---------------------------------------------------------------------------


def slow(experiment: Experiment) -> Iterator[Block]:
    """The runs that took longest, of those that replayed nothing; none where no such run succeeded."""
    runs = [run for run in experiment.runs if not run.usage.get("replayed_calls")]
    if all(run.status != "success" for run in runs):
        return
    runs.sort(key=lambda run: -run.duration_s)
    yield from _listed("slowest", [(run, figures.seconds(run.duration_s)) for run in runs[:_SHOWN]])


def expensive(experiment: Experiment) -> Iterator[Block]:
    """The runs that cost most, as if nothing had been replayed; none where all cost the same."""
    known = [(cost, run) for run in experiment.runs if (cost := _cost(run))]
    if len({round(cost, 12) for cost, _ in known}) < 2:
        return
    known.sort(key=lambda pair: -pair[0])
    yield from _listed("most expensive", [(run, figures.dollars(cost)) for cost, run in known[:_SHOWN]])


def _cost(run: ExampleRun) -> float:
    calls = [call.cost_usd for node in run.nodes for call in node.calls if call.cost_usd is not None]
    paid = run.usage.get("cost_usd")
    return sum(calls) if calls else float(paid) if isinstance(paid, int | float) else 0.0


def _listed(title: str, runs: Sequence[tuple[ExampleRun, str]]) -> Iterator[Block]:
    if not runs:
        return
    yield Title(title)
    repeated = any(run.repetition for run, _ in runs)
    rows = [
        [
            cell(one_line(run.example.id, 40), "bold"),
            cell(figure),
            cell(f"{run.repetition + 1}" if repeated else ""),
            cell("" if run.status == "success" else run.status, "red"),
            cell(short_inputs(run.example.inputs)),
        ]
        for run, figure in runs
    ]
    yield Sheet(("example", "", "repetition", "", "input"), rows, words=(0, 3, 4))
