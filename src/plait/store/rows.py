"""A row's result as it is stored, and what is known in memory of all rows of a batch."""

from __future__ import annotations

import json
import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plait.store.tables import Tables

__all__ = [
    "COLUMNS",
    "STATUSES",
    "Finished",
    "RowError",
    "RowRecord",
    "decoded",
    "encoded",
    "insert_of",
    "json_text",
    "storable",
]

STATUSES = ("success", "error", "timeout", "interrupted")
COLUMNS = "position, id, status, outputs, error, usage, timings, duration_s, attempts, finished_at, evaluation"


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row has no outputs. `type` is the exception's name, `branch` whose answers its node could not use."""

    type: str
    message: str
    branch: str = ""


@dataclass(frozen=True, slots=True)
class RowRecord:
    """The end of a row. `position` counts input rows from 0; `outputs`, `usage` and `timings` are JSON values.

    `status` is success, error, timeout or interrupted; `finished_at` is in seconds since the epoch.
    """

    position: int
    id: str
    status: str
    outputs: object = None
    error: RowError | None = None
    usage: Mapping[str, object] = field(default_factory=dict)
    timings: Mapping[str, object] = field(default_factory=dict)
    duration_s: float = 0.0
    attempts: int = 1
    finished_at: float = 0.0
    evaluation: Mapping[str, object] | None = None
    """Of an experiment's row: its example, scores and trace as JSON values (see plait.experiments.stored_runs)."""


def insert_of(tables: Tables) -> str:
    """Stores a row; its parameters are the tables' key and `encoded`."""
    sql = tables.put("results", COLUMNS, "position")
    if tables.batch is None:
        return sql
    # A process that slept, and whose batch another one took over, wakes up to rows that are out of time.
    return f"{sql} WHERE results.status <> 'success' OR excluded.status = 'success'"


def encoded(row: RowRecord) -> tuple[object, ...]:
    """The values of COLUMNS. Raises TypeError when outputs, usage or timings hold what JSON cannot."""
    if row.status not in STATUSES:
        raise ValueError(f"expected a row's status to be one of {', '.join(STATUSES)}, found {row.status!r}")
    error = None
    if row.error is not None:
        fields: dict[str, object] = {"type": row.error.type, "message": row.error.message}
        error = json_text(fields | {"branch": row.error.branch} if row.error.branch else fields)
    return (
        row.position,
        row.id,
        row.status,
        None if row.outputs is None else json_text(row.outputs),
        error,
        json_text(row.usage),
        json_text(row.timings),
        row.duration_s,
        row.attempts,
        row.finished_at,
        None if row.evaluation is None else json_text(row.evaluation),
    )


def storable(row_id: str) -> str:
    """The id as every database takes it: NULs and lone surrogates are escaped."""
    if row_id.isascii() and "\0" not in row_id:
        return row_id
    return row_id.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def decoded(columns: Sequence[object]) -> RowRecord:
    """The row of a SELECT of COLUMNS."""
    position, row_id, status, outputs, error, usage, timings, duration_s, attempts, finished_at, evaluation = columns
    assert isinstance(position, int)
    assert isinstance(attempts, int)
    assert isinstance(duration_s, float)
    assert isinstance(finished_at, float)
    found = _parsed(error)
    return RowRecord(
        position,
        str(row_id),
        str(status),
        _parsed(outputs),
        RowError(str(found["type"]), str(found["message"]), str(found.get("branch", "")))
        if isinstance(found, dict)
        else None,
        _mapping(_parsed(usage)),
        _mapping(_parsed(timings)),
        duration_s,
        attempts,
        finished_at,
        _mapping(_parsed(evaluation)) if evaluation is not None else None,
    )


def json_text(value: object) -> str:
    """`value` as JSON that every reader takes: NaN and infinities become null, lone surrogates are escaped."""
    try:
        text = _compact(value)
    except ValueError:
        text = _compact(_finite(value))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), separators=(",", ":"))
    return text


# Made once: json.dumps with options builds an encoder a call.
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _parsed(text: object) -> object:
    return json.loads(text) if isinstance(text, str) else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


class Finished:
    """Which rows have ended, and how: one byte and a four-byte check of the id a row, 5 MB for 1,000,000 rows."""

    def __init__(self) -> None:
        self._statuses = bytearray()
        self._checks = array("I")
        self._counts = [0] * (len(STATUSES) + 1)

    def add(self, position: int, row_id: str, status: str) -> None:
        """Note how the row at `position` ended, again or for the first time."""
        if position >= len(self._statuses):
            # Half as much again: rows end in nearly the order of their positions.
            more = max(1024, position + 1 - len(self._statuses), len(self._statuses) // 2)
            self._statuses.extend(bytes(more))
            self._checks.frombytes(bytes(more * self._checks.itemsize))
        code = STATUSES.index(status) + 1
        self._counts[self._statuses[position]] -= 1
        self._counts[code] += 1
        self._statuses[position] = code
        self._checks[position] = _check(row_id)

    def forget(self, position: int) -> None:
        """Make the row at `position` pending again."""
        if 0 <= position < len(self._statuses):
            self._counts[self._statuses[position]] -= 1
            self._statuses[position] = 0

    def status(self, position: int) -> str | None:
        """How the row at `position` ended, None while it is pending."""
        code = self._statuses[position] if 0 <= position < len(self._statuses) else 0
        return STATUSES[code - 1] if code else None

    def has(self, position: int, row_id: str) -> bool | None:
        """True: ended under this id; False: ended under another one (the dataset changed); None: pending."""
        if not 0 <= position < len(self._statuses) or not self._statuses[position]:
            return None
        return self._checks[position] == _check(row_id)

    def counts(self) -> dict[str, int]:
        """Rows by status, those that occur."""
        return {status: count for status, count in zip(STATUSES, self._counts[1:], strict=True) if count}


def _check(row_id: str) -> int:
    # Of the id as it may have been stored.
    return zlib.crc32(storable(row_id).encode())
