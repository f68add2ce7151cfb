"""Runs the rows of a batch in workers, wherever those are: leases rows to them and takes the results.

A worker holds a few rows at a time. When it dies, they go to another one, which finds their paid answers where the
dead one kept them; a result counts once, when it is known here to be stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plait.batches.channels import Elsewhere, Ended, Halted, Lease, NoMore, Orders, Said, State, Wanted
from plait.batches.executions import UNREAD, Totals
from plait.batches.spending import Spending, sum_of
from plait.batches.workplaces import Link, NoRoom, Workplace
from plait.datasets.examples import Example
from plait.errors import PlaitError
from plait.flow.usage import Tokens
from plait.settings import Settings
from plait.store.answers import Answers
from plait.store.rows import RowRecord

logger = logging.getLogger("plait")

_REPLACEMENTS = 3
"""For each worker, before it is the workflow that kills them."""
_GROUP = 200
"""Results that are read back at once."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is done with results."""

    store: Callable[[RowRecord], Awaitable[None]]
    count: Callable[[RowRecord], None] | None = None
    """Takes note of a result that its worker stored."""
    read: Callable[[Sequence[RowRecord]], Awaitable[Sequence[RowRecord]]] | None = None
    """Such results with their outputs, in the same order; None: nobody wants those."""


