"""What is said of an experiment and of a comparison on a terminal, and the same as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from plait.cli.batch_list import age
from plait.cli.batch_words import one_line
from plait.cli.experiments import figures
from plait.cli.experiments.comparison_words import costs, metric_table, node_table, notes, open_questions
from plait.cli.experiments.examples import expensive, failed_runs, failed_scores, flips, slow
from plait.cli.experiments.figures import count
from plait.cli.experiments.tables import Block, Facts, Note, Page, Sheet, Title, cell
from plait.experiments.findings import Comparison, Metric, NodeComparison, Totals
from plait.experiments.metrics import node_totals
from plait.experiments.records import Experiment
from plait.experiments.thresholds import ThresholdCheck
from plait.json_values import dumps

__all__ = ["comparison_brief", "comparison_page", "experiment_json", "experiment_page"]

_STYLES = {"running": "cyan", "finished": "green", "paused": "yellow"}
_FLIPS = 5


def experiment_page(
    experiment: Experiment,
    metrics: Sequence[Metric],
    totals: Totals,
    checks: Sequence[ThresholdCheck] = (),
    *,
    runs: int | None = None,
) -> Page:
    """What it was run with, its scores, thresholds, costs and errors. `runs`: how many it is to have, where known.

    Thresholds are held against all runs: before those have ended they are left out.
    """
    blocks: list[Block] = [_heading(experiment), *_unfinished(experiment, runs), _facts(experiment)]
    blocks += _scores(experiment, metrics)
    if checks and experiment.status == "finished":
        blocks.append(Title("thresholds"))
        blocks += [Note(check.sentence, "green" if check.met else "red") for check in checks]
    blocks += [*costs([totals]), *failed_runs(experiment, totals), *failed_scores(experiment, totals)]
    blocks += [*slow(experiment), *expensive(experiment)]
    alone = [NodeComparison(name=name, before=it, after=it) for name, it in node_totals(experiment).items()]
    return Page([*blocks, *node_table(alone), *_ways_on(experiment, totals)])


def comparison_page(
    comparison: Comparison,
    *,
    experiment: Experiment | None = None,
    before: Experiment | None = None,
    examples: int = _FLIPS,
) -> Page:
    """Verdict, metrics, examples that flipped, costs, nodes and notes.

    Of `experiment` (the later one) come the examples' inputs; with `before`, too, categories that changed are shown.
    """
    blocks: list[Block] = [cell(comparison.verdict, "bold"), _compared(comparison)]
    blocks += [*metric_table(comparison), *open_questions(comparison)]
    if examples > 0:
        blocks += flips(comparison, experiment, before, examples)
    blocks += costs([comparison.totals_before, comparison.totals_after], (comparison.before, comparison.after))
    blocks += node_table(comparison.nodes)
    return Page([*blocks, *notes(comparison)])


def comparison_brief(comparison: Comparison) -> Page:
    """Verdict and metrics, below an experiment's own page."""
    title = Title(f"against {comparison.before}")
    blocks: list[Block] = [title, Note(comparison.verdict, "bold"), _compared(comparison)]
    blocks += [*metric_table(comparison, title=False), *open_questions(comparison)]
    more = f"plait compare {comparison.before} {comparison.after} shows which examples flipped, costs and nodes"
    return Page([*blocks, Note(more, "dim")])


def experiment_json(
    experiment: Experiment,
    metrics: Sequence[Metric],
    totals: Totals,
    checks: Sequence[ThresholdCheck] = (),
    comparison: Comparison | None = None,
) -> dict[str, object]:
    """The same for programs: all but the runs, of which the failed ones are named; no thresholds before it finished."""
    return {
        "id": experiment.id,
        "name": experiment.name,
        "definition": experiment.definition,
        "workflow": experiment.workflow,
        "node": experiment.node,
        "status": experiment.status,
        "created_at": experiment.created_at,
        "folder": experiment.place,
        "examples": _examples(experiment),
        "repetitions": experiment.repetitions,
        "reused": experiment.reused,
        "mixed": experiment.mixed,
        "origin": experiment.origin,
        "metrics": metrics,
        "summary_scores": experiment.summary_scores,
        "summary_failures": experiment.summary_failures,
        "thresholds": [
            {"key": check.threshold.key, "met": check.met, "observed": check.observed, "sentence": check.sentence}
            for check in checks
            if experiment.status == "finished"
        ],
        "totals": totals,
        "nodes": node_totals(experiment),
        **_failed(experiment),
        "comparison": comparison,
    }


def _failed(experiment: Experiment) -> dict[str, object]:
    runs = [({"example": run.example.id, "repetition": run.repetition}, run) for run in experiment.runs]
    return {
        "failed_runs": [
            {**place, "status": run.status, "error": run.error} for place, run in runs if run.status != "success"
        ],
        "evaluator_failures": [{**place, "failure": failure} for place, run in runs for failure in run.failures],
    }


def _examples(experiment: Experiment) -> int:
    return len({run.example.id for run in experiment.runs})


