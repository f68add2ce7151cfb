"""What a batch is to do, what a resume is to go on with, and what either is once it is open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from plait.app import App
from plait.batches.options import BatchOptions
from plait.batches.rows import Workflow
from plait.batches.scorings import Scorer, Scoring
from plait.batches.sources import Rows
from plait.datasets import Dataset, Selection
from plait.datasets.examples import Example
from plait.prices import Prices
from plait.runs import Graph
from plait.settings import Settings
from plait.store.batches import BatchStore

EXPERIMENT = "experiment"
"""The key of the note that tells an experiment from other batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What a batch is to do."""

    workflow: str | Graph
    rows: Rows
    selection: Selection = field(default_factory=Selection)
    options: BatchOptions = field(default_factory=BatchOptions)
    context: Mapping[str, object] | None = None
    config: RunnableConfig | None = None
    app: App | Path | str | None = None
    settings: Settings | None = None
    out: str | None = None
    """Where the command line writes the results; a resume writes them there again."""
    repetitions: int = 1
    """How often each row is run, as a row of its own."""
    scoring: Scoring | None = None
    """Of an experiment."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """JSON values that are stored with the batch, by keys that are none of ours."""
    claim: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """Is entered while the batch is made; raises InputError where its name was taken meanwhile."""
    probe: int | None = None
    """Run only so many rows, drawn at random; the batch is `planned` then, and a resume runs the others."""
    whole: bool = True
    """Whether results come with their outputs where their workers stored those, too; it takes reading them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldBatch:
    """What a resume is to go on with; what is None stays as the batch began."""

    id: str | None = None
    """Or its beginning; None: the newest that is not finished."""
    workflow: Graph | None = None
    """For batches that were begun with a graph rather than a name."""
    rows: Rows | None = None
    """The iterable of a batch that ended before it was read to its end, once more from its beginning."""
    options: BatchOptions | None = None
    errors_only: bool = False
    """Only the rows that failed, again."""
    force: bool = False
    """Go on although the workflow or the dataset has changed."""
    scoring: Scoring | None = None
    """Of an experiment, as it began."""
    settings: Settings | None = None
    whole: bool = True
    """Whether results come with their outputs where their workers stored those, too; it takes reading them back."""


@dataclass(slots=True, kw_only=True)
class OpenBatch:
    """A batch with its store locked, its workflow loaded and its rows ready to be read."""

    store: BatchStore
    workflow: Workflow
    options: BatchOptions
    dataset: Dataset | None
    examples: AsyncGenerator[Example]
    prices: Prices
    app: App | None
    context: Mapping[str, object]
    only: frozenset[int] | None = None
    """The positions of the rows that are run; None: all that have no result."""
    probes: bool = False
    changed: bool = False
    """Whether it goes on although something has changed."""
    errors_only: bool = False
    repetitions: int = 1
    scoring: Scoring | None = None
    scorer: Scorer | None = None
    whole: bool = True
