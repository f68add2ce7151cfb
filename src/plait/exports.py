"""Write a batch's results, in input order, as JSON lines, CSV, TSV or Parquet.

A line of JSON is {id, outputs, error, usage}. A table has the columns id, one for each field of the outputs (over all
rows; `outputs.` before the name of one that is called like a column of ours; `outputs` for those that are no object),
error ("Type: message"), status, input_tokens, cached_tokens, output_tokens. Lists and objects in a field stand as JSON.
Of an experiment a line also has {scores}, and a table a column `scores.KEY` for each score.

Parquet's types come from all rows, so those are read twice: bool, int64, double (also integers beside fractions) or
string; in a column of texts and other things the other things stand as JSON. Values are written as they are, also
those that a spreadsheet would take for a formula (=, +, -, @ at the beginning): changing them would corrupt data.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

from plait.errors import SettingsError, StoreError
from plait.store.readers import BatchReader
from plait.store.rows import STATUSES, RowRecord, encoded

__all__ = ["SUFFIXES", "check_target", "export", "json_line"]

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_USAGE = ("input_tokens", "cached_tokens", "output_tokens")
_OURS = ("id", "error", "status", *_USAGE)
_CHUNK = 5000
_MOST = 2**63 - 1

Columns = tuple[object, ...]  # of store.rows.COLUMNS, JSON values as their texts
Rows = Callable[[], Iterable[Columns]]


def check_target(path: Path, *, force: bool) -> Path:
    """The absolute path, if `export` will be able to write it; for the time before money is spent. Blocks: files.

    Raises SettingsError: unknown suffix, no pyarrow, no such folder, not writable, or exists without `force`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingsError(
            f"cannot write {path}: expected a name ending in one of {', '.join(SUFFIXES)}, "
            f"found {path.suffix or 'none'}"
        )
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise SettingsError(f"{path} needs pyarrow: pip install 'plait[parquet]', or write .jsonl or .csv")
    # A link stays one: what it points to is replaced.
    target = path.expanduser().resolve()
    if target.exists() and not target.is_file():
        raise SettingsError(f"cannot write {path}: it is no regular file; choose another name")
    if target.exists() and not force:
        raise SettingsError(f"{path} exists: choose another name, or replace it with --force")
    if not target.parent.is_dir():
        raise SettingsError(f"cannot write {path}: there is no folder {target.parent}; make it first")
    trial = _beside(target)
    try:
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        trial.unlink()
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from error
    return target


def export(reader: BatchReader, target: Path, *, statuses: Collection[str] = STATUSES) -> int:
    """Write the rows that ended in one of `statuses` to `target`, in the format of its suffix; how many those were.

    The file appears, or replaces an older one, when it is whole. Memory is that of a chunk of rows. Blocks: files.
    Raises StoreError when it cannot be written; the older file is then still there.
    """

    def rows() -> Iterable[Columns]:
        return reader.columns(statuses=statuses)

    write = {".csv": _write_csv, ".tsv": _write_tsv, ".parquet": _write_parquet}.get(
        target.suffix.lower(), _write_lines
    )
    part = _beside(target)
    try:
        # O_EXCL: nobody can lay a link in our way. The umask decides who may read it, as with any output.
        with open(part, "xb") as file:
            count = write(rows, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error}; the results are safe in the batch: make room or choose another place, "
            "then write them with `plait export`"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return count


def json_line(row: RowRecord) -> str:
    """The line of a row, without its end."""
    return _line(encoded(row))


def _line(columns: Sequence[object]) -> str:
    _, row_id, _, outputs, error, usage, *_ = columns
    name = json.dumps(row_id, ensure_ascii=False)
    scored = "" if columns[10] is None else f', "scores": {_json(_scores(columns))}'
    usage = f"{usage or '{}'}{scored}"
    return f'{{"id": {name}, "outputs": {outputs or "null"}, "error": {error or "null"}, "usage": {usage}}}'


def _scores(columns: Sequence[object]) -> dict[str, object]:
    """By key what the evaluators say of an experiment's row; empty for other rows."""
    evaluation = columns[10]
    if not isinstance(evaluation, str):
        return {}
    found = {}
    for score in json.loads(evaluation).get("scores", ()):
        key = f"{score['node']}/{score['key']}" if score.get("node") else score["key"]
        found[key] = score.get("score", score.get("value"))
    return found


def _table_fields(columns: Columns) -> dict[str, object]:
    return {**_fields(columns[3]), **{f"scores.{key}": value for key, value in _scores(columns).items()}}


