"""Reads records from CSV and TSV files whose first row names the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from plait.datasets.examples import Fault, Row
from plait.datasets.json_files import bad_encoding
from plait.errors import InputError

__all__ = ["delimited"]

MAX_FIELD_CHARACTERS = 1 << 26
_HEAD_BYTES = 1 << 16
_TRIED_ROWS = 20


@dataclass(slots=True)
class _Lines:
    """The decoded lines of a file, as csv wants them; `fault` is the last one's that is no UTF-8."""

    stream: io.BufferedReader
    fault: Fault | None = None

    def __iter__(self) -> Iterator[str]:
        offset = 0
        for line in self.stream:
            start = offset
            offset += len(line)
            try:
                # The first line may begin with a byte order mark.
                yield line.decode() if start else line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                self.fault = bad_encoding(error, start)
                # The reader must see where fields and rows end, or it would lose its place.
                yield line.decode(errors="replace")


def delimited(stream: io.BufferedReader, *, source: str, tabs: bool) -> tuple[tuple[str, ...], Iterator[Row]]:
    """The columns and the rows; `place` is the line a row ends on. Raises InputError for an unusable header."""
    # The limit is the csv module's only one, for the process; Python's default refuses fields of 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if b"\r" in head and b"\n" not in head:
        raise InputError(
            f"{source}: expected lines that end in \\n or \\r\\n, found \\r alone: convert it (tr '\\r' '\\n')"
        )
    lines = _Lines(stream)
    reader = csv.reader(iter(lines), delimiter="\t" if tabs else _delimiter(head), strict=True)
    try:
        header = next((row for row in reader if row), None)
    except csv.Error as error:
        raise InputError(f"{source}, line {reader.line_num}: expected the names of columns: {error}") from error
    if header is None:
        raise InputError(f"{source}: expected a row with the names of columns, found an empty file")
    if lines.fault is not None:
        raise InputError(f"{source}, line 1: {lines.fault.reason}")
    columns = tuple(name.strip() or f"column_{number}" for number, name in enumerate(header, 1))
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise InputError(f"{source}: expected columns with different names, found {twice[0]!r} twice: rename one")
    return columns, _rows(reader, lines, columns)


def _rows(reader: Iterator[list[str]], lines: _Lines, columns: tuple[str, ...]) -> Iterator[Row]:
    width = len(columns)
    line_of = getattr  # csv's reader has no public type with `line_num` in it
    while True:
        begun = line_of(reader, "line_num") + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error)
            if "unexpected end of data" in reason:
                reason = f"a quote opened at line {begun} or later is never closed"
            elif "field limit" in reason:
                reason = f"a field has more than {MAX_FIELD_CHARACTERS:,} characters: is a quote not closed?"
            yield begun, Fault(reason)
            continue
        if lines.fault is not None:
            fault, lines.fault = lines.fault, None
            yield begun, fault
        elif len(row) == width:
            yield begun, dict(zip(columns, row, strict=True))
        elif row:
            last = columns[min(len(row), width) - 1]
            yield begun, Fault(f"expected {width} field{'s' if width > 1 else ''}, found {len(row)}", last)


def _delimiter(head: bytes) -> str:
    """The comma, unless only another one cuts the first rows into equally many columns."""
    text = head.decode(errors="replace")
    if len(head) == _HEAD_BYTES:
        text = text[: text.rfind("\n") + 1] or text
    for candidate in ",;\t|":
        widths: set[int] = set()
        try:
            for index, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=candidate)):
                if index >= _TRIED_ROWS:
                    break
                if row:
                    widths.add(len(row))
        except csv.Error:
            continue
        if len(widths) == 1 and widths != {1}:
            return candidate
    return ","
