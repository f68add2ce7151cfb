"""Read a batch that this or another process writes: results in input order, counts, meta, what its calls used."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from plait.store.answers import Answers
from plait.store.batches import meta_table
from plait.store.connections import Connection
from plait.store.media import Medium
from plait.store.places import Place
from plait.store.rows import COLUMNS, STATUSES, RowRecord, decoded
from plait.store.tables import Tables

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
    """A read-only view of a batch; its writer is never held up. For one thread at a time, not a loop's.

    Made by `Place.read`. Raises StoreError when the batch is damaged, of a newer version, or gone. Also a context
    manager.
    """

    def __init__(
        self, place: Place, medium: Medium, connection: Connection, tables: Tables, *, columns: str = COLUMNS
    ) -> None:
        self.place = place
        self._medium = medium
        self._connection = connection
        self._tables = tables
        self._columns = columns

    def __enter__(self) -> BatchReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._medium.close(self._connection, whole=False)

    @property
    def meta(self) -> Mapping[str, object]:
        """The batch's meta values, as they are now."""
        sql = f"SELECT key, value FROM {meta_table(self._tables)} {self._tables.where()}"  # noqa: S608
        return {str(key): json.loads(str(value)) for key, value in self._select(sql)}

    def counts(self) -> dict[str, int]:
        """Rows that ended, by status, as they are now."""
        sql = f"SELECT status, count(*) FROM results {self._tables.where()} GROUP BY status"  # noqa: S608
        groups = self._select(sql)
        return {str(status): int(str(count)) for status, count in groups}

    def rows(self, *, statuses: Collection[str] = STATUSES, after: int = -1) -> Iterator[RowRecord]:
        """Results in input order, from the position behind `after`; memory is that of 1,000 rows.

        Rows that end while this goes on are included when their position is still ahead.
        """
        return map(decoded, self.columns(statuses=statuses, after=after))

    def columns(self, *, statuses: Collection[str] = STATUSES, after: int = -1) -> Iterator[tuple[object, ...]]:
        """`rows` as tuples of rows.COLUMNS, JSON values as their texts."""
        wanted = tuple(statuses)
        # Not a plain column: an index of statuses would have all that is left sorted for every chunk.
        where = self._tables.where(f"position > ? AND (status || '') IN ({', '.join('?' * len(wanted))})")
        query = f"SELECT {self._columns} FROM results {where} ORDER BY position LIMIT {_CHUNK}"  # noqa: S608
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
        where = f"{self._tables.hint('results_status')} {self._tables.where('status IN (?, ?, ?)')}"
        query = f"SELECT {self._columns} FROM results {where} ORDER BY finished_at DESC LIMIT ?"  # noqa: S608
        failures = [status for status in STATUSES if status != "success"]
        return [decoded(columns) for columns in self._select(query, (*failures, limit))]

    def ends(self) -> Iterator[tuple[int, str, Mapping[str, object], float, float]]:
        """Of all rows that ended: position, status, usage, duration_s, finished_at; in input order."""
        columns = "position, status, usage, duration_s, finished_at"
        where = self._tables.where("position > ?")
        query = f"SELECT {columns} FROM results {where} ORDER BY position LIMIT {_CHUNK}"  # noqa: S608
        after: object = -1
        while chunk := self._select(query, (after,)):
            for position, status, usage, duration_s, finished_at in chunk:
                assert isinstance(position, int)
                assert isinstance(duration_s, float)
                assert isinstance(finished_at, float)
                yield position, str(status), json.loads(str(usage)), duration_s, finished_at
            after = chunk[-1][0]

    def examples(self, after: int) -> list[str]:
        """The next 500 of the input rows that were kept, as JSON, from the position behind `after`."""
        where = self._tables.where("position > ?")
        rows = self._select(f"SELECT example FROM examples {where} ORDER BY position LIMIT 500", (after,))  # noqa: S608
        return [str(text) for (text,) in rows]

    def models(self) -> dict[str, ModelTotals]:
        """What each model was paid for, over all answers of the batch. Reads them whole: slow for many."""
        sums: dict[str, list[int]] = {}
        for answers in self.place.answers():
            for model, *numbers in _model_sums(answers):
                known = sums.setdefault(str(model), [0] * len(numbers))
                sums[str(model)] = [a + int(b or 0) for a, b in zip(known, numbers, strict=True)]
        return {model: ModelTotals(*numbers) for model, numbers in sorted(sums.items())}

    def _select(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        values = (*self._tables.key, *parameters)
        try:
            return self._medium.read(self._connection, lambda known: known.execute(query, values).fetchall())
        except Exception as error:
            raise self._medium.explained(error, "read") from error


def _model_sums(answers: Answers) -> list[tuple[str, *tuple[int | None, ...]]]:
    tables = answers.tables
    query = (
        "SELECT coalesce(model, ''), count(*), sum(input_tokens), sum(cached_tokens), sum(output_tokens), "  # noqa: S608
        f"sum(estimated) FROM calls {tables.where()} GROUP BY model"
    )
    with answers.reading() as read:
        return read(lambda connection: connection.execute(query, tables.key).fetchall()) if read else []