# --- one experiment ------------------------------------------------------------------------------------


def _heading(experiment: Experiment) -> Text:
    heading = cell(experiment.name, "bold")
    return heading.append(f"  {experiment.status}", style=f"not bold {_STYLES.get(experiment.status, 'default')}")


def _unfinished(experiment: Experiment, runs: int | None) -> Iterator[Block]:
    if experiment.status != "finished":
        of = f" of {runs:,}" if runs is not None else ""
        yield Note(f"It is {experiment.status}: what follows is of the {len(experiment.runs):,}{of} runs that ended.")
        yield Note(f"So are the costs; plait show {experiment.name} has all that was paid.")
        if experiment.thresholds:
            yield Note("Its thresholds are held against all runs, and not known yet.")


def _facts(experiment: Experiment) -> Facts:
    origin = experiment.origin
    repeated = f" x {count(experiment.repetitions, 'repetition')}" if experiment.repetitions > 1 else ""
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(experiment.created_at))
    changed = ", with changes that are in no commit" if origin.dirty else ""
    told = {
        "definition": experiment.definition if experiment.definition != experiment.workflow else "",
        "workflow": experiment.workflow + (f", node {experiment.node} alone" if experiment.node else ""),
        "examples": f"{_examples(experiment):,}{repeated}, {_dataset(experiment)}",
        "clusters": f"by {experiment.cluster}" if experiment.cluster else "",
        "model": origin.model or "",
        "context": _pairs(origin.context),
        "commit": f"{origin.commit[:12]}{changed}" if origin.commit else "",
        "answers of": experiment.reused or "",
        "mixed": "gone on with after its code or evaluators had changed: scores of both" if experiment.mixed else "",
        "versions": ", ".join(f"{name} {version}" for name, version in origin.versions.items()),
        "begun": f"{begun}, {age(experiment.created_at)}, ran for {figures.seconds(experiment.duration_s)}",
        "kept": experiment.place,
    }
    return Facts(told)


def _dataset(experiment: Experiment) -> str:
    name, digest = experiment.origin.dataset, experiment.origin.dataset_hash
    return f"{name or 'rows'} ({digest[:12]})" if digest else name or "rows"


def _pairs(context: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={one_line(v if isinstance(v, str) else dumps(v), 60)}" for key, v in context.items())


def _scores(experiment: Experiment, metrics: Sequence[Metric]) -> Iterator[Block]:
    yield Title("scores")
    if not metrics and not experiment.summary_scores:
        yield Note("no run has a score" if experiment.runs else "no run has ended yet")
    if metrics:
        heads = ("score", "mean", "95 % interval", "n", "unscored", "kind")
        yield Sheet(heads, [_metric(metric) for metric in metrics], words=(0, 5))
    methods: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.interval is not None:
            methods.setdefault(metric.interval.method, []).append(_named(metric))
    if methods:
        told = "; ".join(f"{method} of {', '.join(names)}" for method, names in methods.items())
        yield Note(f"intervals: {told}", "dim")
    for metric in metrics:
        if metric.shares:
            told = ", ".join(f"{word} {figures.percent(share)}" for word, share in metric.shares.items())
            yield Note(f"{_named(metric)}: {one_line(told)}")
        if metric.note:
            yield Note(f"{_named(metric)}: {metric.note}")
    for score in experiment.summary_scores:
        found = score.value if score.score is None else figures.number(float(score.score))
        why = f" ({one_line(score.comment)})" if score.comment else ""
        yield Note(f"{score.key} over the whole experiment: {found}{why}")


def _metric(metric: Metric) -> list[Text]:
    return [
        cell(_named(metric)),
        cell("" if metric.kind == "category" else figures.amount(metric.mean, metric.kind), "bold"),
        cell(figures.interval(metric.interval, metric.kind)),
        cell(f"{metric.examples:,}"),
        cell(f"{metric.unscored:,}" if metric.unscored else "", "yellow"),
        cell(f"{metric.kind}{', less is better' if metric.lower_is_better else ''}"),
    ]


def _named(metric: Metric) -> str:
    return metric.key if metric.node is None else f"{metric.key} of {metric.node}"


def _ways_on(experiment: Experiment, totals: Totals) -> Iterator[Block]:
    ways = [f"plait resume {experiment.id}"] if experiment.status == "paused" else []
    if experiment.status == "finished" and totals.errors:
        ways.append(f"plait resume {experiment.id} --errors-only")
    if ways:
        yield Title("how to go on")
        yield from map(Note, ways)


# --- two experiments -----------------------------------------------------------------------------------


def _compared(comparison: Comparison) -> Note:
    said = f"{comparison.before} -> {comparison.after}, over {count(comparison.examples, 'example')} of both"
    left = [
        f"{len(ids):,} only in {name}"
        for ids, name in ((comparison.only_before, comparison.before), (comparison.only_after, comparison.after))
        if ids
    ]
    return Note(f"{said}; left out: {' and '.join(left)}" if left else said, "dim")
