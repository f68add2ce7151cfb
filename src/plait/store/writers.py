"""Write to one database from anywhere: one thread, one connection, grouped commits."""

from __future__ import annotations

import asyncio
import itertools
import operator
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from plait.errors import StoreError
from plait.store.connections import Connection
from plait.store.media import Medium
from plait.store.waiters import Done, Record, Stop, Work, tell

__all__ = ["Writer"]

T = TypeVar("T")

_GROUP = 10_000  # records of one commit at most, so that no waiter waits for a whole backlog


class Writer:
    """The only writer of an SQLite file, or one of those of a PostgreSQL database; any thread and event loop may add.

    Records are committed in groups: whoever comes while a group is gathered (`gather_s` seconds, none for somebody who
    comes alone) or written shares its commit. Durability "power": a committed record survives a power loss; "kill": it
    survives the death of the process, a power loss may take the last moments, never the file's integrity.

    A record of its own fault (a constraint, a value the database cannot hold) fails alone. When the database fails
    (full disk, damage, no permission, no connection) its group is rolled back, and everybody in it and after it gets
    that StoreError; of a database that may come back, those that come later try again. A file is 0600 and a folder made
    for it 0700. The thread starts with the first record. A writer that is dropped without `close` commits what was
    added when it is collected, but does not keep a process from ending.
    """

    def __init__(self, medium: Medium, *, gather_s: float = 0.005) -> None:
        self.medium = medium
        self._side = _WriterThread(medium, gather_s)
        weakref.finalize(self, self._side.stop).atexit = False

    def add(self, sql: str, parameters: tuple[object, ...], done: Done | None = None) -> None:
        """Queue one record; never waits. `done` is called on the writer's thread, with None or the error."""
        self._side.put(Record(sql, parameters, done))

    async def added(self, sql: str, parameters: tuple[object, ...]) -> None:
        """Add one record and wait until it is durable. A cancelled waiter does not undo its record.

        Raises StoreError when the database cannot be written, sqlite3.Error or ValueError when this record cannot.
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

    async def do(self, work: Callable[[Connection], T], *, about: str | None = None) -> T:
        """The result of `work`, run on the writer's thread in its own transaction, after all that was added before.

        No other process does so meanwhile; where it is `about` something, none that is about the same, or about all.
        What it raises undoes its transaction and is raised here; a cancelled waiter does not stop it. It may be called
        again, where a connection was lost.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._side.put(Work(work, future, about))
        return await future

    @property
    def backlog(self) -> int:
        """Records not committed yet."""
        return self._side.backlog

    def close(self) -> None:
        """Commit what is queued and let go of the database; waits for that. Later records are refused."""
        self._side.close()


class _WriterThread:
    """The writer's state that its thread may hold: not the Writer, so that a dropped one can be collected."""

    def __init__(self, medium: Medium, gather_s: float) -> None:
        self._medium = medium
        self._gather_s = gather_s
        self._queue: deque[Record | Work | Stop] = deque()
        self._in_hand = 0  # counted before they leave the queue: a backlog is never too small
        self._company = False
        self._sleeping = False
        self._wake_up: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
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
                thread = threading.Thread(target=self._run, name=f"plait-writer {self._medium.name}", daemon=True)
                self._thread = thread
                thread.start()

    def _run(self) -> None:
        try:
            self._connection = self._medium.open_to_write()
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self._fail(error)
        try:
            while self._turn():
                pass
        finally:
            self._close()
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
        if self._medium.comes_back and self._connection is not None:
            self._failure = None
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
                self._medium.transact(connection, lambda known: _insert(known, records), alone=False)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                if self._medium.blames_one(error):
                    self._write_singly(connection, records)
                    return
                self._fail(error)
        self._answer(records, self._failure)

    def _write_singly(self, connection: Connection, records: Sequence[Record]) -> None:
        written: list[Record] = []
        refused: list[tuple[Record, BaseException]] = []

        def write(known: Connection) -> None:
            written.clear()
            refused.clear()
            for record in records:
                try:
                    self._medium.attempt(known, record.sql, record.parameters)
                except Exception as error:
                    if not self._medium.blames_one(error):
                        raise
                    refused.append((record, error))
                else:
                    written.append(record)

        try:
            self._medium.transact(connection, write, alone=False)
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
                raise self._failure or self._medium.closed_error()
            work.succeed(self._medium.transact(self._connection, work.run, alone=work.about or True))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if self._failure is None and not self._medium.blames_one(error):
                self._fail(error)
            work.fail(self._failure or error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._medium.explained(error)

    def _close(self) -> None:
        if self._connection is not None:
            self._medium.close(self._connection, whole=self._failure is None)

    def _refuse_rest(self) -> None:
        error = self._failure or self._medium.closed_error()
        while True:
            try:
                item = self._queue.popleft()
            except IndexError:
                return
            if isinstance(item, Record):
                tell([item], error)
            elif isinstance(item, Work):
                item.fail(error)


def _insert(connection: Connection, records: Sequence[Record]) -> None:
    for sql, same in itertools.groupby(records, operator.attrgetter("sql")):
        connection.executemany(sql, [record.parameters for record in same])
