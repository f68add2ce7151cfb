"""The parts of a report that say what it took: calls, tokens, money and time, in total and by node, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from plait.experiments.findings import NodeTotals, Totals
from plait.experiments.metrics import node_totals
from plait.experiments.records import Experiment
from plait.reports.inputs import ReportInput
from plait.reports.markup import UNSEEN, Writer, count, seconds, table, usd

__all__ = ["costs", "errors", "nodes"]

_ARROW = ' <span class="soft" aria-label="then">→</span> '


def costs(report: ReportInput, write: Writer) -> str:
    """Totals, of both experiments where there are two."""
    found = report.comparison
    sides = [report.totals] if found is None else [found.totals_before, found.totals_after]
    names = [report.experiment.name] if found is None else [found.before, found.after]
    heads = [UNSEEN, *map(write, names)]
    rows = [[name, *cells] for name, *cells in zip(_NAMES, *map(_totals, sides), strict=True)]
    content = table("What it cost", heads, rows)
    return (
        f'<section id="cost" aria-labelledby="cost-title"><h2 id="cost-title">What it cost</h2>{content}'
        '<p class="soft below">A replayed call was answered by the journal: nothing was sent or paid. '
        "Costs stand only where every model has a price.</p></section>"
    )


_NAMES = (
    "Calls paid",
    "Calls replayed",
    "Calls of evaluators paid",
    "Calls of evaluators replayed",
    "Input tokens",
    "of them cached",
    "Output tokens",
    "Paid",
    "of it for evaluators",
    "Workflow, as if nothing were replayed",
    "Mean latency of a run",
    "From first to last",
)


def _totals(totals: Totals) -> list[str]:
    return [
        count(totals.paid_calls),
        count(totals.replayed_calls),
        count(totals.judge_calls),
        count(totals.judge_replayed_calls),
        count(totals.input_tokens),
        count(totals.cached_tokens),
        count(totals.output_tokens),
        usd(totals.cost_usd),
        usd(totals.judge_cost_usd),
        usd(totals.whole_cost_usd),
        seconds(totals.mean_latency_s),
        seconds(totals.duration_s),
    ]


def nodes(report: ReportInput, write: Writer) -> str:
    """What each node took, in both experiments where there are two."""
    heads = ["Node", "Executions", "Calls paid", "Replayed", "Cost without replay", "Mean latency", "Errors"]
    if report.comparison is None:
        rows = [[write(name), *_node(node)] for name, node in node_totals(report.experiment).items()]
    else:
        rows = []
        for node in report.comparison.nodes:
            scored = f' <span class="soft">{write(", ".join(node.metrics))}</span>' if node.metrics else ""
            pairs = zip(_node(node.before), _node(node.after), strict=True)
            rows.append([f"{write(node.name)}{scored}", *(f"{before}{_ARROW}{after}" for before, after in pairs)])
    if not rows:
        return ""
    then = '<p class="soft">Before → after.</p>' if report.comparison else ""
    content = then + table("Cost by node", heads, rows)
    return f'<section id="nodes" aria-labelledby="nodes-title"><h2 id="nodes-title">By node</h2>{content}</section>'


def _node(node: NodeTotals) -> list[str]:
    return [
        count(node.executions),
        count(node.paid_calls),
        count(node.replayed_calls),
        usd(node.cost_usd),
        seconds(node.mean_latency_s),
        count(node.errors),
    ]


def errors(report: ReportInput, write: Writer) -> str:
    """Failed runs and evaluators by kind, each with the words of the first."""
    it, totals = report.experiment, report.totals
    parts = []
    if totals.errors:
        first = _first((run.error.type, run.error.message) for run in it.runs if run.error)
        parts.append(_listed("Failed runs", "Kind", totals.errors, first, write))
    if totals.evaluator_failures:
        first = _first((f.evaluator, f"{f.type}: {f.message}") for run in it.runs for f in run.failures)
        parts.append(_listed("Evaluators that gave no score", "Evaluator", totals.evaluator_failures, first, write))
    if it.summary_failures:
        lines = [f"<li>{write(f.evaluator)}: {write(f.type)}: {write(f.message)}</li>" for f in it.summary_failures]
        parts.append(f"<h3>Evaluators of the whole experiment</h3><ul>{''.join(lines)}</ul>")
    content = "".join(parts) or f'<p class="soft">{_none(it)}</p>'
    return f'<section id="errors" aria-labelledby="errors-title"><h2 id="errors-title">Errors</h2>{content}</section>'


def _none(experiment: Experiment) -> str:
    return "No run and no evaluator failed." if experiment.runs else "There are no runs."


def _first(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, message in pairs:
        found.setdefault(kind, message)
    return found


def _listed(title: str, head: str, counts: Mapping[str, int], first: Mapping[str, str], write: Writer) -> str:
    rows = []
    for kind, times in sorted(counts.items(), key=lambda pair: -pair[1]):
        message = first.get(kind, "")
        shown = write(message if len(message) <= 300 else f"{message[:299]}…")
        show = f'<button type="button" class="link" data-search="{write(kind)}">{write(kind)}</button>'
        rows.append([show, count(times), shown])
    return f"<h3>{title}</h3>" + table(title, [head, "Count", "The first says"], rows, words=(0, 2))