class WorkerExecution:
    """An Execution in workers at `workplace`."""

    def __init__(self, orders: Orders, workplace: Workplace, spending: Spending, keeping: Keeping) -> None:
        self.halted: BaseException | None = None
        self._orders = orders
        self._workplace = workplace
        self._spending = spending
        self._keeping = keeping
        self._employers = 0
        self._ended = asyncio.Event()
        self._workers: list[_Worker] = []
        self._returned: deque[Example] = deque()
        self._begun: tuple[Answers, ...] = ()
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
            while records := await self._ended_by_now():
                for record in records:
                    yield record
            await driving
        finally:
            tasks: list[asyncio.Future[Any]] = [driving, *self._busy]
            if self._coming is not None:
                tasks.append(self._coming)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ended_by_now(self) -> Sequence[RowRecord]:
        """The results that wait to be taken, at least one; none at the end."""
        first = await self._done.get()
        if first is None:
            return ()
        found = [first]
        while self._keeping.read is not None and len(found) < _GROUP and not self._done.empty():
            if (record := self._done.get_nowait()) is None:
                self._done.put_nowait(None)
                break
            found.append(record)
        return found if self._keeping.read is None else await self._keeping.read(found)

    async def _drive(self, examples: AsyncIterator[Example]) -> None:
        try:
            async with self._workplace, asyncio.TaskGroup() as group:
                count = min(self._workplace.room, self._orders.settings.max_concurrency or self._workplace.room)
                for number in range(count):
                    group.create_task(self._employ(examples, _share_of(self._orders.settings, number, count)))
            while self._busy:
                await asyncio.wait(self._busy)
        except PlaitError as error:
            self.stop(error)  # there is no place to work at
        except ExceptionGroup as failures:
            await self._done.put(None)
            raise failures.exceptions[0] from None
        # Not where it is cancelled: the reader has left, and would leave no room for another word.
        await self._done.put(None)

    async def _employ(self, examples: AsyncIterator[Example], settings: Settings) -> None:
        """Keep one worker at work until all rows are done, replacing it when it dies."""
        replacements = 0
        self._employers += 1
        try:
            while self._stopping is None and not self._all_done:
                worker = await self._hire(settings)
                if worker is None:
                    return
                try:
                    await self._lead(worker, examples)
                finally:
                    await self._dismiss(worker)
                if worker.dismissed or self._stopping is not None:
                    return
                replacements += 1
                logger.warning("a worker died (%s); its rows go to another one", worker.fate)
                if replacements > _REPLACEMENTS:
                    self.stop(PlaitError(f"workers keep dying ({worker.fate}): see above for what they said"))
        except NoRoom as error:
            if self._employers == 1:
                self.stop(error)
            else:
                logger.warning("%s; the batch goes on with fewer workers", error)
        except PlaitError as error:
            self.stop(error)
        finally:
            self._employers -= 1

    async def _lead(self, worker: _Worker, examples: AsyncIterator[Example]) -> None:
        while (message := await worker.link.receive()) is not None:
            match message:
                case Wanted(rows):
                    worker.wanted = rows
                    leasing = asyncio.create_task(self._lease(worker, examples), name="plait batch: lease")
                    self._busy.add(leasing)
                    leasing.add_done_callback(self._busy.discard)
                case Ended(record, stored):
                    self._take(worker, record, stored=stored)
                case Halted():
                    self.stop(message.cause())
                case Said(level, text):
                    logger.log(level, "%s", text)
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
                worker.link.send(Lease(tuple(found), self._begun))
                await worker.link.flushed()
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

    def _take(self, worker: _Worker, record: RowRecord, *, stored: bool) -> None:
        """Store a result; the next one is not kept waiting for it."""
        if worker.rows.pop(record.position, None) is not None:
            storing = asyncio.create_task(self._store(record, stored=stored), name=f"plait row {record.id}")
            self._busy.add(storing)
            storing.add_done_callback(self._busy.discard)

    async def _store(self, record: RowRecord, *, stored: bool) -> None:
        try:
            if not stored:
                await self._keeping.store(record)
            elif self._keeping.count is not None:
                self._keeping.count(record)
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
        self._ended.set()
        for worker in self._workers:
            self._tell_to_end(worker, message)

    @staticmethod
    def _tell_to_end(worker: _Worker, message: NoMore) -> None:
        worker.dismissed = True
        worker.link.send(message)

    def _share(self) -> None:
        """Tell each worker what the others have spent."""
        whole = sum_of(self._gone, *(worker.state.spent for worker in self._workers))
        self._spending.note_elsewhere(whole)
        if self._orders.options.budget_usd is None and self._orders.options.budget_tokens is None:
            return
        for worker in self._workers:
            others = [other.state.spent for other in self._workers if other is not worker]
            worker.link.send(Elsewhere(sum_of(self._orders.spent, self._gone, *others)))

    async def _hire(self, settings: Settings) -> _Worker | None:
        """A worker; None where the rows are done before there is one."""
        self._made += 1
        own = self._orders.answers and self._orders.answers.numbered(self._made)
        orders = replace(self._orders, answers=own, settings=settings, ahead=self._workplace.ahead)
        hiring = asyncio.ensure_future(self._workplace.hire(orders))
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait([hiring, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not hiring.done():
                hiring.cancel()
                await asyncio.wait([hiring])
        if hiring.cancelled():
            return None
        worker = _Worker(hiring.result(), own)
        self._workers.append(worker)
        if self._stopping is not None:
            self._tell_to_end(worker, self._stopping)
        return worker

    async def _dismiss(self, worker: _Worker) -> None:
        """See a worker off; what it had leased and did not end goes to others."""
        worker.gone = True
        worker.fate = await worker.link.dismissed()
        self._workers.remove(worker)
        self._gone = sum_of(self._gone, worker.state.spent)
        if worker.rows:
            self._returned.extend(worker.rows.values())
            if worker.answers is not None:
                self._begun = tuple(dict.fromkeys((*self._begun, worker.answers)))


def _share_of(settings: Settings, number: int, count: int) -> Settings:
    """The settings of one of several workers: together they keep the bound that a process has."""
    most = settings.max_concurrency
    if most is None:
        return settings
    return replace(settings, max_concurrency=max(1, most // count + (number < most % count)))


@dataclass(slots=True, eq=False)
class _Worker:
    link: Link
    answers: Answers | None
    rows: dict[int, Example] = field(default_factory=dict)
    """Leased and not ended, by position."""
    wanted: int = 0
    state: State = field(default_factory=State)
    dismissed: bool = False
    gone: bool = False
    fate: str = ""
