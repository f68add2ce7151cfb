"""Finds the answers that a batch takes from another: its journals, and those that it took answers from itself."""

from __future__ import annotations

import logging
from pathlib import Path

from plait.batches.openings import journals
from plait.batches.options import BatchOptions
from plait.errors import BatchNotFound, StoreError
from plait.store.folders import find_batch
from plait.store.readers import BatchReader

logger = logging.getLogger("plait")


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
