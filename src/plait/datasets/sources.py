"""Where rows come from: a path, standard input, objects of Python, LangSmith; each is opened into a Reading."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zstandard

from plait.datasets.delimited_files import delimited
from plait.datasets.examples import Example, Fault, Row
from plait.datasets.fingerprints import Fingerprint, of_file, of_folder
from plait.datasets.folders import documents, folder_columns, folder_rows
from plait.datasets.formats import by_suffix, check_text, decide_format
from plait.datasets.json_files import json_lines, json_stream, text_lines
from plait.datasets.parquet_files import open_parquet, parquet_rows
from plait.datasets.streams import Stop, cut_short, open_path, open_stdin
from plait.errors import InputError

__all__ = ["Objects", "PathSource", "Reading", "Source", "StandardInput", "record_of"]

_PARSED_TO_COUNT_BYTES = 1 << 26
_STEP_BYTES = 1 << 20


@dataclass(slots=True)
class Reading:
    """One pass over a source, to be used by one thread."""

    rows: Iterator[Row]
    format: str
    unit: str
    """What a row's place counts."""
    columns: tuple[str, ...] | None = None
    """None: only the rows say."""
    close: Callable[[], None] = lambda: None


class Source(Protocol):
    """All methods block and belong into a thread."""

    name: str
    replayable: bool

    def read(self, stop: Stop, wanted: frozenset[str] | None) -> Reading:
        """Begin a pass. Raises InputError where the source cannot be opened or understood."""
        ...

    def count(self, form: str | None) -> int | None:
        """About how many rows there are, where that is found faster than by reading them all."""
        ...

    def fingerprint(self, known: Fingerprint | None) -> Fingerprint | None: ...


class PathSource:
    """A file or a folder."""

    def __init__(self, path: Path, form: str | None) -> None:
        self.name = str(path)
        self.replayable = not self.name.startswith("/dev/")
        self._path = path
        self._form = form

    def read(self, stop: Stop, wanted: frozenset[str] | None) -> Reading:
        try:
            if self._path.is_dir():
                return self._read_folder(wanted)
            form = self._form or by_suffix(self._path)
            if form == "parquet" or (form is None and _is_parquet(self._path)):
                return self._read_parquet(wanted)
            stream = open_path(self._path, stop)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        except (EOFError, zlib.error, zstandard.ZstdError) as error:
            raise _damaged(self.name, error) from error
        return _read_stream(stream, self.name, form)

    def count(self, form: str | None) -> int | None:
        if not self.replayable:
            return None
        reading = self.read(lambda: False, frozenset())
        reading.close()
        try:
            if reading.format == "folder":
                return sum(1 for _ in documents(self._path))
            if reading.format == "parquet":
                with open_parquet(self._path) as file:
                    return int(file.metadata.num_rows)
            if reading.format == "json" and self._path.stat().st_size > _PARSED_TO_COUNT_BYTES:
                return None
            return self._count_lines(reading)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError):
            # Whoever reads the rows says so, with the place.
            return None

    def fingerprint(self, known: Fingerprint | None) -> Fingerprint | None:
        try:
            if self._path.is_dir():
                return of_folder(self._path)
            return of_file(self._path, known) if self.replayable else None
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def _read_folder(self, wanted: frozenset[str] | None) -> Reading:
        if next(documents(self._path), None) is None:
            raise InputError(f"{self.name}: expected documents, found a folder without readable files")
        rows = _guarded(folder_rows(self._path, wanted), self.name)
        return Reading(rows, "folder", "file", folder_columns(wanted))

    def _read_parquet(self, wanted: frozenset[str] | None) -> Reading:
        file = open_parquet(self._path)
        columns, rows = parquet_rows(file, wanted)
        return Reading(_guarded(rows, self.name), "parquet", "row", columns, file.close)

    def _count_lines(self, reading: Reading) -> int:
        is_table = reading.format in ("csv", "tsv")
        with open_path(self._path, lambda: False) as stream:
            lines, quoted, last = 0, False, b"\n"
            while reading.format != "json" and (data := stream.read(_STEP_BYTES)):
                lines += data.count(b"\n")
                quoted = quoted or (is_table and b'"' in data)
                last = data[-1:]
                if quoted:
                    break
        if reading.format != "json" and not quoted:
            return max(lines + (last != b"\n") - is_table, 0)
        again = self.read(lambda: False, frozenset())
        try:
            return sum(1 for _ in again.rows)
        finally:
            again.close()