def _write_lines(rows: Rows, file: IO[bytes]) -> int:
    count = 0
    for chunk in _chunks(rows()):
        file.write("".join(f"{_line(columns)}\n" for columns in chunk).encode())
        count += len(chunk)
    return count


def _write_csv(rows: Rows, file: IO[bytes]) -> int:
    return _write_separated(rows, file, ",")


def _write_tsv(rows: Rows, file: IO[bytes]) -> int:
    return _write_separated(rows, file, "\t")


def _write_separated(rows: Rows, file: IO[bytes], separator: str) -> int:
    fields = list(_kinds(rows()))
    # Detached at the end, so that the file stays open for its fsync.
    text = _TextFile(file)
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(["id", *map(_column, fields), "error", "status", *_USAGE])
    count = 0
    for chunk in _chunks(rows()):
        writer.writerows(_cells(columns, fields) for columns in chunk)
        count += len(chunk)
    return count


class _TextFile:
    """UTF-8 over a binary file; a lone surrogate is written as its escape."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "backslashreplace"))


def _cells(columns: Columns, fields: Sequence[str]) -> list[object]:
    values = _table_fields(columns)
    usage = _usage(columns[5])
    cells = [_cell(values.get(field)) for field in fields]
    return [columns[1], *cells, _error(columns[4]), columns[2], *(usage[name] for name in _USAGE)]


def _cell(value: object) -> object:
    # Numbers as JSON writes them; csv would write True and False.
    return value if value is None or isinstance(value, str) else _json(value)


def _write_parquet(rows: Rows, file: IO[bytes]) -> int:
    # Behind an extra, and its import takes a third of a second.
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415

    types = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string(), "mixed": pa.string()}
    kinds = _kinds(rows())
    fields = [("id", pa.string()), *((_column(field), types[kind]) for field, kind in kinds.items())]
    fields += [("error", pa.string()), ("status", pa.string()), *((name, pa.int64()) for name in _USAGE)]
    schema = pa.schema(fields)
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for chunk in _chunks(rows()):
            outputs = [_table_fields(columns) for columns in chunk]
            usages = [_usage(columns[5]) for columns in chunk]
            values: list[Sequence[object]] = [[columns[1] for columns in chunk]]
            values += [[_typed(row.get(field), kind) for row in outputs] for field, kind in kinds.items()]
            values += [[_whole(_error(columns[4])) for columns in chunk], [columns[2] for columns in chunk]]
            values += [[usage[name] for usage in usages] for name in _USAGE]
            arrays = [pa.array(column, type=field.type) for column, field in zip(values, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(chunk)
    return count


def _typed(value: object, kind: str) -> object:
    if value is None:
        return None
    if kind in ("text", "mixed"):
        return _whole(value if isinstance(value, str) else _json(value))
    return float(value) if kind == "float" and isinstance(value, int) else value


def _whole(text: str | None) -> str | None:
    # A lone surrogate has no UTF-8.
    return text if text is None or text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _kinds(rows: Iterable[Columns]) -> dict[str, str]:
    """What each field of all outputs is: bool, int, float, text or mixed; in the order of their first occurrence."""
    kinds: dict[str, str] = {}
    for columns in rows:
        for field, value in _table_fields(columns).items():
            before, kind = kinds.get(field, ""), _kind(value)
            if not before or before == kind:
                kinds[field] = kind or before
            elif kind:
                kinds[field] = "float" if {before, kind} == {"int", "float"} else "mixed"
    return {field: kind or "text" for field, kind in kinds.items()}


def _kind(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_MOST <= value <= _MOST else "mixed"
    return "float" if isinstance(value, float) else "mixed"


def _fields(outputs: object) -> Mapping[str, object]:
    if not isinstance(outputs, str):
        return {}
    value = json.loads(outputs)
    return value if isinstance(value, dict) else {"": value}


def _column(field: str) -> str:
    if not field:
        return "outputs"
    return f"outputs.{field}" if field in _OURS or field == "outputs" or field.startswith("outputs.") else field


def _usage(usage: object) -> dict[str, int | None]:
    values = json.loads(usage) if isinstance(usage, str) else {}
    return {name: values.get(name) if isinstance(values.get(name), int) else None for name in _USAGE}


def _error(error: object) -> str | None:
    if not isinstance(error, str):
        return None
    value = json.loads(error)
    return f"{value['type']}: {value['message']}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _chunks(rows: Iterable[Columns]) -> Iterator[list[Columns]]:
    rest = iter(rows)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _beside(target: Path) -> Path:
    # In the same folder, since a rename does not reach another file system.
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
