"""Where the paid answers of a batch lie: in a file, or in a database among those of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.store.connections import Connection, schema_version
from plait.store.files import Durability
from plait.store.media import FileMedium, Medium
from plait.store.schema import prepare_journal
from plait.store.tables import Tables

__all__ = ["Answers", "Reading"]

Reading = Callable[[Callable[[Connection], Any]], Any]
"""Gives the result of a function of a connection."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The table `calls` of a `file`, or what is `batch`'s in that of the database of a `dsn`. Other processes may
    be given it."""

    file: Path | None = None
    dsn: str | None = field(default=None, repr=False)
    batch: str | None = None

    @property
    def tables(self) -> Tables:
        return Tables(self.batch)

    @property
    def is_shared(self) -> bool:
        """Whether several processes may write here, on whatever machine."""
        return self.dsn is not None

    def numbered(self, number: int) -> Answers:
        """Where the `number`-th worker writes: a file beside this one, the same database."""
        return self if self.file is None else Answers(self.file.with_name(f"{self.file.stem}-{number}.db"))

    @contextmanager
    def reading(self) -> Iterator[Reading | None]:
        """Read there in the block; None where nothing was written yet. Raises StoreError. Blocks."""
        medium = self.medium()
        try:
            connection = self.connect(medium)
            if connection is None:
                yield None
                return
            try:
                yield lambda work: medium.read(connection, work)
            finally:
                medium.close(connection, whole=False)
        except Exception as error:
            raise medium.explained(error, "read") from error

    def connect(self, medium: Medium) -> Connection | None:
        """A connection to read with; None where there are no answers yet: no file, or one whose process was killed as
        it made it."""
        if self.file is not None and not self.file.is_file():
            return None
        connection = medium.open_to_read()
        found = f"SELECT 1 FROM calls {self.tables.where()} LIMIT 1"  # noqa: S608

        def look(known: Connection) -> bool:
            return self._has_tables(known) and known.execute(found, self.tables.key).fetchone() is not None

        try:
            if medium.read(connection, look):
                return connection
        except BaseException:
            medium.close(connection, whole=False)
            raise
        medium.close(connection, whole=False)
        return None

    def _has_tables(self, connection: Connection) -> bool:
        if self.file is not None:
            return schema_version(connection, "batches") > 0
        from plait.store.postgres.schema import has_batches  # noqa: PLC0415 - an extra

        return self.batch == "service" or has_batches(connection)

    def medium(self, durability: Durability = "power") -> Medium:
        """To write there."""
        if self.file is not None:
            return FileMedium(self.file, prepare=prepare_journal, durability=durability)
        assert self.dsn is not None
        from plait.store.postgres.media import PostgresMedium  # noqa: PLC0415 - an extra
        from plait.store.postgres.schema import prepare_batches  # noqa: PLC0415

        return PostgresMedium(self.dsn, prepare=prepare_batches, durability=durability)
