"""Read a database from an event loop: a few threads, each with a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from plait.errors import StoreError
from plait.store.connections import Connection
from plait.store.media import Medium

__all__ = ["Readers"]

T = TypeVar("T")


class Readers:
    """Threads that read, begun with the first read; a file must exist by then.

    A read sees all that was committed before it was asked for, by whomever.
    """

    def __init__(self, medium: Medium, *, threads: int = 2) -> None:
        self._medium = medium
        self._count = threads
        self._queue: SimpleQueue[_Read | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ends = weakref.finalize(self, _end, self._queue, threads)
        self._ends.atexit = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, run on one of the threads in one read transaction; StoreError when the database fails.

        A cancelled waiter does not stop it.
        """
        if not self._ends.alive:
            raise StoreError(f"cannot read {self._medium.name}: it was closed; open the store again")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Read(work, future))
        if not self._threads:
            self._start()
        return await future

    def close(self) -> None:
        """End the threads after what was asked before; waits for that."""
        self._ends()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        # Daemons: a process that forgot to close ends all the same.
        for number in range(self._count):
            name = f"plait-reader-{number} {self._medium.name}"
            self._threads.append(
                threading.Thread(target=_serve, args=(self._medium, self._queue), name=name, daemon=True)
            )
        for thread in self._threads:
            thread.start()


class _Read:
    __slots__ = ("_future", "_work")

    def __init__(self, work: Callable[[Connection], T], future: asyncio.Future[T]) -> None:
        self._work: Callable[[Connection], object] = work
        self._future: asyncio.Future[object] = future  # type: ignore[assignment]

    def run(self, medium: Medium, connection: Connection) -> None:
        if not self._future.cancelled():
            self._tell(medium.read(connection, self._work), None)

    def fail(self, error: BaseException) -> None:
        self._tell(None, error)

    def _tell(self, result: object, error: BaseException | None) -> None:
        # A loop that was closed meanwhile has nobody left to wake.
        with contextlib.suppress(RuntimeError):
            self._future.get_loop().call_soon_threadsafe(_wake, self._future, result, error)


def _wake(future: asyncio.Future[object], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _serve(medium: Medium, queue: SimpleQueue[_Read | None]) -> None:
    connection: Connection | None = None
    while (item := queue.get()) is not None:
        try:
            if connection is None:
                connection = medium.open_to_read()
            item.run(medium, connection)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            item.fail(error if medium.blames_one(error) else medium.explained(error, "read"))
        del item  # not kept alive until the next one comes
    if connection is not None:
        medium.close(connection, whole=False)


def _end(queue: SimpleQueue[_Read | None], threads: int) -> None:
    for _ in range(threads):
        queue.put(None)
