"""Batches in folders of a home: an SQLite file each, and one for every worker's answers."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from plait.errors import BatchBusy, BatchNotFound, SettingsError, StoreError
from plait.store.answers import Answers
from plait.store.batches import BatchStore, opened
from plait.store.connections import schema_version
from plait.store.files import Durability, open_to_read
from plait.store.folder_locks import FolderLock, is_running
from plait.store.media import FileMedium
from plait.store.places import BatchInfo, Place, find, new_batch_id, status_of
from plait.store.readers import BatchReader
from plait.store.rows import COLUMNS
from plait.store.schema import check_version, prepare_batch
from plait.store.tables import Tables

__all__ = ["DATABASE", "FolderPlace", "FolderShelf"]

DATABASE = "batch.db"
_NAMES_LOCK = ".names.lock"
_LOOKS_AGAIN_AFTER_S = 0.02
_REMOVED = ".removed-"
_DRAWS = 20
_TABLES = Tables()


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A Place: a folder named by the batch's id."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def files(self) -> Path:
        return self.folder

    @property
    def database(self) -> Path:
        """The file of its rows."""
        return self.folder / DATABASE

    @property
    def own_answers(self) -> Answers:
        return Answers(self.database)

    def answers(self) -> list[Answers]:
        return [self.own_answers, *map(Answers, sorted(self.folder.glob("journal-*.db")))]

    def new_answers(self) -> Answers:
        return Answers(self.folder / f"journal-{time.time_ns() // 1_000_000}.db")

    async def create(self, meta: Mapping[str, object], *, durability: Durability = "power") -> BatchStore:
        """See Place."""
        lock = await asyncio.to_thread(self._made)
        return await opened(self, _Claim(lock), self._medium(durability), _TABLES, meta)

    async def open(self, *, durability: Durability = "power") -> BatchStore:
        """See Place."""
        lock = await asyncio.to_thread(self._locked)
        return await opened(self, _Claim(lock), self._medium(durability), _TABLES, {})

    def read(self) -> BatchReader:
        """See Place."""
        medium = FileMedium(self.database)
        connection = open_to_read(self.database)
        try:
            check_version(connection)
            # Files are brought up to date by their writers alone: this one may be of before rows were scored.
            version = schema_version(connection, "batches")
        except Exception as error:
            connection.close()
            raise medium.explained(error, "read") from error
        columns = COLUMNS if version != 1 else COLUMNS.replace("evaluation", "NULL")
        return BatchReader(self, medium, connection, _TABLES, columns=columns)

    def info(self) -> BatchInfo:
        """See Place."""
        size = sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        running = is_running(self.folder)
        try:
            with self.read() as reader:
                meta, counts = reader.meta, reader.counts()
        except StoreError as error:
            touched = _touched_at(self.folder)
            status = "running" if running else "unreadable"
            return BatchInfo(self.id, self, "", touched, status, size_bytes=size, problem=str(error))
        created, total = meta.get("created_at"), meta.get("total")
        return BatchInfo(
            self.id,
            self,
            str(meta.get("workflow", "")),
            float(created) if isinstance(created, int | float) else _touched_at(self.folder),
            status_of(meta, running=running),
            counts,
            total if isinstance(total, int) else None,
            size,
            meta,
        )

    def remove(self) -> None:
        """See Place. Raises StoreError where the folder cannot be removed."""
        folder = self.folder
        if not folder.is_dir():
            raise BatchNotFound(f"there is no batch in {folder}; `plait batches` lists those there are")
        lock = FolderLock(folder)
        try:
            # Out of sight in one step: a removal that is cut short leaves no half batch behind.
            hidden = folder.with_name(_REMOVED + folder.name)
            shutil.rmtree(hidden, ignore_errors=True)
            folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise StoreError(f"cannot remove {folder}: {error}; check who owns it, then remove the folder") from error
        finally:
            lock.release()

    def _medium(self, durability: Durability) -> FileMedium:
        return FileMedium(self.database, prepare=prepare_batch, durability=durability)

    def _made(self) -> FolderLock:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FolderLock(self.folder)
        if self.database.exists():
            lock.release()
            raise StoreError(
                f"there is a batch in {self.folder} already: choose another id, or go on with `plait resume`"
            )
        return lock

    def _locked(self) -> FolderLock:
        if not self.database.is_file():
            raise BatchNotFound(f"there is no batch in {self.folder}; `plait batches` lists those there are")
        return FolderLock(self.folder)


class _Claim:
    """The lock of the folder, let go of in a thread."""

    def __init__(self, lock: FolderLock) -> None:
        self._lock = lock

    def on_lost(self, tell: Callable[[BatchBusy], None]) -> None:
        """The kernel keeps the lock for as long as this process lives."""

    async def release(self) -> None:
        await asyncio.to_thread(self._lock.release)


@dataclass(frozen=True, slots=True)
class FolderShelf:
    """A Shelf: the folders in `home`/batches."""

    home: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def folder(self) -> Path:
        """Where the batches lie, a folder each."""
        return self.home / "batches"

    def place(self, batch_id: str) -> FolderPlace:
        return FolderPlace(self.folder / batch_id)

    def new_place(self, workflow: str, at: datetime, draw: Callable[[str], str] = secrets.choice) -> FolderPlace:
        place = self.place(new_batch_id(workflow, at, draw))
        for _ in range(_DRAWS):
            if not place.folder.exists():
                break
            place = self.place(new_batch_id(workflow, at, draw))
        return place

    def ids(self) -> Sequence[str]:
        return [place.id for place in self._places()]

    def batches(self) -> list[BatchInfo]:
        batches = []
        for place in self._places():
            # One may be removed while the others are read.
            with contextlib.suppress(FileNotFoundError):
                batches.append(place.info())
        return sorted(batches, key=lambda batch: (batch.created_at, batch.id), reverse=True)

    def find(self, id_or_prefix: str | None) -> Place:
        return find(self, id_or_prefix)

    def prune(self, older_than_s: float, now: float, *, dry_run: bool = False) -> list[BatchInfo]:
        removed: list[BatchInfo] = []
        for place in self._places():
            try:
                batch = place.info()
                if batch.status == "running" or now - _touched_at(place.folder) < older_than_s:
                    continue
                if not dry_run:
                    place.remove()
            except (BatchBusy, BatchNotFound, FileNotFoundError):
                continue  # begun, or removed by somebody else, since it was read
            removed.append(batch)
        for left in self.folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)
        return removed

    @contextlib.asynccontextmanager
    async def naming(self) -> AsyncIterator[None]:
        try:
            file = await asyncio.to_thread(self._open_names_lock)
        except OSError as error:
            raise StoreError(f"cannot write in {self.folder}: {error}; set PLAIT_HOME to a folder") from error
        try:
            while not _gets_lock(file):  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(_LOOKS_AGAIN_AFTER_S)
            yield
        finally:
            # Closing is not enough while a forked child has the descriptor, too.
            fcntl.flock(file, fcntl.LOCK_UN)
            file.close()

    def check(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "it is not writable")
        except OSError as error:
            raise SettingsError(
                f"batches are kept in {self.folder}, which cannot be written: {error.strerror}; "
                "set PLAIT_HOME to a folder that can"
            ) from None

    def _open_names_lock(self) -> BinaryIO:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (self.folder / _NAMES_LOCK).open("ab")

    def _places(self) -> list[FolderPlace]:
        try:
            with os.scandir(self.folder) as entries:
                return [
                    FolderPlace(Path(entry.path))
                    for entry in entries
                    if entry.is_dir() and not entry.name.startswith(".")
                ]
        except FileNotFoundError:
            return []


def _gets_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _touched_at(folder: Path) -> float:
    # Readers make empty -wal files: looking at a batch does not make it younger.
    files = [*folder.glob("*.db"), *(file for file in folder.glob("*.db-wal") if file.stat().st_size)]
    files = files or [file for file in folder.iterdir() if file.name != DATABASE]
    return max((file.stat().st_mtime for file in files), default=folder.stat().st_mtime)
