"""The tables that two experiments share with one: metrics side by side, costs, and nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.text import Text

from plait.cli.experiments import figures
from plait.cli.experiments.figures import moved
from plait.cli.experiments.tables import Block, Note, Sheet, Title, cell
from plait.experiments.findings import (
    Comparison,
    Kind,
    MetricComparison,
    NodeComparison,
    NodeTotals,
    Totals,
    Verdict,
)

__all__ = ["costs", "label_of", "metric_table", "node_table", "notes", "open_questions"]

VERDICT_STYLES: dict[Verdict, str] = {"better": "green", "worse": "red", "cannot tell": "yellow", "no difference": ""}


def label_of(metric: MetricComparison) -> str:
    """Its key, with the node whose outputs it scores."""
    return metric.key if metric.after.node is None else f"{metric.key} of {metric.after.node}"


def kind_of(metric: MetricComparison) -> Kind:
    """A share where it is one on both sides."""
    return metric.after.kind if metric.before.kind == metric.after.kind else "mean"


_HEADS = ("score", "verdict", "before", "after", "difference", "95 % interval", "p (Holm)", "better/same/worse")


def metric_table(comparison: Comparison, *, title: bool = True) -> Iterator[Block]:
    """What each metric was, is, and whether that is more than chance."""
    if title:
        yield Title("scores")
    if not comparison.metrics:
        yield Note("no score is in both experiments")
        return
    yield Sheet((*_HEADS, ""), [_metric(metric) for metric in comparison.metrics], words=(0, 1, 8))
    fewer = [metric for metric in comparison.metrics if metric.pairs < comparison.examples]
    if fewer:
        told = ", ".join(f"{label_of(metric)} {metric.pairs:,}" for metric in fewer)
        yield Note(f"before and after are of the examples scored in both, of {comparison.examples:,}: {told}", "dim")


def _metric(metric: MetricComparison) -> list[Text]:
    kind = kind_of(metric)
    pair = ("", "") if kind == "category" else (metric.before.mean, metric.after.mean)
    return [
        cell(label_of(metric)),
        cell(metric.verdict, VERDICT_STYLES[metric.verdict]),
        *(cell(value if isinstance(value, str) else figures.amount(value, kind)) for value in pair),
        cell(figures.change(metric.difference, kind, mean=metric.after.mean), "bold"),
        cell(figures.change_interval(metric.interval, kind)),
        cell(figures.probability(metric.p_adjusted)),
        cell(f"{metric.wins:,}/{metric.ties:,}/{metric.losses:,}" if kind != "category" else ""),
        cell("less is better" if metric.after.lower_is_better else "", "dim"),
    ]


def open_questions(comparison: Comparison) -> Iterator[Block]:
    """Of metrics about which nothing can be told: what would have shown, or why."""
    for metric in comparison.metrics:
        if metric.verdict != "cannot tell":
            continue
        if metric.difference is None or metric.detectable is None or not metric.changes:
            yield Note(metric.sentence)
        elif abs(metric.difference) < metric.detectable:
            size = figures.change(metric.detectable, kind_of(metric)).lstrip("+")
            yield Note(
                f"{label_of(metric)}: with {figures.count(metric.pairs, 'example')} a difference of {size} or more "
                "would show in 80 % of cases"
            )


def notes(comparison: Comparison) -> Iterator[Block]:
    """What a reader must know; the same note of several scores stands once."""
    if not comparison.notes:
        return
    yield Title("notes")
    labels = {label_of(metric) for metric in comparison.metrics}
    alike: dict[str, list[str]] = {}
    for note in comparison.notes:
        label, _, said = note.partition(": ")
        if label in labels:
            alike.setdefault(said, []).append(label)
        else:
            yield Note(note)
    yield from (Note(f"{', '.join(found)}: {said}") for said, found in alike.items())


# --- costs ---------------------------------------------------------------------------------------------


def _whole(value: Callable[[Totals], int]) -> Callable[[Totals], str]:
    return lambda totals: f"{found:,}" if (found := value(totals)) else "0"


_COSTS: tuple[tuple[str, Callable[[Totals], str], str], ...] = (
    ("runs", _whole(lambda totals: totals.runs), ""),
    ("failed runs", _whole(lambda totals: sum(totals.errors.values())), "0"),
    ("calls paid", _whole(lambda totals: totals.paid_calls), ""),
    ("calls replayed for free", _whole(lambda totals: totals.replayed_calls), "0"),
    ("evaluators' calls paid", _whole(lambda totals: totals.judge_calls), "0"),
    ("evaluators' calls replayed", _whole(lambda totals: totals.judge_replayed_calls), "0"),
    ("input tokens paid", _whole(lambda totals: totals.input_tokens), ""),
    ("of them cached", _whole(lambda totals: totals.cached_tokens), "0"),
    ("output tokens paid", _whole(lambda totals: totals.output_tokens), ""),
    ("paid", lambda totals: figures.dollars(totals.cost_usd), ""),
    ("of it for evaluators", lambda totals: figures.dollars(totals.judge_cost_usd), "$0.00"),
    ("workflow, nothing replayed", lambda totals: figures.dollars(totals.whole_cost_usd), ""),
    ("mean latency of a run", lambda totals: figures.seconds(totals.mean_latency_s), figures.UNKNOWN),
    ("from first to last", lambda totals: figures.seconds(totals.duration_s), ""),
)
"""Name, figure, and the figure that is not worth a line."""


def costs(sides: Sequence[Totals], names: Sequence[str] = ("",)) -> Iterator[Block]:
    """What one experiment took, or what two took side by side."""
    rows = []
    for name, figure, nothing in _COSTS:
        found = [figure(totals) for totals in sides]
        if any(text != nothing for text in found):
            rows.append([cell(name, "dim"), *map(cell, found)])
    yield Title("what it cost")
    yield Sheet(("", *names), rows)
    if any(totals.cost_usd is None for totals in sides):
        yield Note('cost ?: a model has no price (add it to langgraph.json: "plait": {"prices": ...})', "dim")
    latencies = [totals.mean_latency_s for totals in sides]
    if None in latencies and set(latencies) != {None}:
        yield Note("latency ?: every run that succeeded replayed calls, which take no time", "dim")


# --- nodes ---------------------------------------------------------------------------------------------


def node_table(nodes: Sequence[NodeComparison]) -> Iterator[Block]:
    """What each node took, before and after; one experiment stands on both sides."""
    if not nodes:
        return
    yield Title("nodes")
    heads = ("node", "runs", "calls paid", "replayed", "cost", "latency", "failed")
    yield Sheet(heads, [_node(node) for node in nodes])
    if any(total.replayed_calls for node in nodes for total in (node.before, node.after)):
        yield Note("costs as if nothing had been replayed; latencies where nothing was", "dim")


def _node(node: NodeComparison) -> list[Text]:
    scored = f" ({', '.join(node.metrics)})" if node.metrics else ""
    sides = zip(_figures(node.before), _figures(node.after), strict=True)
    return [cell(node.name + scored), *(cell(moved(*_known(side)) if any(side) else "") for side in sides)]


def _known(side: tuple[str, str]) -> tuple[str, str]:
    before, after = (text or figures.UNKNOWN for text in side)
    return before, after


def _figures(node: NodeTotals) -> tuple[str, ...]:
    """Those that are nothing on both sides are left out with their column."""
    calls = node.paid_calls + node.replayed_calls
    return (
        f"{node.executions:,}",
        f"{node.paid_calls:,}",
        f"{node.replayed_calls:,}",
        figures.dollars(node.cost_usd) if calls else "",
        figures.seconds(node.mean_latency_s) if node.mean_latency_s is not None else "",
        f"{node.errors:,}",
    )
