"""The parts of a report that say what was found: heading, thresholds, scores, comparison, distributions, origin."""

from __future__ import annotations

from collections.abc import Sequence

from plait.experiments.findings import Change, Metric, MetricComparison
from plait.experiments.records import Experiment, Origin
from plait.reports.figures import Values, difference, distribution, interval, outcomes
from plait.reports.inputs import ReportInput
from plait.reports.markup import (
    NOTHING,
    UNSEEN,
    Writer,
    amount,
    badge,
    count,
    moment,
    number,
    p_value,
    points,
    seconds,
    signed,
    table,
)

__all__ = ["comparison", "distributions", "heading", "origin", "scores", "thresholds"]

_TONES = {"better": "good", "worse": "bad"}
_SHOWN_CHANGES = 12


def heading(report: ReportInput, write: Writer) -> str:
    """The experiment's name, the verdict, what the reader must know, and the figures that everybody asks for."""
    it, found = report.experiment, report.comparison
    against = f' <span class="against">against {write(found.before)}</span>' if found else ""
    verdict = f'<p class="verdict">{write(found.verdict)}</p>' if found and found.verdict else ""
    notes = [write(note) for note in found.notes] if found else []
    if it.status != "finished":
        asked = " Its thresholds are held against all runs, and not known yet." if it.thresholds else ""
        notes.insert(
            0,
            f"This experiment is {write(it.status)}: the figures, costs too, are of the runs that have ended; "
            f"<code>plait show {write(it.name)}</code> has all that was paid.{asked}",
        )
    listed = f'<ul class="notes">{"".join(f"<li>{note}</li>" for note in notes)}</ul>' if notes else ""
    kept = [it.definition, it.workflow] if it.definition != it.workflow else [it.workflow]
    about = " · ".join([*(write(word) for word in kept if word), moment(it.created_at), write(it.id)])
    return (
        f'<h1>{write(it.name)}{against}</h1><p class="about">{about}</p>{verdict}'
        f'<dl class="tiles">{"".join(_tile(*pair) for pair in _figures(report))}</dl>{listed}'
    )


def _figures(report: ReportInput) -> list[tuple[str, str]]:
    it, totals = report.experiment, report.totals
    examples = len({run.example.id for run in it.runs})
    runs = f" \N{MULTIPLICATION SIGN} {it.repetitions}" if it.repetitions > 1 else ""
    errors, failures = sum(totals.errors.values()), sum(totals.evaluator_failures.values())
    return [
        ("Examples", f"{count(examples)}{runs}"),
        ("Failed runs", count(errors)),
        ("Evaluator failures", count(failures)),
        ("Calls paid", count(totals.paid_calls)),
        ("Calls replayed", count(totals.replayed_calls)),
        ("Took", seconds(totals.duration_s)),
    ]


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>"


def thresholds(report: ReportInput, write: Writer) -> str:
    """What was demanded, and whether it was met; nothing before all runs have ended."""
    if not report.thresholds or report.experiment.status != "finished":
        return ""
    lines = [
        f"<li>{badge('met', 'good') if met else badge('not met', 'bad')} {write(sentence)}</li>"
        for sentence, met in report.thresholds
    ]
    return _section("thresholds", "Thresholds", f'<ul class="checks">{"".join(lines)}</ul>')


def _section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{content}</section>'


def _key(metric: Metric, write: Writer) -> str:
    node = f' <span class="soft">of {write(metric.node)}</span>' if metric.node else ""
    lower = ' <span class="soft">less is better</span>' if metric.lower_is_better else ""
    return f"{write(metric.key)}{node}{lower}"


def scores(report: ReportInput, write: Writer) -> str:
    """Each metric's figure with its interval."""
    if not report.metrics:
        return _section("scores", "Scores", '<p class="soft">No evaluator scored a run.</p>')
    heads = ["Score", "Figure", "95 % interval", "Drawn", "Runs scored", "Without a score", "Remark"]
    found = report.comparison
    # Before is of the pairs: beside a figure of all examples only where that is the same.
    whole = [m for m in found.metrics if m.pairs == found.examples] if found else []
    earlier = {(m.after.key, m.after.node): m.before for m in whole}
    rows = [_score_row(metric, earlier.get((metric.key, metric.node)), write) for metric in report.metrics]
    if not any(metric.note for metric in report.metrics):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    said = [
        write(score.key) + ": " + _said(score.score, score.value, write) for score in report.experiment.summary_scores
    ]
    summary = f"<p>Over the whole experiment: {'; '.join(said)}.</p>" if said else ""
    return _section("scores", "Scores", table("Scores", heads, rows, words=(0, 1, 2, 3, 6)) + summary)


