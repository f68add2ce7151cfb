"""What a report's page holds of the runs, as JSON for its scripts: a table of columns, then chunks of texts and traces.

The page reads the table at once, a chunk when one of its runs is opened, and all texts for the search when it has
nothing else to do. Times are in seconds. The positions in the lists are those that the files beside this one read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from plait.experiments.findings import Metric
from plait.experiments.records import CallTrace, ExampleRun, Experiment, NodeTrace, Score
from plait.reports.masks import Hide, hidden

__all__ = ["CHUNK", "Column", "Runs", "columns", "script_text", "table", "texts", "traces"]

CHUNK = 250
"""Runs in a chunk."""
_SHORT = 160
_MOST_CHARS = 100_000_000
"""Of all texts together, about: a page beyond it is slow to open. Each run has its part of it."""
_LONGEST = 200_000
_LEAST = 4_000

Pair = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Column:
    """A score as the table's columns have it."""

    key: str
    node: str | None
    kind: str
    lower_is_better: bool


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a page, those that they are compared with (by example and repetition), and what hides keys."""

    runs: Sequence[ExampleRun]
    earlier: Mapping[Pair, ExampleRun]
    columns: Sequence[Column]
    hide: Hide

    @property
    def longest(self) -> int:
        """Characters of one field that the page holds."""
        return max(_LEAST, min(_LONGEST, _MOST_CHARS // (4 * max(len(self.runs), 1))))

    def before(self, run: ExampleRun) -> ExampleRun | None:
        """The run that this one is compared with."""
        return self.earlier.get((run.example.id, run.repetition))


def columns(experiment: Experiment, metrics: Sequence[Metric]) -> tuple[Column, ...]:
    """A column for each metric, then one for each score that has no metric."""
    found = {(m.key, m.node): Column(m.key, m.node, m.kind, m.lower_is_better) for m in metrics}
    for run in experiment.runs:
        for score in run.scores:
            if (score.key, score.node) not in found:
                kind = "share" if isinstance(score.score, bool) else "category" if score.score is None else "mean"
                lower = score.key in experiment.lower_is_better
                found[score.key, score.node] = Column(score.key, score.node, kind, lower)
    return tuple(found.values())


def script_text(value: object) -> str:
    """JSON that ends no script element and is valid in JavaScript too."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def table(page: Runs, *, name: str, before: str | None) -> dict[str, object]:
    """The columns of the table of runs, in the runs' order."""
    runs, hide = page.runs, page.hide
    earlier = [page.before(run) for run in runs]
    return {
        "name": hide(name),
        "before": None if before is None else hide(before),
        "chunk": CHUNK,
        "columns": [[hide(c.key), hide(c.node or ""), c.kind, c.lower_is_better] for c in page.columns],
        "ids": [hide(run.example.id) for run in runs],
        "repetitions": [run.repetition for run in runs] if any(run.repetition for run in runs) else None,
        "statuses": [run.status for run in runs],
        "failures": [len(run.failures) for run in runs],
        "latencies": [_rounded(run.duration_s) for run in runs],
        "costs": [_cost(run) for run in runs],
        "inputs": [_short(run.example.inputs, hide) for run in runs],
        "outputs": [_short(_result(run), hide) for run in runs],
        "scores": _scores(runs, page),
        "earlier": None if before is None else _scores(earlier, page),
    }


def _scores(runs: Sequence[ExampleRun | None], page: Runs) -> list[list[object]]:
    places = {(column.key, column.node): index for index, column in enumerate(page.columns)}
    found: list[list[object]] = [[None] * len(runs) for _ in page.columns]
    for row, run in enumerate(runs):
        for score in run.scores if run else ():
            place = places.get((score.key, score.node))
            if place is not None:
                found[place][row] = _value(score, page.hide)
    return found


def _value(score: Score, hide: Hide) -> bool | float | str | None:
    if score.score is None:
        return None if score.value is None else hide(score.value)
    return score.score if isinstance(score.score, bool) else _rounded(score.score)


def _result(run: ExampleRun) -> object:
    return run.outputs if run.error is None else f"{run.error.type}: {run.error.message}"


def _cost(run: ExampleRun) -> float | None:
    cost = run.usage.get("cost_usd")
    return _rounded(cost) if isinstance(cost, int | float) else None


