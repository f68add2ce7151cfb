"""A worker process of a batch: runs the rows that it is given. Started as `python -m plait.batches.worker`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress

from plait.app import find_app, open_workflow
from plait.batches.answers import open_journal
from plait.batches.channels import Channel, Elsewhere, Ended, Halted, Lease, NoMore, Orders, State, Wanted
from plait.batches.executions import LocalExecution
from plait.batches.openings import prepare
from plait.batches.rows import RowRunner
from plait.batches.spending import Spending
from plait.batches.throttles import Throttle
from plait.datasets.examples import Example
from plait.flow.scopes import refusing_unscoped
from plait.journal import Journal
from plait.prices import load_prices
from plait.process import collect_less, own_process, run_loop
from plait.store.rows import RowRecord
from plait.store.schema import prepare_journal
from plait.store.writers import Writer

_AHEAD = 64
"""Rows asked for at once, and again when half of them are begun."""
_STATE_S = 0.25


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
    with own_process(orders.settings):
        async with AsyncExitStack() as stack:
            worker = await _opened(orders, channel, stack)
            collect_less()
            await worker.run()
    channel.send(worker.state())
    await channel.flushed()
    channel.close()


async def _opened(orders: Orders, channel: Channel, stack: AsyncExitStack) -> _Worker:
    app = await asyncio.to_thread(find_app, orders.app)
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
    journal = None
    if orders.journal is not None:
        writer = Writer(orders.journal, prepare=prepare_journal, durability=options.durability)
        stack.push_async_callback(asyncio.to_thread, writer.close)
        journal = await open_journal(writer, orders.paid, options, stack)
    runner = RowRunner(
        workflow,
        group=orders.group,
        spending=spending,
        journal=journal,
        timeout_s=options.timeout_s,
        row_attempts=options.row_attempts,
        scorer=scorer,
    )
    return _Worker(channel, runner, spending, journal)


class _Worker:
    def __init__(self, channel: Channel, runner: RowRunner, spending: Spending, journal: Journal | None) -> None:
        self._channel = channel
        self._spending = spending
        self._journal = journal
        self._execution = LocalExecution(runner, Throttle(asyncio.get_running_loop().time), self._keep)
        self._leased: deque[Example] = deque()
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
                self._channel.send(Halted.of(self._execution.halted))
        finally:
            for aside in asides:
                aside.cancel()
            await asyncio.gather(*asides, return_exceptions=True)

    def state(self) -> State:
        """What there is to tell now."""
        return State(self._execution.totals, self._spending.spent_here)

    async def _keep(self, record: RowRecord) -> None:
        self._channel.send(Ended(record))
        await self._channel.flushed()

    async def _examples(self) -> AsyncGenerator[Example]:
        while True:
            if len(self._leased) <= _AHEAD // 2 and not self._asked and not self._no_more:
                self._asked = True
                self._channel.send(Wanted(_AHEAD - len(self._leased)))
            if self._leased:
                yield self._leased.popleft()
            elif self._no_more:
                return
            else:
                self._news.clear()
                await self._news.wait()

    async def _listen(self) -> None:
        while (message := await self._channel.receive()) is not None:
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
            self._channel.send(self.state())


if __name__ == "__main__":
    with suppress(ConnectionError):
        main()
