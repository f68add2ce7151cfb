"""What a batch asks of an experiment: the graph to run, and what is to be kept beside each row's result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from langchain_core.callbacks import BaseCallbackHandler

from plait.app import App
from plait.branches import BranchPaths
from plait.datasets.examples import Example
from plait.flow.recorders import Observer
from plait.flow.scopes import Scope
from plait.flow.usage import Tokens
from plait.runs import Graph
from plait.store.rows import RowRecord

Scopes = Callable[[], Awaitable[Callable[[str], Scope]]]
"""Opens the journal of a row's evaluators; what it gives makes the scope of one evaluator's model calls by its name."""
CostOf = Callable[[Mapping[str, Tokens]], float | None]
"""Dollars of the tokens by model; None where a model has no price."""


class Course(Protocol):
    """One row on its way. It observes the calls of the row's graph."""

    @property
    def observer(self) -> Observer: ...

    @property
    def callbacks(self) -> Sequence[BaseCallbackHandler]:
        """For the row's graph."""
        ...

    async def score(self, record: RowRecord, outputs: object, scopes: Scopes) -> Mapping[str, object]:
        """What is kept of a row that ended, as JSON values; `outputs` are the graph's own, not as JSON.

        Raises what every further row would raise alike (`is_fatal`, `is_outage`); the row stays pending then.
        """
        ...


class Scorer(Protocol):
    """Follows and scores rows, any number at a time."""

    def begin(self, example: Example, paths: BranchPaths, cost_of: CostOf) -> Course:
        """A row is about to be run, for the first time or again."""
        ...


class Scoring(Protocol):
    """How the rows of an experiment are scored. It is pickled for worker processes, which score their own rows."""

    def target(self, graph: Graph) -> Graph:
        """What is run: the workflow's graph, or a part of it. Raises InputError."""
        ...

    def unscored(self, record: RowRecord) -> Sequence[str]:
        """The branches of the evaluators that could not score a stored row: they are asked anew with failed rows."""
        ...

    def opened(self, app: App | None) -> AbstractAsyncContextManager[Scorer]:
        """The scorer, with its evaluators loaded. Raises InputError."""
        ...
