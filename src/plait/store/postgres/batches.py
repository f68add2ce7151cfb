"""The rows of a batch in PostgreSQL, for workers on whatever machine."""

from __future__ import annotations

import asyncio

from plait.store.answers import Answers
from plait.store.files import Durability
from plait.store.rows import RowRecord, encoded, insert_of
from plait.store.tables import Tables
from plait.store.writers import Writer

__all__ = ["RowWriter", "open_rows"]


class RowWriter:
    """Stores results of one batch from a worker, on whatever machine; made by `open_rows`, for one event loop."""

    def __init__(self, writer: Writer, tables: Tables) -> None:
        self.writer = writer
        """Also for the journal of the same batch."""
        self._insert = insert_of(tables)
        self._key = tables.key

    async def stored(self, row: RowRecord) -> None:
        """Store a row's end, instead of an earlier one; returns when it is durable. Raises StoreError."""
        await self.writer.added(self._insert, (*self._key, *encoded(row)))

    async def close(self) -> None:
        """Commit what was put and let go of the database."""
        await asyncio.to_thread(self.writer.close)


async def open_rows(answers: Answers, durability: Durability) -> RowWriter:
    """To store results beside these answers, which lie in a database. Raises StoreError where it cannot be written."""
    writer = Writer(answers.medium(durability))
    try:
        await writer.do(lambda _: None)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(writer.close))
        raise
    return RowWriter(writer, answers.tables)
