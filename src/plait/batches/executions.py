"""Runs the rows of a batch in this process, as many at once as the gate can use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from plait.batches.rows import Halt, RowRunner
from plait.batches.throttles import Throttle
from plait.datasets.examples import Example
from plait.errors import PlaitError
from plait.masking import masked
from plait.store.rows import RowError, RowRecord, storable

UNREAD = 100
"""Rows out of their calls, results among them, that a slow reader may leave before no further row begins."""


class Totals(NamedTuple):
    """What an execution is doing."""

    rows: int = 0
    """In flight."""
    calls: int = 0
    """In flight."""
    waiting: int = 0
    """Calls that wait for a permit."""
    binding: str | None = None
    """What most of them wait for."""

    @classmethod
    def of(cls, parts: Sequence[Totals]) -> Totals:
        """What several executions are doing."""
        busiest = max(parts, key=lambda totals: totals.waiting, default=cls())
        return cls(
            sum(totals.rows for totals in parts),
            sum(totals.calls for totals in parts),
            sum(totals.waiting for totals in parts),
            busiest.binding,
        )


class Execution(Protocol):
    """How the rows of a batch are run: here, or in processes of their own."""

    halted: BaseException | None
    """Why no further row begins, if that is not because there is none."""

    @property
    def totals(self) -> Totals: ...

    def results(self, examples: AsyncIterator[Example]) -> AsyncGenerator[RowRecord]:
        """Run the examples; yields their results as they are stored. Closing it cancels the rows in flight."""
        ...

    def stop(self, cause: BaseException | None) -> None:
        """Begin no further row; those in flight end by themselves."""
        ...

    def cancel(self) -> None:
        """Cancel the rows in flight, which stay pending."""
        ...


async def kept(record: RowRecord, keep: Callable[[RowRecord], Awaitable[None]]) -> RowRecord:
    """What `keep` has stored of this row: an error where the record itself is refused (a NUL, for PostgreSQL).

    Raises what `keep` does where the store is at fault, StoreError, or where the error is refused, too.
    """
    try:
        await keep(record)
    except PlaitError:
        raise
    except Exception as fault:  # noqa: BLE001 - of this row alone: the others, and a resume, must not meet it
        words = masked(f"its result cannot be stored: {fault}")
        record = replace(
            record,
            id=storable(record.id),
            status="error",
            outputs=None,
            error=RowError(type(fault).__name__, words),
            timings={},
            evaluation=None,
        )
        await keep(record)
    return record


class LocalExecution:
    """An Execution on this event loop; `keep` stores a result."""

    def __init__(self, runner: RowRunner, throttle: Throttle, keep: Callable[[RowRecord], Awaitable[None]]) -> None:
        self.halted: BaseException | None = None
        self._runner = runner
        self._throttle = throttle
        self._keep = keep
        self._stopped = False
        self._reading: asyncio.Task[None] | None = None
        self._done: asyncio.Queue[RowRecord | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._rows: set[asyncio.Task[None]] = set()

    @property
    def totals(self) -> Totals:
        throttle = self._throttle
        binding = self._runner.binding() if throttle.waiting else None
        return Totals(len(self._rows), throttle.calling, throttle.waiting, binding)

    def stop(self, cause: BaseException | None) -> None:
        self.halted = self.halted or cause
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()  # the next row may be long in coming, from a pipe

    def cancel(self) -> None:
        for row in self._rows:
            row.cancel()

    async def results(self, examples: AsyncIterator[Example]) -> AsyncGenerator[RowRecord]:
        feeding = asyncio.create_task(self._feed(examples), name="plait batch")
        try:
            while (record := await self._done.get()) is not None:
                self._taken.set()
                yield record
            await feeding
        finally:
            feeding.cancel()
            self.cancel()
            reading = [self._reading] if self._reading is not None else []
            await asyncio.gather(feeding, *reading, *self._rows, return_exceptions=True)

    async def _feed(self, examples: AsyncIterator[Example]) -> None:
        try:
            if not self._stopped:
                self._reading = asyncio.create_task(self._read(examples), name="plait batch: read")
                await asyncio.wait([self._reading])
                if not self._reading.cancelled() and (error := self._reading.exception()) is not None:
                    self.stop(error)  # rows in flight end all the same
            while self._rows:
                await asyncio.wait(self._rows)
        finally:
            if self._reading is not None:
                self._reading.cancel()
        # Not where it is cancelled: the reader has left, and would leave no room for another word.
        await self._done.put(None)

    async def _read(self, examples: AsyncIterator[Example]) -> None:
        async for example in examples:
            # Results that are still being stored count: the disk may be slower than the rows.
            while self._done.qsize() and len(self._rows) + self._done.qsize() - self._throttle.calling >= UNREAD:
                self._taken.clear()
                await self._taken.wait()
            if self._throttle.ready():
                await asyncio.sleep(0)  # rows that began go first
            else:
                await self._throttle.turn()
            row = asyncio.create_task(self._run(example), name=f"plait row {example.id}")
            self._rows.add(row)
            row.add_done_callback(self._rows.discard)

    async def _run(self, example: Example) -> None:
        foot = self._throttle.begin()
        try:
            record = await self._runner.run(example, foot)
            await self._done.put(await kept(record, self._keep))
        except Halt as halt:
            self.stop(halt.cause)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not pass for a row that is pending
            self.stop(error)
        finally:
            foot.end()
