"""Runs the rows of a batch in workers, wherever those are: leases rows to them and takes the results.

A worker holds a few rows at a time. When it dies, they go to another one, which finds their paid answers where the
dead one kept them; a result counts once, when it is known here to be stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plait.batches.channels import Elsewhere, Ended, Halted, Lease, NoMore, Orders, Said, State, Wanted
from plait.batches.executions import UNREAD, Totals, kept
from plait.batches.remainders import Remainder
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
        self._left = Remainder()
        self._begun: tuple[Answers, ...] = ()
        self._made = 0
        self._gone: dict[str, Tokens] = {}
        self._stopping: NoMore | None = None
        self._busy: set[asyncio.Task[None]] = set()
        """Leases and results on their way."""
        self._storing: set[asyncio.Task[None]] = set()
        """The results of them: leases may wait for the source."""
        self._done: asyncio.Queue[RowRecord | None] = asyncio.Queue(UNREAD)

    @property
    def totals(self) -> Totals:
        return Totals.of([worker.state.totals for worker in self._workers])

    def stop(self, cause: BaseException | None) -> None:
        self.halted = self.halted or cause
        self._end(NoMore())

    def cancel(self) -> None:
        self._end(NoMore(at_once=True))

    async def results(self, examples: AsyncIterator[Example]) -> AsyncGenerator[RowRecord]:
        self._left.begin(examples)
        driving = asyncio.create_task(self._drive(), name="plait batch: workers")
        try:
            while records := await self._ended_by_now():
                for record in records:
                    yield record
            await driving
        finally:
            for task in (tasks := [driving, *self._busy]):
                task.cancel()
            await asyncio.gather(*tasks, self._left.closed(), return_exceptions=True)

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

    async def _drive(self) -> None:
        failure: BaseException | None = None
        try:
            async with self._workplace, asyncio.TaskGroup() as group:
                count = min(self._workplace.room, self._orders.settings.max_concurrency or self._workplace.room)
                for number in range(count):
                    group.create_task(self._employ(_share_of(self._orders.settings, number, count)))
            while self._busy:
                await asyncio.wait(self._busy)
        except asyncio.CancelledError:
            raise  # the reader has left, and would leave no room for another word
        except PlaitError as error:
            self.stop(error)  # there is no place to work at
        except BaseException as error:  # noqa: BLE001 - raised below: the reader waits for a last word
            failure = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
        while self._storing:
            await asyncio.wait(self._storing)
        await self._done.put(None)
        if failure is not None:
            raise failure

    async def _employ(self, settings: Settings) -> None:
        """Keep one worker at work until all rows are done, replacing it when it dies."""
        replacements = 0
        self._employers += 1
        try:
            while self._stopping is None and not self._all_done:
                worker = await self._hire(settings)
                if worker is None:
                    return
                try:
                    await self._lead(worker)
                finally:
                    await self._dismiss(worker)
                if worker.dismissed or self._stopping is not None:
                    return
                replacements = 1 if worker.ended_any else replacements + 1
                logger.warning("a worker died (%s); its rows go to another one", worker.fate)
                if replacements > _REPLACEMENTS:
                    self.stop(PlaitError(f"workers keep dying ({worker.fate}): see above for what they said"))
        except NoRoom as error:
            if self._employers == 1:
                self.stop(error)
            elif self._stopping is None:
                logger.warning("%s; the batch goes on with fewer workers", error)
        except PlaitError as error:
            self.stop(error)
        finally:
            self._employers -= 1

    async def _lead(self, worker: _Worker) -> None:
        while (message := await worker.link.receive()) is not None:
            match message:
                case Wanted(rows):
                    worker.wanted = rows
                    self._begin_lease(worker)
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
            while len(self._storing) > UNREAD:
                await asyncio.wait(self._storing, return_when=asyncio.FIRST_COMPLETED)

    def _begin_lease(self, worker: _Worker) -> None:
        if worker.wanted and not worker.leasing and not worker.gone:
            worker.leasing = True
            self._set_about(self._lease(worker), "plait batch: lease")

    async def _lease(self, worker: _Worker) -> None:
        """Give a worker rows: as many as it wants, or those that are there, at least one."""
        try:
            found = await self._left.take(worker.wanted)
        except Exception as error:  # noqa: BLE001 - whatever reads the rows
            self.stop(error)
            found = []
        worker.leasing = False
        if worker.gone:
            self._give_back(found)
        elif found:
            worker.wanted = 0
            worker.rows.update({example.position: example for example in found})
            worker.link.send(Lease(tuple(found), self._begun))
        self._see_whether_done()
        await worker.link.flushed()

    def _give_back(self, rows: Sequence[Example]) -> None:
        """Others get these rows, also those that had asked when none was left."""
        self._left.give_back(rows)
        for worker in self._workers:
            self._begin_lease(worker)

    def _take(self, worker: _Worker, record: RowRecord, *, stored: bool) -> None:
        """Store a result; the next one is not kept waiting for it."""
        if worker.rows.pop(record.position, None) is not None:
            worker.ended_any = True
            storing = self._set_about(self._store(record, stored=stored), f"plait row {record.id}")
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)

    def _set_about(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        doing = asyncio.create_task(work, name=name)
        self._busy.add(doing)
        doing.add_done_callback(self._busy.discard)
        return doing

    async def _store(self, record: RowRecord, *, stored: bool) -> None:
        try:
            if not stored:
                record = await kept(record, self._keeping.store)
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
        return self._left.is_empty and not any(worker.rows for worker in self._workers)

    def _end(self, message: NoMore) -> None:
        if self._stopping is not None and (self._stopping.at_once or not message.at_once):
            return
        self._stopping = message
        self._left.close()
        self._ended.set()
        for worker in self._workers:
            worker.end(message)

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
            hiring.cancel()
            await asyncio.wait([hiring])
        if hiring.cancelled() or (self._stopping is not None and hiring.exception() is not None):
            return None
        worker = _Worker(hiring.result(), own)
        self._workers.append(worker)
        if self._stopping is not None:
            worker.end(self._stopping)
        return worker

    async def _dismiss(self, worker: _Worker) -> None:
        """See a worker off; what it had leased and did not end goes to others."""
        worker.gone = True
        worker.fate = await worker.link.dismissed()
        self._workers.remove(worker)
        self._gone = sum_of(self._gone, worker.state.spent)
        if worker.rows and worker.answers is not None:
            self._begun = tuple(dict.fromkeys((*self._begun, worker.answers)))
        self._give_back(list(worker.rows.values()))


def _share_of(settings: Settings, number: int, count: int) -> Settings:
    """The settings of one of several workers: together they keep the bound that a process has."""
    if (most := settings.max_concurrency) is None:
        return settings
    return replace(settings, max_concurrency=max(1, most // count + (number < most % count)))


@dataclass(slots=True, eq=False)
class _Worker:
    link: Link
    answers: Answers | None
    rows: dict[int, Example] = field(default_factory=dict)
    """Leased and not ended, by position."""
    wanted: int = 0
    leasing: bool = False
    ended_any: bool = False
    state: State = field(default_factory=State)
    dismissed: bool = False
    gone: bool = False
    fate: str = ""

    def end(self, message: NoMore) -> None:
        self.dismissed = True
        self.link.send(message)
