"""Read a batch that this or another process writes: results in input order, counts, meta, what its calls used."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from plait.errors import StoreError
from plait.store.batches import DATABASE
from plait.store.files import explained, open_to_read
from plait.store.rows import COLUMNS, STATUSES, RowRecord, decoded
from plait.store.schema import check_version

__all__ = ["BatchReader", "ModelTotals"]

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """What the journals of a batch hold of one model: paid answers and their tokens.

    `cached_tokens` are part of `input_tokens`; `estimated` counts the calls whose tokens were estimated.
    """

    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated: int


class BatchReader:
    """A read-only view of the batch in `folder`; the writer is never held up. For one thread at a time, not a loop's.

    Raises StoreError when the batch is damaged, of a newer version, or gone. Also a context manager.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._connection = _checked(folder / DATABASE)
        (version,) = self._select("PRAGMA user_version")[0]
        # Files are brought up to date by their writers alone: this one may be of before rows were scored.
        self._columns = COLUMNS if version != 1 else COLUMNS.replace("evaluation", "NULL")

    def __enter__(self) -> BatchReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @property
    def meta(self) -> Mapping[str, object]:
        """The batch's meta values, as they are now."""
        return {str(key): json.loads(str(value)) for key, value in self._select("SELECT key, value FROM meta")}

    def counts(self) -> dict[str, int]:
        """Rows that ended, by status, as they are now."""
        groups = self._select("SELECT status, count(*) FROM results GROUP BY status")
        return {str(status): int(str(count)) for status, count in groups}

    def rows(self, *, statuses: Collection[str] = STATUSES, after: int = -1) -> Iterator[RowRecord]:
        """Results in input order, from the position behind `after`; memory is that of 1,000 rows.

        Rows that end while this goes on are included when their position is still ahead.
        """
        return map(decoded, self.columns(statuses=statuses, after=after))

    def columns(self, *, statuses: Collection[str] = STATUSES, after: int = -1) -> Iterator[tuple[object, ...]]:
        """`rows` as tuples of rows.COLUMNS, JSON values as their texts."""
        wanted = tuple(statuses)
        # The plus keeps SQLite off the index of statuses, which would sort all that is left for every chunk.
        query = (
            f"SELECT {self._columns} FROM results WHERE position > ? AND +status IN ({', '.join('?' * len(wanted))}) "  # noqa: S608
            f"ORDER BY position LIMIT {_CHUNK}"
        )
        while True:
            # A query a chunk: a long one would keep the writer from folding its WAL.
            chunk = self._select(query, (after, *wanted))
            yield from chunk
            if len(chunk) < _CHUNK:
                return
            last = chunk[-1][0]
            assert isinstance(last, int)
            after = last

    def errors(self, limit: int = 10) -> list[RowRecord]:
        """The last rows that ended without outputs, newest first."""
        query = (
            f"SELECT {self._columns} FROM results INDEXED BY results_status WHERE status IN (?, ?, ?) "  # noqa: S608
            "ORDER BY finished_at DESC LIMIT ?"
        )
        failures = [status for status in STATUSES if status != "success"]
        return [decoded(columns) for columns in self._select(query, (*failures, limit))]

    def models(self) -> dict[str, ModelTotals]:
        """What each model was paid for, over all journals in the folder. Reads them whole: slow for large ones."""
        sums: dict[str, list[int]] = {}
        for file in [self.folder / DATABASE, *sorted(self.folder.glob("journal-*.db"))]:
            for model, *numbers in _model_sums(file):
                known = sums.setdefault(str(model), [0] * len(numbers))
                sums[str(model)] = [a + int(b or 0) for a, b in zip(known, numbers, strict=True)]
        return {model: ModelTotals(*numbers) for model, numbers in sorted(sums.items())}

    def _select(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise explained(self.folder / DATABASE, error, "read") from error


def _model_sums(file: Path) -> list[tuple[str, *tuple[int | None, ...]]]:
    try:
        connection = _checked(file)
    except StoreError:
        if file.name == DATABASE:
            raise
        return []  # a worker's journal in which nothing was written yet
    try:
        return connection.execute(
            "SELECT coalesce(model, ''), count(*), sum(input_tokens), sum(cached_tokens), sum(output_tokens), "
            "sum(estimated) FROM calls GROUP BY model"
        ).fetchall()
    except sqlite3.Error as error:
        raise explained(file, error, "read") from error
    finally:
        connection.close()


def _checked(file: Path) -> sqlite3.Connection:
    connection = open_to_read(file)
    try:
        check_version(connection)
    except StoreError:
        connection.close()
        raise
    except sqlite3.Error as error:
        connection.close()
        raise explained(file, error, "read") from error
    return connection
