"""All batches that are kept in one PostgreSQL database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

import psycopg

from plait.errors import BatchBusy, BatchNotFound, StoreError
from plait.masking import shown_url as shown
from plait.store.connections import Connection
from plait.store.places import BatchInfo, Place, find, new_batch_id
from plait.store.postgres.claims import NOW, is_held
from plait.store.postgres.media import PostgresMedium
from plait.store.postgres.places import PostgresPlace, described
from plait.store.postgres.schema import has_batches, prepare_batches
from plait.store.postgres.sessions import Session

__all__ = ["PostgresShelf"]

_NAMES_LOCK = 0x6E616D65
"""The advisory lock of `naming`: "name"."""
_LOOKS_AGAIN_AFTER_S = 0.05
_NAMES_S = 60.0
_DRAWS = 20
_ALL = f"SELECT id, created_at, owner, seen, {NOW} FROM batches ORDER BY created_at DESC, id DESC"  # noqa: S608


@dataclass(frozen=True, slots=True)
class PostgresShelf:
    """A Shelf: a database."""

    dsn: str = field(repr=False)

    def __str__(self) -> str:
        return shown(self.dsn)

    def place(self, batch_id: str) -> PostgresPlace:
        return PostgresPlace(self.dsn, batch_id)

    def new_place(self, workflow: str, at: datetime) -> PostgresPlace:
        known = set(self.ids())
        batch_id = new_batch_id(workflow, at)
        for _ in range(_DRAWS):
            if batch_id not in known:
                break
            batch_id = new_batch_id(workflow, at)
        return self.place(batch_id)

    def ids(self) -> Sequence[str]:
        (rows,) = self._select("SELECT id FROM batches")
        return [str(batch_id) for (batch_id,) in rows]

    def batches(self) -> list[BatchInfo]:
        batches, values, ends = self._select(
            _ALL,
            "SELECT batch, key, value FROM batch_meta",
            "SELECT batch, status, count(*) FROM results GROUP BY batch, status",
        )
        metas: dict[str, dict[str, object]] = {}
        for batch, key, value in values:
            metas.setdefault(batch, {})[key] = json.loads(value)
        counts: dict[str, dict[str, int]] = {}
        for batch, status, count in ends:
            counts.setdefault(batch, {})[status] = count
        found = []
        for batch_id, created_at, *held in batches:
            place = self.place(batch_id)
            running = is_held(*held)
            meta = metas.get(batch_id, {})
            found.append(described(place, meta, counts.get(batch_id, {}), created_at, running=running))
        return found

    def find(self, id_or_prefix: str | None) -> Place:
        return find(self, id_or_prefix)

    def prune(self, older_than_s: float, now: float, *, dry_run: bool = False) -> list[BatchInfo]:
        touched: dict[str, float] = {}
        times = self._select(
            "SELECT id, coalesce(seen, created_at) FROM batches",
            "SELECT batch, max(finished_at) FROM results GROUP BY batch",
        )
        for batch, at in chain.from_iterable(times):
            touched[batch] = max(touched.get(batch, 0.0), at or 0.0)
        removed = []
        for batch in self.batches():
            if batch.status == "running" or now - touched.get(batch.id, 0.0) < older_than_s:
                continue
            if not dry_run:
                try:
                    batch.place.remove()
                except (BatchBusy, BatchNotFound):
                    continue  # begun, or removed by somebody else, since it was read
            removed.append(batch)
        return removed

    @asynccontextmanager
    async def naming(self) -> AsyncIterator[None]:
        medium = PostgresMedium(self.dsn)
        session: Session | None = None
        try:
            try:
                session = await asyncio.to_thread(medium.open_to_read)
                await self._get_names_lock(session)
            except psycopg.Error as error:
                raise medium.explained(error) from error
            yield
        finally:
            if session is not None:
                await asyncio.shield(asyncio.to_thread(session.close))

    async def _get_names_lock(self, session: Session) -> None:
        # The lock goes with the session, however this process ends.
        asked = f"SELECT pg_try_advisory_lock({_NAMES_LOCK})"
        try:
            async with asyncio.timeout(_NAMES_S):
                while not (await asyncio.to_thread(_row, session, asked))[0]:  # noqa: ASYNC110 - no event elsewhere
                    await asyncio.sleep(_LOOKS_AGAIN_AFTER_S)
        except TimeoutError:
            raise StoreError(
                f"another process has been naming an experiment in {self} for {_NAMES_S:.0f} s: end it, and try again"
            ) from None

    def check(self) -> None:
        medium = PostgresMedium(self.dsn, prepare=prepare_batches)
        with medium.session(to_write=True):
            pass

    def _select(self, *statements: str) -> list[list[tuple[Any, ...]]]:
        """The rows of each, all of one moment."""
        medium = PostgresMedium(self.dsn)

        def select(connection: Connection) -> list[list[tuple[Any, ...]]]:
            if not has_batches(connection):  # a database in which nobody has stored anything yet
                return [[] for _ in statements]
            return [connection.execute(sql).fetchall() for sql in statements]

        with medium.session() as session:
            return medium.read(session, select)


def _row(session: Session, sql: str) -> tuple[Any, ...]:
    return session.execute(sql).fetchone() or (False,)
