"""The store of one running batch: its folder's lock, and the writer of its results."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from plait.errors import BatchBusy, BatchNotFound, StoreError
from plait.store.files import Durability, explained, open_to_read
from plait.store.rows import INSERT, Finished, RowRecord, encoded, json_text
from plait.store.schema import prepare_batch
from plait.store.writers import Writer

__all__ = ["DATABASE", "BatchStore", "FolderLock", "is_running"]

DATABASE = "batch.db"
_LOCK = "lock"
_PUT_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"


class FolderLock:
    """Who runs a batch: an exclusive flock on the folder's `lock`, in which its process id stands.

    The kernel lets go of it when the process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock. Blocks up to 0.1 s; BatchBusy when another process, or another store here, has it."""
        self._descriptor = -1
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, folder)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def __del__(self) -> None:
        # Whoever asked for the lock in a thread may have been cancelled before it was there.
        self.release()

    def release(self) -> None:
        """Let go; harmless the second time."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # Closing is not enough while a forked child has the descriptor, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    # Somebody who only looks (is_running) holds it for an instant: that is no other coordinator.
    for tries_left in (4, 3, 2, 1, 0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not tries_left:
                pid = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
                raise BatchBusy(
                    f"batch {folder.name} is being run by process {pid}: wait for it or stop it, "
                    f"and watch it with `plait show {folder.name}`"
                ) from None
            time.sleep(0.025)
        else:
            return


def is_running(folder: Path) -> bool:
    """Whether some process holds the lock of this batch folder."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class BatchStore:
    """What one batch has: its meta values and the results of its rows, in `folder`/batch.db.

    Made by `create` or `open`, one at a time for a folder in all processes; BatchReader watches from anywhere. Its
    methods belong to one event loop. A cancelled wait undoes nothing that was put.
    """

    def __init__(self, folder: Path, lock: FolderLock, writer: Writer, meta: dict[str, object], done: Finished) -> None:
        """For `create` and `open`."""
        self.folder = folder
        self.id = folder.name
        self.writer = writer
        self.finished = done
        self._lock = lock
        self._meta = meta

    @classmethod
    async def create(cls, folder: Path, meta: Mapping[str, object], *, durability: Durability = "power") -> BatchStore:
        """A new batch in `folder`, whose name is its id. Raises StoreError when there is one already.

        Lists show these of the (JSON) meta values: workflow, created_at (seconds since the epoch), status (planned,
        running, paused, finished), total (rows, None when unknown).
        """
        lock = await asyncio.to_thread(_made, folder)
        return await cls._opened(folder, lock, meta, durability)

    @classmethod
    async def open(cls, folder: Path, *, durability: Durability = "power") -> BatchStore:
        """The batch in `folder`, to go on with. Raises BatchNotFound, BatchBusy, StoreError (newer, damaged)."""
        lock = await asyncio.to_thread(_locked, folder)
        return await cls._opened(folder, lock, {}, durability)

    @classmethod
    async def _opened(
        cls, folder: Path, lock: FolderLock, meta: Mapping[str, object], durability: Durability
    ) -> BatchStore:
        writer = Writer(folder / DATABASE, prepare=prepare_batch, durability=durability)

        def begin(connection: sqlite3.Connection) -> dict[str, object]:
            connection.executemany(_PUT_META, [(key, json_text(value)) for key, value in meta.items()])
            return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}

        try:
            found = await writer.do(begin)
            done = await asyncio.to_thread(_finished, folder / DATABASE)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(_closed, writer, lock))
            raise
        return cls(folder, lock, writer, found, done)

    @property
    def meta(self) -> Mapping[str, object]:
        """What `create` and `put_meta` stored."""
        return MappingProxyType(self._meta)

    async def put_meta(self, values: Mapping[str, object]) -> None:
        """Store these JSON values beside or instead of older ones; returns when they are durable."""
        rows = [(key, json_text(value)) for key, value in values.items()]
        await self.writer.do(lambda connection: connection.executemany(_PUT_META, rows).rowcount)
        self._meta |= {key: json.loads(text) for key, text in rows}

    def put(self, row: RowRecord, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Store a row's end, instead of an earlier one of its position; does not wait.

        `done` is called on the writer's thread, with None when the row is durable or with the error.
        Raises TypeError when outputs, usage or timings hold what JSON cannot, ValueError for an unknown status.
        """
        self.writer.add(INSERT, encoded(row), done)
        self.finished.add(row.position, row.id, row.status)

    async def stored(self, row: RowRecord) -> None:
        """`put` a row and wait until it is durable. Raises StoreError when the file cannot be written."""
        await self.writer.added(INSERT, encoded(row))
        self.finished.add(row.position, row.id, row.status)

    async def drop(self, positions: Collection[int]) -> None:
        """Make the rows at these positions pending again."""
        rows = [(position,) for position in positions]
        await self.writer.do(
            lambda connection: connection.executemany("DELETE FROM results WHERE position = ?", rows).rowcount
        )
        for position in positions:
            self.finished.forget(position)

    async def id_at(self, position: int) -> str | None:
        """The id under which the row at `position` ended, None while it is pending."""

        def select(connection: sqlite3.Connection) -> str | None:
            found = connection.execute("SELECT id FROM results WHERE position = ?", (position,)).fetchone()
            return None if found is None else str(found[0])

        return await self.writer.do(select)

    def counts(self) -> dict[str, int]:
        """Rows by status, those put but not durable yet included."""
        return self.finished.counts()

    async def close(self) -> None:
        """Commit what was put, close the file and let go of the batch; harmless the second time."""
        await asyncio.shield(asyncio.to_thread(_closed, self.writer, self._lock))


def _made(folder: Path) -> FolderLock:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FolderLock(folder)
    if (folder / DATABASE).exists():
        lock.release()
        raise StoreError(f"there is a batch in {folder} already: choose another id, or go on with `plait resume`")
    return lock


def _locked(folder: Path) -> FolderLock:
    if not (folder / DATABASE).is_file():
        raise BatchNotFound(f"there is no batch in {folder}; `plait batches` lists those there are")
    return FolderLock(folder)


def _finished(file: Path) -> Finished:
    done = Finished()
    with contextlib.closing(open_to_read(file)) as connection:
        try:
            # The index holds all three: outputs, however large, are not read.
            ends = connection.execute("SELECT position, id, status FROM results INDEXED BY results_status")
            for position, row_id, status in ends:
                done.add(position, row_id, status)
        except sqlite3.Error as error:
            raise explained(file, error, "read") from error
    return done


def _closed(writer: Writer, lock: FolderLock) -> None:
    writer.close()
    lock.release()
