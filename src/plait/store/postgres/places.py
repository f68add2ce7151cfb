"""The place of one batch in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from plait.errors import BatchBusy, BatchNotFound, StoreError
from plait.masking import shown_url as shown
from plait.store.answers import Answers
from plait.store.batches import BatchStore, about, opened
from plait.store.connections import Connection
from plait.store.files import Durability
from plait.store.places import BatchInfo, status_of
from plait.store.postgres.claims import NOW, BatchClaim, is_held
from plait.store.postgres.media import PostgresMedium
from plait.store.postgres.schema import has_batches, prepare_batches
from plait.store.postgres.sessions import Session
from plait.store.readers import BatchReader
from plait.store.tables import Tables

__all__ = ["PostgresPlace", "described"]

TABLES = ("results", "examples", "calls", "batch_meta")


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """A Place: the rows of one batch among those of others."""

    dsn: str = field(repr=False)
    id: str

    def __str__(self) -> str:
        return f"{self.id} in {shown(self.dsn)}"

    @property
    def tables(self) -> Tables:
        return Tables(self.id)

    @property
    def files(self) -> None:
        """None: a resume may come from another machine."""

    @property
    def own_answers(self) -> Answers:
        return Answers(dsn=self.dsn, batch=self.id)

    def answers(self) -> list[Answers]:
        return [self.own_answers]

    def new_answers(self) -> Answers:
        return self.own_answers

    async def create(self, meta: Mapping[str, object], *, durability: Durability = "power") -> BatchStore:
        """See Place."""
        at = meta.get("created_at")
        new_at = float(at) if isinstance(at, int | float) else time.time()
        try:
            claim = await BatchClaim.make(self.medium("power"), self.id, new_at=new_at)
        except BatchBusy as error:
            raise StoreError(str(error)) from None
        return await opened(self, claim, self.medium(durability), self.tables, meta)

    async def open(self, *, durability: Durability = "power") -> BatchStore:
        """See Place."""
        claim = await BatchClaim.make(self.medium("power"), self.id)
        return await opened(self, claim, self.medium(durability), self.tables, {})

    def read(self) -> BatchReader:
        """See Place."""
        medium = PostgresMedium(self.dsn)
        connection: Session | None = None
        try:
            connection = medium.open_to_read()
            if has_batches(connection) and self._is_there(connection):
                return BatchReader(self, medium, connection, self.tables)
            raise StoreError(f"there is no batch {self}: nothing was stored there, or it was removed")
        except Exception as error:
            if connection is not None:
                connection.close()
            raise medium.explained(error, "read") from error

    def _is_there(self, connection: Connection) -> bool:
        return connection.execute("SELECT 1 FROM batches WHERE id = ?", (self.id,)).fetchone() is not None

    def info(self) -> BatchInfo:
        """See Place."""
        medium = PostgresMedium(self.dsn)
        with self.read() as reader:
            meta, counts = reader.meta, reader.counts()
        sql = f"SELECT owner, seen, {NOW}, created_at FROM batches WHERE id = ?"  # noqa: S608
        with medium.session() as session:
            row = session.execute(sql, (self.id,)).fetchone()
        if row is None:
            raise BatchNotFound(f"there is no batch {self.id}; `plait batches` lists those there are")
        *held, created_at = row
        return described(self, meta, counts, created_at, running=is_held(*held))

    def remove(self) -> None:
        """See Place."""
        medium = self.medium("power")
        with medium.session(to_write=True) as session:
            medium.transact(session, self._remove, alone=about(self.id))

    def _remove(self, connection: Connection) -> None:
        row = connection.execute(
            f"SELECT owner, seen, {NOW} FROM batches WHERE id = ? FOR UPDATE",  # noqa: S608
            (self.id,),
        ).fetchone()
        if row is None:
            raise BatchNotFound(f"there is no batch {self.id}; `plait batches` lists those there are")
        if is_held(*row):
            raise BatchBusy(f"batch {self.id} is being run: wait for it or stop it first")
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE batch = ?", (self.id,))  # noqa: S608
        connection.execute("DELETE FROM batches WHERE id = ?", (self.id,))

    def medium(self, durability: Durability) -> PostgresMedium:
        """To write there."""
        return PostgresMedium(self.dsn, prepare=prepare_batches, durability=durability)


def described(
    place: PostgresPlace, meta: Mapping[str, object], counts: Mapping[str, int], created_at: float, *, running: bool
) -> BatchInfo:
    """What a list says of a batch with these values."""
    total = meta.get("total")
    return BatchInfo(
        place.id,
        place,
        str(meta.get("workflow", "")),
        created_at,
        status_of(meta, running=running),
        counts,
        total if isinstance(total, int) else None,
        None,
        meta,
    )
