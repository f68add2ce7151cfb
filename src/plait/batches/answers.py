"""The answers that a batch need not pay for: its own, and those of the batch that it reuses."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plait.batches.options import BatchOptions
from plait.errors import BatchNotFound, StoreError
from plait.journal import Journal
from plait.store.batches import DATABASE
from plait.store.folders import find_batch
from plait.store.readers import BatchReader
from plait.store.writers import Writer

logger = logging.getLogger("plait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """Where the answers of a batch are."""

    earlier: tuple[Path, ...] = ()
    """Its own files."""
    reused: tuple[Path, ...] = ()
    """Those of the batch that it reuses."""
    declined: tuple[tuple[str, str], ...] = ()
    """Rows and their branches that take none of the reused answers, because they could not use them."""


async def open_journal(writer: Writer, paid: Paid, options: BatchOptions, stack: AsyncExitStack) -> Journal | None:
    """What keeps the batch's answers and finds those there are; None where it keeps none."""
    if not options.journal:
        return None
    journal = await asyncio.to_thread(
        partial(
            Journal,
            writer,
            earlier=paid.earlier,
            reused=paid.reused,
            same_draws=options.same_draws,
            recorded_only=options.recorded_only,
        )
    )
    journal.decline(paid.declined)
    stack.callback(journal.close)
    return journal


def journals(folder: Path) -> list[Path]:
    """The files of a batch that hold paid answers."""
    return [folder / DATABASE, *sorted(folder.glob("journal-*.db"))]


def reused_journals(home: Path, batch_id: str, *, by: str) -> list[Path]:
    """The files with answers for the batch `by`, those of the oldest batch first, in the order they were drawn.

    What a batch replayed stands in the journals of the one that it reused, not in its own. A batch that is gone is left
    out, with a warning. Blocks: files.
    """
    files: list[Path] = []
    seen: set[str] = set()
    wanted: str | None = batch_id
    while wanted is not None and wanted not in seen:
        seen.add(wanted)
        try:
            folder = find_batch(home, wanted)
            with BatchReader(folder) as reader:
                options = BatchOptions.from_json(reader.meta.get("options"))
        except (BatchNotFound, StoreError) as error:
            logger.warning("%s goes on without the answers it was to reuse: %s", by, error)
            break
        files = [*journals(folder), *files]
        wanted = options.reuse
    return files
