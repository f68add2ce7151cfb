"""`plait experiments`: the experiments of this home, newest first."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rich.text import Text

from plait.batches.entrances import EXPERIMENT
from plait.cli.apps import open_app
from plait.cli.batch_costs import prices_of
from plait.cli.batch_list import ended
from plait.cli.durations import roughly
from plait.cli.experiments import figures
from plait.cli.experiments.tables import Block, Note, Page, Sheet, cell, terminal
from plait.datasets.examples import Example
from plait.errors import StoreError
from plait.experiments.metrics import scored
from plait.experiments.readings import list_experiments
from plait.experiments.records import ExampleRun, Experiment, Score
from plait.flow.usage import Tokens
from plait.json_values import dumps
from plait.prices import Prices
from plait.store.places import BatchInfo, shelf_of

__all__ = ["show_experiments"]

_MOST_RUNS = 10_000
"""Runs whose scores are read for the list, of the newest experiments where not all fit: about a second's work."""
_MOST_SCORES = 3
_STYLES = {"running": "cyan", "finished": "green", "paused": "yellow"}


@dataclass(frozen=True, slots=True)
class _Mean:
    """One score over an experiment."""

    key: str
    mean: float
    is_share: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    batch: BatchInfo
    notes: Mapping[str, Any]
    cost_usd: float | None
    """None where it runs, and where a model has no price."""
    means: Sequence[_Mean] | None
    """None where they were not read."""


def show_experiments(*, as_json: bool) -> int:
    """Print the experiments; returns the exit code. Raises SettingsError for prices that cannot be read."""
    _, settings = open_app(None)
    entries = _entries(list_experiments(shelf_of(settings)), prices_of(settings))
    if as_json:
        sys.stdout.write(f"{dumps([_as_json(entry) for entry in entries], indent=2)}\n")
    elif entries:
        terminal().print(Page(list(_blocks(entries))))
    else:
        sys.stdout.write("there are no experiments yet: plait eval EXPERIMENT begins one\n")
    return 0


def _entries(batches: Sequence[BatchInfo], prices: Prices) -> list[_Entry]:
    entries, read = [], 0
    for batch in batches:
        runs = sum(batch.counts.values())
        means = None
        if read + runs <= _MOST_RUNS:
            means, read = _means(batch), read + runs
        notes = batch.meta.get(EXPERIMENT)
        entries.append(_Entry(batch, notes if isinstance(notes, Mapping) else {}, _cost(batch, prices), means))
    return entries


def _cost(batch: BatchInfo, prices: Prices) -> float | None:
    spent = batch.meta.get("spent")
    if batch.status == "running" or not isinstance(spent, Mapping):
        return None
    endpoint = str(batch.meta.get("model") or "").partition(":")[0] or None
    return prices.cost_usd({name: Tokens(*sums) for name, sums in spent.items()}, endpoint)


def _means(batch: BatchInfo) -> list[_Mean] | None:
    """Of the scores that are no categories. Only they are read of the runs: a trace takes longer than the rest."""
    runs = []
    try:
        with batch.place.read() as reader:
            for position, *_, evaluation in reader.columns(statuses=("success",)):
                runs.append(_run(cast("int", position), evaluation))
    except (StoreError, FileNotFoundError):
        return None  # removed, or damaged, since it was listed
    experiment = Experiment(
        id=batch.id,
        name=batch.name or batch.id,
        definition="",
        workflow=batch.workflow,
        place=str(batch.place),
        status=batch.status,
        created_at=batch.created_at,
        runs=tuple(runs),
    )
    return [
        _Mean(
            found.key if found.node is None else f"{found.key} of {found.node}",
            math.fsum(means.values()) / len(means),
            found.is_share,
        )
        for found in scored(experiment).values()
        if (means := found.means())
    ]


def _run(position: int, evaluation: object) -> ExampleRun:
    stored = json.loads(evaluation) if isinstance(evaluation, str) else {}
    example = Example(position, str((stored.get("example") or {}).get("id", position)), {})
    return ExampleRun(
        position=position, example=example, scores=tuple(Score(**score) for score in stored.get("scores") or ())
    )


# --- the list ------------------------------------------------------------------------------------------


def _blocks(entries: Sequence[_Entry]) -> list[Block]:
    heads = ("experiment", "status", "done", "failed", "scores", "cost", "age", "definition", "model", "examples", "id")
    blocks: list[Block] = [Sheet(heads, _rows(entries), words=(0, 1, 4, 7, 8, 9, 10))]
    if unread := [entry for entry in entries if entry.means is None]:
        scores = f"the scores of {figures.count(len(unread), 'experiment')}"
        blocks.append(Note(f"not read for this list: {scores}; plait report {unread[0].batch.id} shows them", "dim"))
    return blocks


def _name(entry: _Entry) -> str:
    return entry.batch.name or entry.batch.id


def _rows(entries: Sequence[_Entry]) -> list[list[Text]]:
    rows, seen = [], set[str]()
    for entry in entries:
        batch, name = entry.batch, _name(entry)
        done, failed = ended(batch)
        # A name means the newest experiment that has it.
        older = " (replaced)" if name in seen else ""
        seen.add(name)
        rows.append(
            [
                cell(name + older, "bold" if not older else "dim"),
                cell(batch.status, _STYLES.get(batch.status, "")),
                cell(f"{done:,}" if batch.total in (None, done + failed) else f"{done:,} of {batch.total:,}"),
                cell(f"{failed:,}" if failed else "", "red"),
                cell(_scores(entry.means)),
                cell(figures.dollars(entry.cost_usd) if entry.cost_usd else ""),
                cell(roughly(time.time() - batch.created_at)),
                cell(_definition(entry)),
                cell(str(batch.meta.get("model") or "")),
                cell(_examples(entry)),
                cell("" if name == batch.id else batch.id, "dim"),
            ]
        )
    return rows


def _scores(means: Sequence[_Mean] | None) -> str:
    if not means:
        return ""
    told = [f"{each.key} {figures.amount(each.mean, 'share' if each.is_share else 'mean')}" for each in means]
    more = f", {len(told) - _MOST_SCORES} more" if len(told) > _MOST_SCORES else ""
    return ", ".join(told[:_MOST_SCORES]) + more


def _definition(entry: _Entry) -> str:
    name, workflow = str(entry.notes.get("definition") or ""), entry.batch.workflow
    return workflow if name in ("", workflow) else f"{name} ({workflow})"


def _examples(entry: _Entry) -> str:
    repetitions, total = entry.notes.get("repetitions"), entry.batch.total
    if total is None:
        return ""
    if not isinstance(repetitions, int) or repetitions < 2:
        return f"{total:,}"
    return f"{total // repetitions:,} x {repetitions}"


def _as_json(entry: _Entry) -> dict[str, object]:
    batch = entry.batch
    done, failed = ended(batch)
    return {
        "id": batch.id,
        "name": batch.name,
        "definition": entry.notes.get("definition"),
        "workflow": batch.workflow,
        "model": batch.meta.get("model"),
        "status": batch.status,
        "cause": batch.meta.get("cause"),
        "repetitions": entry.notes.get("repetitions"),
        "reused": entry.notes.get("reused"),
        "done": done,
        "failed": failed,
        "total": batch.total,
        "scores": None if entry.means is None else {each.key: each.mean for each in entry.means},
        "cost_usd": entry.cost_usd,
        "created_at": batch.created_at,
        "folder": str(batch.place),
    }