def _said(score: bool | float | None, value: str | None, write: Writer) -> str:
    if isinstance(score, bool):
        return "passed" if score else "failed"
    return number(score) if score is not None else write(value or NOTHING)


def _score_row(metric: Metric, earlier: Metric | None, write: Writer) -> list[str]:
    between = metric.interval
    told = "" if metric.kind == "category" else NOTHING
    if between is not None:
        ends = f"{amount(between.low, metric.kind)} to {amount(between.high, metric.kind)}"
        told = f'{ends} <span class="soft">{write(between.method)}</span>'
    figure = f"<strong>{amount(metric.mean, metric.kind)}</strong>"
    if metric.kind == "category":
        parts = [f"{write(name)} {amount(part, 'share')}" for name, part in list(metric.shares.items())[:4]]
        figure = ", ".join(parts) or NOTHING
    drawn = interval([earlier, metric] if earlier else [metric])
    return [_key(metric, write), figure, told, drawn, count(metric.scores), count(metric.unscored), write(metric.note)]


def comparison(report: ReportInput, write: Writer) -> str:
    """Each metric of both experiments: difference, chance, wins, and the sentence that says what it means."""
    found = report.comparison
    if found is None:
        return ""
    left = [(ids, name) for ids, name in ((found.only_before, found.before), (found.only_after, found.after)) if ids]
    out = "".join(f"<p>{count(len(ids))} examples are only in {write(name)} and left out.</p>" for ids, name in left)
    plain = (found.before, found.after) == ("before", "after")
    named = "" if plain else f"Before is {write(found.before)}, after is {write(found.after)}. "
    intro = (
        f'<p class="soft">{count(found.examples)} examples in both, each compared with itself. {named}'
        "Before, after and their difference are of the examples with this score in both; "
        "p is adjusted by Holm for all scores.</p>"
    )
    return _section("comparison", "Comparison", intro + out + "".join(_compared(m, write) for m in found.metrics))