def _rounded(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return round(value, 4) if abs(value) >= 1 else round(value, 7)


def _short(value: object, hide: Hide) -> str:
    """The beginning of a value on one line; the name of a lone field goes without saying."""
    if isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}: {_said(part, hide)}" for key, part in value.items())
    else:
        text = _said(value, hide)
    # Hidden before it is cut: half a key looks like none.
    text = re.sub(r"\s+", " ", hide(text[: 10 * _SHORT])).strip()
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _said(value: object, hide: Hide) -> str:
    if isinstance(value, str):
        return value[: 10 * _SHORT]
    return "" if value is None else json.dumps(hidden(value, hide), ensure_ascii=False)[: 10 * _SHORT]


def texts(page: Runs) -> Iterator[list[object]]:
    """Chunks of each run's texts: inputs, reference outputs, outputs, metadata, scores, failures, error, earlier.

    Of the scores those with more than a number: [column, comment, category]. `earlier` is [outputs, status, error].
    """
    places = {(column.key, column.node): index for index, column in enumerate(page.columns)}
    for start in range(0, len(page.runs), CHUNK):
        yield [_texts(run, page, places) for run in page.runs[start : start + CHUNK]]


def _texts(run: ExampleRun, page: Runs, places: Mapping[tuple[str, str | None], int]) -> list[object]:
    hide, earlier = page.hide, page.before(run)

    def clean(value: object) -> object:
        return _bounded(value, hide, page.longest)

    return [
        clean(run.example.inputs),
        clean(run.example.reference_outputs),
        clean(run.outputs),
        clean(run.example.metadata),
        [
            [places[score.key, score.node], clean(score.comment), clean(score.value)]
            for score in run.scores
            if score.comment or score.value
        ],
        [[hide(failure.evaluator), hide(failure.type), clean(failure.message)] for failure in run.failures],
        _error(run, hide, page.longest),
        None if earlier is None else [clean(earlier.outputs), earlier.status, _error(earlier, hide, page.longest)],
    ]


def _error(run: ExampleRun, hide: Hide, longest: int) -> list[object] | None:
    if run.error is None:
        return None
    return [hide(run.error.type), _bounded(run.error.message, hide, longest), hide(run.error.branch)]


def _bounded(value: object, hide: Hide, longest: int) -> object:
    """The value with keys hidden; each field of an object at most `longest` characters, which the text then says."""
    if isinstance(value, Mapping):
        return {hide(str(key)): _bounded_part(part, hide, longest) for key, part in value.items()}
    return _bounded_part(value, hide, longest)


def _bounded_part(value: object, hide: Hide, longest: int) -> object:
    found = hidden(value, hide)
    if isinstance(found, str):
        text = found
    elif isinstance(found, list | dict):
        text = json.dumps(found, ensure_ascii=False)
    else:
        return found
    if len(text) <= longest:
        return found
    return f"{text[:longest]}\n[cut: the first {longest:,} of {len(text):,} characters]"


def traces(page: Runs) -> Iterator[dict[str, object]]:
    """Chunks of what each run did: {names, runs}, a run being [nodes, tools], names of all kinds by their index."""
    for start in range(0, len(page.runs), CHUNK):
        names: dict[str, int] = {}

        def name(text: str, names: dict[str, int] = names) -> int:
            return names.setdefault(text, len(names))

        runs = [
            [
                [_node(node, name, page.hide) for node in run.nodes],
                [
                    [
                        name(t.name),
                        _bounded(t.args, page.hide, page.longest),
                        _rounded(t.began_s),
                        _rounded(t.duration_s),
                    ]
                    + ([page.hide(t.error)] if t.error else [])
                    for t in run.tools
                ],
            ]
            for run in page.runs[start : start + CHUNK]
        ]
        yield {"names": [page.hide(text) for text in names], "runs": runs}


def _node(node: NodeTrace, name: Callable[[str], int], hide: Hide) -> list[object]:
    return [
        name(node.name),
        name(node.branch),
        _milli(node.began_s),
        _milli(node.duration_s),
        hide(node.error) if node.error else 0,
        [_call(call, name) for call in node.calls],
    ]


def _call(call: CallTrace, name: Callable[[str], int]) -> list[object]:
    return [
        name(call.model),
        _milli(call.began_s),
        _milli(call.duration_s),
        [part for cause, wait_s in call.waits.items() if wait_s > 0 for part in (name(cause), _milli(wait_s))],
        _milli(call.first_token_s),
        _milli(call.generation_s),
        call.input_tokens,
        call.cached_tokens,
        call.output_tokens,
        int(call.replayed) + 2 * call.failed,
        None if call.cost_usd is None else _rounded(call.cost_usd),
    ]


def _milli(value: float) -> float:
    return round(value, 4) if math.isfinite(value) else 0.0