class StandardInput:
    """Standard input, once; its format is that of its first character unless it was named."""

    name = "standard input"
    replayable = False

    def __init__(self, form: str | None, tee: Path | None) -> None:
        self._form = form
        self._tee = tee
        self._begun = False

    def read(self, stop: Stop, wanted: frozenset[str] | None) -> Reading:
        if self._begun:
            raise InputError("standard input can be read once: save it to a file to read it again")
        self._begun = True
        if self._form == "parquet":
            raise InputError("standard input: Parquet is read from files only: save it to a file first")
        try:
            stream = open_stdin(stop, self._tee)
            form = self._form or ("json" if stream.peek(1).lstrip()[:1] in (b"{", b"[") else "lines")
        except (OSError, ValueError) as error:
            raise InputError(f"standard input: cannot be read: {error}") from error
        except (EOFError, zlib.error, zstandard.ZstdError) as error:
            raise _damaged(self.name, error) from error
        return _read_stream(stream, self.name, form)

    def count(self, form: str | None) -> int | None:
        return None

    def fingerprint(self, known: Fingerprint | None) -> Fingerprint | None:
        return None


class Objects:
    """Mappings, Examples and texts of an iterable; one that can be iterated again is replayable."""

    name = "rows"

    def __init__(self, rows: Iterable[object]) -> None:
        self._rows = rows
        self.replayable = not isinstance(rows, Iterator)

    def read(self, stop: Stop, wanted: frozenset[str] | None) -> Reading:
        rows = ((place, record_of(value)) for place, value in enumerate(self._rows, 1))
        return Reading(rows, "objects", "row")

    def count(self, form: str | None) -> int | None:
        size = getattr(self._rows, "__len__", None)
        return int(size()) if size is not None else None

    def fingerprint(self, known: Fingerprint | None) -> Fingerprint | None:
        return None


def record_of(value: object) -> Mapping[str, object] | Fault:
    """An object of Python as a record."""
    if isinstance(value, Example):
        record: dict[str, object] = {"id": value.id} if value.id else {}
        record["inputs"] = value.inputs
        return record | {"reference_outputs": value.reference_outputs, "metadata": value.metadata}
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, Mapping):
        return value
    return Fault(f"expected a mapping, an Example or a text, found {type(value).__name__}")


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        # A pipe's bytes come only once.
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _read_stream(stream: io.BufferedReader, name: str, form: str | None) -> Reading:
    try:
        head = stream.peek(1)
    except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        stream.close()
        raise _damaged(name, error) from error
    try:
        check_text(head, name)
        form = decide_format(head, name, form)
        if form in ("csv", "tsv"):
            columns, rows = delimited(stream, source=name, tabs=form == "tsv")
            return Reading(_guarded(rows, name), form, "line", columns, stream.close)
    except BaseException:
        stream.close()
        raise
    if form == "json":
        return Reading(_guarded(json_stream(stream), name), form, "element", None, stream.close)
    if form == "lines":
        return Reading(_guarded(text_lines(stream), name), form, "line", ("text",), stream.close)
    return Reading(_guarded(json_lines(stream), name), form, "line", None, stream.close)


def _guarded(rows: Iterator[Row], name: str) -> Iterator[Row]:
    """The rows; damage of the file underneath becomes a last, bad row."""
    place = 0
    try:
        for place, record in rows:
            yield place, record
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, csv.Error) as error:
        yield place + 1, cut_short(error) or Fault(str(error))
    except OSError as error:
        raise InputError(f"{name}: cannot be read behind row {place}: {error.strerror or error}") from error


def _damaged(name: str, error: Exception) -> InputError:
    fault = cut_short(error)
    return InputError(f"{name}: {fault.reason if fault else f'cannot be read: {error}'}")


def _unreadable(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        try:
            names = [entry.name for entry in path.parent.iterdir()]
        except OSError:
            return InputError(f"{path}: no such file, and no such folder {path.parent}")
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else f"looked in {path.parent.absolute()}"
        return InputError(f"{path}: no such file; {hint}")
    return InputError(f"{path}: cannot be read: {error.strerror or error}")
