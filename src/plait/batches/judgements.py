"""The scopes of a row's evaluators: their model calls go last, and are journalled with the row's own."""

from __future__ import annotations

from collections.abc import Callable

from plait.batches.watches import RowWatch
from plait.branches import BranchPaths, current_node
from plait.flow.gate import Gate
from plait.flow.queues import BACKGROUND
from plait.flow.scopes import Scope, current_scope
from plait.journal import Journal
from plait.process import is_ours
from plait.settings import Settings

_EVALUATOR = "evaluate:"


def branch_of(evaluator: str) -> str:
    """Under which an evaluator's answers are journalled."""
    return f"{_EVALUATOR}{evaluator}"


async def open_scopes(
    row: str, group: str, settings: Settings, gate: Gate, journal: Journal | None, watch: RowWatch | None
) -> Callable[[str], Scope]:
    """Open the journal for the evaluators of one row; returns what makes the scope of one of them, by its name."""
    paths = BranchPaths()

    def branch() -> str:
        scope = current_scope()
        while scope is not None and scope.parent is not None:
            scope = scope.parent
        evaluator = scope.run_id if scope is not None else _EVALUATOR
        return f"{evaluator}/{paths.current()}"

    recorder = await journal.open_row(row, branch) if journal is not None else None

    def scope_of(evaluator: str) -> Scope:
        scope = Scope(branch_of(evaluator), gate=gate, settings=settings, watched=False, group=group, node=current_node)
        scope.priority = BACKGROUND
        scope.recorder, scope.watcher = recorder, watch
        if is_ours():
            scope.note_graph = paths.note
        return scope

    return scope_of