def _compared(found: MetricComparison, write: Writer) -> str:
    kind = found.after.kind
    gap = points(found.difference) if kind == "share" else signed(found.difference)
    between = ""
    if found.interval is not None:
        ends = [points(end) if kind == "share" else signed(end) for end in (found.interval.low, found.interval.high)]
        low, high = (end.removesuffix("\N{NO-BREAK SPACE}points") for end in ends)
        between = f"<small>{low} to {high}, {write(found.interval.method)}</small>"
    test = f"<small>{write(found.test)}</small>" if found.test else ""
    effect = f"<small>{write(found.effect_name)} {number(found.effect)}</small>" if found.effect is not None else ""
    detectable = points(found.detectable) if kind == "share" else number(found.detectable)
    sizes = f"<small>{count(found.wins)} better · {count(found.ties)} same · {count(found.losses)} worse</small>"
    cells = [
        ("Before", amount(found.before.mean, kind)),
        ("After", amount(found.after.mean, kind)),
        ("Difference", f"<strong>{gap}</strong>{between}"),
        ("Around zero", difference(found) or NOTHING),
        ("p", f"{p_value(found.p_adjusted)}{test}{effect}"),
        ("Pairs", f"{outcomes(found)}{sizes}"),
        ("Detectable", detectable.lstrip("+")),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{cell}</dd></div>" for name, cell in cells)
    verdict = badge(found.verdict, _TONES.get(found.verdict, "calm"))
    # Categories have no mean that could differ.
    figures = f'<dl class="facts">{listed}</dl>' if found.difference is not None else ""
    return (
        f'<article class="metric"><h3>{_key(found.after, write)} {verdict}'
        f"</h3><p>{write(found.sentence)}</p>{figures}{_changes(found.changes, kind, write)}</article>"
    )


def _changes(changes: Sequence[Change], kind: str, write: Writer) -> str:
    if not changes:
        return ""
    shown = [
        f'<li><button type="button" class="link" data-example="{write(change.example_id)}">{write(change.example_id)}'
        f"</button> {amount(change.before, kind)} → {amount(change.after, kind)}</li>"
        for change in changes[:_SHOWN_CHANGES]
    ]
    more = f"<li>and {count(len(changes) - len(shown))} more</li>" if len(changes) > len(shown) else ""
    title = f"{count(len(changes))} examples changed"
    return f'<details><summary>{title}</summary><ul class="changes">{"".join(shown)}{more}</ul></details>'


def distributions(report: ReportInput, write: Writer) -> str:
    """How the scores of each metric lie, those of the other experiment beside or over them."""
    figures = []
    for metric in report.metrics:
        earlier = None if report.before is None else _values(report.before, metric)
        drawn = distribution(metric, _values(report.experiment, metric), earlier, write)
        if drawn:
            figures.append(f"<figure><figcaption>{_key(metric, write)}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    legend = (
        '<p class="legend"><span><span class="mark before"></span> before</span> '
        '<span><span class="mark after"></span> after</span></p>'
        if report.before is not None
        else ""
    )
    content = f'{legend}<div class="figures">{"".join(figures)}</div>'
    return _section("distributions", "Distributions", content)


def _values(experiment: Experiment, metric: Metric) -> Values:
    found = [s for run in experiment.runs for s in run.scores if s.key == metric.key and s.node == metric.node]
    return Values(
        numbers=[float(score.score) for score in found if score.score is not None],
        names=[score.value for score in found if score.score is None and score.value is not None],
    )


def origin(report: ReportInput, write: Writer) -> str:
    """What the experiments were run with, side by side where there are two."""
    both = [report.experiment] if report.before is None else [report.before, report.experiment]
    heads = [UNSEEN, *(write(it.name) for it in both)]
    rows = []
    for name, cells in _facts(both, write):
        differs = len(set(cells)) > 1 and name not in ("Batch", "Reused answers of")
        rows.append([f"{name}{' ' + badge('differs', 'calm') if differs else ''}", *cells])
    packages = sorted({name for it in both for name in it.origin.versions})
    versions = [[write(name), *(write(it.origin.versions.get(name, NOTHING)) for it in both)] for name in packages]
    listed = (
        f"<details><summary>Versions of {count(len(packages))} packages</summary>"
        f"{table('Versions', ['Package', *heads[1:]], versions, words=(0, 1, 2))}</details>"
        if packages
        else ""
    )
    return _section("origin", "Run with", table("Run with", heads, rows, words=(0, 1, 2)) + listed)


def _facts(both: Sequence[Experiment], write: Writer) -> list[tuple[str, list[str]]]:
    def cells(read: str) -> list[str]:
        return [write(getattr(it, read) or NOTHING) for it in both]

    def origins(read: str) -> list[str]:
        return [
            f"<code>{write(getattr(it.origin, read))}</code>" if getattr(it.origin, read) else NOTHING for it in both
        ]

    found = [
        ("Commit", [_commit(it.origin, write) for it in both]),
        ("Dataset", [write(it.origin.dataset or NOTHING) for it in both]),
        ("Dataset hash", origins("dataset_hash")),
        ("Model", [write(it.origin.model or NOTHING) for it in both]),
        ("Context", [_context(it.origin, write) for it in both]),
        ("Workflow", cells("workflow")),
        ("Workflow digest", origins("workflow_digest")),
        ("Node alone", cells("node")),
        ("Grouped by", cells("cluster")),
        ("Reused answers of", cells("reused")),
        ("Repetitions", [count(it.repetitions) for it in both]),
        ("Batch", [f"<code>{write(it.id)}</code>" for it in both]),
    ]
    return [(name, values) for name, values in found if any(value != NOTHING for value in values)]


def _commit(origin: Origin, write: Writer) -> str:
    if origin.commit is None:
        return NOTHING
    return f"<code>{write(origin.commit[:12])}</code>{' with changes in no commit' if origin.dirty else ''}"


def _context(origin: Origin, write: Writer) -> str:
    if not origin.context:
        return NOTHING
    return f"<pre>{write(origin.context)}</pre>"
