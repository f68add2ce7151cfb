"""A worker of a batch: runs the rows that it is given. As a process: `python -m plait.batches.worker`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

from plait.app import find_app, open_workflow
from plait.batches.answers import open_journal
from plait.batches.channels import Channel, Elsewhere, Ended, Halted, Lease, NoMore, Orders, State, Talk, Wanted
from plait.batches.executions import LocalExecution
from plait.batches.openings import prepare
from plait.batches.rows import RowRunner
from plait.batches.spending import Spending
from plait.batches.throttles import Throttle
from plait.datasets.examples import Example
from plait.errors import PlaitError
from plait.flow.scopes import refusing_unscoped
from plait.journal import Journal
from plait.prices import load_prices
from plait.process import collect_less, own_process, run_loop
from plait.store.answers import Answers
from plait.store.rows import RowRecord
from plait.store.writers import Writer

__all__ = ["work"]

_FEW = 16
"""Rows asked for at first, so that workers that begin a little later find some, too; more where it runs out of them."""
_STATE_S = 0.25

_Keep = Callable[[RowRecord], Awaitable[None]]


def main() -> None:
    """Talk over the socket whose descriptor is the first argument; end when the second one is closed."""
    talk, lifeline = (int(word) for word in sys.argv[1:3])
    threading.Thread(target=_die_with, args=(lifeline,), daemon=True).start()
    run_loop(_work(socket.socket(fileno=talk)))


def _die_with(lifeline: int) -> None:
    # Not on the loop, which a node may block: nothing more must be paid for once nobody takes the results.
    os.read(lifeline, 1)
    os._exit(1)


async def _work(talk: socket.socket) -> None:
    channel = Channel(*await asyncio.open_connection(sock=talk))
    orders = await channel.receive()
    assert isinstance(orders, Orders), "the first message is what to run"
    await work(channel, orders)
    await channel.flushed()
    channel.close()


async def work(talk: Talk, orders: Orders, *, where: str = "") -> None:
    """Do what is ordered until there is no more to do, or until it is cancelled.

    What keeps the workflow from being run is said to the batch, after `where`.
    """
    with own_process(orders.settings):
        async with AsyncExitStack() as stack:
            try:
                worker = await _opened(orders, talk, stack)
            except PlaitError as error:
                talk.send(Halted.of(error, where))
                return
            collect_less()
            await worker.run()
    talk.send(worker.state())


async def _opened(orders: Orders, talk: Talk, stack: AsyncExitStack) -> _Worker:
    # From the root of all folders none is found but the one that comes with plait.
    app = await asyncio.to_thread(find_app, orders.app, start=Path(Path.cwd().anchor))
    graph = await stack.enter_async_context(open_workflow(app, orders.workflow))
    scorer = None
    if orders.scoring is not None:
        scorer = await stack.enter_async_context(orders.scoring.opened(app))
        graph = orders.scoring.target(graph)
    workflow = prepare(graph, orders.workflow, orders.context, None, orders.settings)
    settings, options = orders.settings, orders.options
    if options.recorded_only:
        stack.enter_context(refusing_unscoped())
    spending = Spending(
        await asyncio.to_thread(load_prices, settings.prices, settings.prices_file),
        endpoint=(settings.model or "").partition(":")[0] or None,
        budget_usd=options.budget_usd,
        budget_tokens=options.budget_tokens,
    )
    spending.note_elsewhere(orders.spent)
    keep, journal = await _keeping(orders, talk, stack)
    runner = RowRunner(
        workflow,
        group=orders.group,
        spending=spending,
        journal=journal,
        timeout_s=options.timeout_s,
        row_attempts=options.row_attempts,
        scorer=scorer,
    )
    execution = LocalExecution(runner, Throttle(asyncio.get_running_loop().time), keep)
    return _Worker(talk, execution, spending, journal, ahead=orders.ahead)


async def _keeping(orders: Orders, talk: Talk, stack: AsyncExitStack) -> tuple[_Keep, Journal | None]:
    """What is done with a result, and what keeps the paid answers."""
    options, writer = orders.options, None
    keep = _send_to(talk)
    if orders.rows is not None:
        keep, writer = await _storing(orders.rows, orders, talk, stack)
    if orders.answers is None:
        return keep, None
    if writer is None:
        writer = Writer(orders.answers.medium(options.durability))
        stack.push_async_callback(asyncio.to_thread, writer.close)
    return keep, await open_journal(writer, orders.answers, orders.paid, options, stack)


def _send_to(talk: Talk) -> _Keep:
    async def keep(record: RowRecord) -> None:
        talk.send(Ended(record))
        await talk.flushed()

    return keep


async def _storing(rows: Answers, orders: Orders, talk: Talk, stack: AsyncExitStack) -> tuple[_Keep, Writer]:
    from plait.store.postgres.batches import open_rows  # noqa: PLC0415 - an extra

    results = await open_rows(rows, orders.options.durability)
    stack.push_async_callback(results.close)

    async def keep(record: RowRecord) -> None:
        await results.stored(record)
        talk.send(Ended(replace(record, outputs=None, evaluation=None), stored=True))

    return keep, results.writer


class _Worker:
    def __init__(
        self, talk: Talk, execution: LocalExecution, spending: Spending, journal: Journal | None, *, ahead: int
    ) -> None:
        self._talk = talk
        self._execution = execution
        self._spending = spending
        self._journal = journal
        self._ahead = ahead
        self._leased: deque[Example] = deque()
        self._most = min(ahead, _FEW)
        self._news = asyncio.Event()
        self._asked = False
        self._no_more = False

    async def run(self) -> None:
        """Run rows until there are no more."""
        asides = [asyncio.create_task(self._listen()), asyncio.create_task(self._tell())]
        try:
            async for _ in self._execution.results(self._examples()):
                pass
            if self._execution.halted is not None:
                self._talk.send(Halted.of(self._execution.halted))
        finally:
            for aside in asides:
                aside.cancel()
            await asyncio.gather(*asides, return_exceptions=True)

    def state(self) -> State:
        """What there is to tell now."""
        return State(self._execution.totals, self._spending.spent_here)

    async def _examples(self) -> AsyncGenerator[Example]:
        while True:
            if len(self._leased) <= self._most // 2 and not self._asked and not self._no_more:
                self._asked = True
                self._talk.send(Wanted(self._most - len(self._leased)))
            if self._leased:
                yield self._leased.popleft()
            elif self._no_more:
                return
            else:
                self._most = min(self._ahead, 2 * self._most)
                self._news.clear()
                await self._news.wait()

    async def _listen(self) -> None:
        while (message := await self._talk.receive()) is not None:
            match message:
                case Lease(examples, begun):
                    self._asked = False
                    self._leased.extend(examples)
                    if self._journal is not None and begun:
                        for example in examples:
                            self._journal.expect_again(example.id, *begun)
                case NoMore(at_once):
                    self._no_more = True
                    self._leased.clear()
                    self._execution.stop(None)
                    if at_once:
                        self._execution.cancel()
                case Elsewhere(spent):
                    self._spending.note_elsewhere(spent)
            self._news.set()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_STATE_S)
            self._talk.send(self.state())


if __name__ == "__main__":
    with suppress(ConnectionError):
        main()
