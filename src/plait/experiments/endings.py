"""What is done when all runs of an experiment have ended: summary evaluators, and reading it back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from plait.app import App
from plait.experiments.evaluators import load_summary_evaluator
from plait.experiments.evaluators.summaries import summarize
from plait.experiments.readings import SUMMARY, read_experiment
from plait.experiments.records import Experiment
from plait.json_values import to_json
from plait.store.batches import BatchStore
from plait.store.folders import read_batch

__all__ = ["conclude"]


async def conclude(folder: Path, evaluators: Sequence[object], *, app: App | None) -> Experiment:
    """Score the experiment in `folder` as a whole, once it has ended, and read it.

    Raises InputError where a summary evaluator cannot be loaded, and StoreError.
    """
    experiment = await asyncio.to_thread(lambda: read_experiment(read_batch(folder)))
    if not evaluators or experiment.status != "finished":
        return experiment
    loaded = await asyncio.to_thread(lambda: [load_summary_evaluator(each, app) for each in evaluators])
    scores, failures = await summarize(loaded, experiment)
    store = await BatchStore.open(folder)
    try:
        await store.put_meta({SUMMARY: {"scores": to_json(scores), "failures": to_json(failures)}})
    finally:
        await store.close()
    return await asyncio.to_thread(lambda: read_experiment(read_batch(folder)))
