"""Reads a folder of documents: each file is one record, with its path and, where it is asked for, its text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from plait.datasets.examples import Fault, Record, Row
from plait.datasets.json_files import bad_encoding

__all__ = ["documents", "folder_columns", "folder_rows"]

_HEAD_BYTES = 8192


def documents(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative name (with /) and path of every file below, by name; hidden files and folders are left out.

    Folders behind symbolic links are not entered. Raises OSError where the folder itself cannot be listed.
    """
    yield from _below(folder, "")


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            try:
                yield from _below(path, f"{prefix}{entry.name}/")
            except PermissionError:
                # Reading it says so, as for a file.
                yield f"{prefix}{entry.name}/", path
        elif entry.is_file():
            yield f"{prefix}{entry.name}", path


def folder_columns(wanted: frozenset[str] | None) -> tuple[str, ...]:
    """The columns of the records."""
    return ("id", "path", "text") if wanted is None or "text" in wanted else ("id", "path")


def folder_rows(folder: Path, wanted: frozenset[str] | None) -> Iterator[Row]:
    """`id` is the relative name, `path` absolute; `text` is read only where `wanted` (None: all) has it.

    A file that is no UTF-8 text has no `text`; where `wanted` names it, that is a Fault.
    """
    with_text = wanted is None or "text" in wanted
    for place, (name, path) in enumerate(documents(folder), 1):
        record: dict[str, object] = {"id": name, "path": os.path.abspath(path)}
        yield place, _with_text(record, name, path, required=wanted is not None) if with_text else record


def _with_text(record: dict[str, object], name: str, path: Path, *, required: bool) -> Record | Fault:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if b"\0" in head:
                return Fault(f"{name}: expected a text, found a binary file", "text") if required else record
            data = head + file.read()
        record["text"] = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fault = bad_encoding(error, 0)
        return Fault(f"{name}: {fault.reason}", "text") if required else record
    except OSError as error:
        return Fault(f"{name}: cannot be read: {error.strerror}")
    return record
