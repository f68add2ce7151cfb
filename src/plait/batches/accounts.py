"""What the files of a batch say of earlier sessions: what was paid, and which rows failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plait.batches.scorings import Scoring
from plait.flow.usage import Tokens
from plait.store.batches import BatchStore

FAILED = ("error", "timeout", "interrupted")


def spent_before(store: BatchStore) -> dict[str, Tokens]:
    """What the kept answers cost, by model. Blocks."""
    with store.place.read() as reader:
        return {
            model: Tokens(totals.input_tokens, totals.cached_tokens, totals.output_tokens)
            for model, totals in reader.models().items()
        }


def spent_as_noted(store: BatchStore) -> dict[str, Tokens]:
    """What earlier sessions noted as they ended: all there is where answers are not kept."""
    spent = store.meta.get("spent")
    return {model: Tokens(*sums) for model, sums in spent.items()} if isinstance(spent, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that failed, or that an evaluator could not score; `branches` are those whose answers nobody could use."""

    position: int
    row: str
    branches: tuple[str, ...]


def failed_rows(store: BatchStore, scoring: Scoring | None) -> list[Failed]:
    """Those of an earlier session. Blocks."""
    with store.place.read() as reader:
        found = [
            Failed(record.position, record.id, (record.error.branch,) if record.error and record.error.branch else ())
            for record in reader.rows(statuses=FAILED)
        ]
        if scoring is not None:
            succeeded = reader.rows(statuses=("success",))
            unscored = ((record, tuple(scoring.unscored(record))) for record in succeeded)
            found += [Failed(record.position, record.id, branches) for record, branches in unscored if branches]
    return found
