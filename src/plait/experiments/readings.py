"""Finds experiments among the batches of a home, and reads them back."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, cast

from plait.batches.entrances import EXPERIMENT
from plait.errors import BatchNotFound, InputError
from plait.experiments.records import Experiment, Failure, Origin, Score
from plait.experiments.stored_runs import decode
from plait.store.places import BatchInfo, Shelf
from plait.store.rows import json_text

__all__ = ["SUMMARY", "find_experiment", "list_experiments", "notes_of", "read_experiment"]

SUMMARY = "experiment_summary"
"""The key under which the scores of summary evaluators are stored."""


def list_experiments(shelf: Shelf) -> list[BatchInfo]:
    """The experiments of a shelf, newest first. Blocks: files."""
    return [batch for batch in shelf.batches() if EXPERIMENT in batch.meta]


def find_experiment(shelf: Shelf, name: str) -> BatchInfo:
    """The experiment of this id, the newest of this name, or the one whose id begins with it.

    Raises BatchNotFound, with those that come near, and InputError for a batch that is no experiment. Blocks: files.
    """
    try:
        batch = shelf.find(name).info()
    except BatchNotFound:
        names = list(dict.fromkeys(batch.name or batch.id for batch in list_experiments(shelf)))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`plait experiments` lists those there are"
        raise BatchNotFound(f"there is no experiment {name!r}; {hint}") from None
    if EXPERIMENT not in batch.meta:
        raise InputError(
            f"expected an experiment, found the batch {batch.id}, whose rows have no scores; "
            f"look at it with `plait show {batch.id}`"
        )
    return batch


def read_experiment(batch: BatchInfo) -> Experiment:
    """An experiment with all its runs so far. Raises StoreError. Blocks: files; 5,000 runs take under a second."""
    with batch.place.read() as reader:
        rows = list(reader.rows())
        meta = reader.meta
    decoded = [decode(row) for row in rows]
    notes, summary = notes_of(meta), cast("Mapping[str, Any]", meta.get(SUMMARY) or {})
    began = min((row.finished_at - row.duration_s for row in rows), default=batch.created_at)
    lower: frozenset[str] = frozenset().union(*(keys for _, keys in decoded))
    return Experiment(
        id=batch.id,
        name=batch.name or batch.id,
        definition=str(notes.get("definition") or batch.workflow),
        workflow=batch.workflow,
        place=str(batch.place),
        status=batch.status,
        created_at=batch.created_at,
        duration_s=max((row.finished_at for row in rows), default=began) - began,
        repetitions=int(notes.get("repetitions") or 1),
        runs=tuple(run for run, _ in decoded),
        summary_scores=tuple(Score(**each) for each in summary.get("scores") or ()),
        summary_failures=tuple(Failure(**each) for each in summary.get("failures") or ()),
        summary_usage=summary.get("usage") or {},
        lower_is_better=lower | frozenset(summary.get("lower") or ()),
        cluster=notes.get("cluster"),
        node=notes.get("node"),
        reused=notes.get("reused"),
        mixed=meta.get("forced") is True,
        origin=replace(Origin(**(notes.get("origin") or {})), workflow_digest=_digest(meta.get("workflow_digests"))),
        thresholds=notes.get("thresholds") or {},
    )


def _digest(parts: object) -> str:
    """One for the workflow's shape and files together."""
    return blake2b(json_text(parts).encode(), digest_size=8).hexdigest() if parts else ""


def notes_of(meta: Mapping[str, object]) -> Mapping[str, Any]:
    """What is stored of an experiment as it begins, beside what every batch has."""
    found = meta.get(EXPERIMENT)
    return found if isinstance(found, Mapping) else {}
