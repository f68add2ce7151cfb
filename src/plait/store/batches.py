"""The store of one running batch: the writer of its results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Protocol

from plait.errors import BatchBusy
from plait.store.connections import Connection
from plait.store.media import Medium
from plait.store.places import Place
from plait.store.rows import COLUMNS, Finished, RowRecord, decoded, encoded, insert_of, json_text
from plait.store.tables import Tables
from plait.store.writers import Writer

__all__ = ["BatchStore", "Claim", "meta_table", "opened", "write_meta"]


class Claim(Protocol):
    """The right to run a batch, which one process has at a time."""

    def on_lost(self, tell: Callable[[BatchBusy], None]) -> None:
        """`tell` is called, on the loop, should somebody else get the right all the same."""
        ...

    async def release(self) -> None:
        """Let go; harmless the second time."""
        ...


class BatchStore:
    """What one batch has: its meta values and the results of its rows.

    Made by `Place.create` or `Place.open`, one at a time for a batch in all processes; BatchReader watches from
    anywhere. Its methods belong to one event loop. A cancelled wait undoes nothing that was put.
    """

    def __init__(
        self,
        place: Place,
        claim: Claim,
        writer: Writer,
        tables: Tables,
        meta: dict[str, object],
        done: Finished,
    ) -> None:
        """For places."""
        self.place = place
        self.id = place.id
        self.writer = writer
        self.tables = tables
        self.finished = done
        self._claim = claim
        self._meta = meta
        self._insert = insert_of(tables)
        self._about = about(place.id)
        self._lost: BatchBusy | None = None

    @property
    def meta(self) -> Mapping[str, object]:
        """What `create` and `put_meta` stored."""
        return MappingProxyType(self._meta)

    async def put_meta(self, values: Mapping[str, object]) -> None:
        """Store these JSON values beside or instead of older ones; returns when they are durable.

        Raises BatchBusy once another process has taken the batch over.
        """
        if self._lost is not None:
            raise BatchBusy(*self._lost.args)
        texts = {key: json_text(value) for key, value in values.items()}
        await self.writer.do(lambda connection: write_meta(connection, self.tables, texts), about=self._about)
        self._meta |= {key: json.loads(text) for key, text in texts.items()}

    def put(self, row: RowRecord, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Store a row's end, instead of an earlier one of its position; does not wait.

        `done` is called on the writer's thread, with None when the row is durable or with the error.
        Raises TypeError when outputs, usage or timings hold what JSON cannot, ValueError for an unknown status.
        """
        self.writer.add(self._insert, (*self.tables.key, *encoded(row)), done)
        self.finished.add(row.position, row.id, row.status)

    async def stored(self, row: RowRecord) -> None:
        """`put` a row and wait until it is durable. Raises StoreError when it cannot be written."""
        await self.writer.added(self._insert, (*self.tables.key, *encoded(row)))
        self.finished.add(row.position, row.id, row.status)

    def note(self, row: RowRecord) -> None:
        """A worker stored this row's end."""
        self.finished.add(row.position, row.id, row.status)

    async def records(self, positions: Collection[int]) -> list[RowRecord]:
        """The ends of the rows at these positions as they are stored, in that order."""
        wanted = tuple(positions)
        where = self.tables.where(f"position IN ({', '.join('?' * len(wanted))})")
        sql = f"SELECT {COLUMNS} FROM results {where}"  # noqa: S608

        def select(connection: Connection) -> list[RowRecord]:
            rows = map(decoded, connection.execute(sql, (*self.tables.key, *wanted)))
            found = {row.position: row for row in rows}
            return [found[position] for position in wanted if position in found]

        return await self.writer.do(select, about=self._about)

    async def drop(self, positions: Collection[int]) -> None:
        """Make the rows at these positions pending again."""
        sql = f"DELETE FROM results {self.tables.where('position = ?')}"  # noqa: S608
        rows = [(*self.tables.key, position) for position in positions]
        await self.writer.do(lambda connection: connection.executemany(sql, rows).rowcount, about=self._about)
        for position in positions:
            self.finished.forget(position)

    async def id_at(self, position: int) -> str | None:
        """The id under which the row at `position` ended, None while it is pending."""
        sql = f"SELECT id FROM results {self.tables.where('position = ?')}"  # noqa: S608

        def select(connection: Connection) -> str | None:
            found = connection.execute(sql, (*self.tables.key, position)).fetchone()
            return None if found is None else str(found[0])

        return await self.writer.do(select, about=self._about)

    def add_example(self, position: int, text: str, done: Callable[[BaseException | None], None]) -> None:
        """Keep an input row that could not be read again; `done` as in `put`."""
        sql = self.tables.put("examples", "position, example", "position")
        self.writer.add(sql, (*self.tables.key, position, text), done)

    def on_lost(self, tell: Callable[[BatchBusy], None]) -> None:
        """`tell` is called, on the loop, should another process take the batch over; its meta is that one's then."""

        def lose(error: BatchBusy) -> None:
            self._lost = error
            tell(error)

        self._claim.on_lost(lose)

    def counts(self) -> dict[str, int]:
        """Rows by status, those put but not durable yet included."""
        return self.finished.counts()

    async def close(self) -> None:
        """Commit what was put and let go of the batch; harmless the second time."""
        await asyncio.shield(self._let_go())

    async def _let_go(self) -> None:
        await asyncio.to_thread(self.writer.close)
        await self._claim.release()


async def opened(place: Place, claim: Claim, medium: Medium, tables: Tables, meta: Mapping[str, object]) -> BatchStore:
    """The store of a batch that was claimed, with these meta values beside its own; closes all where it fails."""
    writer = Writer(medium)
    texts = {key: json_text(value) for key, value in meta.items()}

    def begin(connection: Connection) -> tuple[dict[str, object], Finished]:
        write_meta(connection, tables, texts)
        sql = f"SELECT key, value FROM {meta_table(tables)} {tables.where()}"  # noqa: S608
        found = {key: json.loads(value) for key, value in connection.execute(sql, tables.key)}
        done = Finished()
        # The index holds all three: outputs, however large, are not read.
        sql = f"SELECT position, id, status FROM results {tables.hint('results_status')} {tables.where()}"  # noqa: S608
        for position, row_id, status in connection.execute(sql, tables.key):
            done.add(position, row_id, status)
        return found, done

    try:
        found, done = await writer.do(begin, about=about(place.id))
    except BaseException:
        await asyncio.shield(asyncio.to_thread(writer.close))
        await asyncio.shield(claim.release())
        raise
    return BatchStore(place, claim, writer, tables, found, done)


def about(batch: str) -> str:
    """What work on one batch is alone with, among all processes."""
    return f"batch {batch}"


def meta_table(tables: Tables) -> str:
    """A database that has a service's tables, too, needs a longer name."""
    return "meta" if tables.batch is None else "batch_meta"


def write_meta(connection: Connection, tables: Tables, texts: Mapping[str, str]) -> None:
    """Store meta values, each as JSON, in the caller's transaction."""
    sql = tables.put(meta_table(tables), "key, value", "key")
    connection.executemany(sql, [(*tables.key, key, text) for key, text in texts.items()])
