"""Runs the rows of a batch in processes of their own: leases rows to them and takes the results.

A worker holds a few rows at a time. When it dies, they go to another one, which finds their paid answers in the dead
one's journal; a result counts once, when it is stored here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plait.batches.channels import Channel, Elsewhere, Ended, Halted, Lease, NoMore, Orders, State, Wanted
from plait.batches.executions import UNREAD, Totals
from plait.batches.spending import Spending, sum_of
from plait.datasets.examples import Example
from plait.errors import PlaitError
from plait.flow.usage import Tokens
from plait.settings import Settings
from plait.store.rows import RowRecord

logger = logging.getLogger("plait")

_REPLACEMENTS = 3
"""For each worker, before it is the workflow that kills them."""
_PATIENCE_S = 5.0


class WorkerExecution:
    """An Execution in `count` processes; `keep` stores a result."""

    def __init__(
        self, orders: Orders, count: int, spending: Spending, keep: Callable[[RowRecord], Awaitable[None]]
    ) -> None:
        self.halted: BaseException | None = None
        self._orders = orders
        self._count = count
        self._spending = spending
        self._keep = keep
        self._workers: list[_Worker] = []
        self._returned: deque[Example] = deque()
        self._begun: tuple[Path, ...] = ()
        self._made = 0
        self._gone: dict[str, Tokens] = {}
        self._exhausted = False
        self._stopping: NoMore | None = None
        self._coming: asyncio.Future[Example | None] | None = None
        self._reading = asyncio.Lock()
        self._busy: set[asyncio.Task[None]] = set()
        """Leases and results on their way."""
        self._done: asyncio.Queue[RowRecord | None] = asyncio.Queue(UNREAD)

    @property
    def totals(self) -> Totals:
        parts = [worker.state.totals for worker in self._workers]
        busiest = max(parts, key=lambda totals: totals.waiting, default=Totals())
        return Totals(
            sum(totals.rows for totals in parts),
            sum(totals.calls for totals in parts),
            sum(totals.waiting for totals in parts),
            busiest.binding,
        )

    def stop(self, cause: BaseException | None) -> None:
        self.halted = self.halted or cause
        self._end(NoMore())

    def cancel(self) -> None:
        self._end(NoMore(at_once=True))

    async def results(self, examples: AsyncIterator[Example]) -> AsyncGenerator[RowRecord]:
        driving = asyncio.create_task(self._drive(examples), name="plait batch: workers")
        try:
            while (record := await self._done.get()) is not None:
                yield record
            await driving
        finally:
            tasks: list[asyncio.Future[Any]] = [driving, *self._busy]
            if self._coming is not None:
                tasks.append(self._coming)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, examples: AsyncIterator[Example]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._employ(examples, _share_of(self._orders.settings, number, self._count)))
            while self._busy:
                await asyncio.wait(self._busy)
        except ExceptionGroup as failures:
            await self._done.put(None)
            raise failures.exceptions[0] from None
        # Not where it is cancelled: the reader has left, and would leave no room for another word.
        await self._done.put(None)

    async def _employ(self, examples: AsyncIterator[Example], settings: Settings) -> None:
        """Keep one worker at work until all rows are done, replacing it when it dies."""
        replacements = 0
        while self._stopping is None and not self._all_done:
            worker = await self._hire(settings)
            try:
                await self._lead(worker, examples)
            finally:
                await self._dismiss(worker)
            if worker.dismissed or self._stopping is not None:
                return
            replacements += 1
            logger.warning("a worker process died (%s); its rows go to another one", worker.fate)
            if replacements > _REPLACEMENTS:
                self.stop(PlaitError(f"worker processes keep dying ({worker.fate}): see above for what they said"))

    async def _lead(self, worker: _Worker, examples: AsyncIterator[Example]) -> None:
        while (message := await worker.channel.receive()) is not None:
            match message:
                case Wanted(rows):
                    worker.wanted = rows
                    leasing = asyncio.create_task(self._lease(worker, examples), name="plait batch: lease")
                    self._busy.add(leasing)
                    leasing.add_done_callback(self._busy.discard)
                case Ended(record):
                    self._take(worker, record)
                case Halted():
                    self.stop(message.cause())
                case State():
                    worker.state = message
                    self._share()
            self._see_whether_done()
            while len(self._busy) > UNREAD:
                await asyncio.wait(self._busy, return_when=asyncio.FIRST_COMPLETED)

    async def _lease(self, worker: _Worker, examples: AsyncIterator[Example]) -> None:
        """Give a worker rows: as many as it wants, or those that are there, at least one."""
        async with self._reading:
            found: list[Example] = []
            while len(found) < worker.wanted and self._stopping is None:
                example = self._returned.popleft() if self._returned else await self._next(examples, wait=not found)
                if example is None:
                    break
                found.append(example)
            if worker.gone:
                self._returned.extendleft(reversed(found))
            elif found:
                worker.wanted = 0
                worker.rows.update({example.position: example for example in found})
                worker.channel.send(Lease(tuple(found), self._begun))
                await worker.channel.flushed()
        self._see_whether_done()

    async def _next(self, examples: AsyncIterator[Example], *, wait: bool) -> Example | None:
        """The next example; None at the end, after a stop, or, unless `wait`, where it is not there yet."""
        if self._exhausted:
            return None
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(examples, None))
            await asyncio.sleep(0)  # enough for one that is there
        if not wait and not self._coming.done():
            return None
        await asyncio.wait([self._coming])
        coming, self._coming = self._coming, None
        if coming.cancelled():
            return None
        if (error := coming.exception()) is not None:
            self.stop(error)
            return None
        example = coming.result()
        self._exhausted = example is None
        return example

    def _take(self, worker: _Worker, record: RowRecord) -> None:
        """Store a result; the next one is not kept waiting for it."""
        if worker.rows.pop(record.position, None) is not None:
            storing = asyncio.create_task(self._store(record), name=f"plait row {record.id}")
            self._busy.add(storing)
            storing.add_done_callback(self._busy.discard)

    async def _store(self, record: RowRecord) -> None:
        try:
            await self._keep(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row must not pass for one that was never run
            self.stop(error)
        else:
            await self._done.put(record)

    def _see_whether_done(self) -> None:
        if self._all_done:
            self._end(NoMore())

    @property
    def _all_done(self) -> bool:
        return self._exhausted and not self._returned and not any(worker.rows for worker in self._workers)

    def _end(self, message: NoMore) -> None:
        if self._stopping is not None and (self._stopping.at_once or not message.at_once):
            return
        self._stopping = message
        if self._coming is not None:
            self._coming.cancel()  # the next row may be long in coming, from a pipe
        for worker in self._workers:
            worker.dismissed = True
            worker.channel.send(message)

    def _share(self) -> None:
        """Tell each worker what the others have spent."""
        whole = sum_of(self._gone, *(worker.state.spent for worker in self._workers))
        self._spending.note_elsewhere(whole)
        if self._orders.options.budget_usd is None and self._orders.options.budget_tokens is None:
            return
        for worker in self._workers:
            others = [other.state.spent for other in self._workers if other is not worker]
            worker.channel.send(Elsewhere(sum_of(self._orders.spent, self._gone, *others)))

    async def _hire(self, settings: Settings) -> _Worker:
        self._made += 1
        journal = self._orders.journal
        own = journal and journal.with_name(f"{journal.stem}-{self._made}.db")
        here, there = socket.socketpair()
        alive, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "plait.batches.worker", str(there.fileno()), str(alive)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # stdout carries results
                start_new_session=True,  # Ctrl-C is for the batch to understand
                pass_fds=(there.fileno(), alive),
            )
        except BaseException:
            os.close(lifeline)
            here.close()
            raise
        finally:
            there.close()
            os.close(alive)
        worker = _Worker(process, Channel(*await asyncio.open_connection(sock=here)), lifeline, own)
        worker.channel.send(replace(self._orders, journal=own, settings=settings))
        self._workers.append(worker)
        return worker

    async def _dismiss(self, worker: _Worker) -> None:
        """See a worker off; what it had leased and did not end goes to others."""
        worker.gone = True
        os.close(worker.lifeline)
        worker.channel.close()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                code = await worker.process.wait()
        except TimeoutError:
            worker.process.kill()
            code = await worker.process.wait()
        worker.fate = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._workers.remove(worker)
        self._gone = sum_of(self._gone, worker.state.spent)
        if worker.rows:
            self._returned.extend(worker.rows.values())
            self._begun = (*self._begun, worker.journal) if worker.journal else self._begun


def _share_of(settings: Settings, number: int, count: int) -> Settings:
    """The settings of one of several workers: together they keep the bound that a process has."""
    most = settings.max_concurrency
    if most is None:
        return settings
    return replace(settings, max_concurrency=max(1, most // count + (number < most % count)))


@dataclass(slots=True, eq=False)
class _Worker:
    process: asyncio.subprocess.Process
    channel: Channel
    lifeline: int
    journal: Path | None
    rows: dict[int, Example] = field(default_factory=dict)
    """Leased and not ended, by position."""
    wanted: int = 0
    state: State = field(default_factory=State)
    dismissed: bool = False
    gone: bool = False
    fate: str = ""
