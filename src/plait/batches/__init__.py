"""Batches: workflows over datasets that survive anything and never pay twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from plait.app import App
from plait.batches.batches import Batch
from plait.batches.entrances import NewBatch, OldBatch
from plait.batches.options import BatchOptions
from plait.batches.progress import Progress
from plait.batches.sources import Rows
from plait.datasets import Selection
from plait.runs import Graph
from plait.settings import Settings

__all__ = ["Batch", "BatchOptions", "NewBatch", "OldBatch", "Progress", "Rows", "batch", "resume"]


def batch(
    workflow: str | Graph,
    rows: Rows,
    *,
    selection: Selection | None = None,
    options: BatchOptions | None = None,
    context: Mapping[str, object] | None = None,
    config: RunnableConfig | None = None,
    app: App | Path | str | None = None,
    settings: Settings | None = None,
) -> Batch:
    """Run a workflow (a name in langgraph.json, or a compiled graph) over rows; iterate over what it returns.

    `rows` are a path (JSONL, CSV, TSV, Parquet, text, a folder; gzip and zstd of these), `-` for standard input, or any
    iterable, also an asynchronous one, of mappings by input name. `selection` says which rows are taken and what goes
    where. Nothing happens before the iteration begins; then PlaitError is raised for what is wrong.
    """
    new = NewBatch(workflow=workflow, rows=rows, context=context, config=config, app=app, settings=settings)
    return Batch(replace(new, selection=selection or new.selection, options=options or new.options))


def resume(
    batch_id: str | None = None,
    *,
    workflow: Graph | None = None,
    rows: Rows | None = None,
    options: BatchOptions | None = None,
    errors_only: bool = False,
    force: bool = False,
    settings: Settings | None = None,
) -> Batch:
    """Go on with a batch (by default the newest that is not finished): its pending rows, or those that failed.

    Answers paid for before are not paid for again. A batch that was begun with a compiled graph needs that `workflow`;
    one over an iterable that was not read to its end needs these `rows` once more.
    Raises, when the iteration begins, BatchNotFound, BatchBusy, and BatchChanged unless `force`.
    """
    old = OldBatch(id=batch_id, workflow=workflow, rows=rows, options=options, settings=settings)
    return Batch(replace(old, errors_only=errors_only, force=force))
