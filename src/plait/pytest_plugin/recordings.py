"""Recorded experiments in folders of their own: found by definition and name, taken from there, and put there."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import cast

from plait.batches import BatchOptions
from plait.batches.answers import reused_answers
from plait.batches.entrances import EXPERIMENT
from plait.errors import BatchNotFound, InputError
from plait.experiments.readings import find_experiment, list_experiments
from plait.store.answers import Answers
from plait.store.files import explained, open_to_read
from plait.store.folders import DATABASE, FolderPlace, FolderShelf
from plait.store.places import BatchInfo

__all__ = ["find_recording", "keep_recording", "take_recording"]

_COLUMNS = (
    "key, scope, hash, branch, model, input_tokens, cached_tokens, output_tokens, estimated, status, headers, body, "
    "streamed, at, voided"
)
_READ = f"SELECT {_COLUMNS} FROM calls ORDER BY rowid"  # noqa: S608
_ADD = f"INSERT INTO calls ({_COLUMNS}) VALUES ({', '.join('?' * 15)})"  # noqa: S608
_PLACES = ("app", "source", "out")
"""Meta values that name folders of the machine it was recorded on."""


def find_recording(home: Path, definition: str, name: str | None) -> BatchInfo:
    """The finished experiment of that name or id in `home`, or the newest one of that definition.

    Raises BatchNotFound, and InputError for one that has not ended. Blocks: files.
    """
    if name is not None:
        try:
            found = find_experiment(FolderShelf(home), name)
        except BatchNotFound as error:
            raise BatchNotFound(f"{str(error).partition(';')[0]} in {FolderShelf(home)}") from None
        if found.status != "finished":
            raise InputError(f"expected a finished experiment to replay, found {name}, which is {found.status}")
        return found
    for batch in list_experiments(FolderShelf(home)):
        if batch.status == "finished" and _definition(batch) == definition:
            return batch
    raise BatchNotFound(f"there is no recorded experiment of {definition!r} in {FolderShelf(home)}")


def take_recording(recording: BatchInfo, home: Path) -> Path:
    """Copy a recording into another home, whose experiments may reuse it; returns its folder there. Blocks: files."""
    folder = FolderShelf(home).place(recording.id).folder
    if not folder.exists():
        _copy(recording, folder)
    return folder


def keep_recording(recording: BatchInfo, home: Path) -> Path:
    """Put a finished experiment into `home`, instead of those of its definition and name there; returns its folder.

    It is one file that needs no other: answers that it took from another experiment are in it, too. The places of
    this machine are not, and of the context only what is masked. Raises StoreError. Blocks: files.
    """
    older = [
        batch
        for batch in list_experiments(FolderShelf(home))
        if (batch.name, _definition(batch)) == (recording.name, _definition(recording)) and batch.id != recording.id
    ]
    folder = FolderShelf(home).place(recording.id).folder
    _copy(recording, folder)
    origin = cast("Mapping[str, object]", _notes(recording).get("origin") or {})
    changed = dict.fromkeys(_PLACES) | {"context": origin.get("context") or {}}
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        connection.executemany(
            "UPDATE meta SET value = ? WHERE key = ?", [(json.dumps(value), key) for key, value in changed.items()]
        )
    for batch in older:
        shutil.rmtree(_folder(batch))
    return folder


def _copy(recording: BatchInfo, folder: Path) -> None:
    """The batch as one file, with the answers that it reused before its own: in that order they were taken."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / DATABASE
    target.unlink(missing_ok=True)
    own, *workers = _files(FolderPlace(_folder(recording)).answers())
    try:
        with closing(open_to_read(own)) as source:
            source.execute("VACUUM INTO ?", (str(target),))
        reused = _reused(recording, _folder(recording).parents[1])
        if not reused and not workers:
            return
        with closing(sqlite3.connect(target)) as connection, connection:
            connection.execute("DELETE FROM calls")
            for file in (*reused, own, *workers):
                with closing(open_to_read(file)) as source:
                    if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone():
                        connection.executemany(_ADD, source.execute(_READ))
    except (sqlite3.Error, OSError) as error:
        raise explained(target, error) from error


def _reused(recording: BatchInfo, home: Path) -> list[Path]:
    """The files of the experiments whose answers this one took, where they are still there."""
    reused = BatchOptions.from_json(recording.meta.get("options")).reuse
    return _files(reused_answers(FolderShelf(home), reused, by=recording.id)) if reused is not None else []


def _folder(recording: BatchInfo) -> Path:
    assert isinstance(recording.place, FolderPlace), "recordings are files"
    return recording.place.folder


def _files(places: Iterable[Answers]) -> list[Path]:
    return [place.file for place in places if place.file is not None]


def _notes(batch: BatchInfo) -> Mapping[str, object]:
    return cast("Mapping[str, object]", batch.meta.get(EXPERIMENT) or {})


def _definition(batch: BatchInfo) -> str:
    return str(_notes(batch).get("definition") or batch.workflow)
