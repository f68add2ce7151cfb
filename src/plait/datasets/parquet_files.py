"""Reads records from Parquet files, batch by batch; needs pyarrow, which the extra `parquet` brings."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.datasets.examples import Row
from plait.errors import InputError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

__all__ = ["open_parquet", "parquet_rows"]

_BATCH_ROWS = 1024
_PLAIN_TYPES = (str, int, bool)


def open_parquet(path: Path) -> ParquetFile:
    """The file with its metadata read. Raises InputError where it is none or pyarrow is not installed."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415  (an extra)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"{path}: Parquet files need pyarrow, which is not installed: pip install 'plait[parquet]'"
        ) from error
    try:
        # Read ahead in pieces, or whole row groups would lie in memory.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowException as error:
        raise InputError(f"{path}: expected a Parquet file, found a damaged or different one: {error}") from error


def parquet_rows(file: ParquetFile, wanted: frozenset[str] | None) -> tuple[tuple[str, ...], Iterator[Row]]:
    """The columns that are read and the rows, counted from 1.

    Values become what JSON can hold: dates ISO 8601 texts, decimals texts, bytes base64, NaN None. Columns of
    bytes are read only where `wanted` names them (None: all columns are).
    """
    import pyarrow as pa  # noqa: PLC0415

    columns = tuple(
        field.name
        for field in file.schema_arrow
        if wanted is None
        or field.name in wanted
        or not (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
    )
    return columns, _rows(file, columns)


def _rows(file: ParquetFile, columns: tuple[str, ...]) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415

    place = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns), use_threads=False):
            values = [_values(column) for column in batch.columns]
            for row in zip(*values, strict=True):
                place += 1
                yield place, dict(zip(batch.schema.names, row, strict=True))
    except pa.ArrowException as error:
        raise InputError(f"row {place + 1}: the Parquet file is damaged: {error}") from error


def _values(column: Any) -> list[object]:
    import pyarrow as pa  # noqa: PLC0415

    values: list[object] = column.to_pylist()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        return values
    return [_plain(value) for value in values]


def _plain(value: object) -> object:
    if value is None or isinstance(value, _PLAIN_TYPES):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
