"""The answers that a batch need not pay for: its own, and those of the batch that it reuses."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from plait.batches.options import BatchOptions
from plait.errors import BatchNotFound, StoreError
from plait.journal import Journal
from plait.store.answers import Answers
from plait.store.places import Shelf
from plait.store.writers import Writer

logger = logging.getLogger("plait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """Where the answers of a batch are."""

    earlier: tuple[Answers, ...] = ()
    """Its own."""
    reused: tuple[Answers, ...] = ()
    """Those of the batch that it reuses."""
    declined: tuple[tuple[str, str], ...] = ()
    """Rows and their branches that take none of the reused answers, because they could not use them."""


async def open_journal(
    writer: Writer, own: Answers, paid: Paid, options: BatchOptions, stack: AsyncExitStack
) -> Journal | None:
    """What keeps the batch's answers and finds those there are; None where it keeps none."""
    if not options.journal:
        return None
    journal = await asyncio.to_thread(
        partial(
            Journal,
            writer,
            own,
            earlier=paid.earlier,
            reused=paid.reused,
            same_draws=options.same_draws,
            recorded_only=options.recorded_only,
        )
    )
    journal.decline(paid.declined)
    stack.callback(journal.close)
    return journal


def reused_answers(shelf: Shelf, batch_id: str, *, by: str) -> list[Answers]:
    """Where answers for the batch `by` are, those of the oldest batch first, in the order they were drawn.

    What a batch replayed stands in the journals of the one that it reused, not in its own. A batch that is gone is left
    out, with a warning. Blocks.
    """
    places: list[Answers] = []
    seen: set[str] = set()
    wanted: str | None = batch_id
    while wanted is not None and wanted not in seen:
        seen.add(wanted)
        try:
            place = shelf.find(wanted)
            with place.read() as reader:
                options = BatchOptions.from_json(reader.meta.get("options"))
        except (BatchNotFound, StoreError) as error:
            logger.warning("%s goes on without the answers it was to reuse: %s", by, error)
            break
        places = [*place.answers(), *places]
        wanted = options.reuse
    return places
