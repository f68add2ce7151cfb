"""What the files of a batch say of earlier sessions: what was paid, and which rows failed."""

from __future__ import annotations

from collections.abc import Mapping

from plait.flow.usage import Tokens
from plait.store.batches import BatchStore
from plait.store.readers import BatchReader

FAILED = ("error", "timeout", "interrupted")


def spent_before(store: BatchStore) -> dict[str, Tokens]:
    """What the kept answers cost, by model. Blocks."""
    with BatchReader(store.folder) as reader:
        return {
            model: Tokens(totals.input_tokens, totals.cached_tokens, totals.output_tokens)
            for model, totals in reader.models().items()
        }


def spent_as_noted(store: BatchStore) -> dict[str, Tokens]:
    """What earlier sessions noted as they ended: all there is where answers are not kept."""
    spent = store.meta.get("spent")
    return {model: Tokens(*sums) for model, sums in spent.items()} if isinstance(spent, Mapping) else {}


def failed_rows(store: BatchStore) -> list[tuple[int, str, str]]:
    """Position, id, and the branch whose answers could not be used, of the rows that failed. Blocks."""
    with BatchReader(store.folder) as reader:
        return [
            (record.position, record.id, record.error.branch if record.error else "")
            for record in reader.rows(statuses=FAILED)
        ]
