"""A batch: a workflow over the rows of a dataset, stored as they end, gone on with after whatever interrupts it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack

from plait.batches.openings import NewBatch, OldBatch, OpenBatch, open_new, open_old
from plait.batches.progress import Progress
from plait.batches.sessions import Session
from plait.process import collect_less
from plait.store.rows import RowRecord


class Batch:
    """The rows of one batch, run while they are iterated over; made by `plait.batch` and `plait.resume`.

        async for row in plait.batch("story", "topics.csv"):
            print(row.id, row.status, row.outputs)

    Yields a RowRecord for every row of this session as it ends, in the order they end, once it is durable. When the
    batch ends before its rows do, for a cause that concerns them all, BatchPaused is raised after the last result.
    Leaving the loop early (`aclose`, cancellation) cancels the rows in flight; they stay pending.
    """

    def __init__(self, wanted: NewBatch | OldBatch) -> None:
        self._wanted = wanted
        self._open: OpenBatch | None = None
        self._session: Session | None = None
        self._rows = self._run()

    @property
    def id(self) -> str:
        """The batch's id, once it is open."""
        assert self._open is not None, "the batch is opened when it is first iterated over"
        return self._open.store.id

    def progress(self) -> Progress | None:
        """How far it is; None before it is open."""
        return self._session.progress() if self._session else None

    def drain(self) -> None:
        """Begin no further row; the iteration ends, without an error, when those in flight have."""
        if self._session:
            self._session.drain()

    def __aiter__(self) -> AsyncIterator[RowRecord]:
        return self._rows

    async def aclose(self) -> None:
        """Stop: cancel the rows in flight, which stay pending, and close the batch."""
        await self._rows.aclose()

    async def _run(self) -> AsyncGenerator[RowRecord]:
        async with AsyncExitStack() as stack:
            wanted = self._wanted
            self._open = await (open_new(wanted, stack) if isinstance(wanted, NewBatch) else open_old(wanted, stack))
            collect_less()
            async with Session(self._open) as session:
                self._session = session
                results = session.results()
                stack.push_async_callback(results.aclose)
                async for record in results:
                    yield record
