"""The statements about one batch's rows: in a file of its own, or among those of other batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Tables"]


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables that hold one batch alone (`batch` None), or all batches, told apart by their first column `batch`.

    Parameters of a statement made here begin with `key`.
    """

    batch: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return () if self.batch is None else (self.batch,)

    def put(self, table: str, columns: str, unique: str) -> str:
        """Insert a row, instead of the one that has the same `unique` columns."""
        return _put(table, columns, unique, self.batch is not None)

    def add(self, table: str, columns: str) -> str:
        """Insert a row."""
        return _insert(table, _with_batch(columns, self.batch is not None))

    def where(self, condition: str = "") -> str:
        """`WHERE` for the rows of this batch that meet a condition."""
        own = "" if self.batch is None else "batch = ?"
        conditions = " AND ".join(part for part in (own, condition) if part)
        return f"WHERE {conditions}" if conditions else ""

    def hint(self, index: str) -> str:
        """Words after a table's name that make SQLite use an index, where it would rather not."""
        return f"INDEXED BY {index}" if self.batch is None else ""


@lru_cache(maxsize=100)
def _put(table: str, columns: str, unique: str, keyed: bool) -> str:
    columns, unique = _with_batch(columns, keyed), _with_batch(unique, keyed)
    fixed = _names(unique)
    changes = ", ".join(f"{name} = excluded.{name}" for name in _names(columns) if name not in fixed)
    return f"{_insert(table, columns)} ON CONFLICT ({unique}) DO UPDATE SET {changes}"


@lru_cache(maxsize=100)
def _insert(table: str, columns: str) -> str:
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(_names(columns)))})"  # noqa: S608


def _with_batch(columns: str, keyed: bool) -> str:
    return f"batch, {columns}" if keyed else columns


def _names(columns: str) -> Sequence[str]:
    return columns.split(", ")
