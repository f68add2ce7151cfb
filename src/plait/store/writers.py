"""Write to one SQLite file from anywhere: one thread, one connection, grouped commits."""

from __future__ import annotations

import asyncio
import itertools
import logging
import operator
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from plait.errors import StoreError
from plait.store.files import Durability, blames_one, closed_error, explained, open_to_write
from plait.store.waiters import Done, Record, Stop, Work, tell

__all__ = ["Durability", "Writer"]

T = TypeVar("T")

_GROUP = 10_000  # records of one commit at most, so that no waiter waits for a whole backlog

_log = logging.getLogger(__name__)


class Writer:
    """The only writer of `file`; any thread and any event loop may add to it.

    `prepare` gets the connection once, on the writer's thread, before anything else (schema, migrations). Records are
    committed in groups: whoever comes while a group is gathered (`gather_s` seconds, none for somebody who comes
    alone) or written shares its commit. durability "power": a committed record survives a power loss
    (synchronous=FULL); "kill": it survives the death of the process, a power loss may take the last moments, never
    the file's integrity.

    A record of its own fault (a constraint, a value SQLite cannot hold) fails alone. When the file fails (full disk,
    damage, no permission) its group is rolled back, and everybody in it and after it gets that StoreError.
    The file is 0600 and a folder made for it 0700. The thread starts with the first record. A writer that is dropped
    without `close` commits what was added when it is collected, but does not keep a process from ending.
    """

    def __init__(
        self,
        file: Path,
        *,
        prepare: Callable[[sqlite3.Connection], None],
        durability: Durability = "power",
        gather_s: float = 0.005,
    ) -> None:
        self.file = file
        self._side = _WriterThread(file, prepare, durability, gather_s)
        weakref.finalize(self, self._side.stop).atexit = False

    def add(self, sql: str, parameters: tuple[object, ...], done: Done | None = None) -> None:
        """Queue one record; never waits. `done` is called on the writer's thread, with None or the error."""
        self._side.put(Record(sql, parameters, done))

    async def added(self, sql: str, parameters: tuple[object, ...]) -> None:
        """Add one record and wait until it is durable. A cancelled waiter does not undo its record.

        Raises StoreError when the file cannot be written, sqlite3.Error or ValueError when this record cannot.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._side.put(Record(sql, parameters, future))
        await future

    def add_blocking(self, sql: str, parameters: tuple[object, ...]) -> None:
        """`added` for a thread without an event loop."""
        answer: SimpleQueue[BaseException | None] = SimpleQueue()
        self._side.put(Record(sql, parameters, answer.put))
        error = answer.get()
        if error is not None:
            raise error

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, run on the writer's thread in its own transaction, after all that was added before.

        What it raises undoes its transaction and is raised here; a cancelled waiter does not stop it.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._side.put(Work(work, future))
        return await future

    @property
    def backlog(self) -> int:
        """Records not committed yet."""
        return self._side.backlog

    def close(self) -> None:
        """Commit what is queued, fold the WAL into the file and close it; waits for that. Later records are refused."""
        self._side.close()


class _WriterThread:
    """The writer's state that its thread may hold: not the Writer, so that a dropped one can be collected."""

    def __init__(
        self, file: Path, prepare: Callable[[sqlite3.Connection], None], durability: Durability, gather_s: float
    ) -> None:
        self._file = file
        self._prepare = prepare
        self._durability: Durability = durability
        self._gather_s = gather_s
        self._queue: deque[Record | Work | Stop] = deque()
        self._in_hand = 0  # counted before they leave the queue: a backlog is never too small
        self._company = False
        self._sleeping = False
        self._wake_up: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._failure: StoreError | None = None
        self._ended = False

    @property
    def backlog(self) -> int:
        return len(self._queue) + self._in_hand

    def put(self, item: Record | Work | Stop) -> None:
        self._queue.append(item)
        if self._sleeping:
            self._sleeping = False
            self._wake_up.put(None)
        elif self._thread is None:
            self._start()
        if self._ended:
            self._refuse_rest()

    def stop(self) -> None:
        if self._thread is not None:
            self.put(Stop())

    def close(self) -> None:
        with self._starting:
            if self._thread is None:
                self._ended = True
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._ended:
                # A daemon: a process that forgot its writer ends all the same.
                thread = threading.Thread(target=self._run, name=f"plait-writer {self._file.name}", daemon=True)
                self._thread = thread
                thread.start()

    def _run(self) -> None:
        try:
            self._connection = open_to_write(self._file, self._durability)
            self._connection.execute("BEGIN IMMEDIATE")
            self._prepare(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self._fail(error)
        try:
            while self._turn():
                pass
        finally:
            self._close_file()
            self._ended = True
            self._refuse_rest()

    def _turn(self) -> bool:
        """Wait for records, gather a group, write it; False after a stop."""
        self._sleeping = True
        while not self._queue:
            self._wake_up.get()
            # Whoever woke us took it back, maybe for a record that was written before.
            self._sleeping = True
        self._sleeping = False
        # One who always comes alone gains nothing by waiting for company.
        gathers = self._gather_s > 0 and (self._company or len(self._queue) > 1)
        if gathers and len(self._queue) < _GROUP and self._failure is None:
            time.sleep(self._gather_s)
        self._in_hand = count = min(len(self._queue), _GROUP)
        self._company = count > 1
        records: list[Record] = []
        for _ in range(count):
            item = self._queue.popleft()
            if isinstance(item, Record):
                records.append(item)
                continue
            self._write(records)
            records = []
            self._in_hand -= 1
            if isinstance(item, Stop):
                return False
            self._work(item)
        self._write(records)
        return True

    def _write(self, records: Sequence[Record]) -> None:
        connection = self._connection
        if not records:
            return
        if self._failure is None and connection is not None:
            try:
                connection.execute("BEGIN IMMEDIATE")
                for sql, same in itertools.groupby(records, operator.attrgetter("sql")):
                    connection.executemany(sql, [record.parameters for record in same])
                connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                if blames_one(error) and self._roll_back():
                    self._write_singly(records)
                    return
                self._fail(error)
        self._answer(records, self._failure)

    def _write_singly(self, records: Sequence[Record]) -> None:
        assert self._connection is not None
        written: list[Record] = []
        refused: list[tuple[Record, BaseException]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for record in records:
                try:
                    self._connection.execute(record.sql, record.parameters)
                except Exception as error:
                    if not blames_one(error):
                        raise
                    refused.append((record, error))
                else:
                    written.append(record)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self._fail(error)
            self._answer(records, self._failure)
            return
        self._answer(written, None)
        for record, reason in refused:
            self._answer([record], reason)

    def _answer(self, records: Sequence[Record], error: BaseException | None) -> None:
        self._in_hand -= len(records)
        tell(records, error)

    def _work(self, work: Work) -> None:
        try:
            if self._failure is not None or self._connection is None:
                raise self._failure or closed_error(self._file)
            work.run(self._connection)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if self._failure is None and not (self._roll_back() and blames_one(error)):
                self._fail(error)
            work.fail(self._failure or error)

    def _roll_back(self) -> bool:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    def _fail(self, error: Exception) -> None:
        self._roll_back()
        self._failure = explained(self._file, error)

    def _close_file(self) -> None:
        if self._connection is None:
            return
        try:
            if self._failure is None:
                self._connection.execute("PRAGMA busy_timeout=0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
        except sqlite3.Error as error:
            _log.debug("closing %s: %s", self._file, error)  # its WAL holds everything that was acknowledged

    def _refuse_rest(self) -> None:
        error = self._failure or closed_error(self._file)
        while True:
            try:
                item = self._queue.popleft()
            except IndexError:
                return
            if isinstance(item, Record):
                tell([item], error)
            elif isinstance(item, Work):
                item.fail(error)
