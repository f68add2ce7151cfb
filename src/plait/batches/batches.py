"""A batch: a workflow over the rows of a dataset, stored as they end, gone on with after whatever interrupts it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Self

from plait.batches.entrances import NewBatch, OldBatch, OpenBatch
from plait.batches.openings import open_new, open_old
from plait.batches.progress import Progress
from plait.batches.sessions import Session
from plait.errors import BatchPaused, ModelUnavailable, SettingsError
from plait.process import collect_less
from plait.settings import Settings
from plait.store.places import Place
from plait.store.rows import RowRecord

_MEANT_OTHERWISE = (ModelUnavailable, SettingsError)


class Batch:
    """The rows of one batch, run while they are iterated over; made by `plait.batch` and `plait.resume`.

        async for row in plait.batch("story", "topics.csv"):
            print(row.id, row.status, row.outputs)

    Yields a RowRecord for every row of this session as it ends, in the order they end, once it is durable. When the
    batch ends before its rows do, for a cause that concerns them all, BatchPaused is raised after the last result.
    While nobody takes results no further row begins. Leaving the loop for good (`aclose`, cancellation, the batch being
    collected, the end of the event loop) cancels the rows in flight; they stay pending.
    """

    def __init__(self, wanted: NewBatch | OldBatch) -> None:
        self._course = _Course(wanted)
        self._driver: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """The batch's id, once it is open."""
        assert self._course.open is not None, "the batch is opened when it is first iterated over"
        return self._course.open.store.id

    @property
    def settings(self) -> Settings:
        """What its runs are run with, once it is open."""
        assert self._course.open is not None, "the batch is opened when it is first iterated over"
        return self._course.open.workflow.settings

    @property
    def place(self) -> Place:
        """Where the batch is kept, once it is open."""
        assert self._course.open is not None, "the batch is opened when it is first iterated over"
        return self._course.open.store.place

    def progress(self) -> Progress | None:
        """How far it is; None before it is open."""
        return self._course.session.progress() if self._course.session else None

    def drain(self) -> None:
        """Begin no further row; the iteration ends, without an error, when those in flight have."""
        if self._course.session:
            self._course.session.drain()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RowRecord:
        if self._driver is None:
            # A task, not a generator: one that is left in the middle would have to be closed from outside.
            self._driver = asyncio.create_task(self._course.run(), name="plait batch")
            self._driver.add_done_callback(_look_at)
            weakref.finalize(self, _cancel, self._driver, asyncio.get_running_loop()).atexit = False
        try:
            record = None if self._driver.done() and self._course.taken.empty() else await self._course.taken.get()
            if record is not None:
                return record
            await self._driver
        except asyncio.CancelledError:
            await self.aclose()
            raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop: cancel the rows in flight, which stay pending, and close the batch."""
        if self._driver is not None and not self._driver.done():
            self._driver.cancel()
            await asyncio.wait([self._driver])


class _Course:
    """What a batch does, apart from the Batch, so that one that nobody holds any more can be told."""

    def __init__(self, wanted: NewBatch | OldBatch) -> None:
        self.taken: asyncio.Queue[RowRecord | None] = asyncio.Queue(1)
        self.open: OpenBatch | None = None
        self.session: Session | None = None
        self._wanted = wanted

    async def run(self) -> None:
        """Put every result into `taken`, and None at the end; raises what ended the batch early."""
        ended = 0
        try:
            async with aclosing(self._sit()) as rows:
                async for record in rows:
                    ended += 1
                    await self.taken.put(record)
        except BatchPaused as paused:
            cause = paused.__cause__
            begun = ended or (self.session is not None and self.session.has_paid)
            if begun or not isinstance(self._wanted, NewBatch) or not isinstance(cause, _MEANT_OTHERWISE):
                raise
            # Nothing was done but to find out that it was meant otherwise: there is nothing to go on with.
            assert self.open is not None
            await asyncio.to_thread(self.open.store.place.remove)
            raise cause from None
        finally:
            if not self.taken.full():
                self.taken.put_nowait(None)

    async def _sit(self) -> AsyncGenerator[RowRecord]:
        async with AsyncExitStack() as stack:
            wanted = self._wanted
            self.open = await (open_new(wanted, stack) if isinstance(wanted, NewBatch) else open_old(wanted, stack))
            collect_less()
            async with Session(self.open) as session:
                self.session = session
                results = session.results()
                stack.push_async_callback(results.aclose)
                async for record in results:
                    yield record


def _look_at(driver: asyncio.Task[None]) -> None:
    """Whoever left the loop does not want to hear how the batch ended."""
    if not driver.cancelled():
        driver.exception()


def _cancel(driver: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(driver.cancel)
